//! `lidar_ptq export`: a model for other runtimes.

use crate::options::refuse_to_replace;
use anyhow::{Context, bail};
use lidar_ptq::detect::Model;
use lidar_ptq::graph::onnx::OnnxDialect;
use lidar_ptq::graph::write_model_file;
use std::path::PathBuf;

/// Write a model as ONNX (opset 13), for ONNX Runtime, OpenVINO or TensorRT
///
/// The network begins at the canvas onto which pillars were scattered: input `canvas`, [1, channels, height, width]. Outputs are
/// the head maps, channels-first, named `task0.heatmap` and so on. A quantized model becomes a QDQ graph with the same integers
/// and scales; a float model stays float. Points to pillars, the pillars' features (--encoder) and boxes are up to you.
#[derive(clap::Args)]
pub struct Args {
    /// A file that `import`, `train` or `calibrate` wrote
    model: PathBuf,
    /// Where the network goes
    #[arg(long, value_name = "FILE.onnx")]
    onnx: PathBuf,
    /// Where the pillar encoder goes, in float: `points` [pillars, slots, features] to `pillar_features` [pillars, 1, channels]
    #[arg(long, value_name = "FILE.onnx")]
    encoder: Option<PathBuf>,
    /// For TensorRT: activations in signed bytes around zero, one bit coarser after ReLU
    #[arg(long)]
    tensorrt: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let files = || std::iter::once(&args.onnx).chain(&args.encoder);
    if args.encoder.as_ref() == Some(&args.onnx) {
        bail!("{}: network and encoder are two files", args.onnx.display());
    }
    files().try_for_each(|file| refuse_to_replace(file, std::iter::once(&args.model)))?;
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    let dialect = if args.tensorrt { OnnxDialect::Tensorrt } else { OnnxDialect::Exact };
    let encoder = args.encoder.as_ref().map(|_| model.encoder_to_onnx()).transpose()?;
    let contents = [Some(model.to_onnx(dialect)?), encoder].into_iter().flatten();
    for (file, bytes) in files().zip(contents) {
        write_model_file(file, &bytes).with_context(|| file.display().to_string())?;
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}
