//! A detector's network as ONNX files.

use super::{DetectorConfig, Model};
use crate::graph::onnx::{OnnxDialect, OnnxError, export, export_encoder};

/// Property of the files that holds the detector's configuration as JSON: grid, classes, how head maps are decoded.
const CONFIG: &str = "lidar_ptq.config";

impl Model {
    /// The network from the canvas to the head maps; with QuantizeLinear and DequantizeLinear if the model is quantized.
    ///
    /// # Errors
    /// See [`export`].
    pub fn to_onnx(&self, dialect: OnnxDialect) -> Result<Vec<u8>, OnnxError> {
        let scheme = self.quantization().map(|quantization| &quantization.scheme);
        export(self.graph(), self.params(), scheme, dialect, &self.config().name, &[(CONFIG, &json(self.config()))])
    }

    /// The network from the points of each pillar to what is scattered onto the canvas, in float.
    ///
    /// # Errors
    /// See [`export_encoder`].
    pub fn encoder_to_onnx(&self) -> Result<Vec<u8>, OnnxError> {
        export_encoder(self.graph(), self.params(), &self.config().name, &[(CONFIG, &json(self.config()))])
    }
}

fn json(config: &DetectorConfig) -> String {
    serde_json::to_string(config).expect("a configuration has no maps with keys that are not text")
}
