//! The emulator of `tests/cuda/` as a device.

use super::device::{Device, DeviceError, Launch, Memory};
use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Architectures that differ in what the kernels use: products by dp4a, by small tensor operations, by large ones with
/// asynchronous copies.
pub const ARCHITECTURES: [u32; 3] = [610, 750, 800];

/// Bounds and alignment of every access, and numbers that are not defined.
const SANITIZERS: &str = "-fsanitize=address,alignment,shift,float-cast-overflow,integer-divide-by-zero";

/// A process that runs kernels.
pub struct Emulator {
    process: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
    sequences: Vec<Vec<Launch>>,
    /// How many sequences, or kernels by themselves, run before the device is lost, if it is.
    pub lasts: Option<usize>,
    /// Bytes that can be allocated, if there is an end to them.
    pub room: Option<usize>,
    allocated: BTreeMap<u64, usize>,
}

/// The programs of all architectures, or why there are none.
struct Built {
    folder: TempDir,
}

impl Emulator {
    /// `seed` chooses the order in which threads run. `None`, and a message, where there is no C++ compiler.
    pub fn start(arch: u32, seed: u64) -> Option<Self> {
        static BUILT: OnceLock<Option<Built>> = OnceLock::new();
        let program = BUILT.get_or_init(build).as_ref()?.folder.path().join(format!("device{arch}"));
        let mut process = Command::new(program)
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        let requests = BufWriter::new(process.stdin.take().expect("piped"));
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut emulator = Self { process, requests, answers, sequences: Vec::new(), lasts: None, room: None, allocated: BTreeMap::new() };
        emulator.request(b'S', &[seed], &[]);
        Some(emulator)
    }

    /// Unless it is to be lost by now.
    fn go_on(&mut self) -> Result<(), DeviceError> {
        if let Some(lasts) = &mut self.lasts {
            *lasts = lasts.checked_sub(1).ok_or(DeviceError::Driver { doing: "running kernels", what: "the device is lost".into() })?;
        }
        Ok(())
    }

    fn send(&mut self, Launch { kernel, grid, threads, args }: &Launch) {
        let (grid, args) = (grid.map(u64::from), args.bytes());
        let words = [grid[0], grid[1], grid[2], u64::from(*threads), kernel.len() as u64, args.len() as u64];
        self.request(b'L', &words, &[kernel.as_bytes(), &args].concat());
    }

    fn request(&mut self, letter: u8, words: &[u64], payload: &[u8]) {
        let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        for part in [&[letter][..], &words, payload] {
            self.requests.write_all(part).expect("the emulator found a fault in a kernel; see its message above");
        }
    }

    fn answer(&mut self, bytes: &mut [u8]) {
        let whole = self.requests.flush().and_then(|()| self.answers.read_exact(bytes));
        whole.expect("the emulator found a fault in a kernel; see its message above");
    }
}

impl Device for Emulator {
    fn allocate(&mut self, bytes: usize) -> Result<Memory, DeviceError> {
        if self.room.is_some_and(|room| self.allocated.values().sum::<usize>() + bytes > room) {
            return Err(DeviceError::OutOfMemory { bytes });
        }
        self.request(b'A', &[bytes as u64], &[]);
        let mut address = [0; 8];
        self.answer(&mut address);
        let address = u64::from_le_bytes(address);
        self.allocated.insert(address, bytes);
        Ok(Memory(address))
    }

    fn upload(&mut self, to: Memory, bytes: &[u8]) -> Result<(), DeviceError> {
        self.request(b'U', &[to.0, bytes.len() as u64], bytes);
        Ok(())
    }

    fn download(&mut self, from: Memory, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.request(b'D', &[from.0, bytes.len() as u64], &[]);
        self.answer(bytes);
        Ok(())
    }

    fn free(&mut self, memory: Memory) -> Result<(), DeviceError> {
        self.request(b'F', &[memory.0], &[]);
        self.allocated.remove(&memory.0);
        Ok(())
    }

    fn prepare(&mut self, launches: Vec<Launch>) -> Result<usize, DeviceError> {
        self.sequences.push(launches);
        Ok(self.sequences.len() - 1)
    }

    fn run(&mut self, sequence: usize) -> Result<(), DeviceError> {
        self.go_on()?;
        self.sequences[sequence].clone().iter().for_each(|launch| self.send(launch));
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DeviceError> {
        self.go_on()?;
        self.send(launch);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn clear(&mut self) {
        self.sequences.clear();
    }

    fn description(&self) -> String {
        "emulator".into()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already, which was said.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Compiles the kernels with the system's C++ compiler (`CXX`, by default `c++`), with sanitizers if it has them.
fn build() -> Option<Built> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kernels = folder.path().join("kernels.cu");
    std::fs::write(&kernels, super::source()).expect("writable");
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    let command = |arch: u32, sanitize: bool| {
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]);
        if sanitize {
            command.args([SANITIZERS, "-fno-sanitize-recover=all"]);
        }
        command.arg(format!("-DARCH={arch}")).arg(format!("-DKERNELS=\"{}\"", kernels.display()));
        command.arg("-o").arg(folder.path().join(format!("device{arch}"))).arg(sources.join("device.cpp"));
        command
    };
    if let Err(error) = Command::new(&compiler).arg("--version").output() {
        println!("skipped: no C++ compiler to run the GPU's kernels with ({compiler}: {error}); CXX names one");
        return None;
    }
    let probe = folder.path().join("probe.cpp");
    std::fs::write(&probe, "int main() {}\n").expect("writable");
    let sanitizes = Command::new(&compiler).arg(SANITIZERS).arg(&probe).arg("-o").arg(folder.path().join("probe")).output();
    let sanitizes = sanitizes.is_ok_and(|o| o.status.success());
    if !sanitizes {
        println!("{compiler} has no sanitizers: the kernels' accesses are not checked");
    }
    let children = ARCHITECTURES.map(|arch| command(arch, sanitizes).spawn().expect("the compiler starts"));
    for mut child in children {
        assert!(child.wait().expect("it ends").success(), "the kernels do not compile with {compiler}");
    }
    Some(Built { folder })
}
