//! Running a network once, forwards.

use super::cuda::{DeviceEngine, Frame};
use super::fake::FakeLayer;
use super::kernel::{Kernels, Real};
use super::ops::linear::{Layer, PackedLayer, dense};
use super::ops::{concat, norm, pillar, relu};
use super::snap::Snap;
use super::{EngineError, Inputs, Processor, concrete_shape, parameter};
use crate::engine::Isa;
use crate::engine::cuda::DeviceError;
use crate::engine::int8::Grid;
use crate::graph::{Dim, Graph, Node, NodeId, Op, Params, PillarIndex, Scheme, fold_batch_norm};
use ndarray::{ArrayD, Zip};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A network ready to run in float: batch norm and ReLU folded into the layers, weights packed.
pub struct FloatEngine {
    graph: Graph,
    layers: Vec<Option<PreparedLayer>>,
    norms: BTreeMap<NodeId, PreparedNorm>,
    /// Values that are rounded to what integers can stand for. Integer layers end so by themselves.
    snaps: BTreeMap<NodeId, Snap>,
    last_uses: Vec<NodeId>,
    /// Buffers of values that are no longer needed, to be filled again: fresh pages cost more than arithmetic.
    spare: Vec<Vec<f32>>,
    times: Vec<NodeTime>,
    /// Where it runs, if not here.
    device: Option<DeviceEngine>,
}

/// How long a node took in the last run.
#[derive(Clone, Debug)]
pub struct NodeTime {
    pub node: String,
    pub kind: &'static str,
    pub elapsed: Duration,
}

struct PreparedLayer {
    layer: Layer,
    weights: PackedLayer<f32>,
    bias: Option<Vec<f32>>,
    /// What makes it an integer layer, in which case `weights` are integers and `bias` is nothing.
    fake: Option<FakeLayer>,
}

/// A batch norm that stands behind no layer of its own.
struct PreparedNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    mean: Vec<f64>,
    var: Vec<f64>,
    eps: f64,
}

impl FloatEngine {
    /// Folds, checks and packs.
    ///
    /// # Errors
    /// A parameter is missing or has another shape than the graph says.
    pub fn new(graph: &Graph, params: &Params) -> Result<Self, EngineError> {
        Self::with_scheme(graph, params, &Scheme::default())
    }

    /// With fake quantization: values are floats, but those that an integer engine would compute with this scheme.
    ///
    /// The layers of the scheme sum integers held as floats. That is exact up to 2^24; beyond, a result may be the neighbouring
    /// integer. The scheme must fit the folded graph ([`Scheme::check`]).
    ///
    /// # Errors
    /// As [`FloatEngine::new`].
    pub fn with_scheme(graph: &Graph, params: &Params, scheme: &Scheme) -> Result<Self, EngineError> {
        Self::on(&Processor::cpu(), graph, params, scheme)
    }

    /// As [`FloatEngine::with_scheme`], on a processor.
    ///
    /// # Errors
    /// As [`FloatEngine::new`].
    pub fn on(processor: &Processor, graph: &Graph, params: &Params, scheme: &Scheme) -> Result<Self, EngineError> {
        let (graph, params) = fold_batch_norm(graph, params);
        let mut layers = Vec::with_capacity(graph.nodes.len());
        let mut norms = BTreeMap::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let specs = node.op.params(&node.name);
            let values = specs.iter().map(|s| parameter(&params.0, s)).collect::<Result<Vec<_>, _>>()?;
            layers.push(Layer::of(&node.op).map(|layer| {
                let bias = values.get(1).map(|b| dense(b).to_vec());
                match FakeLayer::of(&graph, node, scheme, bias.as_deref()) {
                    None => PreparedLayer { layer, weights: layer.pack(values[0]), bias, fake: None },
                    Some((fake, integers)) => {
                        PreparedLayer { layer: layer.without_relu(), weights: layer.pack(&integers), bias: None, fake: Some(fake) }
                    }
                }
            }));
            if let Op::BatchNorm { eps, .. } = node.op {
                let wide = |a: &ArrayD<f32>| a.iter().map(|&x| f64::from(x)).collect();
                norms.insert(
                    id,
                    PreparedNorm {
                        weight: dense(values[0]).to_vec(),
                        bias: dense(values[1]).to_vec(),
                        mean: wide(values[2]),
                        var: wide(values[3]),
                        eps,
                    },
                );
            }
        }
        let last_uses = graph.last_uses();
        let others = graph.nodes.iter().enumerate().filter(|(_, node)| !node.op.is_layer());
        let snap = |(id, node): (NodeId, &Node)| Some((id, Snap::onto(&Grid::from(*scheme.activations.get(&node.name)?))));
        let snaps = others.filter_map(snap).collect();
        let mut engine = Self { graph, layers, norms, snaps, last_uses, spare: Vec::new(), times: Vec::new(), device: None };
        engine.device = processor.accelerator().and_then(|accelerator| {
            let integers =
                |(id, fake): (NodeId, _)| Some((id, fake, scheme.weights.get(&engine.graph.nodes[id].name)?.integers.mapv(f32::from)));
            let device = DeviceEngine::new(accelerator.clone(), &engine.graph, &params, engine.fakes().filter_map(integers));
            device.inspect_err(|error| accelerator.fail(error)).ok()
        });
        Ok(engine)
    }

    /// Layers that compute with integers.
    fn fakes(&self) -> impl Iterator<Item = (NodeId, &FakeLayer)> {
        self.layers.iter().enumerate().filter_map(|(id, layer)| Some((id, layer.as_ref()?.fake.as_ref()?)))
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        Kernels::isa(f32::kernels())
    }

    /// The folded graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Weights `[input][output]` and bias of a linear layer that is not quantized, for engines that run it elsewhere.
    pub(in crate::engine) fn linear(&self, id: NodeId) -> Option<(Vec<f32>, Option<&[f32]>)> {
        let layer = self.layers[id].as_ref().filter(|l| l.fake.is_none() && matches!(self.graph.nodes[id].op, Op::Linear { .. }))?;
        Some((layer.weights.matrix()?, layer.bias.as_deref()))
    }

    /// Time of each node of the last run, if it ran on the CPU.
    pub fn times(&self) -> &[NodeTime] {
        &self.times
    }

    /// Runs the network.
    ///
    /// Returns the graph's outputs by role, channels-last.
    ///
    /// # Errors
    /// An input is missing, has the wrong shape, or indexes outside the canvas.
    pub fn run(&mut self, inputs: &Inputs<f32>) -> Result<BTreeMap<String, ArrayD<f32>>, EngineError> {
        self.run_watching(inputs, &|_| false, &mut |_, _| {})
    }

    /// As [`FloatEngine::run`]; `observe` sees the value of every node of [`FloatEngine::graph`] that is computed.
    ///
    /// # Errors
    /// As [`FloatEngine::run`].
    pub fn run_observing(
        &mut self,
        inputs: &Inputs<f32>,
        observe: &mut dyn FnMut(&Node, &ArrayD<f32>),
    ) -> Result<BTreeMap<String, ArrayD<f32>>, EngineError> {
        self.run_watching(inputs, &|_| true, observe)
    }

    /// As [`FloatEngine::run_observing`], if only some nodes' values are wanted: the others need not leave a GPU.
    ///
    /// # Errors
    /// As [`FloatEngine::run`].
    pub fn run_watching(
        &mut self,
        inputs: &Inputs<f32>,
        watched: &dyn Fn(&Node) -> bool,
        observe: &mut dyn FnMut(&Node, &ArrayD<f32>),
    ) -> Result<BTreeMap<String, ArrayD<f32>>, EngineError> {
        inputs.check(&self.graph)?;
        self.times.clear();
        let mut seen = 0;
        if let Some(device) = self.device.as_ref().filter(|device| device.accelerator.works()) {
            let mut see = |node: &Node, value: &ArrayD<f32>| {
                seen += 1;
                observe(node, value);
            };
            match self.run_on_device(device, inputs, watched, &mut see) {
                Ok(outputs) => return Ok(outputs),
                Err(error) => device.accelerator.fail(&error),
            }
        }
        // What was seen before a device failed is seen once; here it would be the same.
        let mut see = |node: &Node, value: &ArrayD<f32>| match seen {
            _ if !watched(node) => (),
            0 => observe(node, value),
            _ => seen -= 1,
        };
        Ok(self.run_here(inputs, &mut see))
    }

    fn run_on_device(
        &self,
        device: &DeviceEngine,
        inputs: &Inputs<f32>,
        watched: &dyn Fn(&Node) -> bool,
        observe: &mut dyn FnMut(&Node, &ArrayD<f32>),
    ) -> Result<BTreeMap<String, ArrayD<f32>>, DeviceError> {
        let Self { graph, last_uses, snaps, .. } = self;
        let watched = |id: NodeId| watched(&graph.nodes[id]);
        let frame = Frame { graph, inputs, last_uses, snaps, watched: &watched };
        device.run(&frame, &mut |id, value| observe(&graph.nodes[id], value))
    }

    fn run_here(&mut self, inputs: &Inputs<f32>, observe: &mut dyn FnMut(&Node, &ArrayD<f32>)) -> BTreeMap<String, ArrayD<f32>> {
        let mut values: Vec<Option<ArrayD<f32>>> = vec![None; self.graph.nodes.len()];
        for id in 0..self.graph.nodes.len() {
            let start = Instant::now();
            values[id] = self.run_node(id, &values, inputs);
            let node = &self.graph.nodes[id];
            self.times.push(NodeTime { node: node.name.clone(), kind: node.op.kind(), elapsed: start.elapsed() });
            if let Some(value) = &values[id] {
                observe(node, value);
            }
            for &input in &node.inputs {
                if self.last_uses[input] == id
                    && let Some(done) = values[input].take()
                {
                    self.spare.push(done.into_raw_vec_and_offset().0);
                }
            }
        }
        self.graph.outputs.iter().filter_map(|o| Some((o.role.clone(), values[o.node].clone()?))).collect()
    }

    /// The value of a node, or nothing for an input, which is read in place.
    fn run_node(&mut self, id: NodeId, values: &[Option<ArrayD<f32>>], inputs: &Inputs<f32>) -> Option<ArrayD<f32>> {
        let node = self.graph.nodes[id].clone();
        let value = |i: usize| -> &ArrayD<f32> {
            let input = node.inputs[i];
            values[input].as_ref().unwrap_or_else(|| &inputs.dense[&self.graph.nodes[input].name])
        };
        let index = |i: usize| -> &Arc<PillarIndex> { &inputs.pillars[&self.graph.nodes[node.inputs[i]].name] };
        let sized = |index: &PillarIndex| concrete_shape(&node.shape, index.batch, index.rows(), index.pillars());
        let shape = match &node.op {
            Op::Input | Op::PillarIndex => return None,
            Op::PillarMax | Op::PillarScatter { .. } => sized(index(1)),
            Op::PillarConcat => sized(index(2)),
            _ => {
                // Leading axes as the first input has them, the last as the graph says.
                let mut shape = value(0).shape().to_vec();
                if let Some(layer) = &self.layers[id] {
                    shape = layer.layer.output_shape(&shape);
                } else if let (Some(to), Some(Dim::Fixed(n))) = (shape.last_mut(), node.shape.last()) {
                    *to = *n;
                }
                shape
            }
        };
        let mut out = take(&mut self.spare, shape);
        match &node.op {
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                let PreparedLayer { layer, weights, bias, fake } = self.layers[id].as_ref()?;
                match fake {
                    None => layer.forward(value(0), weights, bias.as_deref(), &mut out),
                    Some(fake) => {
                        let mut integers = take(&mut self.spare, value(0).shape().to_vec());
                        fake.input.multiples(value(0), &mut integers);
                        layer.forward(&integers, weights, None, &mut out);
                        fake.finish(&mut out);
                        self.spare.push(integers.into_raw_vec_and_offset().0);
                    }
                }
            }
            Op::BatchNorm { .. } => {
                let PreparedNorm { weight, bias, mean, var, eps } = &self.norms[&id];
                out = norm::normalize(value(0), mean, var, *eps, weight, bias);
            }
            Op::Relu => Zip::from(&mut out).and(value(0)).par_for_each(|o, &x| *o = relu(x)),
            Op::Add => Zip::from(&mut out).and(value(0)).and(value(1)).par_for_each(|o, &a, &b| *o = a + b),
            Op::Concat => concat(&(0..node.inputs.len()).map(value).collect::<Vec<_>>(), &mut out),
            Op::PillarMax => pillar::max(value(0), index(1), &mut out, None),
            Op::PillarConcat => pillar::concat(value(0), value(1), index(2), &mut out),
            Op::PillarScatter { .. } => pillar::scatter(value(0), index(1), &mut out),
            Op::Input | Op::PillarIndex => {}
        }
        if let Some(snap) = self.snaps.get(&id) {
            snap.apply(&mut out);
        }
        Some(out)
    }
}

/// An array of this shape with arbitrary contents, from the smallest spare buffer that is large enough.
fn take(spare: &mut Vec<Vec<f32>>, shape: Vec<usize>) -> ArrayD<f32> {
    let len = shape.iter().product();
    let best = (0..spare.len()).filter(|&i| spare[i].capacity() >= len).min_by_key(|&i| spare[i].capacity());
    let mut buffer = best.map_or_else(Vec::new, |i| spare.swap_remove(i));
    buffer.resize(len, 0.0);
    ArrayD::from_shape_vec(shape, buffer).expect("sized to the shape")
}
