//! `lidar_ptq cubin`: the GPU's kernels, compiled ahead of time.

use anyhow::{Context, bail};
use lidar_ptq::engine::cuda::{OLDEST_ARCH, cache_folder, compile, cubin_name, write};
use lidar_ptq::eval::table::Table;
use std::path::PathBuf;

/// Compile the kernels for GPUs that have no NVRTC, or to save the first start's compilation
///
/// Needs NVRTC 12 (libnvrtc.so.12), but neither a GPU nor a driver. The files are found where --out puts them by default, on any
/// machine: LIDAR_PTQ_CACHE, or lidar_ptq in the user's cache.
///
/// Example, for a Jetson AGX Orin:
///   lidar_ptq cubin --arch sm_87 --out kernels/
///   scp kernels/* robot:.cache/lidar_ptq/
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Architectures: sm_87 is Orin, sm_72 Xavier, sm_86 and sm_89 are GeForce 30 and 40.
    #[arg(long, required = true, value_delimiter = ',', value_name = "sm_NN", value_parser = architecture)]
    arch: Vec<u32>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print what the compiler says of each kernel.
    #[arg(long)]
    report: bool,
}

fn architecture(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("sm_").unwrap_or(text).parse::<u32>();
    number.ok().filter(|&arch| arch >= OLDEST_ARCH).ok_or_else(|| format!("`{text}` is no architecture of sm_{OLDEST_ARCH} or newer"))
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(folder) = args.out.clone().or_else(cache_folder) else { bail!("there is no home folder; say --out DIR") };
    let mut table = Table::new(["arch", "kernel", "registers", "shared", "spills", "tensor"]);
    for &arch in &args.arch {
        let compiled = compile(arch)?;
        let path = folder.join(cubin_name(arch));
        write(&path, &compiled.image).with_context(|| path.display().to_string())?;
        crate::say(&format!("wrote {}\n", path.display()));
        for k in &compiled.kernels {
            let numbers = [k.registers, k.shared, k.spills, k.tensor_products].map(|n| n.to_string());
            let [registers, shared, spills, tensor] = numbers;
            table.row([format!("sm_{arch}"), k.name.clone(), registers, shared, spills, tensor]);
        }
    }
    if args.report { crate::print(&format!("{table}\n")) } else { Ok(()) }
}
