//! `lidar_ptq sim`: drives through simulated towns, as bags or as labelled frames for training.

use crate::interrupt::stop_flag;
use crate::say;
use anyhow::{Context, bail};
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::DetectorConfig;
use lidar_ptq::geometry::Pose;
use lidar_ptq::node::messages::truth_array;
use lidar_ptq::node::simulated;
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::msg::geometry_msgs::{self, PoseWithCovariance, TwistWithCovariance};
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::std_msgs::Header;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::{OdometryMotion, PointCloud, PoseTrack, Stamp, SweepBuffer, assemble};
use lidar_ptq::sim::{LidarModel, SimConfig, SimFrame, Simulation};
use lidar_ptq::train::{ExampleFolder, LabelledBox};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Simulate drives: a spinning lidar in street traffic, with ground truth.
///
/// Examples:
///   lidar_ptq sim --seed 7 --seconds 10 -o drive.mcap
///   lidar_ptq sim --seed 1 --drives 300 --seconds 3 --examples frames/ --detector edge_pillar
///
/// A bag holds /lidar/points (PointCloud2), /tf, /tf_static, /odom and /ground_truth (Detection3DArray, `id` is the object's
/// track). Seeds from 900000 up are for judging: never train or tune on them.
#[derive(ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Decides everything.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Length of each drive.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    #[arg(long, value_enum, default_value_t = Beams::B32)]
    beams: Beams,
    /// Leave the distortion in that the ego motion causes within a sweep.
    #[arg(long)]
    distortion: bool,

    /// Write the drive as a ROS 2 bag.
    #[arg(short, long, value_name = "DRIVE.mcap", required_unless_present = "examples")]
    out: Option<PathBuf>,

    /// Write labelled frames for `lidar_ptq train` into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    examples: Option<PathBuf>,
    /// Drives, of seeds counted up from --seed.
    #[arg(long, default_value_t = 1, requires = "examples")]
    drives: u64,
    /// Seconds between labelled frames.
    #[arg(long, default_value_t = 0.5, requires = "examples")]
    every: f64,
    /// Preset or file of the detector that the frames are for: it decides sweeps and features.
    #[arg(long, default_value = "edge_pillar", requires = "examples")]
    detector: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Beams {
    /// 32 beams at 20 Hz, as nuScenes.
    #[value(name = "32")]
    B32,
    /// 64 beams at 10 Hz, as KITTI.
    #[value(name = "64")]
    B64,
}

/// First seed that is kept for judging.
const FIRST_HELD_OUT_SEED: u64 = 900_000;

pub fn run(args: &Args) -> anyhow::Result<()> {
    match (&args.out, &args.examples) {
        (Some(out), _) => write_drive(args, out),
        (None, Some(folder)) => write_examples(args, folder),
        (None, None) => bail!("nothing to write: give -o or --examples"),
    }
}

impl Beams {
    pub fn model(self) -> LidarModel {
        match self {
            Beams::B32 => LidarModel::Beams32,
            Beams::B64 => LidarModel::Beams64,
        }
    }
}

impl Args {
    fn config(&self, seed: u64) -> SimConfig {
        SimConfig { seed, seconds: self.seconds, lidar: self.beams.model(), distortion: self.distortion, ..SimConfig::default() }
    }
}

fn write_drive(args: &Args, out: &Path) -> anyhow::Result<()> {
    let simulation = Simulation::new(&args.config(args.seed));
    let bar = bar(simulation.remaining(), "frames")?;
    let mut bag = BagWriter::create(out)?;
    let interrupted = stop_flag()?;
    for (index, frame) in simulation.enumerate() {
        if interrupted.load(Ordering::SeqCst) {
            bag.finish()?;
            bail!("interrupted after {index} frames; they are complete in {}", out.display());
        }
        let stamp = simulated::stamp_of(&frame);
        if index == 0 {
            bag.write("/tf_static", stamp, &simulated::mounting(&frame))?;
        }
        bag.write("/tf", stamp, &simulated::vehicle(&frame))?;
        bag.write("/odom", stamp, &odometry(stamp, &frame.odom_from_base))?;
        let mut cloud = encode_cloud(&at_sensor_resolution(&frame.cloud));
        cloud.header.stamp = stamp;
        bag.write("/lidar/points", stamp, &cloud)?;
        let boxes = frame.truth.iter().filter(|t| t.num_lidar_points > 0).map(|t| (t.bbox, t.class.name(), t.track));
        bag.write("/ground_truth", stamp, &truth_array(stamp, &frame.cloud.frame_id, boxes))?;
        bar.inc(1);
    }
    bag.finish()?;
    bar.finish_and_clear();
    say(&format!("wrote {}\n", out.display()));
    Ok(())
}

/// Coordinates in steps of about 2 mm and whole intensities, as sensors of this kind send them; it also halves the bag.
fn at_sensor_resolution(cloud: &PointCloud) -> PointCloud {
    const STEPS_PER_METRE: f32 = 512.0;
    let mut cloud = cloud.clone();
    for mut point in cloud.data.rows_mut() {
        for coordinate in point.iter_mut().take(3) {
            *coordinate = (*coordinate * STEPS_PER_METRE).round() / STEPS_PER_METRE;
        }
        point[3] = point[3].round();
    }
    cloud
}

fn odometry(stamp: Stamp, odom_from_base: &Pose) -> Odometry {
    Odometry {
        header: Header { stamp, frame_id: simulated::ODOM.to_owned() },
        child_frame_id: simulated::BASE.to_owned(),
        pose: PoseWithCovariance { pose: geometry_msgs::Pose::from(odom_from_base), covariance: [0.0; 36] },
        twist: TwistWithCovariance::default(),
    }
}

fn write_examples(args: &Args, folder: &Path) -> anyhow::Result<()> {
    let last = args.seed.saturating_add(args.drives);
    if args.seed < FIRST_HELD_OUT_SEED && last > FIRST_HELD_OUT_SEED {
        bail!("seeds {} to {last} reach into those kept for judging ({FIRST_HELD_OUT_SEED} and above)", args.seed);
    }
    let detector = DetectorConfig::load(&args.detector)?;
    let classes = detector.classes();
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let bar = bar(args.drives, "drives")?;
    let interrupted = stop_flag()?;
    for seed in args.seed..last {
        let config = args.config(seed);
        let every = (args.every * config.lidar.rate_hz()).round().max(1.0) as usize;
        let sweeps = detector.points.sweeps.count.max(1);
        let mut buffer = SweepBuffer::new(detector.points.sweeps.clone(), 1.0);
        let mut motion: Option<OdometryMotion> = None;
        for (index, frame) in Simulation::new(&config).enumerate() {
            if interrupted.load(Ordering::SeqCst) {
                bail!("interrupted in the drive of seed {seed}; the frames in {} are complete", folder.display());
            }
            let motion = motion.get_or_insert_with(|| OdometryMotion {
                world_from_body: PoseTrack::new(10.0, 0.0),
                body_from_sensor: frame.base_from_lidar,
            });
            motion.world_from_body.push(frame.stamp, frame.odom_from_base);
            let labels = labels(&frame, &classes);
            let (merged, report) = buffer.merge(frame.cloud, motion);
            if (index + 1) % every == 0 && report.merged == sweeps {
                let points = assemble(&merged, &detector.points)?;
                ExampleFolder::write(folder, &format!("{seed:06}_{index:04}"), &points, &labels)?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say(&format!("wrote {}\n", folder.display()));
    Ok(())
}

/// Objects of the model's classes that the newest sweep saw.
fn labels(frame: &SimFrame, classes: &[String]) -> Vec<LabelledBox> {
    let seen = frame.truth.iter().filter(|t| t.num_lidar_points > 0);
    let known = seen.filter_map(|t| {
        let label = classes.iter().position(|c| c == t.class.name())?;
        Some(LabelledBox { label, center: t.bbox.center, size: t.bbox.size, yaw: t.bbox.yaw, velocity: Some(t.bbox.velocity) })
    });
    known.collect()
}

fn bar(length: u64, unit: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(&format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"))?);
    Ok(bar)
}
