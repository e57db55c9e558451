//! KITTI: the metric against a public evaluator's output, and real labels against the points inside of them.

use lidar_ptq::dataset::kitti::parse_objects;
use lidar_ptq::dataset::{Dataset, FrameName, FrameSelection, KittiFolder};
use lidar_ptq::eval::kitti::{KittiFrame, Overlap, evaluate};
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
        // At the official image overlap the looser rows repeat the stricter ones.
        let same = |r: &&lidar_ptq::eval::kitti::KittiRow| {
            r.class == want.class && r.overlap == want.overlap && r.min_overlap == want.min_overlap
        };
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
