//! Non-maximum suppression: of candidates that overlap, the best stays.

use super::RotatedKernel;
use super::elementary::hypot;
use super::rotated_iou::{BevBox, Iou3d, Mmcv, OverlapKernel};

/// Suppression by rotated overlap. Returns positions in `boxes`, best score first; equal scores in order of position.
/// Only the best `pre` candidates take part, and at most `post` are kept. Scores that are no number never are.
pub(crate) fn rotated_nms(boxes: &[BevBox], scores: &[f32], kernel: RotatedKernel, threshold: f32, pre: usize, post: usize) -> Vec<usize> {
    match kernel {
        RotatedKernel::Iou3d => rotated_nms_with::<Iou3d>(boxes, scores, threshold, pre, post),
        RotatedKernel::Mmcv => rotated_nms_with::<Mmcv>(boxes, scores, threshold, pre, post),
    }
}

/// Suppression by **squared** distance of centres: up to and including `min_radius`, square metres. Otherwise as
/// [`rotated_nms`].
pub(crate) fn circle_nms(centers: &[[f32; 2]], scores: &[f32], min_radius: f32, post: usize) -> Vec<usize> {
    let order = best_first(scores, usize::MAX);
    greedy(&order, post, |kept, other| squared_distance(centers[kept], centers[other]) <= min_radius)
}

fn rotated_nms_with<K: OverlapKernel>(boxes: &[BevBox], scores: &[f32], threshold: f32, pre: usize, post: usize) -> Vec<usize> {
    let order = best_first(scores, pre);
    let sorted: Vec<(BoundingCircle, K)> = order.iter().map(|&i| (BoundingCircle::of(&boxes[i]), K::prepare(&boxes[i]))).collect();
    // With such a threshold even boxes that are far apart are duplicates, and the circles must not be asked.
    let apart_suppresses = K::suppresses(0.0, threshold);
    let positions: Vec<usize> = (0..order.len()).collect();
    let kept = greedy(&positions, post, |kept, other| {
        let ((kept_circle, kept_box), (other_circle, other_box)) = (&sorted[kept], &sorted[other]);
        if kept_circle.is_apart_from(other_circle) { apart_suppresses } else { K::suppresses(kept_box.iou(other_box), threshold) }
    });
    kept.into_iter().map(|position| order[position]).collect()
}

/// Positions of the best `count` scores, best first, equal ones in order.
pub(super) fn best_first(scores: &[f32], count: usize) -> Vec<usize> {
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| !scores[i].is_nan()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order
}

/// Goes through `order` and keeps what no kept one suppresses, until `post` are kept.
fn greedy(order: &[usize], post: usize, suppresses: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for &candidate in order {
        if kept.len() >= post {
            break;
        }
        if !kept.iter().any(|&k| suppresses(k, candidate)) {
            kept.push(candidate);
        }
    }
    kept
}

/// A circle around a box, drawn so wide that the kernels' margins and rounding stay inside.
struct BoundingCircle {
    center: [f32; 2],
    radius: f32,
}

impl BoundingCircle {
    fn of(b: &BevBox) -> Self {
        let half_diagonal = hypot(b.size[0], b.size[1]) / 2.0;
        let rounding = 1e-5 * (b.center[0].abs() + b.center[1].abs());
        Self { center: b.center, radius: 1.001 * half_diagonal + 0.03 + rounding }
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        let reach = self.radius + other.radius;
        squared_distance(self.center, other.center) > reach * reach
    }
}

fn squared_distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    let [dx, dy] = [a[0] - b[0], a[1] - b[1]];
    dx * dx + dy * dy
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(x: f32, y: f32, along: f32, across: f32, yaw: f32) -> BevBox {
        BevBox { center: [x, y], size: [along, across], yaw }
    }

    #[test]
    fn the_best_of_each_heap_stays() {
        let boxes = [0.0, 0.5, 10.0, 10.1, 0.2].map(|x| flat(x, 0.0, 4.0, 2.0, 0.0));
        let scores = [0.5, 0.9, 0.3, 0.3, 0.7];
        for kernel in [RotatedKernel::Iou3d, RotatedKernel::Mmcv] {
            assert_eq!(rotated_nms(&boxes, &scores, kernel, 0.2, 100, 100), [1, 2]);
            assert_eq!(rotated_nms(&boxes, &scores, kernel, 0.2, 3, 100), [1]);
            assert_eq!(rotated_nms(&boxes, &scores, kernel, 0.2, 100, 1), [1]);
            assert_eq!(rotated_nms(&boxes, &scores, kernel, 1.1, 100, 100), [1, 4, 0, 2, 3]);
            assert_eq!(rotated_nms(&boxes, &scores, kernel, -0.1, 100, 100), [1]);
            assert!(rotated_nms(&[], &[], kernel, 0.2, 100, 100).is_empty());
        }
    }

    #[test]
    fn circles_compare_squared_distance() {
        let centers = [[0.0, 0.0], [1.9, 0.0], [2.0, 0.0], [0.0, 2.1]];
        assert_eq!(circle_nms(&centers, &[0.9, 0.8, 0.7, 0.6], 4.0, 9), [0, 3]);
        assert_eq!(circle_nms(&centers, &[0.6, 0.7, 0.8, 0.9], 4.0, 9), [3, 2]);
    }

    #[test]
    fn scores_that_are_no_number_are_left_out() {
        assert_eq!(best_first(&[0.1, f32::NAN, 0.5, -f32::NAN, f32::INFINITY, 0.1], 9), [4, 2, 0, 5]);
    }

    proptest! {
        /// Suppression without circles, and without stopping early.
        #[test]
        fn circles_change_nothing(
            boxes in prop::collection::vec((-9f32..9.0, -9f32..9.0, 0.01f32..9.0, 0.01f32..3.0, -4f32..4.0, 0f32..1.0), 0..60),
            threshold in 0f32..0.9,
        ) {
            let scores: Vec<f32> = boxes.iter().map(|b| b.5).collect();
            let boxes: Vec<BevBox> = boxes.iter().map(|b| flat(b.0, b.1, b.2, b.3, b.4)).collect();
            fn naive<K: OverlapKernel>(boxes: &[BevBox], scores: &[f32], threshold: f32) -> Vec<usize> {
                let mut left: Vec<usize> = (0..boxes.len()).collect();
                left.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let mut kept = Vec::new();
                while !left.is_empty() {
                    let best = left.remove(0);
                    kept.push(best);
                    left.retain(|&i| !K::suppresses(K::prepare(&boxes[best]).iou(&K::prepare(&boxes[i])), threshold));
                }
                kept
            }
            let with = |kernel| rotated_nms(&boxes, &scores, kernel, threshold, usize::MAX, usize::MAX);
            prop_assert_eq!(with(RotatedKernel::Iou3d), naive::<Iou3d>(&boxes, &scores, threshold));
            prop_assert_eq!(with(RotatedKernel::Mmcv), naive::<Mmcv>(&boxes, &scores, threshold));
        }
    }
}
