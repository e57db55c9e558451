//! KITTI's object detection metric: average precision by overlap, for easy, moderate and hard objects.
//!
//! As the benchmark's own evaluator has it, quirks included: what it ignores, and how it samples the precision-recall curve at
//! 41 scores. `DontCare` regions have no place in space, so that they only count for boxes in the image.

mod curve;
mod evaluation;
mod matching;

pub use curve::KittiCurve;
pub use evaluation::{CenterRow, DISTANCES_M, KittiEvaluation, MIN_POINTS};

use crate::dataset::kitti::KittiObject;
use crate::geometry::{bev_iou, iou_3d};
use curve::SAMPLES;
use matching::{FrameOverlaps, match_for_precision, scores_of_matches, statuses};
use serde::{Deserialize, Serialize};

/// A frame's label file, and what a detector found in it.
#[derive(Clone, Debug, Default)]
pub struct KittiFrame {
    pub labels: Vec<KittiObject>,
    /// Each with a score; one without counts as 0.
    pub detections: Vec<KittiObject>,
}

/// What two boxes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Rectangles in the image.
    Image,
    BirdsEye,
    Volume,
}

/// Of labels, by height in the image, occlusion and truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difficulty {
    Easy,
    Moderate,
    Hard,
}

impl Difficulty {
    pub const ALL: [Self; 3] = [Self::Easy, Self::Moderate, Self::Hard];

    /// An object counts if it is higher than this in the image, pixels.
    fn min_height(self) -> f64 {
        [40.0, 25.0, 25.0][self as usize]
    }

    fn max_occlusion(self) -> i32 {
        [0, 1, 2][self as usize]
    }

    fn max_truncation(self) -> f64 {
        [0.15, 0.3, 0.5][self as usize]
    }
}

/// Classes that the benchmark judges, with the overlap that a match must exceed, and the looser one that the public code bases
/// print beside it for boxes in space.
const JUDGED: [(&str, f64, f64); 3] = [("Car", 0.7, 0.5), ("Pedestrian", 0.5, 0.25), ("Cyclist", 0.5, 0.25)];

/// One class, kind of overlap and threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KittiRow {
    pub class: String,
    pub overlap: Overlap,
    /// A match must share more than this.
    pub min_overlap: f64,
    /// Easy, moderate, hard.
    pub curves: [KittiCurve; 3],
}

/// Every class that the benchmark judges and the frames' labels hold; for each the official thresholds, then the looser ones.
pub fn evaluate(frames: &[KittiFrame]) -> Vec<KittiRow> {
    let all = [Overlap::Image, Overlap::BirdsEye, Overlap::Volume];
    let overlaps = all.map(|overlap| overlaps(frames, overlap));
    let has = |class: &str| frames.iter().flat_map(|f| &f.labels).any(|l| l.class.eq_ignore_ascii_case(class));
    let mut rows = Vec::new();
    for (class, official, looser) in JUDGED.into_iter().filter(|(class, ..)| has(class)) {
        for (min_overlap, kinds) in [(official, 0..3), (looser, 1..3)] {
            for kind in kinds {
                let curves = Difficulty::ALL.map(|difficulty| curve(frames, &overlaps[kind], class, difficulty, min_overlap));
                rows.push(KittiRow { class: class.to_owned(), overlap: all[kind], min_overlap, curves });
            }
        }
    }
    rows
}

fn overlaps(frames: &[KittiFrame], overlap: Overlap) -> Vec<FrameOverlaps> {
    let measure = |frame: &KittiFrame| match overlap {
        Overlap::Image => FrameOverlaps::new(frame, |a, b| image_share(a, b, true)).with_regions(frame),
        Overlap::BirdsEye => FrameOverlaps::new(frame, |a, b| bev_iou(&a.camera_box(), &b.camera_box())),
        Overlap::Volume => FrameOverlaps::new(frame, |a, b| iou_3d(&a.camera_box(), &b.camera_box())),
    };
    frames.iter().map(measure).collect()
}

/// Shared area of two rectangles over that of their union, or over that of `a` alone.
fn image_share(a: &KittiObject, b: &KittiObject, over_union: bool) -> f64 {
    let (a, b) = (a.image_box, b.image_box);
    let area = |r: [f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let (width, height) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let shared = width * height;
    shared / if over_union { area(a) + area(b) - shared } else { area(a) }
}

fn curve(frames: &[KittiFrame], overlaps: &[FrameOverlaps], class: &str, difficulty: Difficulty, min_overlap: f64) -> KittiCurve {
    let statuses: Vec<_> = frames.iter().map(|frame| statuses(frame, class, difficulty)).collect();
    let labels = statuses.iter().map(|s| s.counting_labels()).sum();
    let all = || frames.iter().zip(overlaps).zip(&statuses);
    let matched = all().flat_map(|((frame, overlaps), status)| scores_of_matches(frame, overlaps, status, min_overlap)).collect();
    let precision = sampled_scores(matched, labels)
        .into_iter()
        .map(|score| {
            let counts = all().map(|((frame, overlaps), status)| match_for_precision(frame, overlaps, status, min_overlap, score));
            let (hits, misses) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            // Both are 0 where matching by overlap instead of score assigns everything to ignored labels.
            if hits == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
        })
        .collect();
    KittiCurve::new(precision, labels)
}

/// Of the scores of all matches those at which recall comes nearest to 0, 1/40, 2/40, ...
fn sampled_scores(mut scores: Vec<f64>, labels: usize) -> Vec<f64> {
    scores.sort_by(|a, b| b.total_cmp(a));
    let recall = |matches: usize| matches as f64 / labels as f64;
    let mut sampled = Vec::new();
    let mut wanted = 0.0;
    for (i, &score) in scores.iter().enumerate() {
        let is_last = i + 1 == scores.len();
        if !is_last && recall(i + 2) - wanted < wanted - recall(i + 1) {
            continue;
        }
        sampled.push(score);
        wanted += 1.0 / (SAMPLES as f64 - 1.0);
    }
    sampled
}
