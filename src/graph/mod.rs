//! A network as data: typed operations, the names and shapes of their parameters, and the file that holds them.
//!
//! Everything that happens to a network is a walk over this structure: running it, differentiating it, folding batch norm,
//! quantizing, lowering, exporting, counting. Nothing here runs anything.

mod build;
mod cost;
mod fold;
mod op;
mod params;

pub use build::GraphBuilder;
pub use cost::{LayerCost, layer_costs};
pub use fold::fold_batch_norm;
pub use op::{Dim, Graph, GraphError, Node, NodeId, Op, Output, ParamSpec, PillarIndex, Shape};
pub use params::{ParamError, Params};
