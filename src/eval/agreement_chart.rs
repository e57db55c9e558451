//! Agreement of two models as strips: which boxes both have, and what the scores differ by.

use super::agreement::AgreementFigures;
use super::nuscenes::figure;
use super::strips::{Reading, Strip};

/// Recall and precision at each threshold, boxes and the bias of scores: a strip each, of a row for each of the figures.
///
/// Shares have one common axis, which ends at 1 and begins where it must.
pub fn agreement_strips(figures: &[&AgreementFigures]) -> Vec<Strip> {
    let shares = figures.iter().flat_map(|f| &f.thresholds).flat_map(|t| [t.recall, t.precision]).flatten();
    let lowest = (shares.fold(1.0, f64::min) * 10.0 - 0.01).floor() / 10.0;
    let share = |value: Option<f64>| value.map_or_else(|| Reading::missing("-"), |v| Reading::new(v, figure(Some(v))));
    let thresholds = figures.first().map_or(&[][..], |f| &f.thresholds);
    let mut strips = Vec::new();
    for (k, at) in thresholds.iter().enumerate() {
        let of = |value: fn(&AgreementFigures, usize) -> Option<f64>| figures.iter().map(move |f| share(value(f, k))).collect::<Vec<_>>();
        let strip = |name: &str, readings: Vec<Reading>| Strip::dots(&format!("{name} > {}", at.score), readings);
        for (name, readings) in
            [("recall", of(|f, k| f.thresholds.get(k)?.recall)), ("precision", of(|f, k| f.thresholds.get(k)?.precision))]
        {
            strips.push(strip(name, readings).range(lowest.max(0.0)..1.0).width(76.0));
        }
        let counts =
            figures.iter().map(|f| f.thresholds.get(k).map_or_else(String::new, |t| format!("{} / {}", t.student_boxes, t.teacher_boxes)));
        strips.push(Strip::text("boxes / float", counts));
    }
    let bias = figures.iter().map(|f| f.score_bias.map_or_else(|| Reading::missing("-"), |b| Reading::new(b, format!("{b:+.4}"))));
    strips.push(Strip::bars("score bias", bias).width(76.0));
    let shift = figures
        .iter()
        .map(|f| f.center_shift_m.map_or_else(|| Reading::missing("-"), |m| Reading::new(100.0 * m, format!("{:.1}", 100.0 * m))));
    strips.push(Strip::bars("shift, cm", shift).width(60.0));
    strips
}
