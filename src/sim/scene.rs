//! What can be asked about the newest frame beside the sweep: pictures, bird's-eye layers, voxels. Nothing of it is worked out
//! unless it is asked for, and nothing that is asked changes the drive.

use super::camera::{self, Camera, CameraImage, NO_OBJECT, Painter, Seen};
use super::frame::{SimFrame, Simulation};
use super::layers::{self, BevGrid};
use super::occupancy::{self, Filling, Occupancy, VoxelGrid};
use crate::random::mix;
use ndarray::Array3;

impl Simulation {
    /// The six cameras of the car, for [`Simulation::render`].
    ///
    /// * `size`: columns and rows of their images.
    pub fn cameras(&self, size: [usize; 2]) -> Vec<Camera> {
        Camera::rig(size, self.config.seed)
    }

    /// What the cameras see at the moment of the newest frame.
    ///
    /// ```
    /// use lidar_ptq::sim::{SimConfig, Simulation};
    /// let mut simulation = Simulation::new(&SimConfig { seconds: 0.05, ..SimConfig::default() });
    /// let cameras = simulation.cameras([160, 90]);
    /// let frame = simulation.next().unwrap();
    /// let images = simulation.render(&cameras);
    /// assert_eq!((cameras[0].name, images[0].image.dimensions()), ("CAM_FRONT", (160, 90)));
    /// ```
    pub fn render(&self, cameras: &[Camera]) -> Vec<CameraImage> {
        let odom_from_base = self.traffic.ego_pose(&self.town);
        let center = odom_from_base.0.translation.vector.cast::<f32>().xy();
        let [all, large] = camera::REACH;
        let mut seen = Vec::with_capacity(16384);
        for (id, prop) in (1u64..).zip(&self.town.props) {
            let distance = (prop.center.xy() - center).norm() - prop.radius;
            // Farther away, only what is more than a few pixels high.
            if distance < all || (distance < large && prop.radius > 0.012 * distance) {
                seen.extend(prop.parts.iter().map(|&part| Seen { part, object: NO_OBJECT, identity: mix(id) }));
            }
        }
        let actors = self.traffic.actors();
        self.for_each_object(center, all, |part, owner| {
            let track = actors[owner as usize].track;
            let object = if owner == 0 { NO_OBJECT } else { track };
            seen.push(Seen { part, object, identity: mix(1 << 40 | u64::from(track)) });
        });
        let town_seed = self.config.town.unwrap_or(self.config.seed);
        let painter = self.painter.get_or_init(|| Painter::new(&self.town, town_seed, self.config.seed));
        painter.paint(&self.town, &seen, &odom_from_base, cameras, mix(mix(self.config.seed ^ 0xca) ^ self.frame))
    }

    /// Semantic layers of the ground around the car at the newest frame: `[layer, x, y]`, 1 where the layer is; layers as in
    /// [`MapLayer::ALL`](super::MapLayer::ALL), x forward and y left in the frame `base`.
    pub fn map_layers(&self, grid: &BevGrid) -> Array3<u8> {
        layers::draw(&self.town, &self.traffic.ego_pose(&self.town), grid)
    }

    /// What fills the space around the car, without the car itself. `frame` must be the newest one: its sweep tells which
    /// voxels are observed.
    pub fn occupancy(&self, grid: &VoxelGrid, frame: &SimFrame) -> Occupancy {
        let center = frame.odom_from_base.0.translation.vector.cast::<f32>().xy();
        let reach =
            (0..2).map(|axis| grid.low[axis].abs().max(grid.low[axis] + grid.edge * grid.size[axis] as f64)).fold(0.0, f64::hypot) as f32;
        let props = self.town.props.iter().filter(|p| (p.center.xy() - center).norm() < reach + p.radius);
        let mut fillings: Vec<Filling> = props.flat_map(|p| p.parts.iter().map(|&part| Filling::new(part, None))).collect();
        let actors = self.traffic.actors();
        self.for_each_object(center, reach, |part, owner| {
            if owner != 0 {
                fillings.push(Filling::new(part, Some(actors[owner as usize].body.class)));
            }
        });
        Occupancy {
            grid: *grid,
            classes: occupancy::fill(&self.town, &fillings, &frame.odom_from_base, grid),
            observed: occupancy::observe(&frame.cloud, &frame.base_from_lidar, grid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LidarModel, MapLayer, OCCUPANCY_CLASSES, SimConfig};
    use super::*;
    use crate::geometry::Box3;

    fn first(seed: u64) -> (Simulation, SimFrame) {
        let mut simulation = Simulation::new(&SimConfig { seed, seconds: 0.05, lidar: LidarModel::Beams32, ..SimConfig::default() });
        let frame = simulation.next().unwrap();
        (simulation, frame)
    }

    /// Returns that are noise-free would lie on surfaces; the sensor's noise is 2 cm, on grass and soil more.
    const TOLERANCE: f64 = 0.15;

    #[test]
    fn what_the_lidar_hits_is_where_the_cameras_see_it() {
        let (mut hidden, mut on, mut behind, mut labelled, mut same) = (0, 0, 0, 0, 0);
        for seed in [2, 9, 31] {
            let (simulation, frame) = first(seed);
            let cameras = simulation.cameras([800, 450]);
            let images = simulation.render(&cameras);
            let boxes: Vec<(Box3, u32)> =
                frame.truth.iter().map(|t| (Box3 { size: t.bbox.size.map(|s| s + 0.1), ..t.bbox }, t.track)).collect();
            for (camera, image) in cameras.iter().zip(&images) {
                let camera_from_lidar = camera.base_from_camera.inverse().compose(&frame.base_from_lidar);
                for point in frame.cloud.data.rows() {
                    let p = [point[0], point[1], point[2]];
                    let [x, y, z] = camera_from_lidar.apply(p.map(f64::from));
                    let column = camera.focal[0] * x / z + camera.center[0] + 0.5;
                    let row = camera.focal[1] * y / z + camera.center[1] + 0.5;
                    if z < 0.5 || !(0.0..800.0).contains(&column) || !(0.0..450.0).contains(&row) {
                        continue;
                    }
                    let at = row as usize * 800 + column as usize;
                    let depth = f64::from(image.depth[at]);
                    // Grazed ground is met at depths that differ by much within a pixel.
                    let tolerance = TOLERANCE + 0.02 * z;
                    if depth < z - tolerance {
                        hidden += 1;
                    } else if depth > z + tolerance {
                        behind += 1;
                    } else {
                        on += 1;
                        if let Some((_, track)) = boxes.iter().find(|(b, _)| b.contains(p) && p[2] > b.center[2] - 0.3 * b.size[2]) {
                            labelled += 1;
                            same += usize::from(image.objects[at] == *track);
                        }
                    }
                }
            }
        }
        let all = (hidden + on + behind) as f32;
        let shares = [on as f32 / all, hidden as f32 / all, behind as f32 / all, same as f32 / labelled as f32];
        // Hidden: the lidar stands higher than the cameras. Behind: leaves, wire and spokes, where each beam has its own luck.
        println!("{all} returns: on, hidden, behind, same object: {shares:?}; {labelled} on labelled objects");
        assert!(all > 20_000.0 && labelled > 1000);
        assert!(shares[0] > 0.85 && shares[2] < 0.04 && shares[3] > 0.95, "{shares:?}");
    }

    #[test]
    fn pictures_do_not_depend_on_threads_nor_change_the_drive() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut simulation = Simulation::new(&SimConfig { seed: 5, seconds: 0.1, ..SimConfig::default() });
                simulation.next();
                let images = simulation.render(&simulation.cameras([200, 112]));
                (images, simulation.next().unwrap().cloud.data)
            })
        };
        let (one, two) = (run(1), run(3));
        assert!(one == two);
        let mut unseen = Simulation::new(&SimConfig { seed: 5, seconds: 0.1, ..SimConfig::default() });
        assert!(unseen.nth(1).unwrap().cloud.data == one.1);
    }

    #[test]
    fn returns_end_in_filled_voxels_of_their_class() {
        let (simulation, frame) = first(2);
        let grid = VoxelGrid::default();
        let space = simulation.occupancy(&grid, &frame);
        let (mut filled, mut all, mut cars, mut of_cars) = (0, 0, 0, 0);
        let car = OCCUPANCY_CLASSES.iter().position(|c| *c == "car").unwrap() as u8;
        for point in frame.cloud.data.rows() {
            let p = [point[0], point[1], point[2]];
            let base = frame.base_from_lidar.apply(p.map(f64::from));
            let voxel = [0, 1, 2].map(|axis| ((base[axis] - grid.low[axis]) / grid.edge).floor());
            if (0..3).any(|axis| voxel[axis] < 0.0 || voxel[axis] >= grid.size[axis] as f64) || base[0].hypot(base[1]) < 4.0 {
                continue;
            }
            let voxel = voxel.map(|v| v as usize);
            assert_eq!(space.observed[voxel], 1);
            all += 1;
            filled += usize::from(usize::from(space.classes[voxel]) + 1 != OCCUPANCY_CLASSES.len());
            let on_car = frame.truth.iter().any(|t| t.class.name() == "car" && t.bbox.contains(p) && p[2] > t.bbox.center[2]);
            cars += usize::from(on_car);
            of_cars += usize::from(on_car && space.classes[voxel] == car);
        }
        assert!(all > 10_000 && filled as f32 > 0.93 * all as f32, "{filled} of {all}");
        assert!(cars > 50 && of_cars as f32 > 0.9 * cars as f32, "{of_cars} of {cars}");
        let free_and_seen = space.classes.iter().zip(&space.observed).filter(|&(c, o)| *c == 17 && *o == 1).count();
        assert!(free_and_seen > 20_000, "{free_and_seen}");
    }

    #[test]
    fn the_car_stands_on_drivable_ground() {
        let (simulation, _) = first(3);
        let grid = BevGrid { range: 10.0, resolution: 0.5 };
        let layers = simulation.map_layers(&grid);
        assert_eq!(layers.dim(), (MapLayer::ALL.len(), 40, 40));
        assert!((20..24).all(|i| layers[[0, i, 20]] == 1));
    }
}
