//! 3D perception that fits on a robot's own computer: CenterPoint and BEVFormer, quantized on the robot from its own bag.
//!
//! The rooms of the house and who may use whom are in `docs/architecture.md`.

pub mod dataset;
pub mod detect;
pub mod engine;
pub mod eval;
pub mod geometry;
pub mod graph;
pub mod networks;
pub mod node;
pub mod quant;
mod random;
pub mod ros;
pub mod sensor;
pub mod sim;
pub mod train;
