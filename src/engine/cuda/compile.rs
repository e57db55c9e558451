//! Kernels for one architecture: from a file that was compiled before, or by NVRTC, which needs no driver and no GPU.

use super::device::DeviceError;
use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};
use std::ffi::{CString, c_char, c_int};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Sums and products are written as they are meant, so none may be fused.
const OPTIONS: [&str; 3] = ["--std=c++17", "--fmad=false", "--ptxas-options=-v"];

/// The oldest architecture that has four-byte dot products.
pub const OLDEST_ARCH: u32 = 61;

/// Compiled kernels.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// As the driver loads it: a CUBIN for this architecture, or PTX of an older one where NVRTC knows no better.
    pub image: Vec<u8>,
    pub kernels: Vec<CompiledKernel>,
}

/// What the compiler says of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledKernel {
    pub name: String,
    pub registers: usize,
    /// Bytes of shared memory.
    pub shared: usize,
    /// Bytes that do not fit into registers.
    pub spills: usize,
    /// Matrix products in its text.
    pub tensor_products: usize,
}

/// Compiles all kernels for an architecture (87 is sm_87).
///
/// # Errors
/// NVRTC is missing, or refuses.
pub fn compile(arch: u32) -> Result<Compiled, DeviceError> {
    // SAFETY: it tries to load a library and forgets it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoCompiler {
            arch,
            cache: cache_folder().map_or_else(|| "the cache".into(), |f| f.display().to_string()),
        });
    }
    let failed = |doing: &'static str| move |error: result::NvrtcError| DeviceError::Driver { doing, what: error.to_string() };
    let supported = supported_architectures().map_err(failed("asking NVRTC for architectures"))?;
    let best = supported.iter().copied().filter(|&a| a <= arch).max();
    let Some(best) = best.filter(|&a| a >= OLDEST_ARCH) else {
        return Err(DeviceError::Compiler { arch, log: format!("this NVRTC knows the architectures {supported:?} only") });
    };
    let target = if best == arch { format!("sm_{arch}") } else { format!("compute_{best}") };

    let source = CString::new(super::source()).map_err(|_| DeviceError::Compiler { arch, log: "a zero byte in the source".into() })?;
    let program = Compilation(result::create_program(&source, Some(c"lidar_ptq.cu")).map_err(failed("starting NVRTC"))?);
    let options = OPTIONS.into_iter().map(String::from).chain([format!("--gpu-architecture={target}")]);
    // SAFETY: the program was just created and lives until the end of this function; so does its source.
    let outcome = unsafe { result::compile_program(program.0, &options.collect::<Vec<_>>()) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.0) }.map(|log| text(&log)).unwrap_or_default();
    if let Err(error) = outcome {
        return Err(DeviceError::Compiler { arch, log: format!("{error}\n{log}") });
    }
    // SAFETY: as above, and it was compiled.
    let ptx = unsafe { result::get_ptx(program.0) }.map_err(failed("reading PTX"))?;
    let kernels = kernels(&log, &text(&ptx));
    let image = if best == arch { program.cubin().map_err(failed("reading CUBIN"))? } else { ptx.iter().map(|&c| c as u8).collect() };
    Ok(Compiled { image, kernels })
}

fn supported_architectures() -> Result<Vec<u32>, result::NvrtcError> {
    let mut count: c_int = 0;
    // SAFETY: the pointer is good for one integer.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }.result()?;
    let mut architectures = vec![0 as c_int; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the pointer is good for as many integers as were announced.
    unsafe { sys::nvrtcGetSupportedArchs(architectures.as_mut_ptr()) }.result()?;
    Ok(architectures.into_iter().filter_map(|a| u32::try_from(a).ok()).collect())
}

/// A program in NVRTC.
struct Compilation(sys::nvrtcProgram);

impl Compilation {
    fn cubin(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut size = 0;
        // SAFETY: the program lives as long as `self`, and was compiled; the pointer is good for one integer.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result()?;
        let mut cubin = vec![0u8; size];
        // SAFETY: as above, and the pointer is good for as many bytes as were announced.
        unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()) }.result()?;
        Ok(cubin)
    }
}

impl Drop for Compilation {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. There is nothing to be done if that fails.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// From what the assembler says (`-v`) and the text that it read. Of PTX, nothing was assembled.
fn kernels(log: &str, ptx: &str) -> Vec<CompiledKernel> {
    let mut kernels: Vec<CompiledKernel> = Vec::new();
    let before = |line: &str, unit: &str| -> usize {
        line.split(unit).next().and_then(|head| head.split_whitespace().next_back()).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            kernels.push(CompiledKernel { name, ..Default::default() });
        } else if let Some(kernel) = kernels.last_mut() {
            if line.contains("spill stores") {
                kernel.spills = before(line, " bytes spill stores") + before(line, " bytes spill loads");
            } else if line.contains("registers") {
                kernel.registers = before(line, " registers");
                kernel.shared = if line.contains(" bytes smem") { before(line, " bytes smem") } else { 0 };
            }
        }
    }
    for kernel in &mut kernels {
        let head = format!(".entry {}(", kernel.name);
        let body = ptx.split_once(&head).map_or("", |(_, rest)| rest.split(".entry ").next().unwrap_or_default());
        kernel.tensor_products = body.matches("mma.sync").count();
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    kernels
}

/// Where compiled kernels are kept: `LIDAR_PTQ_CACHE`, or `lidar_ptq` in the user's cache.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("LIDAR_PTQ_CACHE").or_else(|| Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("lidar_ptq")))
}

/// The name of a file of kernels that were compiled ahead of time, for any driver: other sources have another name.
pub fn cubin_name(arch: u32) -> String {
    format!("kernels-{}-sm_{arch}.cubin", fingerprint())
}

/// The same for a driver of this version, compiled where it runs.
fn own_cubin_name(arch: u32, driver: i32) -> String {
    format!("kernels-{}-sm_{arch}-driver{driver}.cubin", fingerprint())
}

fn fingerprint() -> String {
    let mut hash = Sha256::new();
    hash.update(super::source());
    OPTIONS.iter().for_each(|o| hash.update(o));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Kernels for a device that is there, as `load` takes them: those in the cache if it takes them, compiled ones otherwise, which
/// are then in the cache.
///
/// # Errors
/// There are none, NVRTC is missing or refuses, or `load` takes none.
pub fn load<T>(
    arch: u32,
    driver: i32,
    cache: Option<&Path>,
    mut load: impl FnMut(&[u8]) -> Result<T, DeviceError>,
    compile: impl FnOnce(u32) -> Result<Compiled, DeviceError>,
) -> Result<T, DeviceError> {
    let own = cache.map(|folder| folder.join(own_cubin_name(arch, driver)));
    let ahead = cache.map(|folder| folder.join(cubin_name(arch)));
    for path in [&own, &ahead].into_iter().flatten() {
        let Ok(file) = std::fs::read(path) else { continue };
        let Some(image) = unsealed(&file) else {
            tracing::warn!(path = %path.display(), "this file of kernels is damaged; compiling them anew");
            continue;
        };
        match load(image) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the driver does not take these kernels; compiling them anew"),
        }
    }
    tracing::info!(arch = %format!("sm_{arch}"), "compiling kernels for this GPU, once");
    let compiled = compile(arch)?;
    let loaded = load(&compiled.image)?;
    if let Some(path) = own
        && let Err(error) = write(&path, &compiled.image)
    {
        tracing::warn!(path = %path.display(), %error, "compiled kernels could not be kept; the next start compiles again");
    }
    Ok(loaded)
}

/// Writes kernels to a file, whole or not at all, and makes the folders that it is in. Their digest follows them: drivers believe
/// what an image says of its own length.
///
/// # Errors
/// Whatever the file system says.
pub fn write(path: &Path, image: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(image)?;
    file.write_all(&Sha256::digest(image))?;
    file.persist(path)?;
    Ok(())
}

/// The image in a file, if it is all there.
fn unsealed(file: &[u8]) -> Option<&[u8]> {
    let (image, digest) = file.split_last_chunk::<32>()?;
    (Sha256::digest(image).as_slice() == digest).then_some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : Compiling entry function 'zero' for 'sm_80'
ptxas info    : Function properties for zero
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers, 368 bytes cmem[0]
ptxas info    : Compiling entry function 'conv' for 'sm_80'
ptxas info    : Function properties for conv
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 148 registers, used 1 barriers, 49152 bytes smem, 536 bytes cmem[0]
";

    #[test]
    fn what_the_assembler_says() {
        let ptx = ".entry conv(\n mma.sync a\n mma.sync b\n.entry zero(\n";
        let conv = CompiledKernel { name: "conv".into(), registers: 148, shared: 49152, spills: 20, tensor_products: 2 };
        let zero = CompiledKernel { name: "zero".into(), registers: 10, ..Default::default() };
        assert_eq!(kernels(LOG, ptx), [conv, zero]);
    }

    fn image(bytes: &[u8]) -> Compiled {
        Compiled { image: bytes.to_vec(), kernels: Vec::new() }
    }

    #[test]
    fn kernels_are_compiled_once_and_again_when_the_driver_refuses_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("deep/er");
        let never = |_| panic!("compiled a second time");
        let take = |image: &[u8]| Ok(image.to_vec());
        assert_eq!(load(87, 12080, Some(&cache), take, |_| Ok(image(b"one"))), Ok(b"one".to_vec()));
        assert_eq!(load(87, 12080, Some(&cache), take, never), Ok(b"one".to_vec()));
        // Another driver, another architecture: others' kernels are not taken.
        assert_eq!(load(87, 12090, Some(&cache), take, |_| Ok(image(b"two"))), Ok(b"two".to_vec()));
        assert_eq!(load(86, 12080, Some(&cache), take, |_| Ok(image(b"three"))), Ok(b"three".to_vec()));
        // What the driver refuses, and what is damaged, is compiled anew and replaced.
        let error = DeviceError::Plan("no".into());
        let picky = |image: &[u8]| if image == b"one" { Err(error.clone()) } else { Ok(image.to_vec()) };
        assert_eq!(load(87, 12080, Some(&cache), picky, |_| Ok(image(b"four"))), Ok(b"four".to_vec()));
        assert_eq!(load(87, 12080, Some(&cache), picky, never), Ok(b"four".to_vec()));
        std::fs::write(cache.join(own_cubin_name(87, 12080)), b"four").expect("writable");
        assert_eq!(load(87, 12080, Some(&cache), take, |_| Ok(image(b"five"))), Ok(b"five".to_vec()));
        // Compiled elsewhere.
        write(&cache.join(cubin_name(75)), b"ahead").expect("writable");
        assert_eq!(load(75, 1, Some(&cache), take, never), Ok(b"ahead".to_vec()));
        assert_eq!(std::fs::read_dir(&cache).expect("there").count(), 4, "nothing half-written stays");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_fault() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let take = |image: &[u8]| Ok(image.to_vec());
        assert_eq!(load(87, 1, Some(&file.path().join("in a file")), take, |_| Ok(image(b"one"))), Ok(b"one".to_vec()));
        assert_eq!(load(87, 1, None, take, |_| Ok(image(b"one"))), Ok(b"one".to_vec()));
    }
}
