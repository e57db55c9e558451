//! A GPU's memory as arrays that are given out, and given back when nobody has them any more.

use crate::engine::cuda::{Args, Device, DeviceError, Driver, Launch, Memory, bytes, bytes_mut, turns};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A step of training over large images takes a small GPU longer than a frame of a detector.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device for float networks. What is asked of it happens in order, so memory may be used again as soon as it is given back.
pub struct Accelerator {
    device: Mutex<Box<dyn Device>>,
    spare: Arc<Spare>,
    /// Why it is no longer used.
    fault: OnceLock<DeviceError>,
}

/// Memory that was given back, by its size.
type Spare = Mutex<BTreeMap<usize, Vec<Memory>>>;

/// Numbers on the device, channels-last like those of the CPU: floats if nothing else is said. Copies are the same numbers.
#[derive(Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    block: Arc<Block>,
}

/// Memory of which nobody else has a part.
struct Block {
    memory: Memory,
    bytes: usize,
    home: Arc<Spare>,
}

impl Drop for Block {
    fn drop(&mut self) {
        locked(&self.home).entry(self.bytes).or_default().push(self.memory);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Array {
    pub fn memory(&self) -> Memory {
        self.block.memory
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Of the last axis.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl Accelerator {
    /// Opens the GPU of this number.
    ///
    /// # Errors
    /// As [`crate::engine::cuda::Gpu::open`].
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        Ok(Self::on(Box::new(Driver::open(ordinal)?.patient(PATIENCE))))
    }

    /// On any device.
    pub fn on(device: Box<dyn Device>) -> Self {
        Self { device: Mutex::new(device), spare: Arc::default(), fault: OnceLock::new() }
    }

    /// Name and architecture.
    pub fn description(&self) -> String {
        locked(&self.device).description()
    }

    /// Whether it has not failed yet.
    pub fn works(&self) -> bool {
        self.fault.get().is_none()
    }

    /// Gives it up: whoever asks next is on the CPU.
    pub fn fail(&self, error: &DeviceError) {
        if self.fault.set(error.clone()).is_ok() {
            tracing::error!(%error, "the GPU failed; the CPU goes on, to the same results");
        }
    }

    /// Room for floats, which are whatever they are.
    pub fn room(&self, shape: &[usize]) -> Result<Array, DeviceError> {
        let elements = shape.iter().product::<usize>();
        // Threads that take turns step beyond the last number by less than this.
        if i32::try_from(elements).is_err() {
            return Err(DeviceError::Plan(format!("an array of {elements} numbers; kernels count to 2^31")));
        }
        self.words(shape.to_vec(), elements)
    }

    /// Room for doubles.
    pub fn doubles(&self, shape: &[usize]) -> Result<Array, DeviceError> {
        self.words(shape.to_vec(), 2 * shape.iter().product::<usize>())
    }

    /// Room for so many words of 32 bits, however many numbers they make.
    pub fn words(&self, shape: Vec<usize>, words: usize) -> Result<Array, DeviceError> {
        let bytes = size_class(4 * words);
        let found = locked(&self.spare).get_mut(&bytes).and_then(Vec::pop);
        let memory = match found {
            Some(memory) => memory,
            None => self.allocate(bytes)?,
        };
        Ok(Array { shape, block: Arc::new(Block { memory, bytes, home: self.spare.clone() }) })
    }

    /// Where there is not enough, all that is spare is given back first.
    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        let mut device = locked(&self.device);
        match device.allocate(bytes) {
            Err(DeviceError::OutOfMemory { .. }) => {
                let spare = std::mem::take(&mut *locked(&self.spare));
                spare.into_values().flatten().try_for_each(|memory| device.free(memory))?;
                device.allocate(bytes)
            }
            other => other,
        }
    }

    /// Floats that are zero.
    pub fn zeros(&self, shape: &[usize]) -> Result<Array, DeviceError> {
        let array = self.room(shape)?;
        self.launch(&turns("zero", array.len(), Args::new(&[array.memory()]).words(&[array.len()])))?;
        Ok(array)
    }

    /// A copy on the device.
    pub fn upload(&self, host: &ArrayD<f32>) -> Result<Array, DeviceError> {
        self.upload_floats(host.shape(), host.as_slice().ok_or_else(|| DeviceError::Plan("an array is not in standard layout".into()))?)
    }

    /// As [`Accelerator::upload`], of numbers in standard layout.
    pub fn upload_floats(&self, shape: &[usize], floats: &[f32]) -> Result<Array, DeviceError> {
        let array = self.room(shape)?;
        locked(&self.device).upload(array.memory(), bytes(floats))?;
        Ok(array)
    }

    /// A row of words.
    pub fn upload_words(&self, words: &[u32]) -> Result<Array, DeviceError> {
        let array = self.words(vec![words.len()], words.len())?;
        locked(&self.device).upload(array.memory(), bytes(words))?;
        Ok(array)
    }

    /// A copy of floats, when all that was asked for has happened.
    pub fn download(&self, array: &Array) -> Result<ArrayD<f32>, DeviceError> {
        let mut floats = vec![0f32; array.len()];
        locked(&self.device).download(array.memory(), bytes_mut(&mut floats))?;
        Ok(ArrayD::from_shape_vec(array.shape.clone(), floats).expect("as many as the shape says"))
    }

    /// As [`Accelerator::download`], of doubles: two words each.
    pub fn download_doubles(&self, array: &Array) -> Result<Vec<f64>, DeviceError> {
        let mut words = vec![0u32; 2 * array.len()];
        locked(&self.device).download(array.memory(), bytes_mut(&mut words))?;
        Ok(words.as_chunks().0.iter().map(|&[low, high]| f64::from_bits(u64::from(low) | u64::from(high) << 32)).collect())
    }

    /// Runs a kernel behind all that was asked for before.
    pub fn launch(&self, launch: &Launch) -> Result<(), DeviceError> {
        locked(&self.device).launch(launch)
    }
}

/// So few sizes that memory is found again although frames have other numbers of points: quarters of powers of two.
fn size_class(bytes: usize) -> usize {
    let quarter = (bytes.next_power_of_two() / 8).max(256);
    bytes.max(1).next_multiple_of(quarter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_makes_room_for_other_sizes() {
        let Some(mut emulator) = crate::engine::cuda::Emulator::start(800, 0) else { return };
        emulator.room = Some(1 << 20);
        let accelerator = Accelerator::on(Box::new(emulator));
        let (first, second) = (accelerator.zeros(&[150_000]).expect("fits"), accelerator.zeros(&[50_000]).expect("fits beside it"));
        let was = (first.memory(), second.memory());
        drop((first, second));
        assert_eq!(accelerator.room(&[150_000]).expect("it is there").memory(), was.0);
        let large = accelerator.zeros(&[200_000]).expect("fits where the others were");
        assert_eq!(accelerator.download(&large).expect("there"), ArrayD::<f32>::zeros(vec![200_000]));
        assert!(matches!(accelerator.room(&[150_000]), Err(DeviceError::OutOfMemory { .. })));
    }

    #[test]
    fn sizes_are_few_and_never_too_small() {
        let mut classes: Vec<usize> = (0..1 << 20).step_by(77).map(size_class).collect();
        assert!(
            (0..1 << 20).step_by(77).zip(&classes).all(|(bytes, &class)| class >= bytes && class <= (bytes + bytes / 4).max(bytes + 256))
        );
        classes.dedup();
        assert!(classes.len() < 60, "{}", classes.len());
    }
}
