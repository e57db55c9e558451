//! Figures as tables for people and as JSON for programs.

use super::curve::ErrorKind;
use super::metric::DetectionMetric;
use super::metrics::{ClassMetrics, Evaluation, Metrics};
use crate::eval::frame::range_name;
use crate::eval::table::Table;
use serde_json::{Map, Value, json};
use std::ops::Range;

/// Stands beside every NDS that is reported.
pub const NDS_FORMULA: &str = "attributes are not judged: (5 mAP + sum of max(0, 1 - error)) / 9 over ATE, ASE, AOE, AVE; nuScenes has AAE as a fifth and divides by 10";

/// `mAP`, `NDS`, `errors`, `classes`.
pub fn metrics_json(metrics: &Metrics) -> Map<String, Value> {
    let metric = &metrics.metric;
    let errors: Map<String, Value> = ErrorKind::ALL.iter().map(|&k| (k.name().to_owned(), json!(metrics.mean_error(k)))).collect();
    let classes: Map<String, Value> = metrics.classes.iter().map(|c| (c.name.clone(), class_json(c, metric))).collect();
    let all = [
        ("mAP", json!(metrics.mean_ap())),
        ("mAP_of_present_classes", json!(metrics.mean_ap_of_present())),
        ("NDS", json!(metrics.nds_without_attributes())),
        ("NDS_formula", json!(NDS_FORMULA)),
        ("NDS_with_AAE_1", json!(metrics.nds_with_wrong_attributes())),
        ("errors", Value::Object(errors)),
        ("classes", Value::Object(classes)),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn class_json(class: &ClassMetrics, metric: &DetectionMetric) -> Value {
    let by_distance = metric.distances_m.iter().zip(class.average_precisions(metric));
    let ap: Map<String, Value> = by_distance.map(|(d, ap)| (format!("{d:.1}"), json!(ap))).collect();
    let errors: Map<String, Value> = ErrorKind::ALL.iter().map(|&k| (k.name().to_owned(), json!(class.error(metric, k)))).collect();
    json!({
        "objects": class.objects,
        "predictions": class.predictions,
        "ap": ap,
        "mean_ap": class.mean_ap(metric),
        "max_recall": class.error_curve(metric).map(|c| c.max_recall()),
        "errors": errors,
    })
}

/// One line a class, and the means.
pub fn metrics_table(metrics: &Metrics) -> Table {
    let metric = &metrics.metric;
    let mut headers: Vec<String> = ["class", "objects", "boxes"].map(String::from).into();
    headers.extend(metric.distances_m.iter().map(|d| format!("AP {d}m")));
    headers.extend(["AP", "recall"].map(String::from));
    headers.extend(ErrorKind::ALL.iter().map(|k| format!("{} {}", k.name(), k.unit())));
    let mut table = Table::new(headers);
    for class in &metrics.classes {
        let mut row = vec![class.name.clone(), class.objects.to_string(), class.predictions.to_string()];
        let judged = |value: Option<f64>| if class.objects > 0 { figure(value) } else { figure(None) };
        row.extend(class.average_precisions(metric).into_iter().map(|ap| judged(Some(ap))));
        row.push(judged(Some(class.mean_ap(metric))));
        row.push(judged(class.error_curve(metric).map(|c| c.max_recall())));
        row.extend(ErrorKind::ALL.iter().map(|&k| judged(class.error(metric, k))));
        table.row(row);
    }
    let sum = |count: fn(&ClassMetrics) -> usize| metrics.classes.iter().map(count).sum::<usize>().to_string();
    let mut row = vec!["mean".to_owned(), sum(|c| c.objects), sum(|c| c.predictions)];
    row.extend(vec![String::new(); metric.distances_m.len()]);
    row.extend([figure(Some(metrics.mean_ap())), String::new()]);
    row.extend(ErrorKind::ALL.iter().map(|&k| figure(metrics.mean_error(k))));
    table.row(row);
    table
}

/// mAP and NDS, and what a reader must know about them, a sentence each.
pub fn summary_lines(metrics: &Metrics) -> Vec<String> {
    let (mean_ap, nds) = (metrics.mean_ap(), metrics.nds_without_attributes());
    let mut lines = vec![
        format!("mAP {mean_ap:.4}   NDS {nds:.4}"),
        format!("NDS: {NDS_FORMULA}. With AAE = 1, as nuscenes-devkit takes it here: {:.4}", metrics.nds_with_wrong_attributes()),
    ];
    let absent = metrics.classes.iter().filter(|c| c.objects == 0).map(|c| c.name.as_str()).collect::<Vec<_>>();
    if !absent.is_empty() {
        let of_present = metrics.mean_ap_of_present().unwrap_or(0.0);
        lines.push(format!("no objects of {}: they count 0 in mAP and 1 in errors; mAP of the others {of_present:.4}", absent.join(", ")));
    }
    if !metrics.metric.is_official() {
        lines.push("not nuScenes' ten classes: these figures do not stand beside published ones".to_owned());
    }
    lines
}

/// For a detector at its thresholds: one line a class that has objects or boxes, recall and precision of all its boxes at the
/// distance of the errors.
pub fn detections_table(evaluation: &Evaluation) -> Table {
    let (metric, metrics) = (evaluation.metric(), evaluation.metrics());
    let distance = metric.distances_m.iter().position(|&d| d == metric.error_distance_m).unwrap_or(0);
    let mut table = Table::new(["class", "objects", "boxes", "AP", "recall", "precision"]);
    for (i, class) in metrics.classes.iter().enumerate().filter(|(_, c)| c.objects + c.predictions > 0) {
        let ranking = evaluation.ranking((i, distance), 0..evaluation.frames().len(), &(0.0..f64::INFINITY));
        let right = ranking.judged.iter().filter(|j| j.errors.is_some()).count() as f64;
        let share = |of: usize| (of > 0).then(|| right / of as f64);
        let ap = (class.objects > 0).then(|| class.mean_ap(metric));
        let counts = [class.name.clone(), class.objects.to_string(), class.predictions.to_string()];
        table.row(counts.into_iter().chain([ap, share(class.objects), share(class.predictions)].map(figure)));
    }
    table
}

/// mAP and NDS in one line; of classes that are not nuScenes' the mean AP alone.
pub fn short_summary(metrics: &Metrics) -> String {
    let (present, of_present) = (metrics.present().count(), metrics.mean_ap_of_present());
    if !metrics.metric.is_official() {
        return format!("mean AP {} over the {present} classes that occur", figure(of_present));
    }
    let (mean_ap, nds) = (metrics.mean_ap(), metrics.nds_without_attributes());
    format!("mAP {mean_ap:.3} ({} over the {present} of ten classes that occur)   NDS {nds:.3} (without attributes)", figure(of_present))
}

/// AP of each class in each range.
pub fn ranges_table(ranges: &[(Range<f64>, Metrics)]) -> Table {
    let headers = std::iter::once("AP".to_owned()).chain(ranges.iter().map(|(r, _)| range_name(r)));
    let mut table = Table::new(headers);
    for (i, class) in ranges.first().iter().flat_map(|(_, first)| &first.classes).enumerate() {
        let cell = |m: &Metrics| {
            let class = &m.classes[i];
            if class.objects == 0 { "-".into() } else { format!("{:.3} ({})", class.mean_ap(&m.metric), class.objects) }
        };
        table.row(std::iter::once(class.name.clone()).chain(ranges.iter().map(|(_, m)| cell(m))));
    }
    let means = ranges.iter().map(|(_, m)| figure(m.mean_ap_of_present()));
    table.row(std::iter::once("mean of present".to_owned()).chain(means));
    table
}

/// The same figures for each range; `to` is null for the last.
pub fn ranges_json(ranges: &[(Range<f64>, Metrics)]) -> Value {
    let entry = |(range, metrics): &(Range<f64>, Metrics)| {
        let classes: Map<String, Value> = metrics.present().map(|c| (c.name.clone(), class_json(c, &metrics.metric))).collect();
        let to = range.end.is_finite().then_some(range.end);
        json!({"from": range.start, "to": to, "mAP_of_present_classes": metrics.mean_ap_of_present(), "classes": classes})
    };
    ranges.iter().map(entry).collect()
}

/// Three decimals, or a dash.
pub(crate) fn figure(value: Option<f64>) -> String {
    value.filter(|v| v.is_finite()).map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"))
}
