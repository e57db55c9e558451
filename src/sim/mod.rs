//! Simulated drives: lidar sweeps, camera images, ground truth, ego motion.
//!
//! A [`Simulation`] is an iterator of [`SimFrame`]s. A seed and a town number decide everything: the street plan, what
//! stands along it, who drives and walks where, and the noise of every ray; the number of threads decides nothing.
//!
//! What a real drive has and this one does not: a second return, rain, reflections in windows, beams wider than a line,
//! lane changes and overtaking, doors and boots that open, and a labelled object that moves during a revolution.
//!
//! ```
//! use lidar_ptq::sim::{SimConfig, Simulation};
//! let config = SimConfig { seconds: 0.1, ..SimConfig::default() };
//! for frame in Simulation::new(&config) {
//!     let cars = frame.truth.iter().filter(|t| t.class.name() == "car" && t.num_lidar_points > 5).count();
//!     println!("{} points, {cars} cars", frame.cloud.len());
//! }
//! ```

mod bodies;
mod camera;
mod frame;
mod layers;
mod lidar;
mod occupancy;
mod scene;
mod solid;
mod town;
mod traffic;

pub use bodies::ObjectClass;
pub use camera::{Camera, CameraImage, FULL_SIZE, NO_OBJECT};
pub use frame::{SimFrame, Simulation, TRUTH_RANGE, TruthBox};
pub use layers::{BevGrid, MapLayer};
pub use lidar::LidarModel;
pub use occupancy::{OCCUPANCY_CLASSES, Occupancy, VoxelGrid};

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimConfig {
    /// Decides the traffic, the route and the noise, and the town unless that is given.
    pub seed: u64,
    /// Length of the drive.
    pub seconds: f64,
    pub lidar: LidarModel,
    /// Decides the streets and what stands along them.
    pub town: Option<u64>,
    /// Fire each column from where the sensor is at that moment. Off, the sweep is as if taken at its stamp, as in data sets
    /// that undo the distortion.
    pub distortion: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self { seed: 0, seconds: 20.0, lidar: LidarModel::Beams32, town: None, distortion: false }
    }
}
