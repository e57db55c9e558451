//! Labelled objects of a bag: `Detection3DArray` messages in which `id` is the object's track.
//!
//! The message has no velocity: it comes from the track over time, as nuscenes-devkit's `box_velocity` takes it, and is
//! unknown where the object has no track, is seen once, or the motion of the sensor is not known. Nor has it a number of
//! points; whoever has the cloud counts them.

use super::evaluator::Labels;
use super::motion::MotionTracker;
use crate::eval::TruthBox;
use crate::geometry::{Box3, Pose, wrap_angle};
use crate::ros::bag::{BagError, BagReader, Selection};
use crate::ros::msg::RosMessage;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::ros::msg::vision_msgs::{Detection3D, Detection3DArray};
use crate::sensor::{EgoMotion, Stamp};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Where labels are looked for if several topics could hold them.
pub(super) const USUAL_TOPIC: &str = "/ground_truth";
/// Velocity is the way between the frames before and after, if these are at most this far from the frame itself, seconds
/// (nuscenes-devkit).
const MAX_TIME_APART_S: f64 = 1.5;

/// The labelled frames of a bag.
#[derive(Clone, Debug)]
pub struct BagTruth {
    topic: String,
    by_stamp: HashMap<Stamp, Labels>,
    /// Objects of classes that the model does not know, by class.
    unknown: BTreeMap<String, usize>,
    /// Messages that could not be decoded.
    bad_messages: usize,
}

/// Where labels are, and how to read them.
#[derive(Clone, Debug, Default)]
pub struct TruthOptions {
    /// Needed where several topics of a bag could hold labels and none is called `/ground_truth`.
    pub topic: Option<String>,
    /// As for [`MotionTracker::new`].
    pub fixed_frame: Option<String>,
    /// The model's.
    pub classes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    #[error(transparent)]
    Bag(#[from] BagError),
    #[error("{}: no ground truth: no topic carries {}; its topics are: {topics}", path.display(), Detection3DArray::TYPE)]
    NoTopic { path: PathBuf, topics: String },
    #[error("{}: several topics carry {} ({topics}); choose the one with the ground truth with --truth-topic", path.display(), Detection3DArray::TYPE)]
    SeveralTopics { path: PathBuf, topics: String },
    #[error("{}: topic {topic} carries no {}; topics that do: {topics}", path.display(), Detection3DArray::TYPE)]
    WrongTopic { path: PathBuf, topic: String, topics: String },
}

impl BagTruth {
    /// Reads all labels of a bag.
    ///
    /// # Errors
    /// A bag that cannot be opened, or in which the topic is not clear.
    pub fn read(path: &Path, options: &TruthOptions) -> Result<Self, TruthError> {
        let mut bag = BagReader::open(path)?;
        let topic = choose_topic(path, &bag, options.topic.as_deref())?;
        let motion_topics = bag.topics().into_iter().filter(|t| [TFMessage::TYPE, Odometry::TYPE].contains(&&*t.type_name));
        bag.select(Selection::topics(motion_topics.map(|t| t.name.to_string()).chain([topic.clone()])));

        let mut motion = MotionTracker::new(options.fixed_frame.clone());
        let mut frames = Frames::default();
        let mut bad_messages = 0;
        for message in bag {
            if *message.topic != *topic {
                motion.on_message(&message);
                continue;
            }
            match Detection3DArray::decode(&message.data) {
                Ok(array) => frames.push(array, &motion),
                Err(_) => bad_messages += 1,
            }
        }
        frames.place_last(&motion);
        let mut truth = Self { topic, by_stamp: HashMap::new(), unknown: BTreeMap::new(), bad_messages };
        truth.label(frames, &options.classes);
        Ok(truth)
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The labels of a moment, if there are any.
    pub fn at(&self, stamp: Stamp) -> Option<&Labels> {
        self.by_stamp.get(&stamp)
    }

    /// What could not be used, a sentence each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let bad = (self.bad_messages > 0).then(|| format!("{}: {} messages could not be decoded", self.topic, self.bad_messages));
        let unknown =
            self.unknown.iter().map(|(class, n)| format!("{}: {n} objects of class `{class}`, which the model does not have", self.topic));
        bad.into_iter().chain(unknown)
    }

    fn label(&mut self, frames: Frames, classes: &[String]) {
        let velocities = frames.velocities();
        for (frame, velocities) in frames.0.into_iter().zip(velocities) {
            let mut boxes = Vec::with_capacity(frame.objects.len());
            for (object, velocity) in frame.objects.into_iter().zip(velocities) {
                match classes.iter().position(|c| *c == object.class) {
                    Some(label) => boxes.push(TruthBox { bbox: Box3 { velocity, ..object.bbox }, label, points: None }),
                    None => *self.unknown.entry(object.class).or_default() += 1,
                }
            }
            self.by_stamp.insert(frame.stamp, Labels { frame_id: frame.frame_id, boxes });
        }
    }
}

fn choose_topic(path: &Path, bag: &BagReader, wanted: Option<&str>) -> Result<String, TruthError> {
    let all = bag.topics();
    let candidates: Vec<String> = all.iter().filter(|t| *t.type_name == *Detection3DArray::TYPE).map(|t| t.name.to_string()).collect();
    let has = |name: &str| candidates.iter().any(|c| c == name);
    let path = path.to_owned();
    match (wanted, candidates.as_slice()) {
        (Some(topic), _) if has(topic) => Ok(topic.to_owned()),
        (Some(topic), _) => Err(TruthError::WrongTopic { path, topic: topic.to_owned(), topics: candidates.join(", ") }),
        (None, []) => {
            let topics = all.iter().map(|t| format!("{} ({})", t.name, t.type_name)).collect::<Vec<_>>().join(", ");
            Err(TruthError::NoTopic { path, topics })
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) if has(USUAL_TOPIC) => Ok(USUAL_TOPIC.to_owned()),
        (None, _) => Err(TruthError::SeveralTopics { path, topics: candidates.join(", ") }),
    }
}

/// A frame, and where an object was in it.
type Seen = (usize, [f64; 3]);

/// Labelled frames in the order of the bag.
#[derive(Default)]
struct Frames(Vec<LabelledFrame>);

struct LabelledFrame {
    stamp: Stamp,
    frame_id: String,
    objects: Vec<Object>,
    /// Stands still through a stretch of frames. Frames of different stretches cannot be compared.
    stretch: usize,
    still_from_frame: Pose,
}

struct Object {
    class: String,
    track: String,
    bbox: Box3,
}

impl Frames {
    fn push(&mut self, array: Detection3DArray, motion: &MotionTracker) {
        // Only now: the transform of a moment often arrives after what was seen then.
        self.place_last(motion);
        let objects = array.detections.into_iter().filter_map(object).collect();
        let header = array.header;
        let unplaced =
            LabelledFrame { stamp: header.stamp, frame_id: header.frame_id, objects, stretch: 0, still_from_frame: Pose::identity() };
        self.0.push(unplaced);
    }

    /// Finds out where the sensor was at the last frame, seen from the one before.
    fn place_last(&mut self, motion: &MotionTracker) {
        let [.., before, last] = self.0.as_mut_slice() else { return };
        let moved = motion.newest_from_old((&last.frame_id, last.stamp), (&before.frame_id, before.stamp));
        match moved {
            Ok(last_from_before) if last.stamp > before.stamp && last.frame_id == before.frame_id => {
                last.stretch = before.stretch;
                last.still_from_frame = before.still_from_frame.compose(&last_from_before.inverse());
            }
            _ => last.stretch = before.stretch + 1,
        }
    }

    /// Of each object of each frame, in the axes of the frame.
    fn velocities(&self) -> Vec<Vec<[f32; 2]>> {
        // Where each track was, frame by frame.
        let mut tracks: HashMap<(usize, &str), Vec<Seen>> = HashMap::new();
        for (i, frame) in self.0.iter().enumerate() {
            for object in frame.objects.iter().filter(|o| !o.track.is_empty()) {
                let at = frame.still_from_frame.apply(object.bbox.center.map(f64::from));
                tracks.entry((frame.stretch, &object.track)).or_default().push((i, at));
            }
        }
        let velocity = |i: usize, object: &Object| -> Option<[f32; 2]> {
            let frame = &self.0[i];
            let seen = tracks.get(&(frame.stretch, object.track.as_str()))?;
            let here = seen.binary_search_by_key(&i, |(frame, _)| *frame).ok()?;
            let before = seen[here.saturating_sub(1)];
            let after = seen[(here + 1).min(seen.len() - 1)];
            let elapsed_s = self.0[after.0].stamp.seconds_since(self.0[before.0].stamp);
            let steps = usize::from(before.0 < i) + usize::from(after.0 > i);
            if elapsed_s <= 0.0 || elapsed_s > MAX_TIME_APART_S * steps as f64 {
                return None;
            }
            let way = nalgebra::Vector3::from([0, 1, 2].map(|k| (after.1[k] - before.1[k]) / elapsed_s));
            let own = frame.still_from_frame.0.rotation.inverse() * way;
            Some([own.x as f32, own.y as f32])
        };
        let of_frame =
            |(i, frame): (usize, &LabelledFrame)| frame.objects.iter().map(|o| velocity(i, o).unwrap_or([f32::NAN; 2])).collect();
        self.0.iter().enumerate().map(of_frame).collect()
    }
}

/// `None` if the message holds no class or no box.
fn object(detection: Detection3D) -> Option<Object> {
    let class = detection.results.into_iter().next()?.hypothesis.class_id;
    let pose = detection.bbox.center.to_pose()?;
    let size = detection.bbox.size;
    let size = [size.x, size.y, size.z].map(|v| v as f32);
    let center = pose.translation().map(|v| v as f32);
    let bbox = Box3 { center, size, yaw: wrap_angle(pose.yaw() as f32), velocity: [f32::NAN; 2] };
    let sound = size.iter().chain(&center).all(|v| v.is_finite()) && size.iter().all(|&v| v > 0.0);
    sound.then_some(Object { class, track: detection.id, bbox })
}
