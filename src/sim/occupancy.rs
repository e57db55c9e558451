//! What fills the space around the car: voxels with their classes, and which of them the lidar tells anything about.
//!
//! Classes, the numbers for "free" and the default grid are those of Occ3D-nuScenes.

use super::bodies::ObjectClass;
use super::solid::{Look, Part, Solid, Vec3};
use super::town::{Paving, Town};
use crate::geometry::Pose;
use crate::sensor::PointCloud;
use ndarray::{Array3, Axis};
use rayon::prelude::*;

/// Names of the voxels' classes; a voxel holds an index.
pub const OCCUPANCY_CLASSES: [&str; 18] = [
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
];

const DRIVEABLE: u8 = 11;
const OTHER_FLAT: u8 = 12;
const SIDEWALK: u8 = 13;
const TERRAIN: u8 = 14;
const MANMADE: u8 = 15;
const VEGETATION: u8 = 16;
const FREE: u8 = 17;

/// Where the voxels are, in the frame `base`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoxelGrid {
    /// Low corner, metres.
    pub low: [f64; 3],
    /// Edge of a voxel, metres.
    pub edge: f64,
    /// Along x, y and z.
    pub size: [usize; 3],
}

impl Default for VoxelGrid {
    /// 40 m around the car, from 1 m below it to 5.4 m above, in voxels of 0.4 m.
    fn default() -> Self {
        Self { low: [-40.0, -40.0, -1.0], edge: 0.4, size: [200, 200, 16] }
    }
}

/// The space around the car.
#[derive(Clone, Debug, PartialEq)]
pub struct Occupancy {
    pub grid: VoxelGrid,
    /// `[x, y, z]`: an index into [`OCCUPANCY_CLASSES`]. The inside of things is filled, seen or not.
    pub classes: Array3<u8>,
    /// `[x, y, z]`: 1 where a beam of the frame's sweep passed or ended, 0 where nothing is known.
    pub observed: Array3<u8>,
}

/// A part of the scene and its class.
pub(super) struct Filling {
    pub part: Part,
    pub class: u8,
}

impl Filling {
    /// A part of a labelled object, or with `None` of something else.
    pub fn new(part: Part, class: Option<ObjectClass>) -> Self {
        let class = match class {
            Some(ObjectClass::Barrier) => 1,
            Some(ObjectClass::Bicycle) => 2,
            Some(ObjectClass::Bus) => 3,
            Some(ObjectClass::Car) => 4,
            Some(ObjectClass::ConstructionVehicle) => 5,
            Some(ObjectClass::Motorcycle) => 6,
            Some(ObjectClass::Pedestrian) => 7,
            Some(ObjectClass::TrafficCone) => 8,
            Some(ObjectClass::Trailer) => 9,
            Some(ObjectClass::Truck) => 10,
            None if matches!(part.surface.look, Look::Leaves | Look::Bark) => VEGETATION,
            None if part.surface.look == Look::Soil => TERRAIN,
            None => MANMADE,
        };
        Self { part, class }
    }
}

/// Points of a voxel along each edge that are tried.
const SAMPLES: usize = 3;

pub(super) fn fill(town: &Town, fillings: &[Filling], odom_from_base: &Pose, grid: &VoxelGrid) -> Array3<u8> {
    let mut classes = Array3::from_elem(grid.size, FREE);
    let base_from_odom = odom_from_base.inverse();
    let turn: super::solid::Mat3 = base_from_odom.0.rotation.to_rotation_matrix().matrix().cast();
    // In the frame `base`, with the range of columns along x that each may touch.
    let placed: Vec<(Part, u8, [[usize; 2]; 3])> = fillings
        .iter()
        .filter_map(|Filling { part, class }| {
            let center = base_from_odom.apply(part.center.cast::<f64>().into()).map(|v| v as f32);
            let part = Part { center: center.into(), rotation: turn * part.rotation, ..*part };
            let extent = part.extent();
            let mut ranges = [[0; 2]; 3];
            for (axis, range) in ranges.iter_mut().enumerate() {
                let voxel = |v: f32| ((f64::from(v) - grid.low[axis]) / grid.edge).floor();
                let [low, high] = [voxel(part.center[axis] - extent[axis]), voxel(part.center[axis] + extent[axis]) + 1.0];
                *range = [low, high].map(|v| v.clamp(0.0, grid.size[axis] as f64) as usize);
                if range[0] >= range[1] {
                    return None;
                }
            }
            Some((part, *class, ranges))
        })
        .collect();
    classes.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(i, mut slice)| {
        for j in 0..grid.size[1] {
            let middle = grid.middle([i, j, 0]);
            let [x, y, _] = odom_from_base.apply([middle[0], middle[1], 0.0]);
            let place = super::town::Vec2::new(x as f32, y as f32);
            let height = base_from_odom.apply([x, y, f64::from(town.ground.height(place))])[2];
            let k = ((height - grid.low[2]) / grid.edge).floor();
            if k >= 0.0 && k < grid.size[2] as f64 {
                slice[[j, k as usize]] = match town.ground.paving(place) {
                    Paving::Road | Paving::Marking => DRIVEABLE,
                    Paving::Pavement => SIDEWALK,
                    Paving::Yard => OTHER_FLAT,
                    Paving::Grass | Paving::Open | Paving::Dirt => TERRAIN,
                    Paving::Built => MANMADE,
                };
            }
        }
        // Labelled objects come last in `fillings` and have the last word.
        for (part, class, [_, ys, zs]) in placed.iter().filter(|(_, _, [xs, ..])| (xs[0]..xs[1]).contains(&i)) {
            for j in ys[0]..ys[1] {
                for k in zs[0]..zs[1] {
                    if overlaps(part, grid.middle([i, j, k]), grid.edge as f32) {
                        slice[[j, k]] = *class;
                    }
                }
            }
        }
    });
    classes
}

impl VoxelGrid {
    /// The middle of a voxel, metres.
    pub fn middle(&self, voxel: [usize; 3]) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.low[axis] + (voxel[axis] as f64 + 0.5) * self.edge)
    }
}

/// Whether any of a voxel's sample points is in the part or nearly so.
fn overlaps(part: &Part, middle: [f64; 3], edge: f32) -> bool {
    let into = part.rotation.transpose();
    let middle = into * (Vec3::from(middle.map(|v| v as f32)) - part.center);
    let step = edge / SAMPLES as f32;
    let first = 0.5 * (step - edge);
    (0..SAMPLES.pow(3)).any(|s| {
        let offset = [s % SAMPLES, s / SAMPLES % SAMPLES, s / SAMPLES.pow(2)].map(|n| first + n as f32 * step);
        // Each sample stands for the ball around it.
        contains(part, &(middle + into * Vec3::from(offset)), 0.5 * step)
    })
}

/// Whether a point, in the part's axes, is in it or nearer than `margin`, roughly.
fn contains(part: &Part, p: &Vec3, margin: f32) -> bool {
    let half = &part.half;
    if p.z.abs() > half.z + margin {
        return false;
    }
    let up = (0.5 + 0.5 * p.z / half.z).clamp(0.0, 1.0);
    match part.solid {
        Solid::Cuboid => p.x.abs() <= half.x + margin && p.y.abs() <= half.y + margin,
        Solid::Prismoid { top_x, top_y } => {
            let [low, high] = [up * (top_x[0] + half.x) - half.x, up * (top_x[1] - half.x) + half.x];
            p.x >= low - margin && p.x <= high + margin && p.y.abs() <= half.y + up * (top_y - half.y) + margin
        }
        Solid::Round { bottom, top } => p.xy().norm() <= bottom + up * (top - bottom) + margin,
        Solid::Ellipsoid => p.component_div(&half.add_scalar(margin)).norm_squared() <= 1.0,
    }
}

/// Follows each beam of a sweep from the sensor to its return.
pub(super) fn observe(cloud: &PointCloud, base_from_lidar: &Pose, grid: &VoxelGrid) -> Array3<u8> {
    let mut observed = Array3::zeros(grid.size);
    let origin = base_from_lidar.translation();
    for point in cloud.data.rows() {
        let end = base_from_lidar.apply([point[0], point[1], point[2]].map(f64::from));
        walk(grid, origin, end, |voxel| observed[voxel] = 1);
    }
    observed
}

/// The voxels on the way from one point to another, in order (J. Amanatides and A. Woo, 1987); those outside are left out.
fn walk(grid: &VoxelGrid, from: [f64; 3], to: [f64; 3], mut visit: impl FnMut([usize; 3])) {
    let scaled = |p: [f64; 3]| [0, 1, 2].map(|axis| (p[axis] - grid.low[axis]) / grid.edge);
    let (from, to) = (scaled(from), scaled(to));
    let mut at = from.map(|v| v.floor() as i64);
    let last = to.map(|v| v.floor() as i64);
    let way = [0, 1, 2].map(|axis| to[axis] - from[axis]);
    let step = way.map(|w| if w > 0.0 { 1i64 } else { -1 });
    // Shares of the way to the next wall on each axis, and from wall to wall.
    let mut next = [0, 1, 2].map(|axis| {
        let wall = at[axis] as f64 + if way[axis] > 0.0 { 1.0 } else { 0.0 };
        if way[axis] == 0.0 { f64::INFINITY } else { (wall - from[axis]) / way[axis] }
    });
    let apart = way.map(|w| if w == 0.0 { f64::INFINITY } else { 1.0 / w.abs() });
    // One step a wall; rounding must not make it more.
    let walls: i64 = (0..3).map(|axis| (last[axis] - at[axis]).abs()).sum();
    for n in 0..=walls {
        let inside = (0..3).all(|axis| at[axis] >= 0 && (at[axis] as usize) < grid.size[axis]);
        if inside {
            visit(at.map(|v| v as usize));
        } else if n > 0 && (0..3).any(|axis| if step[axis] > 0 { at[axis] >= grid.size[axis] as i64 } else { at[axis] < 0 }) {
            // It has left and does not come back.
            return;
        }
        let axis = if next[0] <= next[1] && next[0] <= next[2] {
            0
        } else if next[1] <= next[2] {
            1
        } else {
            2
        };
        at[axis] += step[axis];
        next[axis] += apart[axis];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::solid::Surface;

    const GRID: VoxelGrid = VoxelGrid { low: [0.0, 0.0, 0.0], edge: 1.0, size: [10, 10, 4] };

    fn walked(from: [f64; 3], to: [f64; 3]) -> Vec<[usize; 3]> {
        let mut found = Vec::new();
        walk(&GRID, from, to, |v| found.push(v));
        found
    }

    #[test]
    fn a_beam_passes_the_voxels_between() {
        assert_eq!(walked([0.5, 0.5, 0.5], [3.5, 0.5, 0.5]), [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]);
        assert_eq!(walked([2.5, 0.6, 0.5], [1.5, 1.5, 0.5]), [[2, 0, 0], [2, 1, 0], [1, 1, 0]]);
        // From outside, through, and out again.
        assert_eq!(walked([-1.5, 1.5, 1.5], [1.5, 1.5, 1.5]).len(), 2);
        assert_eq!(walked([8.5, 1.5, 1.5], [30.5, 1.5, 1.5]), [[8, 1, 1], [9, 1, 1]]);
        assert!(walked([20.0, 20.0, 20.0], [30.0, 20.0, 20.0]).is_empty());
    }

    #[test]
    fn a_voxel_is_filled_if_anything_of_it_is() {
        let wall = Part::cuboid([5.02, 5.0, 1.0], [0.1, 3.0, 2.0], Surface::DARK);
        let at = |x: f64, y: f64| overlaps(&wall, [x, y, 1.5], 1.0);
        assert!(at(5.5, 5.5) && !at(6.5, 5.5) && !at(3.5, 5.5) && !at(5.5, 8.5));
        let ball = Part::ellipsoid([0.0; 3], [4.0; 3], Surface::DARK);
        let filled = (-3..3).flat_map(|x| (-3..3).flat_map(move |y| (-3..3).map(move |z| [x, y, z].map(|v| f64::from(v) + 0.5))));
        let count = filled.filter(|&middle| overlaps(&ball, middle, 1.0)).count();
        // The ball of radius 2 reaches into all voxels of its box: even the corner ones begin at 1.73 from the middle.
        assert_eq!(count, 64);
    }
}
