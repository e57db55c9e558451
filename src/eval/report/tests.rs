use super::*;
use crate::eval::ScoredBox;
use crate::eval::agreement::AgreementRules;
use crate::eval::nuscenes::DetectionMetric;
use crate::geometry::Box3;
use crate::sensor::{PointCloud, Stamp};
use ndarray::Array2;

const CLASSES: [&str; 2] = ["car", "<b>&odd"];

fn bbox(x: f32, y: f32) -> Box3 {
    Box3 { center: [x, y, 0.0], size: [4.0, 2.0, 1.6], yaw: 0.0, velocity: [0.0; 2] }
}

fn object(x: f32, y: f32, points: u32) -> TruthBox {
    TruthBox { bbox: bbox(x, y), label: 0, points: Some(points) }
}

fn found(x: f32, y: f32, score: f32) -> ScoredBox {
    ScoredBox { bbox: bbox(x, y), label: 0, score }
}

/// Names that are markup, if nobody escapes them.
fn frame(source: &str, time_s: f64, predictions: Vec<ScoredBox>, truth: Vec<TruthBox>) -> EvalFrame {
    EvalFrame { source: source.to_owned(), time_s, ego: [0.0; 2], predictions, truth }
}

fn cloud() -> PointCloud {
    let fields = ["x", "y", "z", "intensity"].map(str::to_owned).to_vec();
    PointCloud { stamp: Stamp(0), frame_id: "lidar".into(), fields, data: Array2::zeros((1, 4)) }
}

/// Every frame offered as it is added.
fn gathered(frames: impl IntoIterator<Item = EvalFrame>, rules: WorstRules) -> (Evaluation, WorstFrames) {
    let mut evaluation = Evaluation::new(DetectionMetric::for_classes(&CLASSES));
    let mut worst = WorstFrames::new(rules);
    for frame in frames {
        evaluation.add(frame);
        worst.offer_last(&evaluation, &cloud());
    }
    (evaluation, worst)
}

/// Found, found by an unsure box, missed, with too few points, out of range; and a false alarm, an unsure one, one out of range.
fn mixed() -> EvalFrame {
    let predictions =
        vec![found(10.5, 0.0, 0.9), found(20.0, 1.0, 0.2), found(-10.0, -10.0, 0.6), found(-20.0, 0.0, 0.1), found(0.0, 70.0, 0.9)];
    let truth = vec![object(10.0, 0.0, 50), object(20.0, 0.0, 50), object(30.0, 10.0, 9), object(0.0, 20.0, 4), object(60.0, 0.0, 50)];
    frame("<i>drive", 1.5, predictions, truth)
}

#[test]
fn faults_are_what_the_metric_did_not_match() {
    let (_, worst) = gathered([mixed()], WorstRules::default());
    let faults = &worst.kept()[0].faults;
    assert_eq!(faults.missed, [Missed { object: 1, unsure: Some(0.2) }, Missed { object: 2, unsure: None }]);
    assert_eq!(faults.false_alarms, [2]);
    // Below the score of every box, what was unsure counts: one object more is found, one alarm more is false.
    let (_, worst) = gathered([mixed()], WorstRules { score: 0.05, ..WorstRules::default() });
    let faults = &worst.kept()[0].faults;
    assert_eq!((faults.missed.len(), faults.false_alarms.as_slice()), (1, [2, 3].as_slice()));
}

#[test]
fn only_the_worst_frames_are_kept_and_neighbours_once() {
    let with = |source: &str, time_s: f64, misses: usize| {
        frame(source, time_s, vec![], (0..misses).map(|i| object(8.0 * i as f32 - 20.0, 5.0, 9)).collect())
    };
    let frames = [
        with("a", 0.0, 2),
        with("a", 1.0, 4), // takes the place of the one before
        with("a", 2.0, 3), // stands behind it
        with("a", 3.0, 1), // pushed out by b
        with("b", 0.0, 3),
        with("b", 9.0, 0), // no fault
        with("b", 20.0, 3),
        with("c", 0.0, 3), // no worse than what is kept
    ];
    let (_, worst) = gathered(frames, WorstRules { keep: 3, ..WorstRules::default() });
    let kept: Vec<_> = worst.kept().iter().map(|k| (k.frame, k.faults.count())).collect();
    assert_eq!(kept, [(1, 4), (4, 3), (6, 3)]);
    let (_, none) = gathered([with("a", 0.0, 2)], WorstRules { keep: 0, ..WorstRules::default() });
    assert!(none.kept().is_empty());
}

/// White rings where something was missed and nowhere else; the same for red crosses.
#[test]
fn the_picture_marks_what_was_missed() {
    let (evaluation, worst) = gathered([mixed()], WorstRules::default());
    let image = worst.picture(&worst.kept()[0], &evaluation, &CLASSES.map(str::to_owned));
    // 1000 pixels over 2 * 52 m, under a title of 35; the ring stands 4 units of 1.25 pixels off the corners.
    let scale = 1000.0 / 104.0;
    let radius = 0.5 * scale * 4.0f32.hypot(2.0) + 5.0;
    let near = |[x, y]: [f32; 2], angle: f32, color: [u8; 3]| {
        let at = [500.0 - y * scale + radius * angle.cos(), 35.0 + 500.0 - x * scale + radius * angle.sin()];
        let pixel = image.pixel(at[0] as u32, at[1] as u32);
        pixel.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 90)
    };
    // Between the axes, and (for rings) between the diagonals too.
    let angles = |from: f32| (0..4).map(move |i| from + i as f32 * std::f32::consts::FRAC_PI_2);
    let ringed = |at: [f32; 2]| angles(0.4).all(|angle| near(at, angle, [255; 3]));
    let crossed = |at: [f32; 2]| angles(std::f32::consts::FRAC_PI_4).all(|angle| near(at, angle, [255, 70, 70]));
    let places = [[10.0, 0.0], [20.0, 0.0], [30.0, 10.0], [0.0, 20.0], [-10.0, -10.0], [-20.0, 0.0]];
    assert_eq!(places.map(ringed), [false, true, true, false, false, false]);
    assert_eq!(places.map(crossed), [false, false, false, false, true, false]);
}

#[test]
fn the_page_holds_the_metrics_figures_and_no_markup_of_others() {
    let (evaluation, worst) = gathered([mixed()], WorstRules::default());
    let mut agreement = Agreement::new(AgreementRules::for_classes(evaluation.metric().classes.clone()));
    agreement.add([0.0; 2], &mixed().predictions, &mixed().predictions);
    let mut report = Report::new("<title>", &evaluation);
    report.agreement = Some(&agreement);
    report.worst = Some(&worst);
    report.facts = vec![("Command".into(), "eval 'a b' <x>".into())];
    report.remarks = vec!["skipped <p>".into()];
    let files = report.files().unwrap();
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["report.html", "precision_recall_car.svg", "scores.svg", "calibration.svg"]);
    let page = &files[0].text;
    for hostile in ["<i>", "<b>", "<x>", "<p>drive", "skipped <p>", "<script", "http:", "https:"] {
        let known = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!known.contains(hostile), "{hostile}");
    }
    for part in
        ["<h1>&lt;title&gt;</h1>", "&lt;i&gt;drive, 1.50 s: 2 missed, 1 false alarms", "skipped &lt;p&gt;", "eval &#39;a b&#39; &lt;x&gt;"]
    {
        assert!(page.contains(part), "{part}");
    }
    for part in ["missed: car at 20 m, 50 points, a box of score 0.20 only", "missed: car at 32 m, 9 points, no box"] {
        assert!(page.contains(part), "{part}");
    }
    // The row of the cars: four objects take part, and two of four boxes found one; in closed form precision at recall r up to
    // a quarter is 1 and falls to 2/3 at a half.
    let metrics = evaluation.metrics();
    let car = &metrics.classes[0];
    assert_eq!((car.objects, car.predictions), (4, 4));
    let row: String = [car.mean_ap(&metrics.metric), 0.5].map(|figure| format!("<td>{figure:.3}</td>")).concat();
    assert!(page.contains(&row), "{row} is not in the page");
    assert!(page.contains(&format!("mAP {:.3}, NDS {:.3}", metrics.mean_ap(), metrics.nds_without_attributes())));
    assert!(report.text().contains(&format!("mAP {:.4}", metrics.mean_ap())));
    assert_eq!(report.json()["mAP"], metrics.mean_ap());
    // Nothing in the page is left open.
    for tag in ["html", "body", "table", "tr", "td", "ul", "li", "dl", "svg", "figure", "h2", "h3"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert!(opened > 0 && opened == page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // One picture, whole.
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), 1);
    // The plot's lines end where recall does.
    assert!(files[1].text.contains("within 0.5 m: AP") && files[1].text.starts_with("<svg"));
}

#[test]
fn without_labels_there_is_agreement_alone() {
    let evaluation = Evaluation::new(DetectionMetric::for_classes(&CLASSES));
    let mut agreement = Agreement::new(AgreementRules::for_classes(evaluation.metric().classes.clone()));
    agreement.add([0.0; 2], &mixed().predictions, &mixed().predictions);
    let mut report = Report::new("compared", &evaluation);
    report.agreement = Some(&agreement);
    let files = report.files().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0].text.contains("Nothing was labelled") && !files[0].text.contains("mAP"));
    assert!(report.json()["mAP"].is_null() && report.json()["agreement"]["frames"] == 1);
    assert!(report.text().starts_with("agreement"));
}

#[test]
fn lines_of_plots_follow_the_curve() {
    // One of two objects found by the surest of two boxes: precision 1 up to a recall of a half, then 1/2.
    let frame = frame("a", 0.0, vec![found(10.0, 0.0, 0.9), found(-10.0, 0.0, 0.5)], vec![object(10.0, 0.0, 9), object(30.0, 0.0, 9)]);
    let (evaluation, _) = gathered([frame], WorstRules::default());
    let plots = precision_recall(&evaluation.metrics()).unwrap();
    let line = plots[0].svg.lines().find(|l| l.starts_with("<polyline") && l.contains("stroke-width=\"2\"")).unwrap();
    let points: Vec<Vec<f64>> = line
        .split("points=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .split_whitespace()
        .map(|point| point.split(',').map(|v| v.parse().unwrap()).collect())
        .collect();
    assert_eq!(points.len(), 51);
    let (first, before_last) = (&points[0], &points[49]);
    assert_eq!(first[1], before_last[1], "level at a precision of 1");
    assert!((points[50][0] - first[0]) / 50.0 > 5.0, "half of the width");
    let [counts, calibration] = scores(&evaluation).unwrap().try_into().unwrap();
    assert!(counts.svg.contains("false alarms") && calibration.svg.contains("share that is right"));
}
