//! Which detection of a frame goes with which label, as the benchmark's evaluator decides.

use super::{Difficulty, KittiFrame, image_share};
use crate::dataset::kitti::{DONT_CARE, KittiObject};

/// What a label or a detection is to one class and difficulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Counts,
    /// Neither right nor wrong: too hard, a neighbouring class, or too small a detection.
    Ignored,
    /// Not looked at.
    OtherClass,
}

pub(super) struct Statuses {
    labels: Vec<Status>,
    detections: Vec<Status>,
}

impl Statuses {
    pub fn counting_labels(&self) -> usize {
        self.labels.iter().filter(|s| **s == Status::Counts).count()
    }
}

pub(super) fn statuses(frame: &KittiFrame, class: &str, difficulty: Difficulty) -> Statuses {
    let height = |o: &KittiObject| o.image_box[3] - o.image_box[1];
    let label = |o: &KittiObject| {
        let too_hard =
            o.occlusion > difficulty.max_occlusion() || o.truncation > difficulty.max_truncation() || height(o) <= difficulty.min_height();
        match o.class.eq_ignore_ascii_case(class) {
            true if too_hard => Status::Ignored,
            true => Status::Counts,
            false if is_neighbour(class, &o.class) => Status::Ignored,
            false => Status::OtherClass,
        }
    };
    // A detection that is too small is ignored whatever its class: a small pedestrian can thus be assigned to a car.
    let detection = |o: &KittiObject| {
        if height(o).abs() < difficulty.min_height() {
            Status::Ignored
        } else if o.class.eq_ignore_ascii_case(class) {
            Status::Counts
        } else {
            Status::OtherClass
        }
    };
    Statuses { labels: frame.labels.iter().map(label).collect(), detections: frame.detections.iter().map(detection).collect() }
}

/// Whether finding `other` as `class` is no mistake.
pub(super) fn is_neighbour(class: &str, other: &str) -> bool {
    let is = |a: &str, b: &str| class.eq_ignore_ascii_case(a) && other.eq_ignore_ascii_case(b);
    is("car", "van") || is("pedestrian", "person_sitting")
}

/// What detections share with labels, and with regions in which nobody looked.
pub(super) struct FrameOverlaps {
    /// By detection, then label.
    with_labels: Vec<Vec<f64>>,
    /// By region, then detection: share of the detection. Empty for boxes in space.
    with_regions: Vec<Vec<f64>>,
}

impl FrameOverlaps {
    pub fn new(frame: &KittiFrame, overlap: impl Fn(&KittiObject, &KittiObject) -> f64) -> Self {
        let with_labels = frame.detections.iter().map(|d| frame.labels.iter().map(|l| overlap(d, l)).collect()).collect();
        Self { with_labels, with_regions: Vec::new() }
    }

    pub fn with_regions(mut self, frame: &KittiFrame) -> Self {
        let regions = frame.labels.iter().filter(|l| l.class == DONT_CARE);
        self.with_regions = regions.map(|r| frame.detections.iter().map(|d| image_share(d, r, false)).collect()).collect();
        self
    }
}

fn score(detection: &KittiObject) -> f64 {
    detection.score.unwrap_or(0.0)
}

/// Scores of the detections that are right, if every label takes the best-scored detection that overlaps it.
pub(super) fn scores_of_matches(frame: &KittiFrame, overlaps: &FrameOverlaps, status: &Statuses, min_overlap: f64) -> Vec<f64> {
    let mut taken = vec![false; frame.detections.len()];
    let mut scores = Vec::new();
    for (l, label) in status.labels.iter().enumerate().filter(|(_, s)| **s != Status::OtherClass) {
        let mut best: Option<usize> = None;
        let open = |d: usize| status.detections[d] != Status::OtherClass && overlaps.with_labels[d][l] > min_overlap;
        for d in (0..frame.detections.len()).filter(|&d| open(d) && !taken[d]) {
            if best.is_none_or(|b| score(&frame.detections[d]) > score(&frame.detections[b])) {
                best = Some(d);
            }
        }
        if let Some(d) = best {
            taken[d] = true;
            if *label == Status::Counts && status.detections[d] == Status::Counts {
                scores.push(score(&frame.detections[d]));
            }
        }
    }
    scores
}

/// Right and wrong detections among those of at least this score, if every label takes the detection that overlaps it most.
pub(super) fn match_for_precision(
    frame: &KittiFrame,
    overlaps: &FrameOverlaps,
    status: &Statuses,
    min_overlap: f64,
    min_score: f64,
) -> (usize, usize) {
    let count = frame.detections.len();
    let open: Vec<bool> =
        (0..count).map(|d| status.detections[d] != Status::OtherClass && score(&frame.detections[d]) >= min_score).collect();
    let mut taken = vec![false; count];
    let mut right = 0;
    for (l, label) in status.labels.iter().enumerate().filter(|(_, s)| **s != Status::OtherClass) {
        // An ignored detection is only taken where no other overlaps.
        let mut best: Option<usize> = None;
        for d in (0..count).filter(|&d| open[d] && !taken[d] && overlaps.with_labels[d][l] > min_overlap) {
            let better = match best {
                None => true,
                Some(b) if status.detections[b] == Status::Ignored => status.detections[d] == Status::Counts,
                Some(b) => status.detections[d] == Status::Counts && overlaps.with_labels[d][l] > overlaps.with_labels[b][l],
            };
            if better {
                best = Some(d);
            }
        }
        if let Some(d) = best {
            taken[d] = true;
            right += usize::from(*label == Status::Counts && status.detections[d] == Status::Counts);
        }
    }
    let mut is_wrong: Vec<bool> = (0..count).map(|d| open[d] && !taken[d] && status.detections[d] == Status::Counts).collect();
    for region in &overlaps.with_regions {
        for (wrong, share) in is_wrong.iter_mut().zip(region) {
            *wrong &= *share <= min_overlap;
        }
    }
    (right, is_wrong.into_iter().filter(|w| *w).count())
}
