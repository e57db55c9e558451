//! What a calibration has done so far, so that it can go on after it was stopped.

use super::CalibrationError;
use super::adaptive::LayerRounding;
use crate::graph::{Params, Scheme};

/// A quantized network of which some stages are final.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// Stages that are final.
    pub done: usize,
    pub scheme: Scheme,
    pub params: Params,
    /// Of the stages that are done.
    pub rounding: Vec<LayerRounding>,
}

/// Where a calibration leaves what it has done. Whoever makes one sees to it that it belongs to the same calibration: the same model,
/// frames, method, bits and seed.
pub trait Store {
    /// # Errors
    /// Something is kept, but cannot be read.
    fn load(&mut self) -> Result<Option<Partial>, CalibrationError>;

    /// # Errors
    /// It cannot be kept.
    fn save(&mut self, partial: &Partial) -> Result<(), CalibrationError>;
}

/// Keeps nothing.
pub struct Forget;

impl Store for Forget {
    fn load(&mut self) -> Result<Option<Partial>, CalibrationError> {
        Ok(None)
    }

    fn save(&mut self, _: &Partial) -> Result<(), CalibrationError> {
        Ok(())
    }
}
