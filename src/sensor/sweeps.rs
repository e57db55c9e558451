//! Sweeps gathered over time: the newest cloud and older ones, moved to where the sensor is now.

use super::track::{PoseTrack, TrackError};
use super::{PointCloud, Stamp, TransformBuffer, TransformError};
use crate::geometry::Pose;
use nalgebra::{Rotation3, Vector3};
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Points of a parallel piece.
const ROWS: usize = 4096;

/// How many sweeps are merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweepsConfig {
    /// Including the newest; 1 means a single frame.
    pub count: usize,
    /// Points with |x| and |y| below these are dropped from the **older** sweeps (the ego vehicle's own returns; nuScenes
    /// loader of det3d), metres.
    pub ego_box: [f32; 2],
}

impl Default for SweepsConfig {
    fn default() -> Self {
        Self { count: 1, ego_box: [0.0; 2] }
    }
}

/// Where a sensor was, seen from where it is.
pub trait EgoMotion {
    /// Takes coordinates in the older cloud's frame at its time to the newest cloud's frame at its time; each is given as
    /// (frame, stamp).
    fn newest_from_old(&self, newest: (&str, Stamp), old: (&str, Stamp)) -> Result<Pose, MotionError>;
}

/// Why the motion between two clouds is not known.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MotionError {
    #[error(transparent)]
    Transform(#[from] TransformError),
    #[error("odometry: {0}")]
    Odometry(#[from] TrackError),
    #[error("there is no source of ego motion")]
    NoSource,
}

/// Motion through a frame of a [`TransformBuffer`] that stands still for the time of the sweeps, such as `odom` or `map`.
#[derive(Clone, Copy, Debug)]
pub struct FixedFrame<'b> {
    pub transforms: &'b TransformBuffer,
    pub fixed: &'b str,
}

/// Motion of one sensor that is mounted on a body whose odometry is known. Frame names are not looked at.
#[derive(Clone, Debug)]
pub struct OdometryMotion {
    /// The body in the odometry's world.
    pub world_from_body: PoseTrack,
    pub body_from_sensor: Pose,
}

/// No motion is known: every older sweep is left out.
#[derive(Clone, Copy, Debug)]
pub struct NoMotion;

impl EgoMotion for FixedFrame<'_> {
    fn newest_from_old(&self, newest: (&str, Stamp), old: (&str, Stamp)) -> Result<Pose, MotionError> {
        Ok(self.transforms.lookup_through(newest, old, self.fixed)?)
    }
}

impl EgoMotion for OdometryMotion {
    fn newest_from_old(&self, (_, newest): (&str, Stamp), (_, old): (&str, Stamp)) -> Result<Pose, MotionError> {
        let world_from_newest = self.world_from_body.at(newest)?.compose(&self.body_from_sensor);
        let world_from_old = self.world_from_body.at(old)?.compose(&self.body_from_sensor);
        Ok(world_from_newest.inverse().compose(&world_from_old))
    }
}

impl EgoMotion for NoMotion {
    fn newest_from_old(&self, _: (&str, Stamp), _: (&str, Stamp)) -> Result<Pose, MotionError> {
        Err(MotionError::NoSource)
    }
}

/// The last sweeps of one lidar.
#[derive(Clone, Debug)]
pub struct SweepBuffer {
    config: SweepsConfig,
    max_gap_s: f64,
    /// Newest first, without the ego vehicle's points; at most `config.count - 1`.
    older: VecDeque<PointCloud>,
}

/// What went into a merged cloud, and what did not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepReport {
    /// Sweeps in the cloud, the newest included.
    pub merged: usize,
    /// Sweeps that the configuration asks for. Fewer are merged in the first frames, after a reset, and when some are left out.
    pub wanted: usize,
    pub left_out: Vec<LeftOut>,
    /// The older sweeps were thrown away before this one.
    pub reset: Option<Reset>,
}

/// A sweep that was there but could not be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LeftOut {
    #[error("sweep of {lag_s:.3} s ago: {reason}")]
    NoMotion { lag_s: f64, reason: MotionError },
    #[error("sweep of {lag_s:.3} s ago: it has no field `{field}`, which the newest has")]
    NoField { lag_s: f64, field: String },
}

/// Why a buffer began anew.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Reset {
    #[error("the newest cloud is not later than the one before it, by {by_s:.3} s; a recording may have started again")]
    Backwards { by_s: f64 },
    #[error("no cloud for {gap_s:.3} s")]
    Gap { gap_s: f64 },
}

impl SweepBuffer {
    /// Sweeps further apart than `max_gap_s` seconds are not merged: what moved has gone elsewhere by then.
    pub fn new(config: SweepsConfig, max_gap_s: f64) -> Self {
        Self { config, max_gap_s, older: VecDeque::new() }
    }

    /// Merges the newest cloud with those before it, and keeps it for the next.
    ///
    /// The result has the newest cloud's stamp, frame and fields, and a column `time`: seconds of lag, 0 for the newest
    /// sweep, added to a cloud's own `time` if it has one. Points stand newest sweep first, each sweep in its own order.
    /// As in det3d's nuScenes loader, points within the ego box are left out of the older sweeps, in their own frame,
    /// before these are moved. A sweep whose motion is not known is left out and reported, not put in the wrong place.
    pub fn merge(&mut self, newest: &PointCloud, motion: &dyn EgoMotion) -> (PointCloud, SweepReport) {
        let reset = self.reset_if_apart(newest.stamp);
        let mut merged = Merged::start(newest, self.older.iter().map(PointCloud::len).sum());
        let mut report = SweepReport { merged: 1, wanted: self.config.count.max(1), left_out: Vec::new(), reset };
        for old in &self.older {
            match merged.add(newest, old, motion) {
                Ok(()) => report.merged += 1,
                Err(reason) => report.left_out.push(reason),
            }
        }
        self.keep(newest);
        (merged.finish(newest), report)
    }

    /// Keeps a cloud for those after it, without merging it with those before.
    pub fn pass_over(&mut self, cloud: &PointCloud) {
        self.reset_if_apart(cloud.stamp);
        self.keep(cloud);
    }

    fn reset_if_apart(&mut self, stamp: Stamp) -> Option<Reset> {
        let reset = self.reset_reason(stamp);
        if let Some(reason) = reset {
            self.older.clear();
            tracing::warn!(%reason, "sweeps start again");
        }
        reset
    }

    fn reset_reason(&self, stamp: Stamp) -> Option<Reset> {
        let elapsed_s = stamp.seconds_since(self.older.front()?.stamp);
        if elapsed_s <= 0.0 {
            Some(Reset::Backwards { by_s: -elapsed_s })
        } else {
            (elapsed_s > self.max_gap_s).then_some(Reset::Gap { gap_s: elapsed_s })
        }
    }

    fn keep(&mut self, cloud: &PointCloud) {
        if self.config.count > 1 {
            self.older.push_front(without_ego_points(cloud, self.config.ego_box));
            self.older.truncate(self.config.count - 1);
        }
    }
}

/// A merged cloud under construction.
struct Merged {
    /// The newest cloud's, and `time` behind them unless it is among them.
    fields: Vec<String>,
    time_column: usize,
    values: Vec<f32>,
}

impl Merged {
    fn start(newest: &PointCloud, older_points: usize) -> Self {
        let mut fields = newest.fields.clone();
        let time_column = newest.field_index("time").unwrap_or_else(|| {
            fields.push("time".into());
            fields.len() - 1
        });
        let mut values = Vec::with_capacity((newest.len() + older_points) * fields.len());
        let data = newest.data.as_standard_layout();
        let rows = data.as_slice().unwrap_or_default();
        if newest.fields.len() == fields.len() {
            // An own time stands in the rows already.
            values.extend_from_slice(rows);
        } else {
            for row in rows.chunks_exact(newest.fields.len()) {
                values.extend_from_slice(row);
                values.push(0.0);
            }
        }
        Self { fields, time_column, values }
    }

    fn add(&mut self, newest: &PointCloud, old: &PointCloud, motion: &dyn EgoMotion) -> Result<(), LeftOut> {
        let lag_s = newest.stamp.seconds_since(old.stamp);
        let column_of = |field: &String| match old.field_index(field) {
            None if field != "time" => Err(LeftOut::NoField { lag_s, field: field.clone() }),
            index => Ok(index),
        };
        let columns: Vec<Option<usize>> = self.fields.iter().map(column_of).collect::<Result<_, _>>()?;
        let pose = motion
            .newest_from_old((&newest.frame_id, newest.stamp), (&old.frame_id, old.stamp))
            .map_err(|reason| LeftOut::NoMotion { lag_s, reason })?;
        // A matrix takes fewer multiplications a point than a quaternion.
        let (rotation, shift): (Rotation3<f64>, _) = (pose.0.rotation.into(), pose.0.translation.vector);
        // x, y, z are the first three in both.
        let others = &columns[3..];
        let (width, old_width, time_column) = (self.fields.len(), old.fields.len(), self.time_column);
        let data = old.data.as_standard_layout();
        let rows = data.as_slice().unwrap_or_default();
        let start = self.values.len();
        self.values.resize(start + rows.len() / old_width * width, 0.0);
        let moved = &mut self.values[start..];
        let pieces = moved.par_chunks_mut(ROWS * width).zip(rows.par_chunks(ROWS * old_width));
        let all_finite = pieces.map(|(moved, rows)| {
            let mut all_finite = true;
            for (to, row) in moved.chunks_exact_mut(width).zip(rows.chunks_exact(old_width)) {
                let [x, y, z] = [row[0], row[1], row[2]].map(f64::from);
                let point = (rotation * Vector3::new(x, y, z) + shift).cast::<f32>();
                all_finite &= point.iter().all(|v| v.is_finite());
                to[..3].copy_from_slice(point.as_slice());
                to[3..].iter_mut().zip(others).for_each(|(to, column)| *to = column.map_or(0.0, |c| row[c]));
                to[time_column] += lag_s as f32;
            }
            all_finite
        });
        // Absurd coordinates can leave the range of f32 on the way.
        if !all_finite.reduce(|| true, |a, b| a && b) {
            self.keep_finite(start);
        }
        Ok(())
    }

    /// Leaves out rows from `start` on whose coordinates are not finite.
    fn keep_finite(&mut self, start: usize) {
        let kept = self.values.split_off(start);
        let finite = kept.chunks_exact(self.fields.len()).filter(|row| row[..3].iter().all(|v| v.is_finite()));
        finite.for_each(|row| self.values.extend_from_slice(row));
    }

    fn finish(self, newest: &PointCloud) -> PointCloud {
        let shape = (self.values.len() / self.fields.len(), self.fields.len());
        let data = Array2::from_shape_vec(shape, self.values).expect("every row has one value per field");
        PointCloud { stamp: newest.stamp, frame_id: newest.frame_id.clone(), fields: self.fields, data }
    }
}

fn without_ego_points(cloud: &PointCloud, [half_length, half_width]: [f32; 2]) -> PointCloud {
    let rows = cloud.data.as_standard_layout();
    let rows = rows.as_slice().unwrap_or_default();
    let width = cloud.fields.len();
    let mut kept = Vec::with_capacity(rows.len());
    // The ego vehicle's points are few: what lies between two of them is copied at once.
    let mut from = 0;
    for (i, row) in rows.chunks_exact(width).enumerate() {
        if row[0].abs() < half_length && row[1].abs() < half_width {
            kept.extend_from_slice(&rows[from..i * width]);
            from = (i + 1) * width;
        }
    }
    kept.extend_from_slice(&rows[from..]);
    let shape = (kept.len() / width, width);
    let data = Array2::from_shape_vec(shape, kept).expect("whole rows were kept");
    PointCloud { stamp: cloud.stamp, frame_id: cloud.frame_id.clone(), fields: cloud.fields.clone(), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Stamp {
        Stamp::from_secs_f64(s)
    }

    fn cloud(s: f64, fields: &[&str], rows: &[&[f32]]) -> PointCloud {
        let data = Array2::from_shape_vec((rows.len(), fields.len()), rows.concat()).unwrap();
        PointCloud { stamp: seconds(s), frame_id: "lidar".into(), fields: fields.iter().map(|f| f.to_string()).collect(), data }
    }

    /// A body on a circle of 20 m at 0.5 rad/s, with a lidar in front of and above it.
    fn world_from_body(s: f64) -> Pose {
        Pose::from_yaw([20.0 * (0.5 * s).sin(), 20.0 * (1.0 - (0.5 * s).cos()), 0.0], 0.5 * s)
    }

    fn body_from_lidar() -> Pose {
        Pose::from_parts([1.5, 0.2, 1.8], [0.02, -0.01, 0.3, 0.95]).unwrap()
    }

    fn odometry() -> OdometryMotion {
        let mut track = PoseTrack::new(10.0, 0.1);
        for s in (0..=100).map(|i| 0.02 * f64::from(i)) {
            track.push(seconds(s), world_from_body(s));
        }
        OdometryMotion { world_from_body: track, body_from_sensor: body_from_lidar() }
    }

    fn transforms() -> TransformBuffer {
        let mut buffer = TransformBuffer::new(10.0, 0.1);
        buffer.insert_static("base_link", "lidar", body_from_lidar()).unwrap();
        for i in 0..=100 {
            let s = 0.02 * f64::from(i);
            buffer.insert("odom", "base_link", seconds(s), world_from_body(s)).unwrap();
        }
        buffer
    }

    fn config(count: usize) -> SweepsConfig {
        SweepsConfig { count, ego_box: [1.0, 1.0] }
    }

    #[test]
    fn clouds_that_were_passed_over_merge_as_if_each_had_been_merged() {
        let clouds = |s: f64| cloud(s, &["x", "y", "z"], &[&[5.0 + s as f32, 1.0, 0.0], &[0.1, 0.1, 0.0]]);
        let (mut held, mut merged) = (SweepBuffer::new(config(4), 0.3), SweepBuffer::new(config(4), 0.3));
        for s in [0.0, 0.1, 0.2, 0.9, 1.0, 1.1] {
            held.pass_over(&clouds(s));
            assert_eq!(merged.merge(&clouds(s), &odometry()).1.reset.is_some(), s == 0.9);
        }
        assert_eq!(held.merge(&clouds(1.2), &odometry()), merged.merge(&clouds(1.2), &odometry()));
    }

    #[test]
    fn a_standing_point_stays_one_point_by_either_source_of_motion() {
        let landmark = [30.0, 10.0, 2.0];
        let transforms = transforms();
        let odometry = odometry();
        let sources: [&dyn EgoMotion; 2] = [&odometry, &FixedFrame { transforms: &transforms, fixed: "odom" }];
        for motion in sources {
            let mut buffer = SweepBuffer::new(config(10), 1.0);
            let mut last = None;
            for i in 0..12 {
                let s = 0.1 * f64::from(i);
                let seen = world_from_body(s).compose(&body_from_lidar()).inverse().apply(landmark).map(|v| v as f32);
                last = Some(buffer.merge(&cloud(s, &["x", "y", "z", "intensity"], &[&[seen[0], seen[1], seen[2], i as f32]]), motion));
            }
            let (merged, report) = last.unwrap();
            assert_eq!(report, SweepReport { merged: 10, wanted: 10, left_out: vec![], reset: None });
            assert_eq!(merged.fields, ["x", "y", "z", "intensity", "time"]);
            for (age, row) in merged.data.rows().into_iter().enumerate() {
                for axis in 0..3 {
                    assert!((row[axis] - merged.data[[0, axis]]).abs() < 1e-4, "{row}");
                }
                assert_eq!(row[3], 11.0 - age as f32);
                assert!((row[4] - 0.1 * age as f32).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn ego_points_leave_only_older_sweeps_and_in_their_own_frame() {
        // 2 m further along x: the old (0.5, 0.5) would lie outside the box afterwards, the old (2.5, 0) inside it.
        struct Forward;
        impl EgoMotion for Forward {
            fn newest_from_old(&self, _: (&str, Stamp), _: (&str, Stamp)) -> Result<Pose, MotionError> {
                Ok(Pose::from_yaw([-2.0, 0.0, 0.0], 0.0))
            }
        }
        let rows: [&[f32]; 4] = [&[0.5, 0.5, 0.0], &[2.5, 0.0, 0.0], &[1.0, 0.0, 0.0], &[0.0, -3.0, 0.0]];
        let mut buffer = SweepBuffer::new(config(2), 1.0);
        buffer.merge(&cloud(0.0, &["x", "y", "z"], &rows), &Forward);
        let (merged, _) = buffer.merge(&cloud(0.5, &["x", "y", "z"], &rows), &Forward);
        let expected: [&[f32]; 7] = [
            &[0.5, 0.5, 0.0, 0.0],
            &[2.5, 0.0, 0.0, 0.0],
            &[1.0, 0.0, 0.0, 0.0],
            &[0.0, -3.0, 0.0, 0.0],
            &[0.5, 0.0, 0.0, 0.5],
            &[-1.0, 0.0, 0.0, 0.5],
            &[-2.0, -3.0, 0.0, 0.5],
        ];
        assert_eq!(merged.data, cloud(0.0, &["x", "y", "z", "time"], &expected).data);
    }

    #[test]
    fn an_own_time_column_is_added_to_the_lag() {
        let motion = odometry();
        let mut buffer = SweepBuffer::new(config(2), 1.0);
        buffer.merge(&cloud(0.0, &["x", "y", "z", "time"], &[&[9.0, 0.0, 0.0, 0.25]]), &motion);
        let (merged, _) = buffer.merge(&cloud(0.5, &["x", "y", "z", "time"], &[&[9.0, 0.0, 0.0, 0.125]]), &motion);
        assert_eq!(merged.fields.len(), 4);
        assert_eq!(merged.column("time").unwrap().to_vec(), [0.125, 0.75]);
    }

    #[test]
    fn sweeps_without_motion_or_fields_are_left_out_and_reported() {
        let fields = ["x", "y", "z", "intensity"];
        let mut buffer = SweepBuffer::new(config(3), 10.0);
        buffer.merge(&cloud(0.0, &fields, &[&[9.0; 4]]), &NoMotion);
        let (merged, report) = buffer.merge(&cloud(0.1, &["x", "y", "z"], &[&[8.0; 3]]), &NoMotion);
        assert_eq!((merged.len(), report.merged, report.wanted), (1, 1, 3));
        assert_eq!(report.left_out, [LeftOut::NoMotion { lag_s: 0.1, reason: MotionError::NoSource }]);
        let (merged, report) = buffer.merge(&cloud(0.2, &fields, &[&[7.0; 4]]), &odometry());
        assert_eq!((merged.len(), report.merged), (2, 2));
        assert_eq!(report.left_out, [LeftOut::NoField { lag_s: 0.1, field: "intensity".into() }]);
        // Beyond the odometry (it ends at 2 s, and 0.1 s are extrapolated).
        let (_, report) = buffer.merge(&cloud(2.5, &fields, &[&[7.0; 4]]), &odometry());
        assert!(matches!(&report.left_out[0], LeftOut::NoMotion { reason: MotionError::Odometry(TrackError::TooLate { .. }), .. }));
    }

    #[test]
    fn time_that_stands_or_runs_back_and_gaps_start_again() {
        let motion = odometry();
        let mut buffer = SweepBuffer::new(config(5), 0.5);
        let mut merge = |s: f64| buffer.merge(&cloud(s, &["x", "y", "z"], &[&[9.0; 3]]), &motion).1;
        assert_eq!(merge(1.0).reset, None);
        assert_eq!(merge(1.25).merged, 2);
        assert_eq!(merge(0.25), SweepReport { merged: 1, wanted: 5, left_out: vec![], reset: Some(Reset::Backwards { by_s: 1.0 }) });
        assert_eq!(merge(0.25).reset, Some(Reset::Backwards { by_s: 0.0 }));
        assert_eq!(merge(1.0), SweepReport { merged: 1, wanted: 5, left_out: vec![], reset: Some(Reset::Gap { gap_s: 0.75 }) });
        assert_eq!(merge(1.5).merged, 2);
    }

    #[test]
    fn a_single_sweep_passes_through_with_time_zero() {
        let mut buffer = SweepBuffer::new(SweepsConfig::default(), 1.0);
        for s in [0.0, 0.1] {
            let (merged, report) = buffer.merge(&cloud(s, &["x", "y", "z"], &[&[0.0, 0.0, 1.0]]), &NoMotion);
            assert_eq!(report, SweepReport { merged: 1, wanted: 1, left_out: vec![], reset: None });
            assert_eq!(merged.data, ndarray::array![[0.0, 0.0, 1.0, 0.0]]);
        }
    }
}
