//! Networks as ONNX files, for other runtimes.
//!
//! [`export`](export()) writes the part of a network that works on images: it begins at the canvas onto which pillars were
//! scattered. A quantized network becomes a QDQ graph: float operators between pairs of `QuantizeLinear` and
//! `DequantizeLinear`, which runtimes fuse into integer ones. [`export_encoder`] writes the part before the canvas, in float.

mod encoder;
mod image;
mod proto;
mod writer;

pub use encoder::export_encoder;
pub use image::export;

/// How the graph says what its integers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxDialect {
    /// The scheme as it is: unsigned bytes where it has them. ONNX Runtime and OpenVINO read this.
    #[default]
    Exact,
    /// What TensorRT reads: every activation signed and symmetric over the same range, one bit coarser where the scheme has
    /// unsigned bytes.
    Tensorrt,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OnnxError {
    #[error("node `{node}` ({kind}) has no form in ONNX here: {what}")]
    Unsupported { node: String, kind: &'static str, what: String },
    #[error("the network scatters no pillars onto a canvas, where an ONNX file would begin")]
    NoCanvas,
    #[error("two values would be named `{0}`")]
    Name(String),
    #[error("missing parameter `{0}`")]
    MissingParameter(String),
    #[error(transparent)]
    Scheme(#[from] super::SchemeError),
}
