//! A drive as a bag, and the pictures of its cameras.

use super::{Args, bar, layers};
use crate::interrupt::stop_flag;
use crate::say;
use anyhow::{Context, bail};
use lidar_ptq::eval::picture::contact_sheet;
use lidar_ptq::geometry::Pose;
use lidar_ptq::node::messages::{camera_info, truth_array};
use lidar_ptq::node::simulated;
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::msg::geometry_msgs::{self, PoseWithCovariance, TwistWithCovariance};
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::sensor_msgs::CompressedImage;
use lidar_ptq::ros::msg::std_msgs::Header;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::{PointCloud, RgbImage, Stamp};
use lidar_ptq::sim::{Camera, CameraImage, SimFrame, Simulation};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// In the order of nuScenes' figures: what is to the left stands on the left.
const SHEET_ORDER: [&str; 6] = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"];

pub fn write(args: &Args) -> anyhow::Result<()> {
    let mut simulation = Simulation::new(&args.config(args.seed));
    let bar = bar(simulation.remaining(), "frames")?;
    let mut bag = args.out.as_deref().map(Bag::create).transpose()?;
    let png = args.png.as_deref().map(|folder| make_folder(folder).map(|()| folder)).transpose()?;
    let layer_folder = args.layers.as_deref().map(|folder| make_folder(folder).map(|()| folder)).transpose()?;
    let cameras = if args.cameras || png.is_some() { simulation.cameras(args.image_size) } else { Vec::new() };
    let every = args.frames_per_image();
    let interrupted = stop_flag()?;
    let mut index = 0;
    while let Some(frame) = simulation.next() {
        if interrupted.load(Ordering::SeqCst) {
            let bag = bag.map(Bag::finish).transpose()?;
            let written = [bag.as_deref(), png, layer_folder].into_iter().flatten().map(|p| p.display().to_string());
            bail!("interrupted after {index} frames; they are complete in {}", written.collect::<Vec<_>>().join(", "));
        }
        let images = if index % every == 0 && !cameras.is_empty() { simulation.render(&cameras) } else { Vec::new() };
        if let Some(bag) = &mut bag {
            bag.frame(&frame, if args.cameras { &cameras } else { &[] }, &images, args.jpeg_quality)?;
        }
        if let Some(folder) = png.filter(|_| !images.is_empty()) {
            write_pictures(folder, index, &cameras, &images)?;
        }
        if let Some(folder) = layer_folder.filter(|_| index % every == 0) {
            layers::write(&folder.join(format!("{index:06}.npz")), &simulation, &frame)?;
        }
        index += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(bag) = bag {
        say(&format!("wrote {}\n", bag.finish()?.display()));
    }
    Ok(())
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot make this folder", folder.display()))
}

struct Bag {
    path: PathBuf,
    writer: BagWriter,
    started: bool,
}

impl Bag {
    fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), writer: BagWriter::create(path)?, started: false })
    }

    fn frame(&mut self, frame: &SimFrame, cameras: &[Camera], images: &[CameraImage], quality: u8) -> anyhow::Result<()> {
        let bag = &mut self.writer;
        let stamp = simulated::stamp_of(frame);
        if !std::mem::replace(&mut self.started, true) {
            let mut mounted = simulated::mounting(frame);
            for camera in cameras {
                let its = simulated::mounted_at(simulated::BASE, &optical_frame(camera), stamp, &camera.base_from_camera);
                mounted.transforms.extend(its.transforms);
            }
            bag.write("/tf_static", stamp, &mounted)?;
        }
        bag.write("/tf", stamp, &simulated::vehicle(frame))?;
        bag.write("/odom", stamp, &odometry(stamp, &frame.odom_from_base))?;
        let mut cloud = encode_cloud(&at_sensor_resolution(&frame.cloud));
        cloud.header.stamp = stamp;
        bag.write("/lidar/points", stamp, &cloud)?;
        let boxes = frame.truth.iter().filter(|t| t.num_lidar_points > 0).map(|t| (t.bbox, t.class.name(), t.track));
        bag.write("/ground_truth", stamp, &truth_array(stamp, &frame.cloud.frame_id, boxes))?;
        let jpegs: Vec<_> = images.par_iter().map(|i| i.image.encode_jpeg(quality)).collect::<Result<_, _>>()?;
        for (camera, data) in cameras.iter().zip(jpegs) {
            let header = Header { stamp, frame_id: optical_frame(camera) };
            let image = CompressedImage { header: header.clone(), format: "jpeg".into(), data };
            bag.write(&format!("/{}/image_raw/compressed", camera.name), stamp, &image)?;
            bag.write(&format!("/{}/camera_info", camera.name), stamp, &camera_info(header, camera.size, camera.focal, camera.center))?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<PathBuf> {
        self.writer.finish()?;
        Ok(self.path)
    }
}

/// REP 103: frames of images have their own axes and say so in their names.
fn optical_frame(camera: &Camera) -> String {
    format!("{}_optical", camera.name)
}

/// Each camera's picture, and all of them on one sheet at a quarter of their size.
fn write_pictures(folder: &Path, frame: usize, cameras: &[Camera], images: &[CameraImage]) -> anyhow::Result<()> {
    for (camera, image) in cameras.iter().zip(images) {
        let path = folder.join(format!("{frame:06}_{}.png", camera.name));
        image.image.write_png(&path).with_context(|| path.display().to_string())?;
    }
    let on_sheet = |name: &str| cameras.iter().position(|c| c.name == name).map(|i| images[i].image.shrunk(4));
    let pictures: Vec<RgbImage> = SHEET_ORDER.iter().filter_map(|name| on_sheet(name)).collect();
    let path = folder.join(format!("{frame:06}.png"));
    contact_sheet(&pictures, 3).write_png(&path).with_context(|| path.display().to_string())
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
