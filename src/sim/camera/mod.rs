//! Six cameras that see the scene that the lidar sees.
//!
//! The same parts and the same ground are drawn (`raster`), coloured (`coat`, `pavement`) and lit (`light`, `shadow`), and the
//! picture is taken by a sensor with noise (`lens`). All of it depends on the drive's seed and on the place, never on the order
//! in which threads work. A picture is as if taken at one moment, the stamp of the lidar frame.
//!
//! What real cameras have and these do not: distortion, motion blur, a rolling shutter, night and rain, mirrors that show what
//! is really there.

mod coat;
mod leaves;
mod lens;
mod light;
mod noise;
mod pavement;
mod raster;
mod render;
mod shadow;
mod view;

use super::solid::{Mat3, Part, Vec3};
use super::town::Town;
use crate::geometry::Pose;
use crate::random::{Rng, mix};
use crate::sensor::RgbImage;
use coat::Coat;
use light::Light;
use nalgebra::{Isometry3, Rotation3, Translation3, UnitQuaternion};
use pavement::Pavement;
use rayon::prelude::*;
use render::{Appearance, Stage};
use shadow::{Contact, Shadows};
use view::{Lens, View};

/// A pinhole camera without distortion, and where it is mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// As nuScenes names it, such as `CAM_FRONT`.
    pub name: &'static str,
    /// Columns and rows.
    pub size: [usize; 2],
    /// Focal length in pixels along x and y.
    pub focal: [f64; 2],
    /// Principal point in pixels; the centre of the first pixel is at 0.
    pub center: [f64; 2],
    /// From the optical frame: x right, y down, z into the scene.
    pub base_from_camera: Pose,
}

/// What a camera saw. Depth and objects are exact, without noise or softened edges, one value a pixel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraImage {
    pub image: RgbImage,
    /// Along the optical axis, metres; infinite for the sky. Glass counts as a surface.
    pub depth: Vec<f32>,
    /// `track` of the labelled object that a pixel shows, or [`NO_OBJECT`].
    pub objects: Vec<u32>,
}

/// In [`CameraImage::objects`]: the ground, everything unlabelled, the sky.
pub const NO_OBJECT: u32 = u32::MAX;

/// Width and height of nuScenes' images.
pub const FULL_SIZE: [usize; 2] = [1600, 900];

/// Name, place on the car (ahead, left, up; metres), heading in degrees, focal length in pixels at full size: the rig of
/// nuScenes, rounded. The camera to the back has a wide lens.
const RIG: [(&str, [f64; 3], f64, f64); 6] = [
    ("CAM_FRONT", [1.70, 0.0, 1.51], 0.0, 1265.0),
    ("CAM_FRONT_RIGHT", [1.55, -0.49, 1.50], -56.0, 1260.0),
    ("CAM_FRONT_LEFT", [1.53, 0.49, 1.51], 55.0, 1270.0),
    ("CAM_BACK", [0.03, 0.0, 1.58], 180.0, 810.0),
    ("CAM_BACK_LEFT", [1.03, 0.48, 1.59], 108.0, 1257.0),
    ("CAM_BACK_RIGHT", [1.01, -0.48, 1.56], -110.0, 1259.0),
];
/// Principal point of all of them, as a share of the image.
const PRINCIPAL: [f64; 2] = [0.510, 0.545];
/// Mounted askew by about this much, radians; the calibration knows.
const MOUNT_ERROR: f32 = 0.004;
/// How far the pictures reach: small things, and buildings, metres.
pub(super) const REACH: [f32; 2] = [110.0, 420.0];

impl Camera {
    /// The six cameras of nuScenes, in its order, with images of this size.
    pub fn rig(size: [usize; 2], seed: u64) -> Vec<Self> {
        let mut rng = Rng::new(seed, "cameras");
        let scale = size[0] as f64 / FULL_SIZE[0] as f64;
        let cameras = RIG.iter().map(|&(name, place, heading, focal)| {
            let [roll, pitch, yaw] = [0; 3].map(|_| f64::from(rng.around(0.0, MOUNT_ERROR)));
            let mount = UnitQuaternion::from_euler_angles(roll, pitch, heading.to_radians() + yaw);
            let base_from_camera = Isometry3::from_parts(Translation3::from(place), mount * optical());
            let center = [PRINCIPAL[0] * size[0] as f64 - 0.5, PRINCIPAL[1] * size[1] as f64 - 0.5];
            Self { name, size, focal: [focal * scale; 2], center, base_from_camera: Pose(base_from_camera) }
        });
        cameras.collect()
    }

    fn view(&self, odom_from_base: &Pose) -> View {
        let pose = odom_from_base.compose(&self.base_from_camera);
        let rotation: Mat3 = pose.0.rotation.inverse().to_rotation_matrix().matrix().cast();
        let lens = Lens::Pinhole { focal: self.focal.map(|f| f as f32), center: self.center.map(|c| (c + 0.5) as f32) };
        View { origin: pose.0.translation.vector.cast(), rotation, lens, size: self.size }
    }
}

/// A camera's axes that look along x, with z up.
fn optical() -> UnitQuaternion<f64> {
    UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(nalgebra::Matrix3::new(
        0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0,
    )))
}

/// A part of the scene, whose it is, and what decides its colours.
pub(super) struct Seen {
    pub part: Part,
    pub object: u32,
    pub identity: u64,
}

/// Draws pictures of one drive.
pub(super) struct Painter(Appearance);

impl Painter {
    pub fn new(town: &Town, town_seed: u64, seed: u64) -> Self {
        Self(Appearance::new(Light::draw(seed), Pavement::new(town, town_seed)))
    }

    /// One picture for each camera. `moment` makes the noise differ from frame to frame.
    pub fn paint(&self, town: &Town, seen: &[Seen], odom_from_base: &Pose, cameras: &[Camera], moment: u64) -> Vec<CameraImage> {
        let parts: Vec<Part> = seen.iter().map(|s| s.part).collect();
        let center: Vec3 = odom_from_base.0.translation.vector.cast();
        let stage = Stage {
            look: &self.0,
            ground: &town.ground,
            coats: seen.par_iter().with_min_len(256).map(|s| Coat::new(&s.part, s.identity)).collect(),
            objects: seen.iter().map(|s| s.object).collect(),
            shadows: Shadows::new(&self.0.light.toward_sun, &center, &parts),
            contact: Contact::new(center.xy(), &parts, &town.ground),
            parts,
        };
        let pictures = cameras.iter().zip(0u64..);
        pictures.map(|(camera, i)| stage.picture(&camera.view(odom_from_base), mix(moment ^ (i + 1) << 40))).collect()
    }
}
