//! Figures as charts: precision over recall, and what scores are worth.

use crate::eval::chart::{Chart, ChartError};
use crate::eval::kitti::{CenterRow, DISTANCES_M, Difficulty, KittiCurve, KittiEvaluation, KittiRow};
use crate::eval::nuscenes::{ClassMetrics, Curve, DetectionMetric, Evaluation, Metrics};

/// A drawing that can stand alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plot {
    /// Of letters, digits and underscores, without an ending: `precision_recall_car`.
    pub file_name: String,
    pub svg: String,
}

impl Plot {
    fn new(name: &str, chart: &Chart) -> Result<Self, ChartError> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        Ok(Self { file_name: name.chars().map(plain).collect(), svg: chart.to_svg()? })
    }
}

/// For each class that has objects to find: a line for each distance, as far as recall reaches.
///
/// # Errors
/// What the drawing library refuses.
pub fn precision_recall(metrics: &Metrics) -> Result<Vec<Plot>, ChartError> {
    metrics.present().map(|class| class_plot(class, &metrics.metric)).collect()
}

fn class_plot(class: &ClassMetrics, metric: &DetectionMetric) -> Result<Plot, ChartError> {
    let mut chart = precision_recall_chart(&format!("{}: {} objects", class.name, class.objects));
    let lines = metric.distances_m.iter().zip(&class.curves).zip(class.average_precisions(metric));
    for ((distance, curve), ap) in lines {
        let reached = (0..curve.precision.len()).filter(|&i| curve.score[i] > 0.0);
        chart.line(&format!("within {distance} m: AP {ap:.3}"), reached.map(|i| (Curve::recall(i), curve.precision[i])));
    }
    Plot::new(&format!("precision_recall_{}", class.name), &chart)
}

/// For each class of KITTI's benchmark: by distance of centres, and by each official overlap.
///
/// # Errors
/// What the drawing library refuses.
pub fn kitti_precision_recall(kitti: &KittiEvaluation) -> Result<Vec<Plot>, ChartError> {
    let center = |CenterRow { class, curves }: CenterRow| {
        let mut chart = precision_recall_chart(&format!("{class}, distance of centres: {} labels", curves[0].labels));
        let name = |distance: f64| format!("within {distance} m");
        DISTANCES_M.iter().zip(&curves).for_each(|(&distance, curve)| kitti_line(&mut chart, &name(distance), curve));
        Plot::new(&format!("precision_recall_{class}_centres"), &chart)
    };
    let overlap = |KittiRow { class, overlap, min_overlap, curves }: KittiRow| {
        let of = overlap.name();
        let mut chart = precision_recall_chart(&format!("{class}, overlap {of} above {min_overlap}"));
        for (difficulty, curve) in Difficulty::ALL.into_iter().zip(&curves) {
            kitti_line(&mut chart, &format!("{difficulty:?}").to_lowercase(), curve);
        }
        Plot::new(&format!("precision_recall_{class}_{of}_{min_overlap}"), &chart)
    };
    kitti.center_rows().into_iter().map(center).chain(kitti.rows().into_iter().map(overlap)).collect()
}

fn kitti_line(chart: &mut Chart, name: &str, curve: &KittiCurve) {
    let last = curve.precision.len().saturating_sub(1).max(1) as f64;
    let points = curve.precision.iter().enumerate().map(|(i, &precision)| (i as f64 / last, precision));
    chart.line(&format!("{name}: AP {:.1} %", 100.0 * curve.r40()), points.take_while(|(_, precision)| *precision > 0.0));
}

fn precision_recall_chart(title: &str) -> Chart {
    Chart::new(title, "recall", "precision").ranges(0.0..1.0, 0.0..1.0).legend_low()
}

/// Width of a bin of scores.
const SCORE_BINS: usize = 20;
/// A share of fewer boxes than this is noise.
const FEWEST_BOXES: usize = 10;

/// All classes' judged boxes by score: how many are right and wrong at the distance of the metric's errors, and which share is right.
///
/// # Errors
/// What the drawing library refuses.
pub fn scores(evaluation: &Evaluation) -> Result<Vec<Plot>, ChartError> {
    let bins = score_bins(evaluation);
    let width = 1.0 / SCORE_BINS as f64;
    let steps = |count: fn(&[usize; 2]) -> usize| {
        let step = move |(i, bin): (usize, &[usize; 2])| [i, i + 1].map(|edge| (edge as f64 * width, count(bin) as f64));
        bins.iter().enumerate().flat_map(step).collect::<Vec<_>>()
    };
    let mut counts = Chart::new("Boxes by score", "score", "boxes");
    counts.line("right", steps(|bin| bin[0]));
    counts.line("false alarms", steps(|bin| bin[1]));
    let shares = bins.iter().enumerate().filter(|(_, [right, wrong])| right + wrong >= FEWEST_BOXES);
    let shares = shares.map(|(i, [right, wrong])| ((i as f64 + 0.5) * width, *right as f64 / (right + wrong) as f64));
    let mut calibration = Chart::new("What a score is worth", "score", "share that is right").ranges(0.0..1.0, 0.0..1.0);
    calibration.line("found", shares);
    calibration.line("if scores were shares", [(0.0, 0.0), (1.0, 1.0)]);
    Ok(vec![Plot::new("scores", &counts)?, Plot::new("calibration", &calibration)?])
}

/// Right and wrong boxes in each bin of scores.
fn score_bins(evaluation: &Evaluation) -> [[usize; 2]; SCORE_BINS] {
    let metric = evaluation.metric();
    let mut bins = [[0; 2]; SCORE_BINS];
    let Some(distance) = metric.distances_m.iter().position(|&d| d == metric.error_distance_m) else { return bins };
    for class in 0..metric.classes.len() {
        let ranking = evaluation.ranking((class, distance), 0..evaluation.frames().len(), &(0.0..f64::INFINITY));
        for judged in ranking.judged {
            let bin = (f64::from(judged.score.clamp(0.0, 1.0)) * SCORE_BINS as f64) as usize;
            bins[bin.min(SCORE_BINS - 1)][usize::from(judged.errors.is_none())] += 1;
        }
    }
    bins
}
