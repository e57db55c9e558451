//! The tree of named frames that `/tf` and `/tf_static` describe.

use super::Stamp;
use super::track::{PoseTrack, TrackError};
use crate::geometry::Pose;
use std::collections::HashMap;

/// Poses of frames in their parents, fixed or over the last seconds.
///
/// Frame names count without leading slashes, which ROS 1 wrote and ROS 2 does not.
#[derive(Clone, Debug)]
pub struct TransformBuffer {
    /// By child frame: a frame has one parent.
    links: HashMap<String, Link>,
    /// What the track of a new moving link starts as.
    empty: PoseTrack,
}

#[derive(Clone, Debug)]
struct Link {
    parent: String,
    motion: Motion,
}

#[derive(Clone, Debug)]
enum Motion {
    Fixed(Pose),
    Moving(PoseTrack),
}

/// A transform that cannot be given, or a link that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TransformError {
    #[error("frame `{frame}` is not known; known are: {known}")]
    UnknownFrame { frame: String, known: String },
    #[error("no transform links `{target}` (in the tree of `{target_root}`) and `{source_frame}` (in the tree of `{source_root}`)")]
    Unconnected { target: String, target_root: String, source_frame: String, source_root: String },
    #[error("the parents of frame `{frame}` form a circle: {circle}")]
    Circle { frame: String, circle: String },
    #[error("transform `{parent}` from `{child}`: {gap}")]
    Time { parent: String, child: String, gap: TrackError },
    #[error("a transform from `{child}` to `{parent}` is no link between two named frames")]
    BadLink { parent: String, child: String },
}

impl TransformBuffer {
    /// Keeps `history_s` seconds of each moving link, and answers up to `extrapolation_s` seconds outside of them.
    pub fn new(history_s: f64, extrapolation_s: f64) -> Self {
        Self::of_tracks(PoseTrack::new(history_s, extrapolation_s))
    }

    /// Each moving link is kept in a track with the limits of `empty`.
    pub fn of_tracks(empty: PoseTrack) -> Self {
        Self { links: HashMap::new(), empty }
    }

    /// Sets a link that never moves (`/tf_static`).
    pub fn insert_static(&mut self, parent: &str, child: &str, parent_from_child: Pose) -> Result<(), TransformError> {
        let (parent, child) = link_names(parent, child)?;
        self.links.insert(child.into(), Link { parent: parent.into(), motion: Motion::Fixed(parent_from_child) });
        Ok(())
    }

    /// Adds a sample to a link that moves (`/tf`). A child that had another parent, or was fixed, begins anew.
    pub fn insert(&mut self, parent: &str, child: &str, stamp: Stamp, parent_from_child: Pose) -> Result<(), TransformError> {
        let (parent, child) = link_names(parent, child)?;
        if let Some(Link { parent: known, motion: Motion::Moving(track) }) = self.links.get_mut(child)
            && known == parent
        {
            if track.push(stamp, parent_from_child) {
                tracing::warn!(parent, child, stamp_s = stamp.as_secs_f64(), "transform far older than the last: its history starts again");
            }
            return Ok(());
        }
        if let Some(link) = self.links.get(child) {
            tracing::warn!(child, old_parent = link.parent, parent, "frame has a new parent or is no longer static");
        }
        let mut track = self.empty.clone();
        track.push(stamp, parent_from_child);
        self.links.insert(child.into(), Link { parent: parent.into(), motion: Motion::Moving(track) });
        Ok(())
    }

    /// `target_from_source` at a time.
    pub fn lookup(&self, target: &str, source: &str, stamp: Stamp) -> Result<Pose, TransformError> {
        let (below_target, below_source) = self.path(bare(target), bare(source))?;
        let common_from_source = self.climb(&below_source, stamp)?;
        let common_from_target = self.climb(&below_target, stamp)?;
        Ok(common_from_target.inverse().compose(&common_from_source))
    }

    /// Up to when the moving links between two frames are known: the newest stamp that all of them have reached. `None` if
    /// none of them moves.
    pub fn known_until(&self, target: &str, source: &str) -> Result<Option<Stamp>, TransformError> {
        let (below_target, below_source) = self.path(bare(target), bare(source))?;
        let newest = |child: &&str| match &self.links.get(*child)?.motion {
            Motion::Fixed(_) => None,
            Motion::Moving(track) => track.newest(),
        };
        Ok(below_target.iter().chain(&below_source).filter_map(newest).min())
    }

    /// From `source` at one time to `target` at another, through a frame that stands still meanwhile, such as `odom` or `map`.
    pub fn lookup_through(
        &self,
        (target, target_stamp): (&str, Stamp),
        (source, source_stamp): (&str, Stamp),
        fixed: &str,
    ) -> Result<Pose, TransformError> {
        let target_from_fixed = self.lookup(target, fixed, target_stamp)?;
        let fixed_from_source = self.lookup(fixed, source, source_stamp)?;
        Ok(target_from_fixed.compose(&fixed_from_source))
    }

    /// The frames on the way from `target` and from `source` up to, and without, their nearest common ancestor.
    fn path<'b>(&'b self, target: &'b str, source: &'b str) -> Result<(Vec<&'b str>, Vec<&'b str>), TransformError> {
        if target == source {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut above_target = self.ancestry(target)?;
        let mut above_source = self.ancestry(source)?;
        let common = above_source.iter().position(|frame| above_target.contains(frame)).ok_or_else(|| {
            let root = |frames: &[&str]| frames.last().copied().unwrap_or_default().to_owned();
            TransformError::Unconnected {
                target: target.into(),
                target_root: root(&above_target),
                source_frame: source.into(),
                source_root: root(&above_source),
            }
        })?;
        let ancestor = above_source[common];
        above_source.truncate(common);
        above_target.truncate(above_target.iter().position(|frame| *frame == ancestor).unwrap_or_default());
        Ok((above_target, above_source))
    }

    /// The frame, its parent, and so on up to the root.
    fn ancestry<'b>(&'b self, frame: &'b str) -> Result<Vec<&'b str>, TransformError> {
        let is_parent = || self.links.values().any(|link| link.parent == frame);
        if !self.links.contains_key(frame) && !is_parent() {
            return Err(TransformError::UnknownFrame { frame: frame.into(), known: self.known_frames() });
        }
        let mut frames = vec![frame];
        while let Some(link) = frames.last().and_then(|frame| self.links.get(*frame)) {
            frames.push(&link.parent);
            // A path without a circle visits each child once.
            if frames.len() > self.links.len() + 1 {
                let shown: Vec<_> = frames.iter().take(10).copied().collect();
                return Err(TransformError::Circle { frame: frame.into(), circle: shown.join(" -> ") });
            }
        }
        Ok(frames)
    }

    /// From the first frame of a path upwards to the parent of its last.
    fn climb(&self, path: &[&str], stamp: Stamp) -> Result<Pose, TransformError> {
        let mut pose = Pose::identity();
        for (&child, link) in path.iter().filter_map(|child| Some((child, self.links.get(*child)?))) {
            let parent_from_child = match &link.motion {
                Motion::Fixed(pose) => *pose,
                Motion::Moving(track) => {
                    track.at(stamp).map_err(|gap| TransformError::Time { parent: link.parent.clone(), child: child.to_owned(), gap })?
                }
            };
            pose = parent_from_child.compose(&pose);
        }
        Ok(pose)
    }

    fn known_frames(&self) -> String {
        let mut frames: Vec<&str> = self.links.iter().flat_map(|(child, link)| [child.as_str(), link.parent.as_str()]).collect();
        frames.sort_unstable();
        frames.dedup();
        if frames.is_empty() { "none".into() } else { frames.join(", ") }
    }
}

fn bare(frame: &str) -> &str {
    frame.trim_start_matches('/')
}

fn link_names<'n>(parent: &'n str, child: &'n str) -> Result<(&'n str, &'n str), TransformError> {
    let (parent, child) = (bare(parent), bare(child));
    if parent.is_empty() || child.is_empty() || parent == child {
        return Err(TransformError::BadLink { parent: parent.into(), child: child.into() });
    }
    Ok((parent, child))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Stamp {
        Stamp::from_secs_f64(s)
    }

    /// map <- odom <- base_link <- lidar and camera; the base drives along x at 10 m/s.
    fn robot() -> TransformBuffer {
        let mut buffer = TransformBuffer::new(10.0, 0.1);
        buffer.insert_static("base_link", "/lidar", Pose::from_yaw([1.0, 0.0, 1.8], 0.5)).unwrap();
        buffer.insert_static("/base_link", "camera", Pose::from_yaw([2.0, 0.0, 1.5], -0.2)).unwrap();
        buffer.insert_static("map", "odom", Pose::from_yaw([100.0, 50.0, 0.0], 1.0)).unwrap();
        for i in 0..=20 {
            let s = 0.1 * f64::from(i);
            buffer.insert("odom", "base_link", seconds(s), Pose::from_yaw([10.0 * s, 0.0, 0.0], 0.0)).unwrap();
        }
        buffer
    }

    fn close(a: [f64; 3], b: [f64; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn up_down_and_across_the_tree() {
        let buffer = robot();
        let odom_from_lidar = buffer.lookup("odom", "lidar", seconds(1.25)).unwrap();
        assert!(close(odom_from_lidar.apply([0.0; 3]), [13.5, 0.0, 1.8]));
        let back = buffer.lookup("/lidar", "/odom", seconds(1.25)).unwrap();
        assert!(close(back.compose(&odom_from_lidar).apply([3.0, 2.0, 1.0]), [3.0, 2.0, 1.0]));
        // Siblings do not need the moving link, so that any time will do.
        let camera_from_lidar = buffer.lookup("camera", "lidar", seconds(1e6)).unwrap();
        let expected = Pose::from_yaw([2.0, 0.0, 1.5], -0.2).inverse().compose(&Pose::from_yaw([1.0, 0.0, 1.8], 0.5));
        assert!(close(camera_from_lidar.apply([5.0, 6.0, 7.0]), expected.apply([5.0, 6.0, 7.0])));
        assert_eq!(buffer.lookup("nowhere", "/nowhere", seconds(0.0)), Ok(Pose::identity()));
    }

    #[test]
    fn known_until_the_slowest_moving_link_of_the_way() {
        let mut buffer = robot();
        assert_eq!(buffer.known_until("map", "/lidar"), Ok(Some(seconds(2.0))));
        assert_eq!(buffer.known_until("camera", "lidar"), Ok(None));
        buffer.insert("world", "map", seconds(1.5), Pose::identity()).unwrap();
        assert_eq!(buffer.known_until("lidar", "world"), Ok(Some(seconds(1.5))));
        assert!(buffer.known_until("lidar", "nowhere").is_err());
    }

    #[test]
    fn across_time_a_standing_thing_comes_nearer() {
        let buffer = robot();
        let now_from_then = buffer.lookup_through(("base_link", seconds(1.5)), ("base_link", seconds(0.5)), "map").unwrap();
        assert!(close(now_from_then.apply([30.0, 4.0, 1.0]), [20.0, 4.0, 1.0]));
    }

    #[test]
    fn errors_name_the_missing_link_and_the_gap() {
        let mut buffer = robot();
        let late = buffer.lookup("map", "lidar", seconds(2.5)).unwrap_err();
        assert!(matches!(&late, TransformError::Time { parent, child, gap: TrackError::TooLate { gap_s, .. } }
            if parent == "odom" && child == "base_link" && (gap_s - 0.5).abs() < 1e-9));
        let unknown = buffer.lookup("map", "radar", seconds(1.0)).unwrap_err();
        assert!(unknown.to_string().contains("`radar`") && unknown.to_string().contains("base_link, camera, lidar, map, odom"));
        buffer.insert_static("trailer", "radar", Pose::identity()).unwrap();
        let apart = buffer.lookup("map", "radar", seconds(1.0)).unwrap_err().to_string();
        assert!(apart.contains("tree of `map`") && apart.contains("tree of `trailer`"), "{apart}");
    }

    #[test]
    fn circles_end_in_an_error() {
        let mut buffer = TransformBuffer::new(1.0, 0.0);
        assert!(buffer.insert_static("a", "/a", Pose::identity()).is_err());
        assert!(buffer.insert_static("/", "a", Pose::identity()).is_err());
        for (parent, child) in [("a", "b"), ("b", "c"), ("c", "a"), ("root", "x")] {
            buffer.insert_static(parent, child, Pose::identity()).unwrap();
        }
        assert!(matches!(buffer.lookup("root", "b", Stamp(0)), Err(TransformError::Circle { .. })));
        assert!(matches!(buffer.lookup("b", "c", Stamp(0)), Err(TransformError::Circle { .. })));
    }

    #[test]
    fn a_new_parent_replaces_the_old() {
        let mut buffer = robot();
        buffer.insert("map", "base_link", seconds(2.0), Pose::identity()).unwrap();
        assert!(close(buffer.lookup("map", "base_link", seconds(2.0)).unwrap().apply([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]));
        assert!(buffer.lookup("odom", "base_link", seconds(1.0)).is_err());
    }
}
