//! A network as data: typed operations, the names and shapes of their parameters, and the file that holds them.
//!
//! Everything that happens to a network is a walk over this structure: running it, differentiating it, folding batch norm,
//! quantizing, lowering, exporting, counting. Nothing here runs anything.

mod build;
mod checkpoint;
mod cost;
mod dense;
mod fold;
mod model_file;
pub mod onnx;
mod op;
mod params;
mod scheme;
mod scheme_file;
mod tensors;

pub use build::GraphBuilder;
pub use checkpoint::{Checkpoint, CheckpointError, PickleError};
pub use cost::{LayerCost, layer_costs};
pub use dense::dense_part;
pub use fold::{fold_batch_norm, fold_graph};
pub use model_file::{
    FLOAT_VERSION, FORMAT, MANIFEST_KEY, Manifest, ModelFileError, Provenance, VERSION, model_file_bytes, read_model_file, sha256_hex,
    write_model_file,
};
pub use op::{Dim, Graph, GraphError, Node, NodeId, Op, Output, ParamSpec, PillarIndex, Shape};
pub use params::{ParamError, Params};
pub use scheme::{Activation, Granularity, Scheme, SchemeError, Weight, is_rows};
pub use scheme_file::{Calibration, Quantization, QuantizationEntry, Spread, WeightEntry, take_scheme};
pub use tensors::{ByteTensor, Precision, TensorFile, TensorFileError};
