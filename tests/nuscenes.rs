//! A folder in nuScenes' layout, against what the nuscenes-devkit reads from it (`tests/data/nuscenes/make.py`).

use lidar_ptq::dataset::{Dataset, FrameName, FrameSelection, LabelledFrame, NuscenesFolder};
use lidar_ptq::sensor::SweepsConfig;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Expected {
    sweeps: usize,
    frames: Vec<ExpectedFrame>,
}

#[derive(Deserialize)]
struct ExpectedFrame {
    token: String,
    scene: String,
    objects: Vec<ExpectedObject>,
    /// x, y, z, intensity, lag.
    points: Vec<[f32; 5]>,
}

#[derive(Deserialize)]
struct ExpectedObject {
    class: String,
    center: [f32; 3],
    size: [f32; 3],
    heading: [f32; 2],
    velocity: [Option<f32>; 2],
    points: u32,
    radar_points: u32,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nuscenes")
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(data().join("expected.json")).unwrap()).unwrap()
}

fn sweeps(count: usize) -> SweepsConfig {
    SweepsConfig { count, ego_box: [1.0, 1.0] }
}

fn check(frame: &LabelledFrame, want: &ExpectedFrame) {
    let close = |a: f32, b: f32, what: &str| assert!((a - b).abs() < 1e-3, "{} {what}: {a} {b}", want.token);
    assert_eq!(frame.id, want.token);
    assert_eq!(frame.objects.len(), want.objects.len());
    for (object, want) in frame.objects.iter().zip(&want.objects) {
        assert_eq!((&object.class, object.points, object.radar_points), (&want.class, Some(want.points), Some(want.radar_points)));
        let b = &object.bbox;
        for i in 0..3 {
            close(b.center[i], want.center[i], "centre");
            close(b.size[i], want.size[i], "size");
        }
        close(b.yaw, want.heading[1].atan2(want.heading[0]), "yaw");
        for (got, want) in b.velocity.into_iter().zip(want.velocity) {
            match want {
                Some(want) => close(got, want, "velocity"),
                None => assert!(got.is_nan() && !object.has_velocity()),
            }
        }
    }
    assert_eq!(frame.cloud.fields, ["x", "y", "z", "intensity", "ring", "time"]);
    assert_eq!(frame.cloud.len(), want.points.len());
    for (point, want) in frame.cloud.data.rows().into_iter().zip(&want.points) {
        for (column, want) in [0, 1, 2, 3, 5].into_iter().zip(want) {
            close(point[column], *want, "point");
        }
    }
}

#[test]
fn frames_are_what_the_devkit_reads() {
    let expected = expected();
    let dataset = Dataset::open(&data().join("dataset"), None).unwrap();
    assert_eq!(dataset.len(), expected.frames.len());
    let mut unknown_velocities = 0;
    for (index, want) in expected.frames.iter().enumerate() {
        let frame = dataset.frame(index, &sweeps(expected.sweeps)).unwrap();
        check(&frame, want);
        assert_eq!(frame.objects.len(), dataset.objects(index).unwrap().len());
        assert!(frame.ego.is_some());
        unknown_velocities += frame.objects.iter().filter(|o| !o.has_velocity()).count();
    }
    assert!(unknown_velocities > 0);
}

#[test]
fn scenes_and_samples_are_chosen_by_name() {
    let expected = expected();
    let open = |names: &[&str]| {
        let names = FrameSelection::Names(names.iter().map(|n| FrameName::parse(n)).collect());
        NuscenesFolder::open(&data().join("dataset/v1.0-mini"), Some(&names))
    };
    let scene = open(&["scene-0002"]).unwrap();
    let of_scene: Vec<&ExpectedFrame> = expected.frames.iter().filter(|f| f.scene == "scene-0002").collect();
    assert_eq!((0..scene.len()).map(|i| scene.id(i)).collect::<Vec<_>>(), of_scene.iter().map(|f| f.token.clone()).collect::<Vec<_>>());
    // A single sample still has its sweeps and velocities from its neighbours.
    let sample = open(&[&expected.frames[1].token]).unwrap();
    assert_eq!((sample.len(), sample.scene(0)), (1, "scene-0001"));
    check(&sample.frame(0, &sweeps(expected.sweeps)).unwrap(), &expected.frames[1]);
    let error = open(&["scene-0003"]).unwrap_err().to_string();
    assert!(error.contains("`scene-0003`") && error.contains("scene-0001, scene-0002"), "{error}");
}

/// Copies the tables, one of them changed.
fn with_change(table: &str, from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("v1.0-mini");
    std::fs::create_dir(&tables).unwrap();
    for entry in std::fs::read_dir(data().join("dataset/v1.0-mini")).unwrap() {
        let path = entry.unwrap().path();
        let mut text = std::fs::read_to_string(&path).unwrap();
        if path.file_stem().unwrap() == table {
            assert!(text.contains(from), "{table} has no {from}");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(tables.join(path.file_name().unwrap()), text).unwrap();
    }
    NuscenesFolder::open(folder.path(), None).unwrap_err().to_string()
}

#[test]
fn errors_name_table_line_and_field() {
    let says = |error: String, parts: &[&str]| parts.iter().for_each(|part| assert!(error.contains(part), "`{part}` is not in: {error}"));
    says(with_change("sample_annotation", "\"num_lidar_pts\"", "\"points\""), &["sample_annotation.json", "num_lidar_pts", "line 2"]);
    says(with_change("sample_annotation", "\"num_lidar_pts\": ", "\"num_lidar_pts\": -"), &["sample_annotation.json", "u32", "line 2"]);
    says(
        with_change("sample_data", "\"ego_pose_token\": \"", "\"ego_pose_token\": \"x"),
        &["sample_data.json", "32 hexadecimal digits", "line 2"],
    );
    says(
        with_change("instance", "\"category_token\": \"", "\"category_token\": \"00000000000000000000000000000000\", \"was\": \""),
        &["instance.json", "`category_token`", "category.json"],
    );
    says(
        with_change("ego_pose", "\"rotation\": [", "\"rotation\": [0, 0, 0, 0], \"was\": ["),
        &["ego_pose.json", "`rotation`", "quaternion"],
    );
    says(with_change("sensor", "LIDAR_TOP", "LIDAR_SIDE"), &["sample.json", "LIDAR_TOP"]);
    says(with_change("scene", "\n]", ""), &["scene.json", "EOF"]);
    says(Dataset::open(&data(), None).unwrap_err().to_string(), &["neither a KITTI object folder", "v1.0-*"]);
}
