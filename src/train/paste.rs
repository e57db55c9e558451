//! Objects of other frames, put where they were seen there into this one (SECOND's ground-truth sampling; det3d `sample_ops.py`).
//!
//! Rare classes are met in every frame that way. An object comes with the returns of all its sweeps; what the frame itself
//! saw inside the new box goes.

use super::targets::TrainingBox;
use super::trainer::{Example, ExampleError, ExampleSource, example_of};
use crate::geometry::{Box3, bev_intersection};
use crate::random::Rng;
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasteConfig {
    /// For each class, how many of its objects a frame is filled up to.
    pub fill: BTreeMap<String, usize>,
    /// Objects with fewer returns are not pasted.
    pub min_points: usize,
    /// Frames that lend objects to one frame, at most: each has to be read.
    pub lenders: usize,
    /// Share of the steps after which frames stay as they are, so that the last ones teach how often objects really occur
    /// ("fade strategy" of PointAugmenting, CVPR 2021).
    pub until: f64,
}

impl Default for PasteConfig {
    fn default() -> Self {
        Self { fill: BTreeMap::new(), min_points: 5, lenders: 4, until: 0.8 }
    }
}

/// Which frames hold objects of which class.
pub(super) struct ObjectIndex {
    /// By label, the frames that hold such an object, each as often as it does.
    frames: Vec<Vec<u32>>,
    /// By label.
    fill: Vec<usize>,
}

/// A box is this much larger on every side when returns are told to be its own, metres: they are noisy.
const MARGIN: f32 = 0.05;

impl ObjectIndex {
    /// Reads the labels of every frame.
    ///
    /// # Errors
    /// Labels that cannot be read.
    pub fn new(config: &PasteConfig, classes: &[String], source: &dyn ExampleSource) -> Result<Self, (usize, ExampleError)> {
        let fill: Vec<usize> = classes.iter().map(|c| config.fill.get(c).copied().unwrap_or(0)).collect();
        let mut frames = vec![Vec::new(); classes.len()];
        if fill.iter().any(|&n| n > 0) {
            for index in 0..source.len() {
                for object in source.boxes(index).map_err(|e| (index, e))? {
                    if let Some(frames) = frames.get_mut(object.label) {
                        frames.push(index as u32);
                    }
                }
            }
        }
        Ok(Self { frames, fill })
    }

    /// Fills up a frame. `time` is the column of the points' lag in seconds, where they have one.
    ///
    /// # Errors
    /// A lender that cannot be read, with its number.
    pub fn paste(
        &self,
        config: &PasteConfig,
        rng: &mut Rng,
        source: &dyn ExampleSource,
        time: Option<usize>,
        frame: &mut Example,
    ) -> Result<(), (usize, ExampleError)> {
        let mut wanted = self.fill.clone();
        for object in &frame.boxes {
            if let Some(n) = wanted.get_mut(object.label) {
                *n = n.saturating_sub(1);
            }
        }
        let mut pasted = Vec::new();
        for _ in 0..config.lenders {
            let open: Vec<usize> = (0..wanted.len()).filter(|&l| wanted[l] > 0 && !self.frames[l].is_empty()).collect();
            if open.is_empty() {
                break;
            }
            let label = open[rng.index(open.len())];
            let lender = self.frames[label][rng.index(self.frames[label].len())] as usize;
            let Example { points, boxes } = example_of(source, lender, frame.points.ncols()).map_err(|e| (lender, e))?;
            for object in boxes {
                let free = |other: &TrainingBox| bev_intersection(&other.bbox, &object.bbox) == 0.0;
                if wanted.get(object.label).is_some_and(|&n| n > 0) && frame.boxes.iter().all(free) {
                    let own = select(&points, |row| is_of(&object.bbox, row, time));
                    if own.nrows() >= config.min_points {
                        wanted[object.label] -= 1;
                        frame.boxes.push(object);
                        pasted.push((object.bbox, own));
                    }
                }
            }
        }
        if !pasted.is_empty() {
            let kept = select(&frame.points, |row| !pasted.iter().any(|(bbox, _)| is_of(bbox, row, time)));
            let parts: Vec<_> = std::iter::once(kept.view()).chain(pasted.iter().map(|(_, own)| own.view())).collect();
            frame.points = concatenate(Axis(0), &parts).expect("all have the frame's columns");
        }
        Ok(())
    }
}

/// Whether a return came from the object: it is carried on with the object's velocity from when it was taken.
fn is_of(bbox: &Box3, row: &[f32], time: Option<usize>) -> bool {
    let lag = time.map_or(0.0, |t| row[t]);
    let point = [row[0] + bbox.velocity[0] * lag, row[1] + bbox.velocity[1] * lag, row[2]];
    // Most returns are far away; a radius is cheaper than a rotation.
    let reach = bbox.size[0] + bbox.size[1];
    (point[0] - bbox.center[0]).abs() < reach
        && (point[1] - bbox.center[1]).abs() < reach
        && Box3 { size: bbox.size.map(|s| s + 2.0 * MARGIN), ..*bbox }.contains(point)
}

fn select(points: &Array2<f32>, keep: impl Fn(&[f32]) -> bool) -> Array2<f32> {
    let width = points.ncols();
    let data: Vec<f32> = points
        .as_standard_layout()
        .as_slice()
        .unwrap_or_default()
        .chunks_exact(width.max(1))
        .filter(|r| keep(r))
        .flatten()
        .copied()
        .collect();
    Array2::from_shape_vec((data.len() / width.max(1), width), data).expect("whole rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames: one object each, at different places, and a wall of background.
    struct Frames(Vec<Example>);

    impl ExampleSource for Frames {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn example(&self, index: usize) -> Result<Example, ExampleError> {
            Ok(self.0[index].clone())
        }
    }

    fn frame(x: f32, label: usize, velocity: [f32; 2]) -> Example {
        let bbox = Box3 { center: [x, 0.0, 0.0], size: [4.0, 2.0, 1.5], yaw: 0.3, velocity };
        let mut rows = Vec::new();
        for i in 0..40 {
            // Returns on the object, half of them of a sweep 0.5 s ago, and a wall across its place in every frame.
            let lag = if i % 2 == 0 { 0.0 } else { 0.5 };
            rows.extend([x - velocity[0] * lag + 0.02 * i as f32, -velocity[1] * lag, 0.1, 0.5, lag]);
            rows.extend([10.0, 0.25 * i as f32 - 5.0, 0.0, 0.9, 0.0]);
        }
        let points = Array2::from_shape_vec((80, 5), rows).unwrap();
        Example { points, boxes: vec![TrainingBox { bbox, label, has_velocity: true }] }
    }

    fn config(until: usize) -> PasteConfig {
        PasteConfig { fill: [("bus".to_owned(), until)].into(), ..PasteConfig::default() }
    }

    #[test]
    fn a_rare_object_comes_with_all_its_returns_and_replaces_what_was_there() {
        let source = Frames(vec![frame(-10.0, 0, [0.0; 2]), frame(10.0, 1, [6.0, 2.0])]);
        let classes = ["car".to_owned(), "bus".to_owned()];
        let config = config(1);
        let index = ObjectIndex::new(&config, &classes, &source).unwrap();
        let mut changed = source.0[0].clone();
        index.paste(&config, &mut Rng::new(1, "paste"), &source, Some(4), &mut changed).unwrap();
        assert_eq!(changed.boxes, [source.0[0].boxes[0], source.0[1].boxes[0]]);
        // The object's 40 returns, of both sweeps, and the wall's two returns inside the lender's box, which were its too.
        let bus = changed.boxes[1].bbox;
        let of_bus = |points: &Array2<f32>| points.outer_iter().filter(|r| is_of(&bus, r.as_slice().unwrap(), Some(4))).count();
        assert_eq!(of_bus(&changed.points), of_bus(&source.0[1].points));
        assert!(of_bus(&changed.points) >= 40);
        // Nothing else changed: the car keeps its returns, the wall all that is outside the bus.
        assert_eq!(changed.points.nrows() - of_bus(&changed.points), 80 - of_bus(&source.0[0].points));
    }

    #[test]
    fn full_frames_and_taken_places_stay_as_they_are() {
        let source = Frames(vec![frame(10.0, 1, [0.0; 2]), frame(11.0, 1, [0.0; 2])]);
        let classes = ["car".to_owned(), "bus".to_owned()];
        for fill in [1, 5] {
            let config = config(fill);
            let index = ObjectIndex::new(&config, &classes, &source).unwrap();
            let mut frame = source.0[0].clone();
            index.paste(&config, &mut Rng::new(1, "paste"), &source, Some(4), &mut frame).unwrap();
            assert_eq!(frame, source.0[0], "one bus is there already, and no other has room");
        }
    }
}
