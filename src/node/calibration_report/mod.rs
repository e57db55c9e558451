//! What a calibration did and how good its model is: for a terminal, for programs, and as a page of HTML.

mod page;

use super::gather::Unusable;
use super::layer_report::LayerFigures;
use super::layer_times::TimeBudget;
use crate::eval::agreement::Agreement;
use crate::eval::table::Table;
use crate::graph::Quantization;
use crate::quant::{LayerRounding, Quantized};
use serde::Serialize;
use serde_json::{Value, json};

/// Everything that is known of a calibration.
pub struct CalibrationReport<'a> {
    /// File name of the float model.
    pub model: String,
    pub quantized: &'a Quantized,
    /// What was asked for, as on a command line.
    pub bits: String,
    pub seed: u64,
    pub threads: usize,
    /// What was done one after the other.
    pub phases: Vec<Phase>,
    /// Of the process, if the system tells.
    pub peak_memory_mb: Option<u64>,
    /// On held-out frames; empty if nobody asked, or there are none.
    pub layers: Vec<LayerFigures>,
    pub time_budget: Option<TimeBudget>,
    /// With the float model on held-out frames, if there are any.
    pub agreement: Option<Agreement>,
    pub unusable: &'a Unusable,
    pub command: String,
    pub program: String,
}

/// A part of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
}

impl CalibrationReport<'_> {
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// The lower of recall and precision at the highest threshold, if there are boxes.
    pub fn worst_share(&self) -> Option<f64> {
        let at = self.agreement.as_ref()?.overall().thresholds.last().copied()?;
        Some(at.recall?.min(at.precision.unwrap_or(0.0)))
    }

    /// Tables for a terminal.
    pub fn text(&self) -> String {
        let Quantized { quantization, rounding, .. } = self.quantized;
        let mut text = describe_scheme(quantization);
        if !rounding.is_empty() {
            text += &rounding_table(rounding).to_string();
        }
        for (reason, count) in self.unusable {
            text += &format!("skipped {count}: {reason}\n");
        }
        if self.layers.iter().any(|layer| layer.sensitivity.is_some()) {
            text += &layer_table(&self.layers).to_string();
        }
        text += &self.time_budget.as_ref().map_or_else(String::new, budget_text);
        text += &match &self.agreement {
            None => "no frames were left to judge with; `lidar_ptq eval --against` compares the models on another recording\n".to_owned(),
            Some(agreement) => {
                format!("against the float model on {} frames that calibration has not seen:\n{}\n", agreement.frames(), agreement.table())
            }
        };
        text
    }

    pub fn json(&self) -> Value {
        let Quantized { quantization, rounding, .. } = self.quantized;
        json!({
            "model": self.model,
            "calibration": quantization.calibration,
            "bits": self.bits,
            "seed": self.seed,
            "threads": self.threads,
            "seconds": self.seconds(),
            "phases": self.phases,
            "peak_memory_mb": self.peak_memory_mb,
            "layers": self.layers,
            "float_layers": quantization.scheme.float,
            "rounding": rounding,
            "time_budget": self.time_budget,
            "agreement": self.agreement.as_ref().map(Agreement::json),
            "program": self.program,
        })
    }
}

/// What became of each layer.
pub fn describe_scheme(quantization: &Quantization) -> String {
    let calibration = &quantization.calibration;
    let inputs = calibration.inputs.join(", ");
    format!("{}{} frames of {inputs}, {}\n", scheme_table(quantization), calibration.frames, calibration.method)
}

fn scheme_table(Quantization { scheme, .. }: &Quantization) -> Table {
    let mut table = Table::new(["layer", "runs in", "weights", "output", "why"]).left(5);
    for (layer, weight) in &scheme.weights {
        let output =
            scheme.activations.get(layer).map_or("float".to_owned(), |a| format!("{}{}", if a.signed { "s" } else { "u" }, a.bits));
        table.row([layer.clone(), "integers".into(), format!("s{}", weight.bits), output, String::new()]);
    }
    for (layer, why) in &scheme.float {
        table.row([layer.clone(), "float".into(), "float".into(), "float".into(), why.clone()]);
    }
    table
}

/// What adaptive rounding gained.
fn rounding_table(layers: &[LayerRounding]) -> Table {
    let mut table = Table::new(["layer's output", "error, rounded to nearest", "error"]);
    for LayerRounding { layer, nearest_error, error } in layers {
        table.row([layer.clone(), format!("{nearest_error:.2e}"), format!("{error:.2e}")]);
    }
    table
}

/// What was lost in each layer.
pub fn layer_table(figures: &[LayerFigures]) -> Table {
    let headers = ["layer", "bits", "bytes", "SNR dB", "clipped", "alone: loss", "1-F", "spared: loss", "1-F"];
    let mut table = Table::new(headers);
    for layer in figures {
        let mut row = vec![
            layer.layer.clone(),
            layer.bits(),
            layer.weight_bytes.to_string(),
            format!("{:.1}", layer.output_snr_db),
            format!("{:.1e}", layer.clipped_share),
        ];
        let costs = layer.sensitivity.map(|s| [s.alone.loss, s.alone.disagreement, s.spared.loss, s.spared.disagreement]);
        row.extend((0..4).map(|i| costs.map_or_else(String::new, |costs| format!("{:.4}", costs[i]))));
        table.row(row);
    }
    table
}

fn budget_text(budget: &TimeBudget) -> String {
    let TimeBudget { budget_ms, threads, before_ms, after_ms, finer, .. } = budget;
    let finer = if finer.is_empty() { "no layer became finer".to_owned() } else { format!("finer: {}", finer.join(", ")) };
    format!("the network takes {after_ms:.2} ms with {threads} threads, before {before_ms:.2}, allowed {budget_ms}; {finer}\n")
}

impl LayerFigures {
    /// `W4A8`.
    fn bits(&self) -> String {
        format!("W{}A{}", self.weight_bits, self.activation_bits)
    }
}
