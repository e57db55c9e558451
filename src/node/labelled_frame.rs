//! A frame's boxes beside its labels, as the metrics want them.

use super::evaluator::Labels;
use super::perception::Perception;
use super::summary::Summary;
use crate::detect::Detection;
use crate::eval::{ScoredBox, TruthBox};
use crate::geometry::Box3;
use crate::sensor::PointCloud;

/// What was found.
pub(super) fn scored(detections: &[Detection]) -> Vec<ScoredBox> {
    detections.iter().map(|&Detection { bbox, score, label }| ScoredBox { bbox, label, score }).collect()
}

/// The labels in the cloud's frame, points counted.
///
/// # Errors
/// Frames that no transform links, in words for the user.
pub(super) fn truth_in(perception: &Perception, cloud: &PointCloud, labels: Labels) -> Result<Vec<TruthBox>, String> {
    let Labels { frame_id, mut boxes } = labels;
    if frame_id != cloud.frame_id {
        let pose = perception.motion().lookup(&cloud.frame_id, &frame_id, cloud.stamp);
        let pose = pose.map_err(|e| format!("labels are in frame `{frame_id}`, the cloud in `{}`: {e}", cloud.frame_id))?;
        boxes.iter_mut().for_each(|t| t.bbox = t.bbox.moved(&pose));
    }
    for t in boxes.iter_mut().filter(|t| t.points.is_none()) {
        t.points = Some(points_inside(cloud, &t.bbox));
    }
    Ok(boxes)
}

/// From where ranges are measured, x and y in the cloud's frame: the vehicle, or else the sensor.
pub(super) fn ego_in(perception: &Perception, cloud: &PointCloud, summary: &mut Summary) -> [f32; 2] {
    let [x, y, _] = perception.motion().vehicle_in(&cloud.frame_id, cloud.stamp).unwrap_or_else(|| {
        summary.note("ranges are measured from the sensor: /tf does not say where the vehicle is (base_link)");
        [0.0; 3]
    });
    [x as f32, y as f32]
}

fn points_inside(cloud: &PointCloud, bbox: &Box3) -> u32 {
    let inside = cloud.data.outer_iter().filter(|p| bbox.contains([p[0], p[1], p[2]]));
    inside.count() as u32
}
