//! `lidar_ptq info`: what is in a model file.

use anyhow::Context;
use lidar_ptq::detect::Model;
use lidar_ptq::eval::table::Table;
use lidar_ptq::graph::{Dim, LayerCost, Scheme, layer_costs};
use lidar_ptq::node::calibration_report::describe_scheme;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Print the manifest and the layers of a model file
#[derive(clap::Args)]
pub struct Args {
    /// A file that `import`, `train` or `calibrate` wrote
    model: PathBuf,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Bytes of a parameter as the float engine holds it.
const PARAMETER_BYTES: u64 = 4;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    let layers = layer_costs(model.graph());
    if args.json {
        return crate::print(&format!("{}\n", to_json(&model, &layers)?));
    }
    let scheme = model.quantization().map_or_else(String::new, |q| format!("\n{}", describe_scheme(q)));
    crate::print(&format!("{}\n{}{scheme}", manifest_text(&model), layer_table(&layers)))
}

fn to_json(model: &Model, layers: &[LayerCost]) -> anyhow::Result<Value> {
    let rows: Vec<Value> = layers
        .iter()
        .map(|l| {
            let shape: Vec<Value> = l.shape.iter().map(|d| if let Dim::Fixed(n) = d { json!(n) } else { json!(dim_text(*d)) }).collect();
            let bytes = l.parameters * PARAMETER_BYTES;
            json!({"name": l.name, "kind": l.kind, "shape": shape, "macs": l.macs, "macs_per_row": l.per_row, "parameters": l.parameters, "bytes": bytes})
        })
        .collect();
    let totals = Totals::of(layers);
    Ok(json!({
        "manifest": serde_json::to_value(model.manifest())?,
        "layers": rows,
        "totals": {"macs": totals.macs, "macs_per_row": totals.macs_per_row, "parameters": totals.parameters, "bytes": totals.parameters * PARAMETER_BYTES},
    }))
}

fn manifest_text(model: &Model) -> String {
    let config = model.config();
    let provenance = model.provenance();
    let [x, y, _] = config.grid.cells();
    let lines = [
        ("model", config.name.clone()),
        ("classes", config.classes().join(", ")),
        ("points", config.points.features.join(", ")),
        ("sweeps", config.points.sweeps.count.to_string()),
        ("range", format!("{:?} to {:?} m", config.grid.min, config.grid.max)),
        ("pillars", format!("{x} x {y} of {} x {} m", config.grid.voxel[0], config.grid.voxel[1])),
        ("weights", weights_text(model.quantization().map(|q| &q.scheme))),
        ("source", format!("{} ({})", provenance.source, provenance.code_base)),
        ("sha256", provenance.sha256.clone()),
        ("dropped", dropped_text(&provenance.dropped)),
        ("written by", provenance.written_by.clone()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

fn weights_text(scheme: Option<&Scheme>) -> String {
    let Some(scheme) = scheme else { return "float".to_owned() };
    let mut bits: Vec<u8> = scheme.weights.values().map(|w| w.bits).collect();
    bits.dedup();
    let bits = bits.iter().map(|b| format!("int{b}")).collect::<Vec<_>>().join(", ");
    format!("{bits} in {} layers, float in {}", scheme.weights.len(), scheme.float.len())
}

/// Counters come one a layer: they are counted, the rest is named.
fn dropped_text(dropped: &[String]) -> String {
    let counters = dropped.iter().filter(|name| name.ends_with("num_batches_tracked")).count();
    let others = dropped.iter().filter(|name| !name.ends_with("num_batches_tracked")).cloned();
    let text = others.chain((counters > 0).then(|| format!("{counters} x num_batches_tracked"))).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "nothing".into() } else { text }
}

struct Totals {
    macs: u64,
    macs_per_row: u64,
    parameters: u64,
}

impl Totals {
    fn of(layers: &[LayerCost]) -> Self {
        let sum = |per_row: bool| layers.iter().filter(|l| l.per_row == per_row).map(|l| l.macs).sum();
        Self { macs: sum(false), macs_per_row: sum(true), parameters: layers.iter().map(|l| l.parameters).sum() }
    }
}

fn layer_table(layers: &[LayerCost]) -> String {
    let totals = Totals::of(layers);
    let mut table = Table::new(["layer", "kind", "output", "MMACs", "parameters", "bytes"]).left(3);
    for l in layers {
        let shape = l.shape.iter().map(|d| dim_text(*d)).collect::<Vec<_>>().join(" x ");
        let bytes = count_text(l.parameters * PARAMETER_BYTES);
        table.row([l.name.clone(), l.kind.to_owned(), shape, macs_text(l), count_text(l.parameters), bytes]);
    }
    let macs = format!("{:.1}", totals.macs as f64 / 1e6);
    let bytes = count_text(totals.parameters * PARAMETER_BYTES);
    table.row(["total".to_owned(), String::new(), String::new(), macs, count_text(totals.parameters), bytes]);
    format!("{table}MMACs: millions of multiply-adds for one frame; with /row: multiply-adds for each point, not in the total\n")
}

fn macs_text(layer: &LayerCost) -> String {
    match layer.macs {
        0 => String::new(),
        macs if layer.per_row => format!("{}/row", count_text(macs)),
        macs => format!("{:.1}", macs as f64 / 1e6),
    }
}

/// Digits in groups of three; nothing for 0.
fn count_text(n: u64) -> String {
    if n == 0 {
        return String::new();
    }
    let digits = n.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    std::iter::once(digits[..first].to_owned()).filter(|s| !s.is_empty()).chain(groups).collect::<Vec<_>>().join(",")
}

fn dim_text(dim: Dim) -> String {
    match dim {
        Dim::Fixed(n) => n.to_string(),
        Dim::Batch => "batch".into(),
        Dim::Points => "points".into(),
        Dim::Pillars => "pillars".into(),
    }
}
