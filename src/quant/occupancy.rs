//! Which cells of a map may have seen a point.

use crate::engine::float::Inputs;
use crate::graph::{Graph, Op};
use std::collections::BTreeMap;

/// The pillars of a frame on maps of any size: a cell of a smaller map is occupied if one of the cells that it stands for is
/// (the strides' maximum, without the growth that windows would add).
pub struct Occupancy {
    canvas: [usize; 2],
    batch: usize,
    cells: Vec<[u32; 3]>,
    masks: BTreeMap<[usize; 2], Vec<bool>>,
}

impl Occupancy {
    /// `None` for a network without pillars: all its cells count.
    pub fn new(graph: &Graph, inputs: &Inputs<f32>) -> Option<Self> {
        let (canvas, index) = graph.nodes.iter().find_map(|node| match node.op {
            Op::PillarScatter { height, width } => Some(([height, width], inputs.pillars.get(&graph.nodes[*node.inputs.get(1)?].name)?)),
            _ => None,
        })?;
        Some(Self { canvas, batch: index.batch, cells: index.cells.clone(), masks: BTreeMap::new() })
    }

    /// For each cell of the batch's maps, whether it is occupied.
    pub fn mask(&mut self, [height, width]: [usize; 2]) -> &[bool] {
        let Self { canvas, batch, cells, masks } = self;
        masks.entry([height, width]).or_insert_with(|| {
            let mut mask = vec![false; *batch * height * width];
            for &[n, y, x] in cells.iter() {
                let [y, x] = [(y as usize, height, canvas[0]), (x as usize, width, canvas[1])].map(|(at, to, from)| at * to / from.max(1));
                mask[(n as usize * height + y) * width + x] = true;
            }
            mask
        })
    }
}
