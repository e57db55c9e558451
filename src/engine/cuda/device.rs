//! What the engine asks of a device: memory, copies, and kernels in a row. The driver is one, the tests' emulator another.

/// Where something lies in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub u64);

impl Memory {
    pub const NULL: Self = Self(0);

    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Numbers of 32 bits that are whatever bytes they are.
pub trait Word: Copy {}
impl Word for u32 {}
impl Word for f32 {}

/// Words as they lie in memory: devices and the machines that they are in have the same order of bytes.
pub fn bytes<T: Word>(words: &[T]) -> &[u8] {
    // SAFETY: words have no padding, any byte may be read, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// As [`bytes`].
pub fn bytes_mut<T: Word>(words: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, the words are borrowed mutably, and any bytes are words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// A kernel and all that it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    pub args: Args,
}

/// Blocks of a kernel whose threads take turns, at most.
const MOST_BLOCKS: usize = 2048;
/// Threads of a block of those kernels; see `device.cuh`.
const THREADS: usize = 256;

/// A launch whose threads take turns over `count` things.
pub fn turns(kernel: &str, count: usize, args: Args) -> Launch {
    let blocks = count.div_ceil(THREADS).clamp(1, MOST_BLOCKS);
    Launch { kernel: kernel.to_owned(), grid: [blocks as u32, 1, 1], threads: THREADS as u32, args }
}

/// The structure that a kernel takes: pointers first, then words of 32 bits, as its source declares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args(Vec<u8>);

impl Args {
    /// Pointers; what has none is `Memory::NULL`.
    pub fn new(pointers: &[Memory]) -> Self {
        Self(pointers.iter().flat_map(|p| p.0.to_le_bytes()).collect())
    }

    /// The lower 32 bits of each, so that a negative number that was cast is itself again.
    pub fn words(mut self, words: &[usize]) -> Self {
        self.0.extend(words.iter().flat_map(|&w| (w as u32).to_le_bytes()));
        self
    }

    /// What a structure inside of the structure holds.
    pub fn followed_by(mut self, others: &Self) -> Self {
        self.0.extend(&others.0);
        self
    }

    /// In two words; kernels put it together again.
    pub fn double(self, double: f64) -> Self {
        let bits = double.to_bits();
        self.words(&[bits as u32 as usize, (bits >> 32) as usize])
    }

    pub fn float(mut self, float: f32) -> Self {
        self.0.extend(float.to_le_bytes());
        self
    }

    /// The bytes, a multiple of eight.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

/// Something that runs kernels, one after the other.
pub trait Device: Send {
    /// Zeroed memory, aligned to 256 bytes.
    ///
    /// # Errors
    /// There is not enough.
    fn allocate(&mut self, bytes: usize) -> Result<Memory, DeviceError>;

    /// Gives one piece of memory back. What runs until now may still use it.
    ///
    /// # Errors
    /// The device is lost.
    fn free(&mut self, memory: Memory) -> Result<(), DeviceError>;

    /// # Errors
    /// The device is lost.
    fn upload(&mut self, to: Memory, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Waits for everything before it.
    ///
    /// # Errors
    /// The device is lost, or a kernel before it failed.
    fn download(&mut self, from: Memory, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Kernels that will be run together, many times. Gives the number of their sequence.
    ///
    /// # Errors
    /// A kernel that the device does not have.
    fn prepare(&mut self, launches: Vec<Launch>) -> Result<usize, DeviceError>;

    /// # Errors
    /// The device is lost.
    fn run(&mut self, sequence: usize) -> Result<(), DeviceError>;

    /// Runs one kernel behind everything before it.
    ///
    /// # Errors
    /// A kernel that the device does not have; the device is lost.
    fn launch(&mut self, launch: &Launch) -> Result<(), DeviceError>;

    /// Waits until everything has run.
    ///
    /// # Errors
    /// The device is lost, or a kernel failed.
    fn wait(&mut self) -> Result<(), DeviceError>;

    /// Forgets all memory and all sequences.
    fn clear(&mut self);

    /// Name and architecture, for people.
    fn description(&self) -> String;
}

/// Why there is no device, or no longer one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("there is no NVIDIA driver here (libcuda.so.1 was not found)")]
    NoDriver,
    #[error("the NVIDIA driver supports CUDA {found}, at least {expected} is needed; update the driver")]
    DriverTooOld { found: String, expected: String },
    #[error("there is no GPU {ordinal}: the driver sees {count}")]
    NoDevice { ordinal: usize, count: usize },
    #[error("{name} is of architecture sm_{found}; our kernels need sm_{expected} or newer")]
    Architecture { name: String, found: u32, expected: u32 },
    #[error(
        "there is no NVRTC to compile kernels for sm_{arch} (libnvrtc.so.12 was not found) and none are in {cache}; install NVRTC 12, or write \
         them elsewhere with `lidar_ptq cubin --arch sm_{arch}` and copy them there"
    )]
    NoCompiler { arch: u32, cache: String },
    #[error("NVRTC refuses our kernels for sm_{arch}: {log}")]
    Compiler { arch: u32, log: String },
    #[error("the GPU has not enough memory: {bytes} bytes more were asked for; `nvidia-smi` tells who else has some")]
    OutOfMemory { bytes: usize },
    #[error("the GPU did not finish within {seconds} s, and is taken to hang")]
    Hangs { seconds: u64 },
    #[error("the plan does not fit the GPU: {0}")]
    Plan(String),
    #[error("{doing}: {what}")]
    Driver { doing: &'static str, what: String },
}
