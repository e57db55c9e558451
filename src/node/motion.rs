//! The motion of the sensor, from whatever the robot publishes: transforms through a fixed frame, or odometry.

use crate::geometry::Pose;
use crate::ros::bag::RawMessage;
use crate::ros::msg::RosMessage;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::sensor::{EgoMotion, FixedFrame, MAX_GAP_S, MotionError, PoseTrack, Stamp, TrackError, TransformBuffer, TransformError};

/// Frames that stand still, in the order in which they are tried (REP 105: `odom` is continuous, `map` may jump).
const FIXED_FRAMES: [&str; 3] = ["odom", "map", "world"];
/// The vehicle itself, in the order in which they are tried.
const VEHICLE_FRAMES: [&str; 2] = ["base_link", "base_footprint"];

/// How poses are taken from what the robot publishes, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MotionLimits {
    /// How far sweeps may reach back.
    pub history_s: f64,
    /// How far beyond the last known pose motion is continued, where waiting for the next one has not helped.
    pub extrapolation_s: f64,
    /// Between poses further apart than this nothing is interpolated; a sweep that needs it is left out.
    pub max_gap_s: f64,
}

impl Default for MotionLimits {
    fn default() -> Self {
        Self { history_s: 10.0, extrapolation_s: 0.2, max_gap_s: MAX_GAP_S }
    }
}

impl MotionLimits {
    fn empty_track(&self) -> PoseTrack {
        PoseTrack::new(self.history_s, self.extrapolation_s).with_max_gap(self.max_gap_s)
    }
}

/// Which source gave the last motion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MotionSource {
    /// `/tf` through this frame.
    Transforms(String),
    /// Odometry of this body frame. `mounted` tells whether the sensor's place on the body is known; without it the sensor
    /// is taken to stand at the body's origin.
    Odometry {
        body: String,
        mounted: bool,
    },
    None,
}

/// Collects transforms and odometry, and answers where a sensor was.
pub struct MotionTracker {
    transforms: TransformBuffer,
    odometry: Option<(String, PoseTrack)>,
    fixed: Option<String>,
    limits: MotionLimits,
    bad_messages: usize,
}

impl MotionTracker {
    /// `fixed`: the frame to go through; `None` tries `odom`, `map` and `world`.
    pub fn new(fixed: Option<String>) -> Self {
        Self::with_limits(fixed, MotionLimits::default())
    }

    pub fn with_limits(fixed: Option<String>, limits: MotionLimits) -> Self {
        Self { transforms: TransformBuffer::of_tracks(limits.empty_track()), odometry: None, fixed, limits, bad_messages: 0 }
    }

    /// Forgets everything: another recording starts.
    pub fn reset(&mut self) {
        *self = Self { bad_messages: self.bad_messages, ..Self::with_limits(self.fixed.take(), self.limits) };
    }

    pub fn limits(&self) -> MotionLimits {
        self.limits
    }

    /// Messages that could not be decoded or held no valid transform.
    pub fn bad_messages(&self) -> usize {
        self.bad_messages
    }

    /// Takes in a message; other types are ignored.
    pub fn on_message(&mut self, message: &RawMessage) {
        let accepted = match &*message.type_name {
            TFMessage::TYPE => self.on_transforms(message),
            Odometry::TYPE => self.on_odometry(message),
            _ => Ok(()),
        };
        if let Err(reason) = accepted {
            self.bad_messages += 1;
            tracing::warn!(topic = %message.topic, %reason, "motion message ignored");
        }
    }

    fn on_transforms(&mut self, message: &RawMessage) -> Result<(), String> {
        let decoded = TFMessage::decode(&message.data).map_err(|e| e.to_string())?;
        let is_static = message.topic.ends_with("tf_static");
        let mut first_error = Ok(());
        for t in decoded.transforms {
            let (parent, child) = (&t.header.frame_id, &t.child_frame_id);
            let added =
                t.transform.to_pose().ok_or_else(|| format!("transform {parent} <- {child} is no rigid transform")).and_then(|pose| {
                    let inserted = if is_static {
                        self.transforms.insert_static(parent, child, pose)
                    } else {
                        self.transforms.insert(parent, child, t.header.stamp, pose)
                    };
                    inserted.map_err(|e| e.to_string())
                });
            first_error = first_error.and(added);
        }
        first_error
    }

    fn on_odometry(&mut self, message: &RawMessage) -> Result<(), String> {
        let odometry = Odometry::decode(&message.data).map_err(|e| e.to_string())?;
        let pose = odometry.pose.pose.to_pose().ok_or("pose is no rigid transform")?;
        let body = odometry.child_frame_id;
        // Two sources of odometry would be mixed into nonsense; the first one stays.
        let (known, track) = self.odometry.get_or_insert_with(|| (body.clone(), self.limits.empty_track()));
        if *known == body {
            track.push(odometry.header.stamp, pose);
        }
        Ok(())
    }

    /// `target_from_source` at a time, from the transforms.
    ///
    /// # Errors
    /// Frames that no known transform links at that time.
    pub fn lookup(&self, target: &str, source: &str, stamp: Stamp) -> Result<Pose, TransformError> {
        self.transforms.lookup(target, source, stamp)
    }

    /// The origin of the vehicle's own frame (REP 105), seen from a frame at a time.
    pub fn vehicle_in(&self, frame: &str, stamp: Stamp) -> Option<[f64; 3]> {
        VEHICLE_FRAMES.iter().find_map(|vehicle| self.lookup(frame, vehicle, stamp).ok()).map(|pose| pose.translation())
    }

    /// A sensor's place at a time in a frame that stands still, if anything tells it. Which frame, the sources decide.
    pub fn place(&self, frame: &str, stamp: Stamp) -> Option<Pose> {
        self.candidates().find_map(|fixed| self.lookup(fixed, frame, stamp).ok()).or_else(|| self.odometry.as_ref()?.1.at(stamp).ok())
    }

    /// Where the motion of a sensor at a time would come from.
    pub fn source(&self, frame: &str, stamp: Stamp) -> MotionSource {
        self.choose(frame, stamp).unwrap_or(MotionSource::None)
    }

    /// How long before a time the poses end that would tell the sensor's place at it, seconds: more of them may be on their
    /// way. `None` if they reach up to it, or if nothing that is known so far leads to a frame that stands still.
    pub fn missing_s(&self, frame: &str, stamp: Stamp) -> Option<f64> {
        let by_transforms = self.candidates().find_map(|fixed| self.transforms.known_until(fixed, frame).ok());
        let newest = match (by_transforms, &self.odometry) {
            (Some(newest), _) => newest,
            (None, Some((_, track))) => track.newest(),
            (None, None) => None,
        };
        newest.map(|newest| stamp.seconds_since(newest)).filter(|missing| *missing > 0.0)
    }

    fn candidates(&self) -> impl Iterator<Item = &str> {
        let defaults: &[&str] = if self.fixed.is_some() { &[] } else { &FIXED_FRAMES };
        defaults.iter().copied().chain(self.fixed.as_deref())
    }

    fn choose(&self, frame: &str, stamp: Stamp) -> Result<MotionSource, MotionError> {
        // Of several reasons the first that tells of a known frame says most.
        let mut reason = None;
        for fixed in self.candidates() {
            match self.transforms.lookup_through((frame, stamp), (frame, stamp), fixed) {
                Ok(_) => return Ok(MotionSource::Transforms(fixed.to_owned())),
                Err(error @ TransformError::Time { .. }) => _ = reason.get_or_insert(error.into()),
                Err(_) => {}
            }
        }
        if let Some((body, track)) = &self.odometry {
            match track.at(stamp) {
                Ok(_) => {
                    let mounted = self.transforms.lookup(body, frame, stamp).is_ok();
                    return Ok(MotionSource::Odometry { body: body.clone(), mounted });
                }
                Err(gap) => _ = reason.get_or_insert(gap.into()),
            }
        }
        Err(reason.unwrap_or(MotionError::NoSource))
    }
}

impl EgoMotion for MotionTracker {
    fn newest_from_old(&self, newest: (&str, Stamp), old: (&str, Stamp)) -> Result<Pose, MotionError> {
        match self.choose(newest.0, newest.1)? {
            MotionSource::Transforms(fixed) => FixedFrame { transforms: &self.transforms, fixed: &fixed }.newest_from_old(newest, old),
            MotionSource::Odometry { body, .. } => {
                let Some((_, track)) = &self.odometry else { return Err(MotionError::NoSource) };
                let body_from_sensor = self.transforms.lookup(&body, newest.0, newest.1).unwrap_or_else(|_| Pose::identity());
                let world_from = |stamp| Ok::<_, MotionError>(track.at(stamp)?.compose(&body_from_sensor));
                Ok(world_from(newest.1)?.inverse().compose(&world_from(old.1)?))
            }
            MotionSource::None => Err(MotionError::NoSource),
        }
    }
}

/// Whether motion is not known because poses lie too far apart.
pub fn is_gap(reason: &MotionError) -> bool {
    matches!(
        reason,
        MotionError::Odometry(TrackError::Gap { .. }) | MotionError::Transform(TransformError::Time { gap: TrackError::Gap { .. }, .. })
    )
}
