//! KITTI: the metric against a public evaluator's output, and real labels against the points inside of them.

use lidar_ptq::dataset::kitti::parse_objects;
use lidar_ptq::dataset::{Dataset, FrameName, FrameSelection, KittiFolder};
use lidar_ptq::eval::kitti::{KittiEvaluation, KittiFrame, KittiRow, Overlap, evaluate};
use lidar_ptq::eval::{EvalFrame, ScoredBox, TruthBox};
use lidar_ptq::geometry::Box3;
use lidar_ptq::sensor::SweepsConfig;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Fixture {
    frames: Vec<FixtureFrame>,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct FixtureFrame {
    labels: String,
    detections: String,
}

#[derive(Deserialize)]
struct Expected {
    class: String,
    overlap: Overlap,
    min_overlap: f64,
    r11: [f64; 3],
    r40: [f64; 3],
}

/// `tests/data/kitti/make_metric.py` says what the evaluator was.
#[test]
fn average_precision_is_the_public_evaluators() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kitti/metric.json");
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let parse = |text: &str| parse_objects(&path, text).unwrap();
    let frames: Vec<KittiFrame> =
        fixture.frames.iter().map(|f| KittiFrame { labels: parse(&f.labels), detections: parse(&f.detections) }).collect();
    let rows = evaluate(&frames);
    let mut seen = 0;
    for want in &fixture.expected {
        let same = |r: &&KittiRow| r.class == want.class && r.overlap == want.overlap && r.min_overlap == want.min_overlap;
        let row = rows.iter().find(same).unwrap();
        for (d, curve) in row.curves.iter().enumerate() {
            let what = format!("{} {:?} {} {d}", want.class, want.overlap, want.min_overlap);
            assert!((curve.r11() - want.r11[d]).abs() < 1e-6, "{what}: R11 {} {}", curve.r11(), want.r11[d]);
            assert!((curve.r40() - want.r40[d]).abs() < 1e-6, "{what}: R40 {} {}", curve.r40(), want.r40[d]);
            seen += usize::from(want.r40[d] > 0.05 && want.r40[d] < 0.95);
        }
    }
    assert!(seen > 30, "the fixture is to hold curves that are neither empty nor perfect, found {seen}");
}

/// The data set's frames; `None` where they are not there, which is said.
fn shared_frames() -> Option<PathBuf> {
    let shared =
        std::env::var_os("LIDAR_PTQ_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("data/kitti");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there (LIDAR_PTQ_SHARED names the folder above `data`)", folder.display());
    None
}

/// A wrong sign or order in any of the conversions empties most boxes.
#[test]
fn labelled_boxes_hold_points() {
    let Some(folder) = shared_frames() else { return };
    let dataset = Dataset::open(&folder, None).unwrap();
    let (mut boxes, mut filled) = (0, 0);
    for index in 0..dataset.len() {
        let frame = dataset.frame(index, &SweepsConfig::default()).unwrap();
        boxes += frame.objects.len();
        filled += frame.objects.iter().filter(|o| o.points > Some(0)).count();
    }
    let share = filled as f64 / boxes as f64;
    eprintln!("{filled} of {boxes} boxes hold points");
    assert!(share > 0.975, "{filled} of {boxes}");
}

/// The label's rectangle was drawn by hand around what the box in space, projected, must cover.
#[test]
fn projected_boxes_cover_the_labelled_rectangles() {
    let Some(folder) = shared_frames() else { return };
    let kitti = KittiFolder::open(&folder, None).unwrap();
    let mut shares = Vec::new();
    for index in 0..kitti.len() {
        let calibration = kitti.calibration(index).unwrap();
        for label in kitti.labels(index).unwrap().iter().filter(|l| l.has_box() && l.truncation == 0.0) {
            let through_lidar = calibration.camera_box(&calibration.lidar_box(&label.camera_box()));
            let got = calibration.image_box(&through_lidar, kitti.image_size(index)).unwrap();
            let want = label.image_box;
            let side = |axis: usize| (got[axis + 2].min(want[axis + 2]) - got[axis].max(want[axis])).max(0.0);
            let area = |r: [f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
            shares.push(side(0) * side(1) / (area(got) + area(want) - side(0) * side(1)));
        }
    }
    shares.sort_by(f64::total_cmp);
    let median = shares[shares.len() / 2];
    eprintln!("median overlap of {} rectangles: {median:.3}", shares.len());
    assert!(median > 0.85, "{median}");
}

/// A folder of frames 3 and 12, whose camera looks along x from where the lidar is. There is no cropped cloud.
fn made_up(points: &[[f32; 4]], labels: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let calibration = "P2: 700 0 600 0 0 700 180 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n";
    let bytes: Vec<u8> = points.concat().iter().flat_map(|v| v.to_le_bytes()).collect();
    for (name, end, content) in
        [("velodyne", "bin", &bytes[..]), ("calib", "txt", calibration.as_bytes()), ("label_2", "txt", labels.as_bytes())]
    {
        let inner = folder.path().join("training").join(name);
        std::fs::create_dir_all(&inner).unwrap();
        for id in ["000003", "000012"] {
            std::fs::write(inner.join(id).with_extension(end), content).unwrap();
        }
    }
    folder
}

/// Two metres long, wide and high, its middle 10 m ahead of camera and lidar.
const CAR: &str = "Car 0 0 0 500 100 700 200 2 2 2 0 1 10 -1.57\n";

/// A folder with the whole turn of the lidar is cropped to what the camera sees, which is all that is labelled.
#[test]
fn whole_turns_are_cropped_and_chosen_frames_keep_their_order() {
    let points = [[10.0f32, 0.0, 0.0, 0.5], [-10.0, 0.0, 0.0, 0.5], [10.0, 30.0, 0.0, 0.5], [20.0, 1.0, -1.0, 0.25]];
    let folder = made_up(&points, &format!("{CAR}DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10\n"));
    let list = folder.path().join("val.txt");
    std::fs::write(&list, "# chosen\n000012\n3\n").unwrap();
    for only in [FrameSelection::File(list), FrameSelection::Names(vec![FrameName::Number(12), FrameName::parse("000003")])] {
        let kitti = KittiFolder::open(folder.path(), Some(&only)).unwrap();
        assert_eq!([kitti.id(0), kitti.id(1)], ["000012", "000003"]);
        assert_eq!(kitti.index_of("000003").unwrap(), 1);
        let frame = kitti.frame(0).unwrap();
        assert_eq!(frame.cloud.len(), 2);
        let [object] = &frame.objects[..] else { panic!("{:?}", frame.objects) };
        assert_eq!((object.bbox.center, object.points), ([10.0, 0.0, 0.0], Some(1)));
    }
    let missing = FrameSelection::Names(vec![FrameName::Number(4)]);
    let error = Dataset::open(folder.path(), Some(&missing)).unwrap_err().to_string();
    assert!(error.contains("`000004`") && error.contains("label_2/000004.txt"), "{error}");
}

#[test]
fn what_counts_where_centres_are_compared() {
    let folder = made_up(&[[10.0, 0.0, 0.0, 0.5]], CAR);
    let kitti = KittiFolder::open(folder.path(), None).unwrap();
    let at = |x: f32, score: f32| {
        let bbox = Box3 { center: [x, 0.0, 0.0], size: [2.0; 3], yaw: 0.0, velocity: [0.0; 2] };
        ScoredBox { bbox, label: 1, score }
    };
    let evaluation = |objects: &[(f32, u32)], found: &[ScoredBox]| {
        let mut evaluation = KittiEvaluation::new(vec!["pedestrian".into(), "car".into()], [[0.0, -40.0], [70.0, 40.0]]);
        let truth = objects.iter().map(|&(x, points)| TruthBox { bbox: at(x, 0.0).bbox, label: 1, points: Some(points) }).collect();
        let frame = EvalFrame { source: "000003".into(), time_s: 0.0, ego: [0.0; 2], predictions: found.to_vec(), truth };
        evaluation.add(&kitti, &frame).unwrap();
        evaluation
    };
    let ap = |objects: &[(f32, u32)], found: &[ScoredBox]| {
        let rows = evaluation(objects, found).center_rows();
        assert_eq!((rows.len(), rows[0].class.as_str()), (1, "Car"));
        rows[0].curves.each_ref().map(|c| c.r40())
    };
    // Nearer than the distance, not as near; a box behind the camera, which nobody could label, takes nothing away.
    assert_eq!(ap(&[(10.0, 5)], &[at(10.7, 0.5), at(-10.0, 0.9)]), [0.0, 1.0, 1.0]);
    // A surer box beside it does: precision is 1/2 at every recall.
    assert_eq!(ap(&[(10.0, 5)], &[at(10.1, 0.5), at(30.0, 0.9)]), [0.5; 3]);
    // Right, wrong, right: precision is 1 up to half of the recalls and 2/3 from there.
    let curve = ap(&[(10.0, 9), (30.0, 5)], &[at(10.3, 0.9), at(10.4, 0.8), at(30.4, 0.7)]);
    assert!(curve.iter().all(|ap| (ap - (20.0 + 20.0 * 2.0 / 3.0) / 40.0).abs() < 1e-12), "{curve:?}");
    // Four points are too few, 75 m too far: nothing to find.
    assert!(evaluation(&[(10.0, 4), (75.0, 50)], &[at(10.0, 0.5)]).center_rows().is_empty());
    assert!(evaluation(&[], &[]).rows().iter().all(|row| row.class == "Car"));
}

/// As the benchmark has it, whoever finds a Van as a Car, an object too far or too thin to count, or something where nobody
/// looked, is neither right nor wrong. What stands beside them is wrong.
#[test]
fn what_costs_nothing_where_centres_are_compared() {
    let van = CAR.replace("Car", "Van").replace(" 10 -1.57", " 30 -1.57");
    let tram = van.replace("Van", "Tram").replace(" 30 -1.57", " 20 -1.57");
    let nobody_looked = "DontCare -1 -1 -10 440 150 480 210 -1 -1 -1 -1000 -1000 -1000 -10\n"; // 10 m to the left, 50 m ahead
    let folder = made_up(&[[10.0, 0.0, 0.0, 0.5]], &format!("{CAR}{van}{tram}{nobody_looked}"));
    let kitti = KittiFolder::open(folder.path(), None).unwrap();
    let at = |x: f32, y: f32| Box3 { center: [x, y, 0.0], size: [2.0; 3], yaw: 0.0, velocity: [0.0; 2] };
    let ap = |beside: Box3| {
        let mut evaluation = KittiEvaluation::new(vec!["Car".into()], [[0.0, -40.0], [70.0, 40.0]]);
        let truth = |bbox, points| TruthBox { bbox, label: 0, points: Some(points) };
        let found = |bbox, score| ScoredBox { bbox, label: 0, score };
        let frame = EvalFrame {
            source: "000003".into(),
            time_s: 0.0,
            ego: [0.0; 2],
            predictions: vec![found(at(10.0, 0.0), 0.5), found(beside, 0.9)],
            truth: vec![truth(at(10.0, 0.0), 5), truth(at(40.0, 5.0), 4), truth(at(80.0, 0.0), 50)],
        };
        evaluation.add(&kitti, &frame).unwrap();
        evaluation.center_rows()[0].curves[0].r40()
    };
    for ignored in [at(30.5, 0.5), at(40.5, 4.5), at(80.0, 0.9), at(50.0, 10.0)] {
        assert_eq!(ap(ignored), 1.0, "{ignored:?}");
    }
    for wrong in [at(31.5, 0.0), at(41.5, 5.0), at(20.0, 0.0), at(50.0, 8.0)] {
        assert_eq!(ap(wrong), 0.5, "{wrong:?}");
    }
}
