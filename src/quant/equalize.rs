//! Channels of a map brought to like sizes, in a network that computes the same.
//!
//! All channels of a map share one step, and a channel whose values are a tenth of the others' has a tenth of the levels. ReLU, maxima,
//! sums and concatenations let a positive factor through, so a layer's outputs may be multiplied channel by channel if the layers that read
//! them are divided (Nagel et al. 2019, cross-layer equalization). What a map's step gains, the weights that read it may lose: an output's
//! weights share a step as well. Here both are told by the noise that they add to the readers' outputs, and the factors with the least
//! of it are taken.

use super::channels::Channels;
use super::layout::{Layout, is_non_negative};
use super::observer::levels;
use super::windows::to_matrix;
use crate::graph::{Dim, Graph, Node, NodeId, Op, Params, Weight};
use ndarray::{Array2, ArrayD, Axis};
use std::collections::{BTreeMap, BTreeSet};

/// Exponents of a channel's magnitude, and of its readers' weights, that are tried.
const EXPONENTS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// Of the noise of weights, what rounding by the layer's output leaves. Chosen on simulated drives; 0.25 and 1 gave less at 8 and at 4 bits.
const WEIGHT_NOISE: f64 = 0.05;
/// A channel that is silent, or nearly, is multiplied no more than this.
const GREATEST: f64 = 64.0;

/// A network that computes the same with other numbers.
pub struct Equalized {
    pub params: Params,
    /// By what each channel of a node is multiplied; of nodes where that is not one throughout.
    pub factors: BTreeMap<String, Vec<f32>>,
}

/// `channels` is what the folded network's nodes took.
pub fn equalize(graph: &Graph, params: &Params, channels: &BTreeMap<String, Channels>, layout: &Layout) -> Equalized {
    let classes = Classes::new(graph);
    let mut factors = vec![1f64; classes.count];
    for group in classes.groups() {
        if let Some(found) = Group::new(graph, params, channels, layout, &classes, &group).and_then(|group| group.best()) {
            for (class, factor) in found {
                factors[class] = factor;
            }
        }
    }
    let of_node = |id: NodeId| -> Vec<f32> { classes.of_node[id].iter().map(|&class| factors[class] as f32).collect() };
    let mut equalized = Equalized { params: params.clone(), factors: BTreeMap::new() };
    for (id, node) in graph.nodes.iter().enumerate() {
        let own = of_node(id);
        if node.op.is_layer() {
            scale_layer(node, &mut equalized.params, &of_node(node.inputs[0]), &own);
        }
        if own.iter().any(|&factor| factor != 1.0) {
            equalized.factors.insert(node.name.clone(), own);
        }
    }
    equalized
}

/// Multiplies a layer's outputs, and divides its weights by what its inputs were multiplied with.
fn scale_layer(node: &Node, params: &mut Params, inputs: &[f32], outputs: &[f32]) {
    let [output, input] = [node.op.output_axis(), 1 - node.op.output_axis()];
    if let Some(weight) = params.0.get_mut(&format!("{}.weight", node.name)) {
        scale(weight, output, outputs.iter().copied());
        scale(weight, input, inputs.iter().map(|x| 1.0 / x));
    }
    if let Some(bias) = params.0.get_mut(&format!("{}.bias", node.name)) {
        scale(bias, 0, outputs.iter().copied());
    }
}

fn scale(values: &mut ArrayD<f32>, axis: usize, factors: impl Iterator<Item = f32>) {
    values.axis_iter_mut(Axis(axis)).zip(factors).for_each(|(mut part, factor)| part.mapv_inplace(|x| x * factor));
}

/// Channels that must have one factor, numbered.
struct Classes {
    /// Of each channel of a node.
    of_node: Vec<Vec<usize>>,
    /// Those whose factor must be one: what comes from outside, and what the network is asked for.
    fixed: BTreeSet<usize>,
    count: usize,
}

impl Classes {
    fn new(graph: &Graph) -> Self {
        let mut sets = Sets::default();
        let mut of_node: Vec<Vec<usize>> = Vec::with_capacity(graph.nodes.len());
        let mut fixed = Vec::new();
        for node in &graph.nodes {
            let input = |i: usize| of_node[node.inputs[i]].clone();
            let own = match &node.op {
                Op::PillarIndex => Vec::new(),
                Op::Linear { outputs, .. } | Op::Conv2d { outputs, .. } | Op::ConvTranspose2d { outputs, .. } => sets.fresh(*outputs),
                Op::Relu | Op::PillarMax | Op::PillarScatter { .. } => input(0),
                Op::PillarConcat => [input(0), input(1)].concat(),
                Op::Concat => node.inputs.iter().flat_map(|&i| of_node[i].clone()).collect(),
                Op::Add => {
                    input(0).into_iter().zip(input(1)).for_each(|(a, b)| sets.join(a, b));
                    input(0)
                }
                // A batch norm that is still one adds numbers that nobody scales.
                Op::BatchNorm { channels, .. } => {
                    fixed.extend(input(0));
                    let own = sets.fresh(*channels);
                    fixed.extend(own.clone());
                    own
                }
                Op::Input => {
                    let own = sets.fresh(width(node));
                    fixed.extend(own.clone());
                    own
                }
            };
            of_node.push(own);
        }
        fixed.extend(graph.outputs.iter().flat_map(|o| of_node[o.node].clone()));
        of_node.iter_mut().flatten().for_each(|class| *class = sets.find(*class));
        Self { of_node, fixed: fixed.into_iter().map(|class| sets.find(class)).collect(), count: sets.parents.len() }
    }

    /// Nodes that have channels in common.
    fn groups(&self) -> Vec<Vec<NodeId>> {
        let mut sets = Sets::default();
        sets.fresh(self.of_node.len());
        let mut first: BTreeMap<usize, NodeId> = BTreeMap::new();
        for (id, classes) in self.of_node.iter().enumerate() {
            for class in classes {
                sets.join(*first.entry(*class).or_insert(id), id);
            }
        }
        let mut groups: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        (0..self.of_node.len()).for_each(|id| groups.entry(sets.find(id)).or_default().push(id));
        groups.into_values().collect()
    }
}

/// Channels of an input.
fn width(node: &Node) -> usize {
    match node.shape.last() {
        Some(Dim::Fixed(channels)) => *channels,
        _ => 0,
    }
}

/// Numbers that are found to be the same thing.
#[derive(Default)]
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn fresh(&mut self, count: usize) -> Vec<usize> {
        let from = self.parents.len();
        self.parents.extend(from..from + count);
        (from..from + count).collect()
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

/// Classes that are sought together, because maps of theirs share a step.
struct Group {
    /// Those whose factor is free.
    free: BTreeSet<usize>,
    /// Of each class: the geometric mean of its greatest magnitude and its root mean square. Ranges will be clipped, with few bits far
    /// below the greatest.
    reach: BTreeMap<usize, f64>,
    /// The mean of its squares.
    power: BTreeMap<usize, f64>,
    /// The greatest weight that reads it.
    weight: BTreeMap<usize, f64>,
    readers: Vec<Reader>,
}

/// A layer that reads a map of the group.
struct Reader {
    /// Of its input's channels, and of all that share their step.
    classes: Vec<usize>,
    sharing: Vec<usize>,
    activation_levels: f64,
    weight_limit: f64,
    taps: f64,
    /// `[outputs, channels]`: the sum of the squares of the weights between them and the greatest, in units of the output's magnitude.
    squares: Array2<f64>,
    greatest: Array2<f64>,
}

impl Group {
    /// `None` if nothing is free, or nobody reads integers.
    fn new(
        graph: &Graph,
        params: &Params,
        channels: &BTreeMap<String, Channels>,
        layout: &Layout,
        classes: &Classes,
        nodes: &[NodeId],
    ) -> Option<Self> {
        let mut group =
            Self { free: BTreeSet::new(), reach: BTreeMap::new(), power: BTreeMap::new(), weight: BTreeMap::new(), readers: Vec::new() };
        for &id in nodes {
            group.free.extend(classes.of_node[id].iter().filter(|class| !classes.fixed.contains(class)));
            let Some(channels) = channels.get(&graph.nodes[id].name) else { continue };
            for (c, &class) in classes.of_node[id].iter().enumerate() {
                let reach = group.reach.entry(class).or_default();
                *reach = reach.max((f64::from(channels.reach(c)) * channels.power(c).sqrt()).sqrt());
                let power = group.power.entry(class).or_default();
                *power = power.max(channels.power(c));
            }
        }
        for (&layer, &bits) in &layout.integer {
            let node = &graph.nodes[layer];
            let input = node.inputs[0];
            let Some(&(range_of, activation_bits)) = layout.values.get(&input).filter(|_| nodes.contains(&input)) else { continue };
            let weight = &params.0[&format!("{}.weight", node.name)];
            let reader = Reader {
                classes: classes.of_node[input].clone(),
                sharing: classes.of_node[range_of].clone(),
                activation_levels: f64::from(levels(activation_bits, !is_non_negative(graph, range_of))),
                weight_limit: f64::from(Weight::limit(bits)),
                ..Reader::of_weight(node, weight, channels.get(&node.name))
            };
            for (c, class) in reader.classes.iter().enumerate() {
                let greatest = reader.greatest.column(c).iter().fold(0f64, |m, &w| m.max(w));
                let weight = group.weight.entry(*class).or_default();
                *weight = weight.max(greatest);
            }
            group.readers.push(reader);
        }
        (!group.free.is_empty() && !group.readers.is_empty()).then_some(group)
    }

    /// The factors of all free classes with the least noise; `None` if that is one for all.
    fn best(&self) -> Option<BTreeMap<usize, f64>> {
        let mut best: (f64, Option<BTreeMap<usize, f64>>) = (self.noise(&BTreeMap::new()), None);
        for by_reach in EXPONENTS {
            for by_weight in EXPONENTS {
                let factors = self.factors(by_reach, by_weight);
                let noise = self.noise(&factors);
                if noise < best.0 {
                    best = (noise, Some(factors));
                }
            }
        }
        best.1
    }

    /// Such that channels that are great are made less, and those that great weights read more.
    fn factors(&self, by_reach: f64, by_weight: f64) -> BTreeMap<usize, f64> {
        let of = |map: &BTreeMap<usize, f64>, class: &usize| map.get(class).copied().unwrap_or_default();
        let greatest = |map: &BTreeMap<usize, f64>| self.free.iter().map(|class| of(map, class)).fold(f64::MIN_POSITIVE, f64::max);
        let (reach, weight) = (greatest(&self.reach), greatest(&self.weight));
        let factor = |class: &usize| {
            let small = |x: f64, greatest: f64| (x / greatest).max(1.0 / GREATEST);
            small(of(&self.reach, class), reach).powf(-by_reach) * small(of(&self.weight, class), weight).powf(by_weight)
        };
        self.free.iter().map(|class| (*class, factor(class))).collect()
    }

    /// What steps of maps and of weights add to the readers' outputs, as a share of what these are.
    fn noise(&self, factors: &BTreeMap<usize, f64>) -> f64 {
        self.readers.iter().map(|reader| reader.noise(self, factors)).sum()
    }
}

impl Reader {
    /// With the outputs' magnitudes as the units of what they sum up.
    fn of_weight(node: &Node, weight: &ArrayD<f32>, outputs: Option<&Channels>) -> Self {
        let matrix = to_matrix(&node.op, &weight.view());
        let inputs = weight.len_of(Axis(1 - node.op.output_axis()));
        let count = weight.len_of(Axis(node.op.output_axis()));
        let per_output = matrix.nrows() / count.max(1);
        let mut squares = Array2::<f64>::zeros((count, inputs));
        let mut greatest = squares.clone();
        for (r, row) in matrix.outer_iter().enumerate() {
            let o = r / per_output;
            let unit = outputs.map_or(1.0, |channels| channels.power(o).sqrt());
            // An output that is always zero says nothing of what its weights should be.
            let unit = if unit > 0.0 { unit } else { f64::INFINITY };
            for (k, &w) in row.iter().enumerate() {
                let w = f64::from(w) / unit;
                squares[[o, k % inputs]] += w * w;
                greatest[[o, k % inputs]] = greatest[[o, k % inputs]].max(w.abs());
            }
        }
        let taps = (matrix.ncols() / inputs.max(1) * per_output) as f64;
        Self { classes: Vec::new(), sharing: Vec::new(), activation_levels: 1.0, weight_limit: 1.0, taps, squares, greatest }
    }

    fn noise(&self, group: &Group, factors: &BTreeMap<usize, f64>) -> f64 {
        let factor = |class: &usize| factors.get(class).copied().unwrap_or(1.0);
        let of = |map: &BTreeMap<usize, f64>, class: &usize| map.get(class).copied().unwrap_or_default();
        let step = self.sharing.iter().map(|class| of(&group.reach, class) * factor(class)).fold(0.0, f64::max) / self.activation_levels;
        let inverse: Vec<f64> = self.classes.iter().map(|class| 1.0 / factor(class)).collect();
        let power: f64 = self.classes.iter().map(|class| of(&group.power, class) * factor(class).powi(2)).sum();
        let mut sum = 0.0;
        for (squares, greatest) in self.squares.outer_iter().zip(self.greatest.outer_iter()) {
            let activations: f64 = squares.iter().zip(&inverse).map(|(w, f)| w * f * f).sum();
            let weight_step = greatest.iter().zip(&inverse).map(|(w, f)| w * f).fold(0.0, f64::max) / self.weight_limit;
            sum += step * step * activations + WEIGHT_NOISE * weight_step * weight_step * self.taps * power;
        }
        sum / 12.0 / self.squares.nrows().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::float::{FloatEngine, Inputs};
    use crate::graph::GraphBuilder;
    use crate::quant::layout::Policy;
    use crate::quant::{Frames, WeightScale};
    use crate::random::Rng;

    /// Two branches that are joined, one of them up-sampled, a sum, and two readers; channels of all sizes.
    fn network() -> (Graph, Params, Inputs<f32>) {
        let conv = |inputs, stride, relu| Op::Conv2d { inputs, outputs: 6, kernel: 3, stride, padding: 1, bias: true, relu };
        let mut b = GraphBuilder::new();
        let x = b.input("x", vec![Dim::Batch, Dim::Fixed(8), Dim::Fixed(8), Dim::Fixed(3)]);
        let first = b.add("first", conv(3, 1, true), &[x]);
        let side = b.add("side", conv(6, 1, false), &[first]);
        let sum = b.add("sum", Op::Add, &[first, side]);
        let again = b.add("again", Op::Relu, &[sum]);
        let down = b.add("down", conv(6, 2, true), &[again]);
        let up = b.add("up", Op::ConvTranspose2d { inputs: 6, outputs: 5, stride: 2, bias: true, relu: true }, &[down]);
        let both = b.add("both", Op::Concat, &[again, up]);
        let one = b.add("one", conv(11, 1, true), &[both]);
        let two = b.add("two", conv(6, 1, false), &[one]);
        b.output("y", two);
        let graph = b.finish().expect("a graph");
        let mut rng = Rng::new(4, "equalize");
        let mut params = Params::default();
        for spec in graph.params() {
            let mut values = ArrayD::from_shape_simple_fn(spec.shape, || rng.range(-0.3, 0.4));
            let axis = usize::from(spec.name == "up.weight");
            if spec.name.ends_with("weight") && spec.name != "two.weight" {
                values.axis_iter_mut(Axis(axis)).enumerate().for_each(|(o, mut part)| part *= [0.02, 0.3, 1.0, 4.0, 0.1, 1.5][o]);
            }
            params.0.insert(spec.name, values);
        }
        let x = ArrayD::from_shape_simple_fn(vec![1, 8, 8, 3], || rng.range(-1.0, 1.0));
        (graph, params, Inputs::default().with_dense("x", x))
    }

    fn values(graph: &Graph, params: &Params, inputs: &Inputs<f32>) -> BTreeMap<String, ArrayD<f32>> {
        let mut values = BTreeMap::new();
        let mut engine = FloatEngine::new(graph, params).expect("fits");
        engine.run_observing(inputs, &mut |node, value| drop(values.insert(node.name.clone(), value.clone()))).expect("runs");
        values
    }

    #[test]
    fn the_network_computes_the_same_with_channels_of_like_sizes() {
        let (graph, params, inputs) = network();
        let mut frames = Frames::new(&graph, &params).expect("fits");
        frames.observe(&inputs).expect("fits");
        let layout = Layout::new(&graph, &Policy::default()).expect("fits");
        let Equalized { params: other, factors } = equalize(&graph, &params, frames.channels(), &layout);
        let (before, after) = (values(&graph, &params, &inputs), values(&graph, &other, &inputs));
        for (name, before) in &before {
            let one = vec![1.0; before.len_of(Axis(3))];
            let factors = factors.get(name).unwrap_or(&one);
            let scale = before.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (c, factor) in factors.iter().enumerate() {
                let (before, after) = (before.index_axis(Axis(3), c), after[name].index_axis(Axis(3), c));
                assert!(before.iter().zip(after).all(|(b, a)| (b * factor - a).abs() <= 1e-5 * scale * factor.max(1.0)), "{name} {c}");
            }
        }
        // What comes in and what goes out stays; what a sum and its parts have is the same.
        assert!(!factors.contains_key("x") && !factors.contains_key("two"));
        assert_eq!(factors["first"], factors["side"]);
        assert_eq!(factors["first"], factors["again"]);
        assert_eq!(factors["both"], [&factors["again"][..], &factors["up"][..]].concat());
        // Sizes of channels have come closer.
        let spread = |params: &Params, name: &str| {
            let value = &values(&graph, params, &inputs)[name];
            let sizes: Vec<f32> = value.axis_iter(Axis(3)).map(|c| c.iter().fold(1e-6, |m, x| x.abs().max(m))).collect();
            sizes.iter().fold(0f32, |m, &x| m.max(x)) / sizes.iter().fold(f32::INFINITY, |m, &x| m.min(x))
        };
        assert!(spread(&other, "both") < 0.5 * spread(&params, "both"));
    }

    /// Activations rounded to nearest at 8 bits, weights as they are: the outputs lose less.
    #[test]
    fn a_maps_step_does_less_harm() {
        let (graph, params, inputs) = network();
        let mut frames = Frames::new(&graph, &params).expect("fits");
        frames.observe(&inputs).expect("fits");
        let layout = Layout::new(&graph, &Policy::default()).expect("fits");
        let noise = |teacher: &crate::quant::teacher::Teacher<'_>| {
            let mut scheme = crate::graph::Scheme::default();
            for (&id, &(range_of, bits)) in &layout.values {
                let signed = !is_non_negative(&graph, range_of);
                let greatest = levels(bits, signed);
                let clip = crate::quant::Clip::MaxMin;
                let reach = teacher.reach(&graph.nodes[range_of].name, &clip, crate::quant::Cells::All, greatest).expect("finite");
                let scale = reach / greatest as f32;
                scheme.activations.insert(graph.nodes[id].name.clone(), crate::graph::Activation { bits, signed, scale, zero_point: 0 });
            }
            let mut rounded = teacher.params().clone();
            for (&id, &bits) in &layout.integer {
                let node = &graph.nodes[id];
                let name = format!("{}.weight", node.name);
                let weight = WeightScale::MaxMin.nearest(&rounded.0[&name], node.op.output_axis(), bits);
                rounded.0.insert(name, weight.values(node.op.output_axis()));
                scheme.weights.insert(node.name.clone(), weight);
            }
            let exact = &values(&graph, &params, &inputs)["two"];
            let found = FloatEngine::with_scheme(&graph, &rounded, &scheme).expect("fits").run(&inputs).expect("runs");
            exact.iter().zip(&found["y"]).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let (before, after) = (noise(&frames.as_observed()), noise(&frames.equalized(&layout)));
        assert!(after < 0.7 * before, "{after} {before}");
    }
}
