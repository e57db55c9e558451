//! What the ground is for, seen from above: semantic bird's-eye layers around the car.

use super::town::{PaintKind, Paving, Stroke, Town, Vec2};
use crate::geometry::Pose;
use ndarray::{Array3, ArrayViewMut2, Axis};
use rayon::prelude::*;

/// What a bird's-eye layer marks. Names are those of nuScenes' map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapLayer {
    /// Carriageways, junctions and parking lanes.
    DrivableArea,
    /// Where a crossing leads over the carriageway.
    PedCrossing,
    /// Pavements.
    Walkway,
    /// Car parks and yards.
    CarparkArea,
    /// Painted lines between the two directions.
    RoadDivider,
    /// Painted lines between lanes of one direction, and between a lane and the parking lane.
    LaneDivider,
}

impl MapLayer {
    pub const ALL: [Self; 6] =
        [Self::DrivableArea, Self::PedCrossing, Self::Walkway, Self::CarparkArea, Self::RoadDivider, Self::LaneDivider];

    pub fn name(self) -> &'static str {
        match self {
            Self::DrivableArea => "drivable_area",
            Self::PedCrossing => "ped_crossing",
            Self::Walkway => "walkway",
            Self::CarparkArea => "carpark_area",
            Self::RoadDivider => "road_divider",
            Self::LaneDivider => "lane_divider",
        }
    }
}

/// A square grid around the car, in the frame `base`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BevGrid {
    /// From the origin to each edge, metres.
    pub range: f64,
    /// Edge of a cell, metres.
    pub resolution: f64,
}

impl Default for BevGrid {
    /// 50 m around the car in cells of 0.25 m.
    fn default() -> Self {
        Self { range: 50.0, resolution: 0.25 }
    }
}

impl BevGrid {
    /// Cells along each side.
    pub fn cells(&self) -> usize {
        ((2.0 * self.range / self.resolution).round() as usize).max(1)
    }

    /// The middle of a cell, metres.
    pub fn middle(&self, cell: usize) -> f64 {
        (cell as f64 + 0.5) * self.resolution - self.range
    }
}

/// Half the width of a crossing and least half width of a divider in the layers, metres.
const CROSSING: f32 = 1.3;
const DIVIDER: f32 = 0.15;

/// `[layer, x, y]` with 1 where the layer is and 0 where it is not; layers as in [`MapLayer::ALL`], x forward, y left.
pub(super) fn draw(town: &Town, odom_from_base: &Pose, grid: &BevGrid) -> Array3<u8> {
    let cells = grid.cells();
    let center = odom_from_base.0.translation.vector.xy().cast::<f32>();
    let reach = 1.5 * grid.range as f32;
    let near =
        |ends: &[Vec2; 2], half_width: f32| (0.5 * (ends[0] + ends[1]) - center).norm() < reach + half_width + (ends[1] - ends[0]).norm();
    let dividers = |kinds: &[PaintKind]| -> Vec<Stroke> {
        let widened = town.paint.iter().map(|s| Stroke { half_width: s.half_width.max(DIVIDER), ..*s });
        widened.filter(|s| kinds.contains(&s.kind) && near(&s.ends, s.half_width)).collect()
    };
    let crossings: Vec<Stroke> = town
        .roads
        .walks
        .iter()
        .filter(|w| w.crossing)
        .flat_map(|w| w.path.points().windows(2).map(|p| [p[0], p[1]]))
        .filter(|ends| near(ends, CROSSING))
        .map(|ends| Stroke { ends, half_width: CROSSING, kind: PaintKind::Zebra })
        .collect();
    let (middle, lanes) = (dividers(&[PaintKind::Middle]), dividers(&[PaintKind::Lane, PaintKind::Parking]));
    let place = |i: usize, j: usize| {
        let [x, y, _] = odom_from_base.apply([grid.middle(i), grid.middle(j), 0.0]);
        Vec2::new(x as f32, y as f32)
    };
    let base_from_odom = odom_from_base.inverse();

    let mut layers = Array3::<u8>::zeros((MapLayer::ALL.len(), cells, cells));
    let mut paving = vec![Paving::Open; cells * cells];
    paving.par_chunks_mut(cells).enumerate().for_each(|(i, row)| {
        row.iter_mut().enumerate().for_each(|(j, cell)| *cell = town.ground.paving(place(i, j)));
    });
    let drivable = |p: Paving| matches!(p, Paving::Road | Paving::Marking);
    for (layer, mut cells_of_layer) in MapLayer::ALL.into_iter().zip(layers.axis_iter_mut(Axis(0))) {
        let mut paved = |is: &dyn Fn(Paving) -> bool| {
            cells_of_layer.iter_mut().zip(&paving).for_each(|(cell, &p)| *cell = u8::from(is(p)));
        };
        match layer {
            MapLayer::DrivableArea => paved(&drivable),
            MapLayer::Walkway => paved(&|p| p == Paving::Pavement),
            MapLayer::CarparkArea => paved(&|p| p == Paving::Yard),
            MapLayer::PedCrossing => {
                fill(&mut cells_of_layer, &crossings, grid, &base_from_odom, &place);
                cells_of_layer.iter_mut().zip(&paving).for_each(|(cell, &p)| *cell *= u8::from(drivable(p)));
            }
            MapLayer::RoadDivider => fill(&mut cells_of_layer, &middle, grid, &base_from_odom, &place),
            MapLayer::LaneDivider => fill(&mut cells_of_layer, &lanes, grid, &base_from_odom, &place),
        }
    }
    layers
}

/// Marks the cells whose middles are in one of the strokes.
fn fill(layer: &mut ArrayViewMut2<u8>, strokes: &[Stroke], grid: &BevGrid, base_from_odom: &Pose, place: &impl Fn(usize, usize) -> Vec2) {
    let last = layer.nrows() - 1;
    let cell = |v: f64| (((v + grid.range) / grid.resolution).max(0.0) as usize).min(last);
    for stroke in strokes {
        let [a, b] = stroke.ends.map(|p| base_from_odom.apply([f64::from(p.x), f64::from(p.y), 0.0]));
        // A tilted car sees the ground at a height of its own; a cell more on each side makes up for it.
        let reach = f64::from(stroke.half_width) + grid.resolution + 0.2;
        let along = stroke.ends[1] - stroke.ends[0];
        let square = along.norm_squared().max(1e-9);
        for i in cell(a[0].min(b[0]) - reach)..=cell(a[0].max(b[0]) + reach) {
            for j in cell(a[1].min(b[1]) - reach)..=cell(a[1].max(b[1]) + reach) {
                let d = place(i, j) - stroke.ends[0];
                let t = d.dot(&along) / square;
                if (0.0..=1.0).contains(&t) && (d - t * along).norm() <= stroke.half_width {
                    layer[[i, j]] = 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_where_the_town_has_them() {
        let town = Town::new(4);
        // In the middle of a lane, looking along it: the road is here, and the pavement beyond the kerb.
        let (street, side) = town.roads.streets.iter().filter(|s| s.median == 0.0 && !s.closed).map(|s| (s, 0)).next().unwrap();
        let s = 0.5 * (street.clear[0] + street.clear[1]);
        let (p, direction) = street.center.at(s);
        let pose = Pose::from_yaw([f64::from(p.x), f64::from(p.y), 0.0], f64::from(direction.y.atan2(direction.x)));
        let grid = BevGrid { range: 60.0, resolution: 0.2 };
        let layers = draw(&town, &pose, &grid);
        assert_eq!(layers.dim(), (6, 600, 600));
        let at = |layer: MapLayer, x: f32, y: f32| {
            let cell = |v: f32| ((f64::from(v) + grid.range) / grid.resolution) as usize;
            layers[[MapLayer::ALL.iter().position(|l| *l == layer).unwrap(), cell(x), cell(y)]]
        };
        let kerb = street.half_width(side);
        let walk = kerb + street.verge + 0.5 * street.pavement;
        assert_eq!((at(MapLayer::DrivableArea, 0.0, 0.5 * kerb), at(MapLayer::Walkway, 0.0, 0.5 * kerb)), (1, 0));
        assert_eq!((at(MapLayer::DrivableArea, 0.0, walk), at(MapLayer::Walkway, 0.0, walk)), (0, 1));
        // The middle line is dashed, 3 m in 6 m.
        let dashes: Vec<u8> = (-50..50).map(|k| at(MapLayer::RoadDivider, 0.2 * k as f32, 0.0)).collect();
        let share = dashes.iter().map(|&d| f32::from(d)).sum::<f32>() / 100.0;
        assert!((0.3..0.7).contains(&share), "{share}");
        // A crossing at each end, from kerb to kerb.
        let ahead = street.clear[1] + 2.2 - s;
        let crossed = (-20..=20).any(|k| at(MapLayer::PedCrossing, (ahead + 0.1 * k as f32).min(59.0), 0.0) == 1);
        assert!(crossed && at(MapLayer::PedCrossing, 0.0, 0.0) == 0);
        // Nothing that is not road is crossed or divided.
        let outside =
            |layer: usize| layers.index_axis(Axis(0), layer).iter().zip(layers.index_axis(Axis(0), 0)).filter(|&(c, d)| *c > *d).count();
        assert_eq!(outside(1), 0);
        assert!(outside(4) + outside(5) < 40, "{} {}", outside(4), outside(5));
    }
}
