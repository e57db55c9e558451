//! The operations, and the graph that connects them.

use serde::{Deserialize, Serialize};

/// Position of a node in [`Graph::nodes`]. A node's inputs always stand before it.
pub type NodeId = usize;

/// One axis of a value. Images are channels-last, `[Batch, height, width, channels]`; points and pillars are rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dim {
    Fixed(usize),
    /// Samples in the batch.
    Batch,
    /// Points of all samples (with one all-zero row for each pillar that the original code would have padded).
    Points,
    /// Occupied pillars of all samples.
    Pillars,
}

pub type Shape = Vec<Dim>;

/// A typed operation. Weights keep the layout of the public checkpoints (PyTorch's); engines repack them as they like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// A dense input given from outside, e.g. `points` `[Points, features]`.
    Input,
    /// The [`PillarIndex`] given from outside: which rows belong to which pillar, and where the pillars stand.
    PillarIndex,
    /// `weight` `[out, in]`, `bias` `[out]`, over the last axis.
    Linear {
        inputs: usize,
        outputs: usize,
        bias: bool,
        relu: bool,
    },
    /// `weight` `[out, in, kh, kw]`, `bias` `[out]`. Zero padding on all four sides.
    Conv2d {
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
        relu: bool,
    },
    /// `weight` `[in, out, k, k]`, `bias` `[out]`. Kernel equals stride: every output pixel has one input pixel.
    ConvTranspose2d {
        inputs: usize,
        outputs: usize,
        stride: usize,
        bias: bool,
        relu: bool,
    },
    /// `weight`, `bias`, `running_mean`, `running_var`, all `[channels]`, over the last axis.
    BatchNorm {
        channels: usize,
        eps: f64,
        momentum: f64,
    },
    Relu,
    /// Inputs: rows `[Points, c]`, index. Maximum over the rows of each pillar: `[Pillars, c]`.
    PillarMax,
    /// Inputs: rows `[Points, a]`, pillars `[Pillars, b]`, index. Each row followed by its pillar's values: `[Points, a + b]`.
    PillarConcat,
    /// Inputs: pillars `[Pillars, c]`, index. Dense image `[Batch, height, width, c]`, zero where no pillar stands.
    PillarScatter {
        height: usize,
        width: usize,
    },
    /// Along channels.
    Concat,
    Add,
}

/// Which rows form which pillar: the integer side of a sparse bird's-eye image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PillarIndex {
    /// Rows `offsets[p]..offsets[p + 1]` belong to pillar `p`. Length is pillars + 1, first 0.
    pub offsets: Vec<u32>,
    /// `[sample, y, x]` of each pillar; no two alike.
    pub cells: Vec<[u32; 3]>,
    /// Samples in the batch.
    pub batch: usize,
}

impl PillarIndex {
    pub fn pillars(&self) -> usize {
        self.cells.len()
    }

    pub fn rows(&self) -> usize {
        self.offsets.last().map_or(0, |&n| n as usize)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The public checkpoint's own module name where the operation has parameters (`neck.blocks.0.1`).
    pub name: String,
    pub op: Op,
    pub inputs: Vec<NodeId>,
    /// Of the value that the node yields. Empty for a [`PillarIndex`].
    pub shape: Shape,
}

/// A value that leaves the graph, by the role in which the decoder asks for it (`task0.heatmap`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub role: String,
    pub node: NodeId,
}

/// Nodes in an order in which they can be run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub outputs: Vec<Output>,
}

/// Name, shape and purpose of one parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    pub name: String,
    pub shape: Vec<usize>,
    /// Learnt by gradient descent; false for running statistics.
    pub trainable: bool,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    #[error("node `{node}`: {what}: expected {expected}, found {found}")]
    Shape { node: String, what: &'static str, expected: String, found: String },
    #[error("two nodes are named `{0}`; names must be unique because parameters are found by them")]
    DuplicateName(String),
}

impl Op {
    /// The tensors that a node of this kind owns, named `{node}.{suffix}`.
    pub fn params(&self, node: &str) -> Vec<ParamSpec> {
        let spec =
            |suffix: &str, shape: &[usize], trainable| ParamSpec { name: format!("{node}.{suffix}"), shape: shape.to_vec(), trainable };
        let with_bias = |weight: &[usize], outputs: usize, bias: bool| {
            let mut specs = vec![spec("weight", weight, true)];
            if bias {
                specs.push(spec("bias", &[outputs], true));
            }
            specs
        };
        match *self {
            Op::Linear { inputs, outputs, bias, .. } => with_bias(&[outputs, inputs], outputs, bias),
            Op::Conv2d { inputs, outputs, kernel, bias, .. } => with_bias(&[outputs, inputs, kernel, kernel], outputs, bias),
            Op::ConvTranspose2d { inputs, outputs, stride, bias, .. } => with_bias(&[inputs, outputs, stride, stride], outputs, bias),
            Op::BatchNorm { channels, .. } => [("weight", true), ("bias", true), ("running_mean", false), ("running_var", false)]
                .map(|(suffix, trainable)| spec(suffix, &[channels], trainable))
                .to_vec(),
            Op::Input | Op::PillarIndex | Op::Relu | Op::PillarMax | Op::PillarConcat | Op::PillarScatter { .. } | Op::Concat | Op::Add => {
                Vec::new()
            }
        }
    }

    /// The axis of `weight` that counts the outputs of a layer.
    pub fn output_axis(&self) -> usize {
        usize::from(matches!(self, Op::ConvTranspose2d { .. }))
    }

    /// Whether a layer ends with ReLU, or the operation is one.
    pub fn has_relu(&self) -> bool {
        matches!(self, Op::Relu | Op::Linear { relu: true, .. } | Op::Conv2d { relu: true, .. } | Op::ConvTranspose2d { relu: true, .. })
    }

    /// Whether the operation is a layer with a weight matrix.
    pub fn is_layer(&self) -> bool {
        matches!(self, Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. })
    }

    /// Short name for tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::PillarIndex => "PillarIndex",
            Op::Linear { .. } => "Linear",
            Op::Conv2d { .. } => "Conv2d",
            Op::ConvTranspose2d { .. } => "ConvTranspose2d",
            Op::BatchNorm { .. } => "BatchNorm",
            Op::Relu => "Relu",
            Op::PillarMax => "PillarMax",
            Op::PillarConcat => "PillarConcat",
            Op::PillarScatter { .. } => "PillarScatter",
            Op::Concat => "Concat",
            Op::Add => "Add",
        }
    }
}

impl Graph {
    /// Every parameter tensor, in node order.
    pub fn params(&self) -> Vec<ParamSpec> {
        self.nodes.iter().flat_map(|n| n.op.params(&n.name)).collect()
    }

    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name)
    }

    pub fn output(&self, role: &str) -> Option<NodeId> {
        self.outputs.iter().find(|o| o.role == role).map(|o| o.node)
    }

    /// For each node, the position of the last node that reads it (itself if none does); outputs live for ever.
    pub fn last_uses(&self) -> Vec<NodeId> {
        let mut last: Vec<NodeId> = (0..self.nodes.len()).collect();
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last[input] = id;
            }
        }
        for output in &self.outputs {
            last[output.node] = usize::MAX;
        }
        last
    }
}
