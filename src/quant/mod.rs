//! From a float model and frames without labels to a quantized model.
//!
//! A method is a composition: an [`Observer`] that turns a value's samples into a range, a way to round weights. What stays
//! float, and in how many bits the rest is, is [`Policy`]. No method knows a network.

mod calibrator;
mod layout;
mod observer;

pub use calibrator::{CalibrationError, Calibrator};
pub use layout::Policy;
pub use observer::{MaxMin, Observer, Range};

/// A way to choose scales.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// As on the command line and in a model's provenance.
    pub name: &'static str,
    /// What watches one activation.
    pub observer: fn() -> Box<dyn Observer>,
}

/// Every method, the simplest first.
pub const METHODS: [Method; 1] = [Method { name: "max-min", observer: || Box::new(MaxMin::default()) }];

impl Method {
    pub fn find(name: &str) -> Option<Method> {
        METHODS.into_iter().find(|m| m.name == name)
    }
}
