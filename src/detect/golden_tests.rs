//! Voxelization, decoding and suppression against the stored outputs of the original code.

use super::decode::{Candidate, size_and_yaw, suppress};
use super::peaks::Peaks;
use super::test_support::{CodeBase, Golden, GoldenArrays, config};
use super::*;
use ndarray::{Array1, Array2, Array3, Axis};

const INPUTS: [&str; 2] = ["s1", "s3"];

/// Points in each pillar, without padding.
fn point_counts(input: &PillarInput, max_points: Option<usize>) -> Vec<usize> {
    let rows = input.index.offsets.windows(2).map(|w| (w[1] - w[0]) as usize);
    rows.enumerate()
        .map(|(pillar, rows)| {
            let last = input.features.row(input.index.offsets[pillar + 1] as usize - 1);
            let padded = max_points.is_some() && last.iter().all(|v| *v == 0.0);
            rows - usize::from(padded)
        })
        .collect()
}

#[test]
fn det3d_pillars() {
    let Some(golden) = Golden::open(CodeBase::Det3d) else { return };
    for (input, full) in INPUTS.into_iter().zip([88, 498]) {
        let pillars = Pillarizer::new(&config(CodeBase::Det3d)).unwrap().pillarize(golden.points(input).view()).unwrap();
        let mut arrays = golden.arrays(input);
        let coors: Array2<i16> = arrays.get("coors_zyx");
        let cells: Vec<[u32; 3]> = coors.rows().into_iter().map(|c| [0, c[1] as u32, c[2] as u32]).collect();
        assert_eq!(pillars.index.cells, cells);
        let counts: Array1<u8> = arrays.get("num_points");
        assert_eq!(point_counts(&pillars, Some(20)), counts.iter().map(|&n| n as usize).collect::<Vec<_>>());

        let expected = &golden.expected()["inputs"][input];
        assert_eq!(pillars.report.kept as u64, expected["n_points_in_voxels"]);
        assert_eq!(pillars.report.full_pillars, full);
        let sum: f64 = pillars.features.columns().into_iter().take(5).flat_map(|c| c.into_iter()).map(|v| f64::from(*v)).sum();
        assert!((sum - expected["voxel_feature_sum"].as_f64().unwrap()).abs() < 1e-3);
    }
}

#[test]
fn det3d_pillars_with_a_cap() {
    let Some(golden) = Golden::open(CodeBase::Det3d) else { return };
    let mut config = config(CodeBase::Det3d);
    config.voxelization = Voxelization::Hard { max_points: 20, max_pillars: 4000 };
    let pillars = Pillarizer::new(&config).unwrap().pillarize(golden.points("s1").view()).unwrap();
    let expected = &golden.expected()["voxel_cap_4000_on_s1"];
    assert_eq!(pillars.index.pillars() as u64, expected["n"]);
    assert_eq!(pillars.report.kept as u64, expected["n_points"]);
    assert_eq!(pillars.index.cells.last(), Some(&[0, 265, 327]));
    let sum: f64 = pillars.features.columns().into_iter().take(5).flat_map(|c| c.into_iter()).map(|v| f64::from(*v)).sum();
    assert!((sum - expected["feature_sum"].as_f64().unwrap()).abs() < 1e-3);
    let PillarReport { in_range, kept, dropped_by_max_pillars, dropped_by_max_points, .. } = pillars.report;
    assert_eq!(in_range, kept + dropped_by_max_pillars + dropped_by_max_points);
}

#[test]
fn openpcdet_pillars() {
    let Some(golden) = Golden::open(CodeBase::OpenPcdet) else { return };
    for input in INPUTS {
        let pillars = Pillarizer::new(&config(CodeBase::OpenPcdet)).unwrap().pillarize(golden.points(input).view()).unwrap();
        let coords: Array2<i16> = golden.arrays(input).get("coords_bzyx");
        let cells: Vec<[u32; 3]> = coords.rows().into_iter().map(|c| [0, c[2] as u32, c[3] as u32]).collect();
        assert_eq!(pillars.index.cells, cells);
        let expected = &golden.expected()["inputs"][input];
        assert_eq!(pillars.report.kept as u64, expected["n_points_after_xy_mask"]);
        let z = pillars.features.column(2);
        assert_eq!(z.iter().filter(|z| !(-5.0..3.0).contains(*z)).count() as u64, expected["n_points_outside_z_kept"]);
    }
}

#[test]
fn mmdet3d_pillars() {
    let Some(golden) = Golden::open(CodeBase::Mmdet3d) else { return };
    for input in INPUTS {
        let pillars = Pillarizer::new(&config(CodeBase::Mmdet3d)).unwrap().pillarize(golden.points(input).view()).unwrap();
        let expected = &golden.expected()["inputs"][input];
        assert_eq!(pillars.report.pillars as u64, expected["n_voxels"]);
        assert_eq!(pillars.report.kept as u64, expected["n_points_in_voxels"]);
    }
}

/// The stored candidates of a task.
fn stored_candidates(code_base: CodeBase, arrays: &mut GoldenArrays, task: usize) -> Vec<Candidate> {
    let is_det3d = code_base == CodeBase::Det3d;
    let boxes: Array2<f32> = arrays.get(&format!("pre.task{task}.{}", if is_det3d { "box_det3d" } else { "box" }));
    let scores: Array1<f32> = arrays.get(&format!("pre.task{task}.score"));
    let code = config(code_base).decode.code;
    let (yaw_column, velocity_column) = if is_det3d { (8, 6) } else { (6, 7) };
    boxes
        .rows()
        .into_iter()
        .zip(scores)
        .map(|(b, score)| {
            let (size, yaw) = size_and_yaw(&code, [b[3], b[4], b[5]], b[yaw_column]);
            let bbox = Box3 { center: [b[0], b[1], b[2]], size, yaw, velocity: [b[velocity_column], b[velocity_column + 1]] };
            Candidate { bbox, score, class: 0, cell: 0 }
        })
        .collect()
}

#[test]
fn rotated_suppression_of_stored_candidates() {
    for code_base in CodeBase::ALL {
        let Some(golden) = Golden::open(code_base) else { continue };
        let prefix = if code_base == CodeBase::Mmdet3d { "rotate" } else { "post" };
        for input in INPUTS {
            let mut arrays = golden.arrays(input);
            for task in 0..6 {
                let candidates = stored_candidates(code_base, &mut arrays, task);
                let expected: Array1<i32> = arrays.get(&format!("{prefix}.task{task}.keep_orig_into_pre"));
                let kept: Vec<i32> = suppress(&config(code_base).decode, task, &candidates).iter().map(|&i| i as i32).collect();
                assert_eq!(kept, expected.to_vec(), "{code_base:?} {input} task {task}");
            }
        }
    }
}

#[test]
fn circle_suppression_of_stored_candidates() {
    let Some(golden) = Golden::open(CodeBase::Mmdet3d) else { return };
    let mut config = config(CodeBase::Mmdet3d);
    config.decode.nms = Nms::Circle { post: 83, min_radius: vec![4.0, 12.0, 10.0, 1.0, 0.85, 0.175] };
    for input in INPUTS {
        let mut arrays = golden.arrays(input);
        let kept: Vec<[f32; 3]> = (0..6)
            .flat_map(|task| {
                let candidates = stored_candidates(CodeBase::Mmdet3d, &mut arrays, task);
                let kept = suppress(&config.decode, task, &candidates);
                kept.into_iter().map(move |i| [candidates[i].bbox.center[0], candidates[i].bbox.center[1], candidates[i].score])
            })
            .collect();
        let boxes: Array2<f32> = arrays.get("circle.box_std");
        let expected: Vec<[f32; 3]> = boxes.rows().into_iter().map(|b| [b[0], b[1], b[9]]).collect();
        assert_eq!(kept, expected, "{input}");
    }
}

/// det3d's full head maps, channels-last (by strides only), under our roles.
fn det3d_maps(arrays: &mut GoldenArrays) -> HeadMaps {
    let mut maps = HeadMaps::new();
    for task in 0..6 {
        for branch in config(CodeBase::Det3d).network.head.branches {
            let map: Array3<f32> = arrays.get(&format!("task{task}.{}", branch.name));
            maps.insert(format!("task{task}.{}", branch.role.name()), map.permuted_axes([1, 2, 0]));
        }
    }
    maps
}

#[test]
fn det3d_candidates_from_head_maps() {
    let Some(golden) = Golden::open(CodeBase::Det3d) else { return };
    let mut arrays = golden.arrays("s1");
    let maps = det3d_maps(&mut arrays);
    let config = config(CodeBase::Det3d);
    let peaks = Peaks::of(&config, &maps).unwrap();
    for task in 0..6 {
        let (candidates, non_finite) = decode::task_candidates(&config, &maps, task, &peaks).unwrap();
        assert_eq!(non_finite, 0);
        let stored = stored_candidates(CodeBase::Det3d, &mut arrays, task);
        let cells: Array1<i32> = arrays.get(&format!("pre.task{task}.cell"));
        let labels: Array1<i8> = arrays.get(&format!("pre.task{task}.label"));
        assert_eq!(candidates.iter().map(|c| c.cell as i32).collect::<Vec<_>>(), cells.to_vec(), "task {task}");
        let first_label: usize = config.network.head.tasks[..task].iter().map(|t| t.classes.len()).sum();
        for ((got, want), label) in candidates.iter().zip(&stored).zip(labels) {
            assert_eq!((first_label + got.class) as i8, label);
            assert!((got.score - want.score).abs() < 1e-6, "{got:?} {want:?}");
            assert_close(&got.bbox, &want.bbox);
        }
    }
}

#[test]
fn det3d_boxes_from_head_maps() {
    let Some(golden) = Golden::open(CodeBase::Det3d) else { return };
    let mut arrays = golden.arrays("s1");
    let output = decode(&config(CodeBase::Det3d), &det3d_maps(&mut arrays)).unwrap();
    let stored: Array2<f32> = arrays.get("post.box_std");
    let mut order: Vec<usize> = (0..stored.nrows()).collect();
    order.sort_by(|&a, &b| stored[[b, 9]].total_cmp(&stored[[a, 9]]));
    let stored = stored.select(Axis(0), &order);
    assert_eq!(output.detections.len(), stored.nrows());
    for (got, want) in output.detections.iter().zip(stored.rows()) {
        assert_eq!(got.label, want[10] as usize);
        assert!((got.score - want[9]).abs() < 1e-6);
        let want =
            Box3 { center: [want[0], want[1], want[2]], size: [want[3], want[4], want[5]], yaw: want[6], velocity: [want[7], want[8]] };
        assert_close(&got.bbox, &want);
    }
}

/// Centres and velocities to the bit (they are sums and products only), sizes and yaw to the last bits of `exp` and `atan2`.
fn assert_close(got: &Box3, want: &Box3) {
    assert_eq!((got.center, got.velocity), (want.center, want.velocity));
    let relative = |i: usize| (got.size[i] / want.size[i] - 1.0).abs();
    assert!((0..3).all(|i| relative(i) < 1e-6) && (got.yaw - want.yaw).abs() < 2e-6, "{got:?} {want:?}");
}
