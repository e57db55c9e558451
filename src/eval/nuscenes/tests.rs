//! Against nuscenes-devkit on random boxes (`tests/data/eval/make.py`), and what must hold for any boxes.

use super::*;
use crate::eval::{EvalFrame, RANGE_BINS, ScoredBox, TruthBox};
use crate::geometry::Box3;
use crate::random::Rng;
use serde::Deserialize;
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Fixture {
    classes: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    frames: Vec<Boxes>,
    expected: Expected,
}

/// Class, ten numbers, and the score or the number of points.
type BoxRow = (String, f32, f32, f32, f32, f32, f32, f32, Option<f32>, Option<f32>, Option<f32>);

#[derive(Deserialize)]
struct Boxes {
    ego: [f32; 2],
    truth: Vec<BoxRow>,
    predictions: Vec<BoxRow>,
}

#[derive(Deserialize)]
struct Expected {
    classes: BTreeMap<String, ExpectedClass>,
    mean_ap: f64,
    errors: [f64; 4],
    nd_score: f64,
}

#[derive(Deserialize)]
struct ExpectedClass {
    ap: Vec<f64>,
    errors: [Option<f64>; 4],
    curve: Option<ExpectedCurve>,
}

#[derive(Deserialize)]
struct ExpectedCurve {
    precision: Vec<f64>,
    confidence: Vec<f64>,
    trans_err: Vec<f64>,
    scale_err: Vec<f64>,
    orient_err: Vec<f64>,
    vel_err: Vec<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../tests/data/eval/nuscenes.json")).unwrap()
}

fn frames(case: &Case, classes: &[String]) -> Vec<EvalFrame> {
    let split = |row: &BoxRow| {
        let (class, x, y, z, length, width, height, yaw, vx, vy, last) = row;
        let velocity = [vx, vy].map(|v| v.unwrap_or(f32::NAN));
        let bbox = Box3 { center: [*x, *y, *z], size: [*length, *width, *height], yaw: *yaw, velocity };
        (bbox, classes.iter().position(|c| c == class).unwrap(), *last)
    };
    let truth = |row: &BoxRow| {
        let (bbox, label, points) = split(row);
        TruthBox { bbox, label, points: points.map(|p| p as u32) }
    };
    let prediction = |row: &BoxRow| {
        let (bbox, label, score) = split(row);
        ScoredBox { bbox, label, score: score.unwrap() }
    };
    let frame = |(i, boxes): (usize, &Boxes)| EvalFrame {
        source: case.name.clone(),
        time_s: i as f64,
        ego: boxes.ego,
        predictions: boxes.predictions.iter().map(prediction).collect(),
        truth: boxes.truth.iter().map(truth).collect(),
    };
    case.frames.iter().enumerate().map(frame).collect()
}

fn evaluate(classes: &[String], frames: impl IntoIterator<Item = EvalFrame>) -> Evaluation {
    let mut evaluation = Evaluation::new(DetectionMetric::for_classes(classes));
    frames.into_iter().for_each(|f| evaluation.add(f));
    evaluation
}

#[track_caller]
fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= TOLERANCE, "{what}: {got}, the devkit has {want}");
}

#[test]
fn figures_are_those_of_the_devkit() {
    let fixture = fixture();
    assert_eq!(fixture.cases.len(), 9);
    for case in &fixture.cases {
        let metrics = evaluate(&fixture.classes, frames(case, &fixture.classes)).metrics();
        assert!(metrics.metric.is_official());
        for class in &metrics.classes {
            let what = format!("{}, {}", case.name, class.name);
            let expected = &case.expected.classes[&class.name];
            let precisions = class.average_precisions(&metrics.metric);
            assert_eq!(precisions.len(), expected.ap.len());
            precisions.iter().zip(&expected.ap).for_each(|(got, want)| close(*got, *want, &what));
            for (kind, want) in ErrorKind::ALL.into_iter().zip(expected.errors) {
                let got = class.error(&metrics.metric, kind);
                assert_eq!(got.is_some(), want.is_some(), "{what}: {kind:?}");
                close(got.unwrap_or(0.0), want.unwrap_or(0.0), &format!("{what}, {kind:?}"));
            }
        }
        close(metrics.mean_ap(), case.expected.mean_ap, &case.name);
        for (kind, want) in ErrorKind::ALL.into_iter().zip(case.expected.errors) {
            close(metrics.mean_error(kind).unwrap(), want, &format!("{}, {kind:?}", case.name));
        }
        // The boxes have no attributes: to the devkit all of them are wrong.
        close(metrics.nds_with_wrong_attributes(), case.expected.nd_score, &format!("{}, NDS", case.name));
    }
}

#[test]
fn curves_are_those_of_the_devkit() {
    let fixture = fixture();
    let mut compared = 0;
    for case in &fixture.cases {
        let metrics = evaluate(&fixture.classes, frames(case, &fixture.classes)).metrics();
        for class in &metrics.classes {
            let Some(expected) = &case.expected.classes[&class.name].curve else { continue };
            let curve = class.error_curve(&metrics.metric).unwrap();
            for (got, want) in [
                (&curve.precision, &expected.precision),
                (&curve.score, &expected.confidence),
                (&curve.translation, &expected.trans_err),
                (&curve.scale, &expected.scale_err),
                (&curve.orientation, &expected.orient_err),
                (&curve.velocity, &expected.vel_err),
            ] {
                assert_eq!((got.len(), want.len()), (SAMPLES, SAMPLES));
                got.iter().zip(want).for_each(|(g, w)| close(*g, *w, &class.name));
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}

/// Ten classes, all within every class's range.
fn random_frames(rng: &mut Rng, count: usize) -> Vec<EvalFrame> {
    let mut frame = |i| {
        let truth: Vec<TruthBox> = (0..20)
            .map(|k| {
                let center = [rng.range(-20.0, 20.0), rng.range(-20.0, 20.0), 0.0];
                let bbox = Box3 { center, size: [2.0, 1.0, 1.5], yaw: rng.range(-3.0, 3.0), velocity: [1.0, rng.unit()] };
                TruthBox { bbox, label: k % 10, points: Some(3) }
            })
            .collect();
        let predictions = truth
            .iter()
            .flat_map(|t| {
                let mut bbox = t.bbox;
                bbox.center[0] += rng.range(-2.0, 2.0);
                let other = Box3 { center: [rng.range(-20.0, 20.0), rng.range(-20.0, 20.0), 0.0], ..bbox };
                [bbox, other].map(|bbox| ScoredBox { bbox, label: t.label, score: rng.unit() })
            })
            .collect();
        EvalFrame { source: "random".into(), time_s: f64::from(i), ego: [0.0; 2], predictions, truth }
    };
    (0..count as i32).map(&mut frame).collect()
}

fn classes() -> Vec<String> {
    DetectionMetric::detection_cvpr_2019().classes.into_iter().map(|c| c.name).collect()
}

#[test]
fn perfect_predictions_score_one_and_have_no_error() {
    let mut frames = random_frames(&mut Rng::new(1, "eval"), 3);
    for frame in &mut frames {
        frame.predictions = frame.truth.iter().map(|t| ScoredBox { bbox: t.bbox, label: t.label, score: 0.5 }).collect();
    }
    let metrics = evaluate(&classes(), frames).metrics();
    assert!((metrics.mean_ap() - 1.0).abs() < 1e-12 && (metrics.nds_without_attributes() - 1.0).abs() < 1e-12);
    for kind in ErrorKind::ALL {
        assert!(metrics.mean_error(kind).unwrap() < 1e-12, "{kind:?}");
    }
    // AAE is then the whole difference.
    assert!((metrics.nds_with_wrong_attributes() - 0.9).abs() < 1e-12);
}

#[test]
fn the_order_of_frames_and_boxes_does_not_matter() {
    let mut rng = Rng::new(2, "eval");
    let mut frames = random_frames(&mut rng, 4);
    let metrics = evaluate(&classes(), frames.clone()).metrics();
    frames.reverse();
    for frame in &mut frames {
        for i in (1..frame.predictions.len()).rev() {
            frame.predictions.swap(i, rng.index(i + 1));
        }
        frame.truth.reverse();
    }
    assert_eq!(metrics, evaluate(&classes(), frames).metrics());
}

#[test]
fn a_false_alarm_never_helps_and_a_found_object_never_hurts() {
    let mut rng = Rng::new(3, "eval");
    for _ in 0..20 {
        let frames = random_frames(&mut rng, 2);
        let before = evaluate(&classes(), frames.clone()).metrics().mean_ap();
        let far_off = Box3 { center: [25.0, 10.0, 0.0], size: [1.0; 3], yaw: 0.0, velocity: [0.0; 2] };
        let mut worse = frames.clone();
        worse[0].predictions.push(ScoredBox { bbox: far_off, label: rng.index(10), score: rng.unit() });
        assert!(evaluate(&classes(), worse).metrics().mean_ap() <= before);
        // An object that nothing was near, found exactly and with the best score of all.
        let mut frames = frames;
        let label = rng.index(10);
        frames[1].truth.push(TruthBox { bbox: far_off, label, points: None });
        let missed = evaluate(&classes(), frames.clone()).metrics().mean_ap();
        frames[1].predictions.push(ScoredBox { bbox: far_off, label, score: 2.0 });
        let found = evaluate(&classes(), frames).metrics().mean_ap();
        assert!(missed <= before && found >= missed, "{missed} {before} {found}");
    }
}

#[test]
fn ranges_share_out_all_objects_and_predictions() {
    let fixture = fixture();
    let evaluation = evaluate(&fixture.classes, frames(&fixture.cases[0], &fixture.classes));
    let all = 0.0..f64::INFINITY;
    for class in 0..10 {
        for distance in 0..4 {
            let mut sum = Ranking::default();
            for range in &RANGE_BINS {
                sum += &evaluation.ranking((class, distance), 0..evaluation.frames().len(), range);
            }
            let mut whole = evaluation.ranking((class, distance), 0..evaluation.frames().len(), &all);
            for ranking in [&mut sum, &mut whole] {
                ranking.judged.sort_by(|a, b| a.score.total_cmp(&b.score));
            }
            let told = |r: &Ranking| r.judged.iter().map(|j| (j.score, j.errors.map(|e| e.translation))).collect::<Vec<_>>();
            assert_eq!((sum.objects, told(&sum)), (whole.objects, told(&whole)));
        }
    }
}

#[test]
fn a_miss_by_a_bins_edge_stays_a_match() {
    let at = |x| Box3 { center: [x, 0.0, 0.0], size: [4.0, 2.0, 1.5], yaw: 0.0, velocity: [0.0; 2] };
    let frame = EvalFrame {
        source: "edge".into(),
        time_s: 0.0,
        ego: [1.0, 0.0],
        predictions: vec![ScoredBox { bbox: at(21.2), label: 0, score: 0.9 }],
        truth: vec![TruthBox { bbox: at(20.9), label: 0, points: None }],
    };
    let evaluation = evaluate(&["car".into()], [frame]);
    let near = evaluation.metrics_in(&RANGE_BINS[0]);
    assert!((near.mean_ap() - 1.0).abs() < 1e-12);
    assert_eq!((near.classes[0].objects, near.classes[0].predictions), (1, 1));
    assert_eq!(evaluation.metrics_in(&RANGE_BINS[1]).mean_ap_of_present(), None);
}

#[test]
fn only_the_best_boxes_of_a_frame_count() {
    let at = |x| Box3 { center: [x, 0.0, 0.0], size: [4.0, 2.0, 1.5], yaw: 0.0, velocity: [0.0; 2] };
    let mut predictions = vec![ScoredBox { bbox: at(30.0), label: 0, score: 0.5 }; 500];
    predictions.push(ScoredBox { bbox: at(10.0), label: 0, score: 0.4 });
    let truth = vec![TruthBox { bbox: at(10.0), label: 0, points: None }];
    let mut frame = EvalFrame { source: "many".into(), time_s: 0.0, ego: [0.0; 2], predictions, truth };
    assert_eq!(evaluate(&["car".into()], [frame.clone()]).metrics().classes[0].curves[0], Curve::nothing());
    frame.predictions[500].score = 0.6;
    // Only at full recall does the devkit see the false alarms that follow.
    assert!(evaluate(&["car".into()], [frame]).metrics().mean_ap() > 0.98);
}

#[test]
fn nonsense_numbers_neither_match_nor_panic() {
    let bad = Box3 { center: [f32::NAN; 3], size: [0.0, -1.0, f32::NAN], yaw: f32::INFINITY, velocity: [f32::NAN; 2] };
    let odd = Box3 { center: [1.0, 1.0, 0.0], ..bad };
    let frame = EvalFrame {
        source: "nonsense".into(),
        time_s: 0.0,
        ego: [0.0; 2],
        predictions: [(bad, 0, 0.5), (odd, 0, f32::NAN), (odd, 77, 0.5), (odd, 0, 0.1)]
            .map(|(bbox, label, score)| ScoredBox { bbox, label, score })
            .to_vec(),
        truth: [(bad, 0), (odd, 0), (odd, 78)].map(|(bbox, label)| TruthBox { bbox, label, points: None }).to_vec(),
    };
    let metrics = evaluate(&["car".into()], [frame]).metrics();
    assert_eq!((metrics.classes[0].objects, metrics.classes[0].predictions), (1, 1));
    assert_eq!(metrics.classes[0].error(&metrics.metric, ErrorKind::Scale), Some(1.0));
}
