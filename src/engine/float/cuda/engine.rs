//! A network that runs on a device forwards only, with fake quantization where a scheme asks for it.

use super::memory::{Accelerator, Array};
use super::values::Index;
use crate::engine::cuda::{Args, DeviceError, turns};
use crate::engine::float::Inputs;
use crate::engine::float::backend::{Backend, Operands};
use crate::engine::float::fake::FakeLayer;
use crate::engine::float::ops::linear::Layer;
use crate::engine::float::snap::Snap;
use crate::engine::float::tape::Norm;
use crate::engine::int8::{Finish, Requantize};
use crate::graph::{Graph, Node, NodeId, Op, Params};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a network has on a device.
pub struct DeviceEngine {
    pub accelerator: Arc<Accelerator>,
    /// By node.
    params: Vec<Vec<Array>>,
    fakes: BTreeMap<NodeId, Fake>,
}

/// A [`FakeLayer`] on a device.
struct Fake {
    input: Snap,
    /// Integers.
    weight: Array,
    multiplier: Array,
    bias: Array,
    finish: Finish,
    scale: f32,
}

/// What a frame brings, and what the network is.
pub struct Frame<'f> {
    pub graph: &'f Graph,
    pub inputs: &'f Inputs<f32>,
    pub last_uses: &'f [NodeId],
    pub snaps: &'f BTreeMap<NodeId, Snap>,
    /// Which nodes' values are looked at.
    pub watched: &'f dyn Fn(NodeId) -> bool,
}

impl DeviceEngine {
    /// `fakes` are the integer layers and their weights.
    pub fn new<'l>(
        accelerator: Arc<Accelerator>,
        graph: &Graph,
        params: &Params,
        fakes: impl Iterator<Item = (NodeId, &'l FakeLayer, ArrayD<f32>)>,
    ) -> Result<Self, DeviceError> {
        let vector = |floats: &[f32]| accelerator.upload_floats(&[floats.len()], floats);
        let fake = |(id, fake, integers): (NodeId, &FakeLayer, ArrayD<f32>)| {
            let FakeLayer { input, requantize: Requantize { multiplier, bias, finish }, scale } = fake;
            let (weight, multiplier, bias) = (accelerator.upload(&integers)?, vector(multiplier)?, vector(bias)?);
            Ok((id, Fake { input: *input, weight, multiplier, bias, finish: *finish, scale: *scale }))
        };
        let fakes = fakes.map(fake).collect::<Result<BTreeMap<_, _>, _>>()?;
        let own = |(id, node): (NodeId, &Node)| {
            let specs = if fakes.contains_key(&id) { Vec::new() } else { node.op.params(&node.name) };
            specs.iter().map(|spec| accelerator.upload(&params.0[&spec.name])).collect()
        };
        let params = graph.nodes.iter().enumerate().map(own).collect::<Result<_, _>>()?;
        Ok(Self { params, fakes, accelerator })
    }

    /// Runs a frame; `observe` sees the values of watched nodes as they are computed. Returns the outputs by role.
    pub fn run(
        &self,
        frame: &Frame<'_>,
        observe: &mut dyn FnMut(NodeId, &ArrayD<f32>),
    ) -> Result<BTreeMap<String, ArrayD<f32>>, DeviceError> {
        let graph = frame.graph;
        let mut values: Vec<Option<Array>> = vec![None; graph.nodes.len()];
        let mut indices: BTreeMap<NodeId, Index> = BTreeMap::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            match node.op {
                Op::Input => values[id] = Some(self.accelerator.upload(&frame.inputs.dense[&node.name])?),
                Op::PillarIndex => drop(indices.insert(id, self.accelerator.index(&frame.inputs.pillars[&node.name])?)),
                _ => {
                    let operands = Operands {
                        inputs: node.inputs.iter().filter_map(|&input| values[input].as_ref()).collect(),
                        index: node.inputs.iter().find_map(|input| indices.get(input)),
                        params: &self.params[id],
                    };
                    let value = self.node(frame, id, &operands)?;
                    if (frame.watched)(id) {
                        observe(id, &self.accelerator.download(&value)?);
                    }
                    values[id] = Some(value);
                }
            }
            for &input in node.inputs.iter().filter(|&&input| frame.last_uses[input] == id) {
                values[input] = None;
            }
        }
        let computed = graph.outputs.iter().filter(|o| graph.nodes[o.node].op != Op::Input);
        let outputs = computed.filter_map(|o| Some((o.role.clone(), values[o.node].as_ref()?)));
        outputs.map(|(role, value)| Ok((role, self.accelerator.download(value)?))).collect()
    }

    fn node(&self, frame: &Frame<'_>, id: NodeId, operands: &Operands<'_, Array, Index>) -> Result<Array, DeviceError> {
        let node = &frame.graph.nodes[id];
        if let (Some(fake), Some(layer)) = (self.fakes.get(&id), Layer::of(&node.op)) {
            let integers = self.accelerator.multiples(&fake.input, operands.inputs[0])?;
            let sums = self.accelerator.layer(&layer.without_relu(), &integers, &fake.weight, None)?;
            return self.finish(fake, &sums);
        }
        let (value, _) = self.accelerator.forward(node, Norm::Running, operands)?;
        match frame.snaps.get(&id) {
            Some(snap) => self.accelerator.snapped(snap, &value),
            None => Ok(value),
        }
    }

    /// From sums of integers to the floats that the layer's output stands for.
    fn finish(&self, fake: &Fake, sums: &Array) -> Result<Array, DeviceError> {
        let to = self.accelerator.room(&sums.shape)?;
        let (kernel, [low, high]) = match fake.finish {
            Finish::Bytes(clamp) => ("finish_bytes", [clamp.low, clamp.high]),
            Finish::Floats { low } => ("finish_floats", [low, f32::INFINITY]),
        };
        let memory = [sums, &fake.multiplier, &fake.bias, &to].map(Array::memory);
        let args = Args::new(&memory).words(&[to.len(), to.width()]).float(low).float(high).float(fake.scale);
        self.accelerator.launch(&turns(kernel, to.len(), args))?;
        Ok(to)
    }
}
