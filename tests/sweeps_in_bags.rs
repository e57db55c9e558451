//! Sweeps merged from a bag, against a closed form: a vehicle on a circle passes a pole that stands still in the world.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::detect::{Detector, FloatNetwork};
use lidar_ptq::geometry::Pose;
use lidar_ptq::node::{
    Evaluator, FrameRecord, FrameSink, InputOptions, Inputs, LabelledBags, LabelledEvent, MotionTracker, Perception, Summary, TruthOptions,
    replay,
};
use lidar_ptq::ros::bag::{BagWriter, RawMessage};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::geometry_msgs::{self, PoseWithCovariance, TransformStamped};
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::std_msgs::Header;
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::{PointCloud, Stamp};
use ndarray::Array2;
use std::path::Path;
use support::{PERIOD, START, TOPIC, tiny_config, tiny_model};

const SWEEPS: usize = 4;
const FRAMES: usize = 20;
/// m/s and rad/s.
const SPEED: f64 = 12.0;
const TURN_RATE: f64 = 0.4;
/// Where the pole stands in `odom`, metres, and its points' heights.
const POLE: [f64; 2] = [18.0, 9.0];
const HEIGHTS: [f64; 5] = [0.1, 0.6, 1.1, 1.6, 2.1];
/// Poses are linear between samples at 50 Hz: (12 m/s * 0.4 rad/s) * (0.02 s)^2 / 8 is a quarter of a millimetre.
const TOLERANCE_M: f64 = 0.005;
/// Poses are measured this often, and not at the times of clouds, nanoseconds.
const POSE_PERIOD: i64 = 20_000_000;
const POSE_OFFSET: i64 = -7_300_000;

fn seconds(stamp: Stamp) -> f64 {
    stamp.seconds_since(START)
}

/// On a circle, starting at the origin along x.
fn odom_from_base(stamp: Stamp) -> Pose {
    let (s, radius) = (seconds(stamp), SPEED / TURN_RATE);
    let angle = TURN_RATE * s;
    Pose::from_yaw([radius * angle.sin(), radius * (1.0 - angle.cos()), 0.0], angle)
}

fn base_from_lidar() -> Pose {
    Pose::from_yaw([1.2, -0.3, 1.9], 0.25)
}

fn odom_from_lidar(stamp: Stamp) -> Pose {
    odom_from_base(stamp).compose(&base_from_lidar())
}

fn frame_stamp(frame: usize) -> Stamp {
    Stamp(START.0 + PERIOD * frame as i64)
}

/// The pole as the lidar sees it.
fn cloud(frame: usize) -> PointCloud {
    let stamp = frame_stamp(frame);
    let lidar_from_odom = odom_from_lidar(stamp).inverse();
    let rows: Vec<f32> = HEIGHTS
        .iter()
        .flat_map(|z| {
            let [x, y, z] = lidar_from_odom.apply([POLE[0], POLE[1], *z]);
            [x as f32, y as f32, z as f32, frame as f32]
        })
        .collect();
    let fields = ["x", "y", "z", "intensity"].map(str::to_owned).to_vec();
    PointCloud { stamp, frame_id: "lidar".into(), fields, data: Array2::from_shape_vec((HEIGHTS.len(), 4), rows).expect("rows of four") }
}

fn transform(parent: &str, child: &str, stamp: Stamp, pose: &Pose) -> TFMessage {
    let header = Header { stamp, frame_id: parent.into() };
    TFMessage { transforms: vec![TransformStamped { header, child_frame_id: child.into(), transform: pose.into() }] }
}

fn odometry(stamp: Stamp) -> Odometry {
    let pose = PoseWithCovariance { pose: geometry_msgs::Pose::from(&odom_from_base(stamp)), ..PoseWithCovariance::default() };
    Odometry { header: Header { stamp, frame_id: "odom".into() }, child_frame_id: "base_link".into(), pose, ..Odometry::default() }
}

/// What the robot publishes of its motion.
#[derive(Clone, Copy, Default)]
struct Publishes {
    tf: bool,
    tf_static: bool,
    odometry: bool,
    /// Poses are recorded this much after the time that they are of, nanoseconds.
    pose_delay: i64,
    /// Between these frames no poses are recorded.
    gap: Option<[usize; 2]>,
}

fn write_bag(path: &Path, publishes: Publishes) {
    /// In the order of recording.
    enum Recorded {
        Mount,
        Pose(Stamp),
        Cloud(usize),
    }
    let poses = (-10..FRAMES as i64 * PERIOD / POSE_PERIOD + 10).map(|i| Stamp(START.0 + POSE_OFFSET + i * POSE_PERIOD));
    let in_gap = |s: &Stamp| publishes.gap.is_some_and(|[a, b]| (frame_stamp(a)..frame_stamp(b)).contains(s));
    let mut recorded = vec![(Stamp(START.0 - 400_000_000), Recorded::Mount)];
    recorded.extend(poses.filter(|s| !in_gap(s)).map(|s| (Stamp(s.0 + publishes.pose_delay), Recorded::Pose(s))));
    recorded.extend((0..FRAMES).map(|i| (frame_stamp(i), Recorded::Cloud(i))));
    recorded.sort_by_key(|(at, _)| *at);

    let mut bag = BagWriter::create(path).expect("a bag");
    // The bag starts with something that is not of interest here, whatever else is in it.
    bag.write("/elsewhere", Stamp(START.0 - 500_000_000), &transform("a", "b", START, &Pose::identity())).expect("written");
    for (at, what) in recorded {
        match what {
            Recorded::Mount if publishes.tf_static => {
                bag.write("/tf_static", at, &transform("base_link", "lidar", at, &base_from_lidar())).expect("written");
            }
            Recorded::Mount => {}
            Recorded::Pose(stamp) => {
                if publishes.tf {
                    bag.write("/tf", at, &transform("odom", "base_link", stamp, &odom_from_base(stamp))).expect("written");
                }
                if publishes.odometry {
                    bag.write("/odometry", at, &odometry(stamp)).expect("written");
                }
            }
            Recorded::Cloud(frame) => bag.write(TOPIC, at, &encode_cloud(&cloud(frame))).expect("written"),
        }
    }
    bag.finish().expect("written");
}

/// Keeps the merged clouds, and checks that everything comes in the order of its recording.
#[derive(Default)]
struct Merged(Vec<(PointCloud, usize)>, Option<Stamp>);

impl Merged {
    fn check_order(&mut self, stamp: Stamp) {
        assert!(self.1.replace(stamp).is_none_or(|last| last <= stamp));
    }
}

impl FrameSink for Merged {
    fn on_motion(&mut self, message: &RawMessage) -> anyhow::Result<()> {
        self.check_order(message.stamp);
        Ok(())
    }

    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        self.check_order(record.input.arrived());
        self.0.push(((*record.frame.cloud).clone(), record.frame.sweeps.merged));
        Ok(())
    }
}

fn run(publishes: Publishes, from_s: f64) -> (Vec<(PointCloud, usize)>, Summary) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drive.mcap");
    write_bag(&path, publishes);
    let options = InputOptions { from_s, ..InputOptions::default() };
    let mut inputs = Inputs::open(&[path], vec!["intensity".into()], options).expect("a bag");
    let model = tiny_model(SWEEPS);
    let network = FloatNetwork::new(&model).expect("a network");
    let detector = Detector::new(model.config().clone(), Box::new(network)).expect("a detector");
    let mut perception = Perception::new(detector, MotionTracker::new(None));
    let mut merged = Merged::default();
    let summary = replay(&mut inputs.by_ref().map(LabelledEvent::from), &mut perception, &mut [&mut merged], usize::MAX, &mut |_| true)
        .expect("no sink fails");
    assert_eq!((summary.frames, inputs.problems().len()), (merged.0.len(), 0));
    (merged.0, summary)
}

fn notes(summary: &Summary) -> String {
    summary.notes.iter().map(|(what, count)| format!("{count} x {what}\n")).collect()
}

/// Each sweep's points fall onto the pole, and its lag is the time since it was taken.
fn check_on_the_pole(cloud: &PointCloud, sweeps: usize) {
    assert_eq!(cloud.len(), sweeps * HEIGHTS.len());
    let newest = ((cloud.stamp.0 - START.0) / PERIOD) as usize;
    let (lag, intensity) = (cloud.column("time").expect("a lag"), cloud.column("intensity").expect("passed on"));
    let odom_from_lidar = odom_from_lidar(cloud.stamp);
    for (i, row) in cloud.data.rows().into_iter().enumerate() {
        let (age, z) = (i / HEIGHTS.len(), HEIGHTS[i % HEIGHTS.len()]);
        let seen = odom_from_lidar.apply([row[0], row[1], row[2]].map(f64::from));
        let error = [seen[0] - POLE[0], seen[1] - POLE[1], seen[2] - z].iter().map(|d| d * d).sum::<f64>().sqrt();
        assert!(error < TOLERANCE_M, "frame {newest}, sweep of {age} frames ago: {error} m off");
        assert!((f64::from(lag[i]) - 0.1 * age as f64).abs() < 1e-6, "{}", lag[i]);
        assert_eq!(intensity[i], (newest - age) as f32);
    }
}

#[test]
fn transforms_put_all_sweeps_onto_the_pole() {
    let (frames, summary) = run(Publishes { tf: true, tf_static: true, ..Publishes::default() }, 0.0);
    assert_eq!(frames.len(), FRAMES);
    for (i, (cloud, merged)) in frames.iter().enumerate() {
        assert_eq!(*merged, SWEEPS.min(i + 1), "frame {i}");
        check_on_the_pole(cloud, *merged);
    }
    assert!(notes(&summary).contains("20 x ego motion from transforms through `odom`"), "{}", notes(&summary));
    assert!(notes(&summary).contains("3 x fewer than 4 sweeps"), "{}", notes(&summary));
    assert!(!notes(&summary).contains("left out"), "{}", notes(&summary));
    // The vehicle does move: without compensation the pole would be smeared over metres.
    let [now, before] = [frame_stamp(9), frame_stamp(6)].map(|s| odom_from_lidar(s).inverse().apply([POLE[0], POLE[1], 1.0]));
    assert!((now[0] - before[0]).hypot(now[1] - before[1]) > 3.0);
}

#[test]
fn clouds_wait_for_their_transform() {
    // As on a robot: the transform of a cloud's time is published after the cloud. Further behind than any continuation reaches.
    for pose_delay in [60_000_000, 350_000_000] {
        let tf = Publishes { tf: true, tf_static: true, pose_delay, ..Publishes::default() };
        let odometry = Publishes { odometry: true, tf_static: true, pose_delay, ..Publishes::default() };
        for publishes in [tf, odometry] {
            let (frames, summary) = run(publishes, 0.0);
            assert_eq!(frames.len(), FRAMES);
            // The first clouds come before any pose, when it is not known yet that there will be one.
            for (i, (cloud, merged)) in frames.iter().enumerate().skip(SWEEPS) {
                assert_eq!(*merged, SWEEPS, "frame {i}");
                check_on_the_pole(cloud, SWEEPS);
            }
            assert!(!notes(&summary).contains("came within"), "{}", notes(&summary));
        }
    }
}

/// What `eval` judges is what `detect` does.
#[test]
fn evaluation_waits_for_transforms_as_well() {
    let publishes = Publishes { tf: true, tf_static: true, pose_delay: 350_000_000, ..Publishes::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drive.mcap");
    write_bag(&path, publishes);
    let truth = TruthOptions { topic: None, fixed_frame: None, classes: tiny_config(SWEEPS).classes() };
    let perception = |sweeps| {
        let model = tiny_model(sweeps);
        let network = FloatNetwork::new(&model).expect("a network");
        Perception::new(Detector::new(model.config().clone(), Box::new(network)).expect("a detector"), MotionTracker::new(None))
    };
    let (_, detected) = run(publishes, 0.0);
    // Without labels a frame is looked at for the comparison of two models.
    let mut evaluator = Evaluator::new(perception(SWEEPS), 0.0).against(perception(1));
    let bags = LabelledBags::open(&[path], vec!["intensity".into()], InputOptions::default(), &truth, false).expect("a bag");
    bags.for_each(|event| evaluator.on_event(event));
    let outcome = evaluator.finish();
    assert_eq!((outcome.clouds, outcome.summary.frames, outcome.summary.points), (FRAMES as u64, FRAMES, detected.points));
}

#[test]
fn a_transform_that_comes_too_late_is_not_waited_for_in_vain_without_a_word() {
    let (frames, summary) = run(Publishes { tf: true, tf_static: true, pose_delay: 900_000_000, ..Publishes::default() }, 0.0);
    assert_eq!(frames.len(), FRAMES);
    assert!(frames.iter().skip(SWEEPS).all(|(_, merged)| *merged == 1));
    assert!(notes(&summary).contains("no transform or odometry of a cloud's time came within 0.5 s"), "{}", notes(&summary));
}

#[test]
fn odometry_serves_where_there_is_no_tf() {
    let (frames, summary) = run(Publishes { odometry: true, tf_static: true, ..Publishes::default() }, 0.0);
    for (i, (cloud, merged)) in frames.iter().enumerate() {
        assert_eq!(*merged, SWEEPS.min(i + 1));
        check_on_the_pole(cloud, *merged);
    }
    assert!(notes(&summary).contains("20 x ego motion from odometry of `base_link`\n"), "{}", notes(&summary));
}

#[test]
fn odometry_of_an_unknown_mount_is_used_and_said() {
    let (frames, summary) = run(Publishes { odometry: true, ..Publishes::default() }, 0.0);
    assert!(frames.iter().enumerate().all(|(i, (_, merged))| *merged == SWEEPS.min(i + 1)));
    assert!(notes(&summary).contains("20 x ego motion from odometry of `base_link`, the lidar taken to stand"), "{}", notes(&summary));
    // What follows from it: the lidar's own frame is moved as the body's.
    let [newest, old] = [8, 7].map(|frame| odom_from_base(frame_stamp(frame)));
    let expected = newest.inverse().compose(&old).apply([0, 1, 2].map(|i| f64::from(cloud(7).data[[0, i]])));
    let found = &frames[8].0.data.row(HEIGHTS.len());
    assert!((0..3).all(|i| (f64::from(found[i]) - expected[i]).abs() < TOLERANCE_M), "{found} {expected:?}");
}

#[test]
fn without_motion_each_sweep_stands_for_itself() {
    let moving_but_unmounted = Publishes { tf: true, ..Publishes::default() };
    let mounted_but_unmoved = Publishes { tf_static: true, ..Publishes::default() };
    for publishes in [Publishes::default(), moving_but_unmounted, mounted_but_unmoved] {
        let (frames, summary) = run(publishes, 0.0);
        assert_eq!(frames.len(), FRAMES);
        for (cloud, merged) in &frames {
            assert_eq!(*merged, 1);
            check_on_the_pole(cloud, 1);
        }
        let notes = notes(&summary);
        assert!(notes.contains("20 x no ego motion") && notes.contains("19 x sweeps left out: the motion"), "{notes}");
    }
}

#[test]
fn a_gap_in_the_transforms_costs_the_sweeps_that_need_it() {
    let gap = Some([8, 16]);
    let (frames, summary) = run(Publishes { tf: true, tf_static: true, gap, ..Publishes::default() }, 0.0);
    assert_eq!(frames.len(), FRAMES);
    // Poses are known up to just before frame 8, and again from just after frame 16. Frames 8 and 9 waited in vain and lie within
    // the 0.2 s that are continued; from frame 10 on, where the robot was is anybody's guess.
    for (i, (cloud, merged)) in frames.iter().enumerate() {
        check_near_the_pole(cloud, *merged, if i == 8 || i == 9 { 0.03 } else { TOLERANCE_M });
    }
    let merged: Vec<usize> = frames.iter().map(|(_, merged)| *merged).collect();
    assert_eq!(merged, [1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
    assert!(notes(&summary).contains("x sweeps left out: transforms or odometry pause for more than 0.4 s"), "{}", notes(&summary));
}

/// As [`check_on_the_pole`], where sweeps in between may be missing.
fn check_near_the_pole(cloud: &PointCloud, sweeps: usize, tolerance_m: f64) {
    assert_eq!(cloud.len(), sweeps * HEIGHTS.len());
    let odom_from_lidar = odom_from_lidar(cloud.stamp);
    for row in cloud.data.rows() {
        let seen = odom_from_lidar.apply([row[0], row[1], row[2]].map(f64::from));
        assert!((seen[0] - POLE[0]).hypot(seen[1] - POLE[1]) < tolerance_m, "{} {seen:?}", seconds(cloud.stamp));
    }
}

#[test]
fn static_transforms_from_before_the_start_still_hold() {
    // One second after the bag's first message, that is before frame 5; /tf_static was recorded long before.
    let (frames, summary) = run(Publishes { tf: true, tf_static: true, ..Publishes::default() }, 0.99);
    assert_eq!(frames.len(), FRAMES - 5);
    for (i, (cloud, merged)) in frames.iter().enumerate() {
        assert_eq!(*merged, SWEEPS.min(i + 1));
        check_on_the_pole(cloud, *merged);
    }
    assert_eq!(frames[0].0.stamp, frame_stamp(5));
    assert!(!notes(&summary).contains("left out"), "{}", notes(&summary));
}

#[test]
fn a_message_that_is_no_transform_is_noted_and_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drive.mcap");
    let mut bag = BagWriter::create(&path).expect("a bag");
    bag.write_raw("/tf", TFMessage::TYPE, TFMessage::DEFINITION, START, &[0, 1, 0, 0, 255, 255, 255, 255]).expect("written");
    bag.write(TOPIC, START, &encode_cloud(&cloud(0))).expect("written");
    bag.finish().expect("written");
    let inputs = Inputs::open(&[path], vec!["intensity".into()], InputOptions::default()).expect("a bag");
    let model = tiny_model(SWEEPS);
    let detector = Detector::new(model.config().clone(), Box::new(FloatNetwork::new(&model).expect("a network"))).expect("a detector");
    let mut perception = Perception::new(detector, MotionTracker::new(None));
    let summary = replay(&mut inputs.map(LabelledEvent::from), &mut perception, &mut [], usize::MAX, &mut |_| true).expect("no sink fails");
    assert_eq!(summary.frames, 1);
    assert!(notes(&summary).contains("1 x transform or odometry messages that could not be used"), "{}", notes(&summary));
}
