//! The frames to learn from: whole, or windows of them.

use crate::engine::float::{Inputs, Processor};
use crate::graph::{Dim, Graph, Op, Params, PillarIndex};
use crate::quant::CalibrationError;
use crate::quant::shelf::ShelvedInputs;
use crate::quant::teacher::Teacher;
use crate::random::Rng;
use ndarray::{Axis, Slice};
use std::borrow::Cow;
use std::sync::Arc;

/// A network and frames that fit it.
pub struct Material<'a> {
    pub graph: Cow<'a, Graph>,
    pub processor: &'a Processor,
    /// In float.
    pub params: &'a Params,
    pub frames: Source<'a>,
}

/// The frames themselves, or what was made of them.
pub enum Source<'a> {
    Whole(&'a ShelvedInputs),
    Windows(ShelvedInputs),
}

impl std::ops::Deref for Source<'_> {
    type Target = ShelvedInputs;

    fn deref(&self) -> &ShelvedInputs {
        match self {
            Self::Whole(frames) => frames,
            Self::Windows(windows) => windows,
        }
    }
}

impl<'a> Material<'a> {
    pub fn whole(graph: &'a Graph, teacher: &'a Teacher<'_>) -> Self {
        let (graph, processor) = (Cow::Borrowed(graph), teacher.processor());
        Self { graph, processor, params: teacher.params(), frames: Source::Whole(teacher.inputs()) }
    }

    /// Square windows of `side` cells of the network's first map, as if the sensor saw no farther: float network, quantized network and
    /// task all see the same. Each frame gives as many windows as it has room for, each around a pillar drawn at random.
    ///
    /// # Errors
    /// A side of which not all maps of the network have a whole number of cells; a full disk.
    pub fn windows(graph: &'a Graph, teacher: &'a Teacher<'_>, side: usize, seed: u64) -> Result<Self, CalibrationError> {
        let canvas = canvas(graph);
        if side >= canvas.into_iter().min().unwrap_or(0) {
            return Ok(Self::whole(graph, teacher));
        }
        let step = graph.nodes.iter().filter_map(|n| map_size(&n.shape)).map(|[h, _]| canvas[0] / h.max(1)).max().unwrap_or(1);
        let graph = Some(side).filter(|side| *side > 0).and_then(|side| shrink(graph, canvas, side));
        let graph = graph.ok_or(CalibrationError::Window { side, step })?;
        let count = (canvas[0] / side) * (canvas[1] / side);
        let mut windows = ShelvedInputs::new(teacher.inputs().shelf().another());
        for (number, frame) in teacher.inputs().iter().enumerate() {
            let frame = frame?;
            let mut rng = Rng::new(seed.wrapping_add(number as u64), "windows to learn from");
            for _ in 0..count {
                let center = pillar(&frame, &mut rng).unwrap_or_else(|| canvas.map(|n| rng.index(n)));
                let origin = [0, 1].map(|i| center[i].saturating_sub(side / 2).min(canvas[i] - side) / step * step);
                windows.push(&window(&frame, canvas, origin, side))?;
            }
        }
        Ok(Self { graph: Cow::Owned(graph), processor: teacher.processor(), params: teacher.params(), frames: Source::Windows(windows) })
    }
}

/// Height and width of the largest map.
fn canvas(graph: &Graph) -> [usize; 2] {
    let sizes = graph.nodes.iter().filter_map(|n| map_size(&n.shape));
    sizes.fold([0; 2], |most, size| [most[0].max(size[0]), most[1].max(size[1])])
}

fn map_size(shape: &[Dim]) -> Option<[usize; 2]> {
    match shape {
        [Dim::Batch, Dim::Fixed(h), Dim::Fixed(w), _] => Some([*h, *w]),
        _ => None,
    }
}

/// The network on a canvas of `side` cells; `None` if a map would not have a whole number of cells.
fn shrink(graph: &Graph, canvas: [usize; 2], side: usize) -> Option<Graph> {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        if let [Dim::Batch, Dim::Fixed(h), Dim::Fixed(w), _] = node.shape.as_mut_slice() {
            for (size, whole) in [(h, canvas[0]), (w, canvas[1])] {
                if !(*size * side).is_multiple_of(whole) || !whole.is_multiple_of(*size) {
                    return None;
                }
                *size = *size * side / whole;
            }
        }
        if let Op::PillarScatter { height, width } = &mut node.op {
            (*height, *width) = (side, side);
        }
    }
    Some(graph)
}

/// Row and column of one of a frame's pillars.
fn pillar(frame: &Inputs<f32>, rng: &mut Rng) -> Option<[usize; 2]> {
    let cells = &frame.pillars.values().next()?.cells;
    let [_, y, x] = *cells.get(rng.index(cells.len().max(1)))?;
    Some([y as usize, x as usize])
}

/// What of a frame lies in a window.
fn window(frame: &Inputs<f32>, canvas: [usize; 2], origin: [usize; 2], side: usize) -> Inputs<f32> {
    let mut part = Inputs::default();
    // Rows of pillars go with their cells.
    let mut rows: Option<(usize, Vec<usize>)> = None;
    for (name, index) in &frame.pillars {
        let inside = |cell: &[u32; 3]| (0..2).all(|i| (origin[i]..origin[i] + side).contains(&(cell[i + 1] as usize)));
        let kept: Vec<usize> = (0..index.cells.len()).filter(|&i| inside(&index.cells[i])).collect();
        let moved = |&i: &usize| {
            let [n, y, x] = index.cells[i];
            [n, y - origin[0] as u32, x - origin[1] as u32]
        };
        let cells = kept.iter().map(moved).collect();
        // The points themselves are gone: every pillar stands for itself.
        let offsets = (0..=kept.len() as u32).collect();
        part.pillars.insert(name.clone(), Arc::new(PillarIndex { batch: index.batch, offsets, cells }));
        rows = Some((index.cells.len(), kept));
    }
    for (name, values) in &frame.dense {
        let cut = match (values.ndim(), &rows) {
            (4, _) => {
                let along = |i: usize, size: usize| Slice::from(origin[i] * size / canvas[i]..(origin[i] + side) * size / canvas[i]);
                let [height, width] = [values.len_of(Axis(1)), values.len_of(Axis(2))];
                values.slice_axis(Axis(1), along(0, height)).slice_axis(Axis(2), along(1, width)).as_standard_layout().into_owned()
            }
            (_, Some((count, kept))) if values.len_of(Axis(0)) == *count => values.select(Axis(0), kept),
            _ => values.clone(),
        };
        part.dense.insert(name.clone(), cut);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::float::FloatEngine;
    use crate::graph::GraphBuilder;
    use crate::quant::Frames;
    use ndarray::ArrayD;
    use std::collections::BTreeMap;

    /// Far from the window's border, its network yields what the whole one yields there.
    #[test]
    fn windows_are_what_the_network_sees_there() {
        let conv = |inputs, stride| Op::Conv2d { inputs, outputs: 2, kernel: 3, stride, padding: 1, bias: true, relu: true };
        let mut b = GraphBuilder::new();
        let rows = b.input("rows", vec![Dim::Pillars, Dim::Fixed(2)]);
        let index = b.pillar_index("index");
        let map = b.add("scatter", Op::PillarScatter { height: 32, width: 32 }, &[rows, index]);
        let y = b.add("one", conv(2, 2), &[map]);
        let y = b.add("two", conv(2, 1), &[y]);
        b.output("y", y);
        let graph = b.finish().expect("a graph");
        let mut rng = Rng::new(1, "material");
        let params = graph.params().into_iter().map(|s| (s.name, ArrayD::from_shape_simple_fn(s.shape, || rng.range(-1.0, 1.0))));
        let params = Params(params.collect::<BTreeMap<_, _>>());
        let mut frames = Frames::new(&graph, &params).expect("fits");
        let cells: Vec<[u32; 3]> = (0..32).flat_map(|y| (0..32).map(move |x| [0, y, x])).filter(|_| rng.chance(0.3)).collect();
        let offsets = (0..=cells.len() as u32).collect();
        let rows = ArrayD::from_shape_simple_fn(vec![cells.len(), 2], || rng.range(-1.0, 1.0));
        let inputs = Inputs::default().with_dense("rows", rows).with_pillars("index", Arc::new(PillarIndex { batch: 1, offsets, cells }));
        let whole = &frames.observe(&inputs).expect("runs")["y"];

        let teacher = frames.as_observed();
        let material = Material::windows(frames.dense(), &teacher, 16, 3).expect("fits");
        assert_eq!(material.frames.len(), 4);
        let mut engine = FloatEngine::new(&material.graph, &params).expect("fits");
        let mut places = Vec::new();
        for window in material.frames.iter() {
            let part = &engine.run(&window.expect("there")).expect("runs")["y"];
            assert_eq!(part.shape(), [1, 8, 8, 2]);
            let middle = |map: &ArrayD<f32>, [y, x]: [usize; 2]| {
                let part = map.slice_axis(Axis(1), Slice::from(y + 2..y + 6));
                part.slice_axis(Axis(2), Slice::from(x + 2..x + 6)).iter().copied().collect::<Vec<f32>>()
            };
            let found = middle(part, [0, 0]);
            let at = (0..=8).flat_map(|y| (0..=8).map(move |x| [y, x])).find(|&at| middle(whole, at) == found);
            places.push(at.expect("somewhere in the whole map"));
        }
        assert!(places.iter().any(|p| *p != places[0]), "{places:?}");
        assert!(Material::windows(frames.dense(), &teacher, 15, 3).is_err_and(|e| e.to_string().contains('2')));
        assert!(Material::windows(frames.dense(), &teacher, 0, 3).is_err());
        assert_eq!(Material::windows(frames.dense(), &teacher, 32, 3).expect("whole").frames.len(), 1);
    }
}
