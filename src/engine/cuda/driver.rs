//! The NVIDIA driver as a device. Its library is looked for when a GPU is asked for, and nothing is linked.
//!
//! **This file has never run with a driver**: see `docs/gpu.md`.

use super::compile::{self, OLDEST_ARCH};
use super::device::{Device, DeviceError, Launch, Memory};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::safe::CudaGraph;
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUfunction, CUmodule, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The first driver whose functions are all those that are called here: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;

/// A GPU that is not done after so long is taken to hang, if nothing else is said: a frame takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// For so long a thread that waits keeps asking, because whoever sleeps wakes up late.
const EAGERNESS: Duration = Duration::from_millis(5);

/// A GPU.
pub struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Recorded behind what is waited for.
    done: CUevent,
    /// It did not finish in time, and nothing is asked of it any more: most of what could be asked would wait for it.
    hangs: bool,
    /// After which it is taken to hang.
    patience: Duration,
    module: CUmodule,
    functions: BTreeMap<String, CUfunction>,
    memory: Vec<CUdeviceptr>,
    sequences: Vec<Sequence>,
    description: String,
}

/// Kernels that run together.
enum Sequence {
    /// Recorded, and started as one.
    Graph(CudaGraph),
    /// Started one by one, where recording failed.
    Launches(Vec<Launch>),
}

// SAFETY: the driver's handles belong to a context, not to a thread; every method makes the context current on its thread first,
// and all of them need `&mut self`, so no two threads use a handle at once.
unsafe impl Send for Driver {}

impl Driver {
    /// Opens the GPU of this number and loads our kernels.
    ///
    /// # Errors
    /// No driver, one that is too old, no such GPU, one that is too old; kernels that can be neither found nor compiled.
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        // SAFETY: it tries to load a library and forgets it again.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver);
        }
        let version = driver_version()?;
        if version < OLDEST_DRIVER {
            let name = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
            return Err(DeviceError::DriverTooOld { found: name(version), expected: name(OLDEST_DRIVER) });
        }
        let count = CudaContext::device_count().map_err(failed("looking for GPUs"))?;
        let count = usize::try_from(count).unwrap_or(0);
        if ordinal >= count {
            return Err(DeviceError::NoDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal).map_err(failed("opening the GPU"))?;
        let (major, minor) = context.compute_capability().map_err(failed("asking for the architecture"))?;
        let arch = u32::try_from(10 * major + minor).unwrap_or(0);
        let name = context.name().map_err(failed("asking for the name"))?;
        if arch < OLDEST_ARCH {
            return Err(DeviceError::Architecture { name, found: arch, expected: OLDEST_ARCH });
        }
        let stream = context.new_stream().map_err(failed("opening a stream"))?;
        let done = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(failed("making an event"))?;
        let cache = compile::cache_folder();
        let module = compile::load(arch, version, cache.as_deref(), load_module, compile::compile)?;
        let description = format!("cuda:{ordinal} {name} (sm_{arch}, driver for CUDA {}.{})", version / 1000, version % 1000 / 10);
        Ok(Self {
            context,
            stream,
            done,
            hangs: false,
            patience: PATIENCE,
            module,
            functions: BTreeMap::new(),
            memory: Vec::new(),
            sequences: Vec::new(),
            description,
        })
    }

    /// For work that takes longer than a frame.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Bytes that are free on the GPU that this thread has turned to.
    #[cfg(test)]
    pub fn free_memory() -> Option<usize> {
        result::mem_get_info().ok().map(|(free, _)| free)
    }

    fn bind(&self) -> Result<(), DeviceError> {
        if self.hangs {
            return Err(DeviceError::Hangs { seconds: self.patience.as_secs() });
        }
        self.context.bind_to_thread().map_err(failed("turning to the GPU"))
    }

    /// Looks a kernel up, once.
    fn function(&mut self, name: &str) -> Result<CUfunction, DeviceError> {
        if let Some(&function) = self.functions.get(name) {
            return Ok(function);
        }
        let symbol = CString::new(name).map_err(|_| DeviceError::Plan(format!("no kernel can be called {name:?}")))?;
        // SAFETY: the module is loaded for as long as `self` lives.
        let function = unsafe { result::module::get_function(self.module, symbol) }.map_err(failed("looking for a kernel"))?;
        self.functions.insert(name.to_owned(), function);
        Ok(function)
    }

    fn start(&mut self, launch: &Launch) -> Result<(), DeviceError> {
        let function = self.function(&launch.kernel)?;
        // Copied by the driver before the launch returns; in words, because structures are aligned to eight bytes.
        let mut args: Vec<u64> = launch.args.bytes().as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect();
        let [x, y, z] = launch.grid;
        let stream = self.stream.cu_stream();
        let mut params = [args.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the kernel takes one structure of this size (the emulator compares the sizes), whose pointers lie in memory that
        // is allocated for as long as launches are prepared, and sized by the plan from which its numbers come.
        unsafe { result::launch_kernel(function, (x, y, z), (launch.threads, 1, 1), 0, stream, &mut params) }
            .map_err(failed("starting a kernel"))
    }

    fn record(&mut self, launches: &[Launch]) -> Result<Option<CudaGraph>, DeviceError> {
        if launches.is_empty() {
            return Ok(None);
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed("recording kernels"))?;
        let launched = launches.iter().try_for_each(|launch| self.start(launch));
        // Recording ends in any case.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(failed("recording kernels"));
        launched?;
        graph
    }
}

impl Device for Driver {
    fn allocate(&mut self, bytes: usize) -> Result<Memory, DeviceError> {
        self.bind()?;
        // SAFETY: it is freed once, in `clear`.
        let memory = unsafe { result::malloc_sync(bytes) }.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes },
            _ => failed("allocating memory")(error),
        })?;
        self.memory.push(memory);
        // SAFETY: so many bytes were just allocated.
        unsafe { result::memset_d8_async(memory, 0, bytes, self.stream.cu_stream()) }.map_err(failed("clearing memory"))?;
        Ok(Memory(memory))
    }

    fn free(&mut self, memory: Memory) -> Result<(), DeviceError> {
        self.wait()?;
        let Some(place) = self.memory.iter().position(|&own| own == memory.0) else { return Ok(()) };
        // SAFETY: allocated in `allocate`, freed once, as it is forgotten here, and nothing runs any more that uses it.
        unsafe { result::free_sync(self.memory.swap_remove(place)) }.map_err(failed("giving memory back"))
    }

    fn upload(&mut self, to: Memory, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the plan asks for memory that is large enough; the driver has copied pageable bytes when it returns.
        unsafe { result::memcpy_htod_async(to.0, bytes, self.stream.cu_stream()) }.map_err(failed("copying to the GPU"))
    }

    fn download(&mut self, from: Memory, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // A copy to memory that is not pinned waits without end for what is before it.
        self.wait()?;
        // SAFETY: as above; the bytes are there when the stream was waited for, before this returns.
        unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream.cu_stream()) }.map_err(failed("copying from the GPU"))?;
        self.wait()
    }

    fn prepare(&mut self, launches: Vec<Launch>) -> Result<usize, DeviceError> {
        self.bind()?;
        for launch in &launches {
            self.function(&launch.kernel)?;
        }
        let graph = match self.record(&launches) {
            Ok(graph) => graph,
            Err(error) => {
                tracing::warn!(%error, "kernels are started one by one");
                None
            }
        };
        self.sequences.push(graph.map_or(Sequence::Launches(launches), Sequence::Graph));
        Ok(self.sequences.len() - 1)
    }

    fn run(&mut self, sequence: usize) -> Result<(), DeviceError> {
        self.bind()?;
        let launches = match &self.sequences[sequence] {
            Sequence::Graph(graph) => return graph.launch().map_err(failed("running kernels")),
            Sequence::Launches(launches) => launches.clone(),
        };
        launches.iter().try_for_each(|launch| self.start(launch))
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DeviceError> {
        self.bind()?;
        self.start(launch)
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        self.bind()?;
        // SAFETY: event and stream are of this context, and live as long as `self`.
        unsafe { result::event::record(self.done, self.stream.cu_stream()) }.map_err(failed("waiting for the GPU"))?;
        let in_time = happens_within(self.patience, || {
            // SAFETY: as above, and it was recorded.
            match unsafe { result::event::query(self.done) } {
                Ok(()) => Ok(true),
                Err(error) if error.0 == CUresult::CUDA_ERROR_NOT_READY => Ok(false),
                Err(error) => Err(failed("waiting for the GPU")(error)),
            }
        })?;
        self.hangs = !in_time;
        self.bind()
    }

    fn clear(&mut self) {
        if let Err(error) = self.wait() {
            tracing::warn!(%error, "memory of a lost GPU is not given back");
            return;
        }
        self.sequences.clear();
        for memory in self.memory.drain(..) {
            // SAFETY: allocated in `allocate`, freed once, and nothing runs any more that uses it.
            if let Err(error) = unsafe { result::free_sync(memory) } {
                tracing::warn!(%error, "memory of the GPU was not given back");
            }
        }
    }

    fn description(&self) -> String {
        self.description.clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.clear();
        if self.hangs {
            // To give these back would wait for it.
            std::mem::forget((std::mem::take(&mut self.sequences), self.stream.clone(), self.context.clone()));
            return;
        }
        // SAFETY: made in `open`, given back once, and nothing waits for it any more. If it fails, the context is gone.
        let _ = unsafe { result::event::destroy(self.done) };
        // SAFETY: loaded in `open`, unloaded once, and nothing runs any more that uses it. If it fails, the context is gone.
        let _ = unsafe { result::module::unload(self.module) };
    }
}

/// Asks until it has happened. Whether it did in time.
fn happens_within<E>(limit: Duration, mut ask: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let start = Instant::now();
    loop {
        if ask()? {
            return Ok(true);
        }
        match start.elapsed() {
            elapsed if elapsed >= limit => return Ok(false),
            elapsed if elapsed < EAGERNESS => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(100)),
        }
    }
}

fn driver_version() -> Result<i32, DeviceError> {
    let mut version: c_int = 0;
    // SAFETY: the pointer is good for one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed("asking the driver for its version"))?;
    Ok(version)
}

fn load_module(image: &[u8]) -> Result<CUmodule, DeviceError> {
    // PTX ends with a zero byte, a CUBIN knows its length: a file that was torn must not be read beyond its end.
    let mut whole = image.to_vec();
    whole.push(0);
    // SAFETY: a context is current on this thread (`open`); the image is good for reading while it is loaded.
    unsafe { result::module::load_data(whole.as_ptr().cast()) }.map_err(failed("loading kernels"))
}

fn failed(doing: &'static str) -> impl FnOnce(DriverError) -> DeviceError {
    move |error| DeviceError::Driver { doing, what: format!("{error:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_what_is_waited_for_or_with_patience() {
        let mut asked = 0;
        let third = |asked: &mut i32| {
            *asked += 1;
            Ok::<bool, ()>(*asked == 3)
        };
        assert_eq!(happens_within(PATIENCE, || third(&mut asked)), Ok(true));
        assert_eq!(asked, 3);
        assert_eq!(happens_within(Duration::from_millis(20), || Ok::<bool, ()>(false)), Ok(false));
        assert_eq!(happens_within(PATIENCE, || Err("lost")), Err("lost"));
    }
}
