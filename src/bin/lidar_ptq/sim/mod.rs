//! `lidar_ptq sim`: drives through simulated towns, as bags or as labelled frames for training.

mod drive;
mod examples;
mod layers;

use anyhow::ensure;
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::sim::{LidarModel, SimConfig};
use std::path::PathBuf;

/// Simulate drives: a spinning lidar and six cameras in street traffic, with ground truth.
///
/// Examples:
///   lidar_ptq sim --seed 7 --seconds 10 -o drive.mcap
///   lidar_ptq sim --seed 7 --seconds 10 --cameras -o drive.mcap
///   lidar_ptq sim --seed 1 --drives 300 --seconds 3 --examples frames/ --detector edge_pillar
///
/// A bag holds /lidar/points (PointCloud2), /tf, /tf_static, /odom and /ground_truth (Detection3DArray, `id` is the object's
/// track). With --cameras also, for each camera of nuScenes' rig, /CAM_FRONT/image_raw/compressed (CompressedImage, JPEG) and
/// /CAM_FRONT/camera_info (CameraInfo) in the frame CAM_FRONT_optical, and so on. Images have no distortion.
/// Seeds from 900000 up are for judging: never train or tune on them.
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
    #[arg(short, long, value_name = "DRIVE.mcap", required_unless_present_any = ["examples", "png", "layers"])]
    out: Option<PathBuf>,
    /// Add six cameras to the bag.
    #[arg(long, requires = "out")]
    cameras: bool,
    /// Write the cameras' images, and sheets of them, into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "examples")]
    png: Option<PathBuf>,
    /// Write semantic layers, voxels and labelled objects into this folder, an .npz file at each moment of --camera-rate.
    ///
    /// In the car's frame, x forward and y left: drivable_area, ped_crossing, walkway, carpark_area, road_divider, lane_divider
    /// [400, 400], 50 m around the car in cells of 0.25 m; semantics and mask_lidar [200, 200, 16] as in Occ3D-nuScenes, 40 m
    /// around it and from 1 m below to 5.4 m above in voxels of 0.4 m. In the lidar's frame: boxes [n, 9] (center, length,
    /// width, height, yaw, velocity), labels (nuScenes' order), tracks, num_lidar_points [n].
    #[arg(long, value_name = "DIR", conflicts_with = "examples")]
    layers: Option<PathBuf>,
    /// Size of an image in pixels.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = image_size, default_value = "1600x900")]
    image_size: [usize; 2],
    /// Images a second from each camera, taken together at the stamps of lidar frames.
    #[arg(long, value_name = "HZ", default_value_t = 10.0)]
    camera_rate: f64,
    /// Quality of the JPEG images, 1 to 100.
    #[arg(long, value_name = "QUALITY", default_value_t = 88, value_parser = clap::value_parser!(u8).range(1..=100))]
    jpeg_quality: u8,

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
    ensure!(args.camera_rate > 0.0, "--camera-rate must be positive, not {}", args.camera_rate);
    match &args.examples {
        Some(folder) => examples::write(args, folder),
        None => drive::write(args),
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

    /// Lidar frames from one image to the next.
    fn frames_per_image(&self) -> usize {
        (self.beams.model().rate_hz() / self.camera_rate).round().max(1.0) as usize
    }
}

fn image_size(text: &str) -> Result<[usize; 2], String> {
    const MOST: usize = 8192;
    let sides = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    let sides = sides.ok_or("write it as 1600x900")?;
    if sides.iter().any(|side| !(16..=MOST).contains(side)) {
        return Err(format!("each side has from 16 to {MOST} pixels"));
    }
    Ok(sides)
}

fn bar(length: u64, unit: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(&format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"))?);
    Ok(bar)
}
