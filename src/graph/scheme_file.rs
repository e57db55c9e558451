//! How a scheme stands in a model file: forms in the manifest, integers and scales as tensors beside the float ones.
//!
//! `{layer}.weight` is an `I8` tensor, or two integers a byte in a flat `U8` tensor where they have four bits or fewer;
//! `{layer}.weight_scale` is `F32`, one value or one for each output.

use super::op::Graph;
use super::scheme::{Activation, Granularity, Scheme, SchemeError, Weight};
use super::tensors::{ByteTensor, TensorFile};
use super::{ModelFileError, Params};
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Integers of this many bits and fewer are stored two a byte.
const PACKED_BITS: u8 = 4;

/// Where a scheme comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// `max-min`, ...
    pub method: String,
    /// Names of the bags and files whose frames were used, without their folders.
    pub inputs: Vec<String>,
    /// Frames that were used.
    pub frames: usize,
    /// Digest of these frames as the network saw them: SHA-256, in hexadecimal, of the digest before the last frame followed by
    /// that frame's own.
    pub frames_sha256: String,
    /// Digest of the recordings they were chosen from, as whoever chose them tells it; empty if nobody does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recordings_sha256: String,
    /// What the frames were like, by trait; empty if nobody noted it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traits: BTreeMap<String, Spread>,
}

/// A number over some frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    pub mean: f32,
    /// Root of the mean squared distance from the mean.
    pub deviation: f32,
}

impl Spread {
    /// Zeros of no values.
    pub fn of(values: &[f32]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        Self { mean: mean as f32, deviation: square.sqrt() as f32 }
    }
}

/// A scheme and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    pub scheme: Scheme,
    pub calibration: Calibration,
}

/// The part of a [`Quantization`] that the manifest holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationEntry {
    pub calibration: Calibration,
    pub activations: BTreeMap<String, Activation>,
    pub weights: BTreeMap<String, WeightEntry>,
    pub float: BTreeMap<String, String>,
}

/// The form of a weight whose integers are a tensor of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightEntry {
    pub bits: u8,
    pub granularity: Granularity,
}

impl From<&Quantization> for QuantizationEntry {
    fn from(quantization: &Quantization) -> Self {
        let Quantization { scheme, calibration } = quantization;
        let entry = |w: &Weight| WeightEntry { bits: w.bits, granularity: w.granularity };
        Self {
            calibration: calibration.clone(),
            activations: scheme.activations.clone(),
            weights: scheme.weights.iter().map(|(name, w)| (name.clone(), entry(w))).collect(),
            float: scheme.float.clone(),
        }
    }
}

/// The tensors of a quantized model: all parameters of its folded graph, integers instead of floats where it has them.
pub(super) fn store(params: &Params, scheme: &Scheme) -> TensorFile {
    let mut file = TensorFile::default();
    for (name, values) in &params.0 {
        if name.strip_suffix(".weight").is_none_or(|layer| !scheme.is_integer(layer)) {
            file.floats.0.insert(name.clone(), values.clone());
        }
    }
    for (layer, weight) in &scheme.weights {
        let bytes: Vec<u8> = weight.integers.iter().map(|&q| q as u8).collect();
        let stored = if weight.bits <= PACKED_BITS {
            let data: Vec<u8> = bytes.chunks(2).map(|pair| (pair[0] & 15) | (pair.get(1).unwrap_or(&0) << 4)).collect();
            ByteTensor { dtype: Dtype::U8, shape: vec![data.len()], data }
        } else {
            ByteTensor { dtype: Dtype::I8, shape: weight.integers.shape().to_vec(), data: bytes }
        };
        file.bytes.insert(format!("{layer}.weight"), stored);
        let scales = ArrayD::from_shape_vec(IxDyn(&[weight.scales.len()]), weight.scales.clone()).expect("one axis");
        file.floats.0.insert(scale_name(layer), scales);
    }
    file
}

/// Puts a scheme together from a manifest's entry and the tensors of its file, of which it takes its own. What is left are
/// float parameters, to which the floats that the integers stand for are added.
///
/// # Errors
/// Tensors that are missing or misshapen; a scheme that does not fit the folded `graph`.
pub fn take_scheme(entry: QuantizationEntry, file: &mut TensorFile, graph: &Graph) -> Result<Quantization, ModelFileError> {
    let mut scheme = Scheme { activations: entry.activations, float: entry.float, ..Scheme::default() };
    for (layer, WeightEntry { bits, granularity }) in entry.weights {
        let node = graph.node(&layer).map(|id| &graph.nodes[id]).ok_or_else(|| SchemeError::UnknownNode(layer.clone()))?;
        let spec = node.op.params(&layer).into_iter().next().filter(|_| node.op.is_layer());
        let shape = spec.ok_or_else(|| SchemeError::NoLayer(layer.clone()))?.shape;
        let name = format!("{layer}.weight");
        let missing = |name: &str, expected: &str| ModelFileError::Missing { name: name.to_owned(), expected: expected.to_owned() };
        let stored = file.bytes.remove(&name).ok_or_else(|| missing(&name, "integers"))?;
        let integers = unpack(&stored, bits, &shape).ok_or_else(|| ModelFileError::Integers {
            name,
            expected: format!("integers of {bits} bits for shape {shape:?}"),
            found: format!("{:?} {:?}", stored.dtype, stored.shape),
        })?;
        let scales = file.floats.0.remove(&scale_name(&layer)).ok_or_else(|| missing(&scale_name(&layer), "scales"))?;
        scheme.weights.insert(layer, Weight { bits, granularity, scales: scales.iter().copied().collect(), integers });
    }
    scheme.check(graph)?;
    for (layer, weight) in &scheme.weights {
        let axis = graph.node(layer).map_or(0, |id| graph.nodes[id].op.output_axis());
        file.floats.0.insert(format!("{layer}.weight"), weight.values(axis));
    }
    Ok(Quantization { scheme, calibration: entry.calibration })
}

/// Integers of a shape, if these bytes hold them.
fn unpack(stored: &ByteTensor, bits: u8, shape: &[usize]) -> Option<ArrayD<i8>> {
    let count: usize = shape.iter().product();
    let integers: Vec<i8> = if bits <= PACKED_BITS {
        if stored.dtype != Dtype::U8 || stored.data.len() != count.div_ceil(2) {
            return None;
        }
        // The shift to the left and back extends the sign of a nibble.
        let nibbles = stored.data.iter().flat_map(|&b| [((b << 4) as i8) >> 4, (b as i8) >> 4]);
        nibbles.take(count).collect()
    } else {
        if stored.dtype != Dtype::I8 || stored.shape != shape {
            return None;
        }
        stored.data.iter().map(|&b| b as i8).collect()
    };
    ArrayD::from_shape_vec(IxDyn(shape), integers).ok()
}

fn scale_name(layer: &str) -> String {
    format!("{layer}.weight_scale")
}
