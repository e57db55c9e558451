//! `lidar_ptq import`: a public checkpoint becomes a model file.

use anyhow::{Context, bail};
use lidar_ptq::detect::{DetectorConfig, PRESETS, Preset, import_file};
use lidar_ptq::graph::Precision;
use std::path::PathBuf;

/// Make a model file from a checkpoint of det3d (tianweiy/CenterPoint), OpenPCDet or mmdetection3d
///
/// The code base is told by the keys, the configuration by the shapes. Nothing in the file is executed.
#[derive(clap::Args)]
pub struct Args {
    /// A `.pth` or `.safetensors` file
    #[arg(required_unless_present_any = ["print_config", "list_presets"])]
    checkpoint: Option<PathBuf>,
    /// Configuration of the detector, instead of the preset that fits the tensors
    #[arg(long, value_name = "FILE|PRESET")]
    config: Option<String>,
    /// The model file [default: the checkpoint's name with `.safetensors`]
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
    /// Store weights in half precision: half the size, read as f32 again
    #[arg(long)]
    f16: bool,
    /// Print a preset, to be changed and given to --config
    #[arg(long, value_name = "PRESET", conflicts_with_all = ["checkpoint", "list_presets"])]
    print_config: Option<String>,
    /// Print the names of the presets
    #[arg(long, conflicts_with = "checkpoint")]
    list_presets: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.list_presets {
        return crate::print(&PRESETS.iter().map(|preset| format!("{}\n", preset.name)).collect::<String>());
    }
    if let Some(name) = &args.print_config {
        let Some(preset) = Preset::find(name) else {
            bail!("no preset is named `{name}`; see lidar_ptq import --list-presets");
        };
        return crate::print(preset.yaml);
    }
    let Some(checkpoint) = &args.checkpoint else {
        bail!("no checkpoint was given");
    };
    let output = args.output.clone().unwrap_or_else(|| checkpoint.with_extension("safetensors"));
    if output == *checkpoint {
        bail!("{}: the model would replace the checkpoint; name another file with -o", checkpoint.display());
    }
    let config = args.config.as_deref().map(DetectorConfig::load).transpose()?;
    let is_chosen_here = config.is_none();
    let imported = import_file(checkpoint, config).with_context(|| checkpoint.display().to_string())?;
    let precision = if args.f16 { Precision::F16 } else { Precision::F32 };
    imported.model.save(&output, precision).with_context(|| output.display().to_string())?;

    let name = &imported.model.config().name;
    eprintln!("{}: {name}, {} classes", output.display(), imported.model.config().classes().len());
    if is_chosen_here {
        eprintln!("class names, ranges and thresholds are not in a checkpoint; they are those of the preset `{name}`");
        if !imported.alternatives.is_empty() {
            eprintln!("its tensors also fit: {} (choose with --config)", imported.alternatives.join(", "));
        }
    }
    Ok(())
}
