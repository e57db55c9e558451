//! A calibration as a page.

use super::{CalibrationReport, LayerFigures, TimeBudget, budget_text, rounding_table, scheme_table};
use crate::eval::agreement::{Agreement, AgreementFigures};
use crate::eval::page::Page;
use crate::eval::strips::{Reading, Strip, Strips};
use crate::eval::table::Table;
use crate::eval::{agreement_strips, range_name};
use crate::quant::Quantized;

/// A layer whose noise is less than this share of its signal is as the float one; the logarithm of nothing is no number to draw.
const EXACT_DB: f64 = 200.0;

impl CalibrationReport<'_> {
    /// One file of HTML that needs nothing else. `verdict` is what became of the model.
    pub fn html(&self, verdict: &str) -> String {
        let mut page = Page::new(&format!("Calibration of {}", self.model));
        page.headline(verdict);
        page.facts(&self.facts());
        match &self.agreement {
            Some(agreement) => agreement_section(&mut page, agreement),
            None => page.paragraph("No frames were left to judge with."),
        }
        if !self.layers.is_empty() {
            self.layer_section(&mut page);
        }
        if let Some(budget) = &self.time_budget {
            page.section("Time of the network");
            page.paragraph(&budget_text(budget));
            page.drawing(&budget_drawing(budget));
        }
        self.work_section(&mut page);
        self.provenance_section(&mut page);
        page.finish()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let Quantized { quantization, .. } = self.quantized;
        let (scheme, calibration) = (&quantization.scheme, &quantization.calibration);
        let bytes: usize = self.layers.iter().map(|layer| layer.weight_bytes).sum();
        let held_out = self.agreement.as_ref().map_or(0, Agreement::frames);
        let facts = [
            ("Method", Some(calibration.method.clone())),
            ("Bits", Some(self.bits.clone())),
            ("Layers", Some(format!("{} in integers, {} in float", scheme.weights.len(), scheme.float.len()))),
            ("Weights", (bytes > 0).then(|| format!("{bytes} bytes of integers"))),
            ("Frames", Some(format!("{} to calibrate with, {held_out} others to judge with", calibration.frames))),
            ("Inputs", Some(calibration.inputs.join(", "))),
            ("Time", Some(format!("{:.1} s with {} threads", self.seconds(), self.threads))),
            ("Peak memory", self.peak_memory_mb.map(|mb| format!("{mb} MB"))),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn layer_section(&self, page: &mut Page) {
        page.section("Layers");
        page.paragraph(
            "In the order in which they run, on the frames to judge with. SNR: the output in the quantized network against that in the float \
             one. Clipped: share of the values that the layer reads that lie beyond the ends of their range. Bytes: of the kernels in a model \
             file. Colors tell the bits of kernels apart.",
        );
        page.drawing(&layer_drawing(&self.layers));
        if self.layers.iter().any(|layer| layer.sensitivity.is_some()) {
            page.subsection("Sensitivity");
            page.paragraph(
                "Alone: the network in which only this layer is quantized, against the float one. Spared: the network in which only this layer \
                 is float, less the whole quantized network; what is below zero would be gained. Loss: the task's, with the float network's \
                 scores as labels. 1-F: one minus the harmonic mean of recall and precision of its boxes.",
            );
            page.drawing(&sensitivity_drawing(&self.layers));
        }
    }

    fn work_section(&self, page: &mut Page) {
        page.section("Time by phase");
        let whole = self.seconds().max(f64::MIN_POSITIVE);
        let mut strips = Strips::new(self.phases.iter().map(|phase| phase.name.clone()));
        let text = |seconds: f64| format!("{seconds:.1} s, {:.0} %", 100.0 * seconds / whole);
        strips.add(Strip::bars("seconds", self.phases.iter().map(|phase| Reading::new(phase.seconds, text(phase.seconds)))).width(400.0));
        page.drawing(&strips.to_svg("Seconds of each phase of the calibration"));
        page.section("What became of each layer");
        page.table(&scheme_table(&self.quantized.quantization));
        if !self.quantized.rounding.is_empty() {
            page.subsection("Adaptive rounding");
            page.paragraph(
                "Squared error of the layer's output as a share of its variance, where rounding looked: rounded to nearest, and now.",
            );
            page.table(&rounding_table(&self.quantized.rounding));
        }
    }

    fn provenance_section(&self, page: &mut Page) {
        let calibration = &self.quantized.quantization.calibration;
        page.section("Provenance");
        let facts = [
            ("Command", self.command.clone()),
            ("Program", self.program.clone()),
            ("Seed", self.seed.to_string()),
            ("Frames, SHA-256", calibration.frames_sha256.clone()),
            ("Recordings, SHA-256", calibration.recordings_sha256.clone()),
        ];
        page.facts(&facts.map(|(name, value)| (name.to_owned(), value)));
        if !calibration.traits.is_empty() {
            page.subsection("What the frames were like");
            let mut table = Table::new(["trait", "mean", "deviation"]);
            for (name, spread) in &calibration.traits {
                table.row([name.clone(), format!("{:.4}", spread.mean), format!("{:.4}", spread.deviation)]);
            }
            page.table(&table);
        }
        if !self.unusable.is_empty() {
            page.subsection("Clouds that could not be used");
            page.list(self.unusable.iter().map(|(reason, count)| format!("{count}: {reason}")));
        }
    }
}

fn agreement_section(page: &mut Page, agreement: &Agreement) {
    page.section("Agreement with the float model");
    page.paragraph(&format!(
        "On {} frames that calibration has not seen. Recall: the share of the float model's boxes above a score that the quantized one has \
         above it too; precision: the share of its boxes that the float model has. Score bias: its scores less the float model's.",
        agreement.frames()
    ));
    let rows: Vec<(String, AgreementFigures)> = std::iter::once(("all".to_owned(), agreement.overall()))
        .chain(agreement.by_range().into_iter().map(|(range, figures)| (range_name(&range), figures)))
        .collect();
    let mut strips = Strips::new(rows.iter().map(|(name, _)| name.clone())).tones([0, 1, 1, 1]);
    agreement_strips(&rows.iter().map(|(_, figures)| figures).collect::<Vec<_>>()).into_iter().for_each(|strip| strips.add(strip));
    page.drawing(&strips.to_svg("Agreement with the float model, overall and by range"));
    page.table(&agreement.table());
}

fn names(layers: &[LayerFigures]) -> Strips {
    let tone = |layer: &LayerFigures| usize::from(8u8.saturating_sub(layer.weight_bits));
    Strips::new(layers.iter().map(|layer| layer.layer.clone())).tones(layers.iter().map(tone))
}

fn layer_drawing(layers: &[LayerFigures]) -> String {
    let mut strips = names(layers);
    strips.add(Strip::text("bits", layers.iter().map(LayerFigures::bits)));
    let snr = layers.iter().map(|layer| match layer.output_snr_db {
        db if db < EXACT_DB => Reading::new(db, format!("{db:.1}")),
        _ => Reading::missing("exact"),
    });
    strips.add(Strip::bars("SNR, dB", snr));
    let clipped = layers.iter().map(|layer| Reading::new(100.0 * layer.clipped_share, format!("{:.4}", 100.0 * layer.clipped_share)));
    strips.add(Strip::bars("clipped, %", clipped));
    strips.add(Strip::bars("bytes", layers.iter().map(|layer| Reading::new(layer.weight_bytes as f64, layer.weight_bytes.to_string()))));
    strips.to_svg("Bits, signal-to-noise ratio, clipped share and bytes of each layer")
}

fn sensitivity_drawing(layers: &[LayerFigures]) -> String {
    let mut strips = names(layers);
    let costs =
        layers.iter().map(|layer| layer.sensitivity.map(|s| [s.alone.loss, s.alone.disagreement, s.spared.loss, s.spared.disagreement]));
    let costs: Vec<Option<[f64; 4]>> = costs.collect();
    for (k, title) in ["alone: loss", "alone: 1-F", "spared: loss", "spared: 1-F"].into_iter().enumerate() {
        let readings = costs.iter().map(|c| c.map_or_else(|| Reading::missing("-"), |c| Reading::new(c[k], format!("{:.4}", c[k]))));
        strips.add(Strip::bars(title, readings));
    }
    strips.to_svg("Sensitivity of each layer")
}

fn budget_drawing(budget: &TimeBudget) -> String {
    let mut strips = Strips::new(budget.added_ms.keys().cloned());
    let became = |layer: &String| budget.finer.contains(layer);
    strips = strips.tones(budget.added_ms.keys().map(|layer| usize::from(!became(layer))));
    let added = budget.added_ms.values().map(|&ms| Reading::new(ms, format!("{ms:.3}")));
    strips.add(Strip::bars("added if finer, ms", added).width(240.0));
    strips.add(Strip::text("became finer", budget.added_ms.keys().map(|layer| if became(layer) { "yes" } else { "no" }.to_owned())));
    strips.to_svg("What each layer that gains by it adds to the network's time")
}
