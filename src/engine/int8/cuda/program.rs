//! A plan as launches: what lies where in the device's memory, and which kernel runs over it with what.

use super::convolution::fused_addition;
use super::frame::{FrameMemory, FrameRules};
use super::segment::runs_on_device;
use crate::engine::cuda::{Args, Device, DeviceError, Launch, Memory, turns};
use crate::engine::int8::Int8Engine;
use crate::engine::int8::arithmetic::Clamp;
use crate::engine::int8::engine::clipped::Ends;
use crate::engine::int8::plan::{Addition, Buffer, FloatView, Plan, Source, StepKind, View};
use crate::graph::Dim;

/// The kernel that counts.
const COUNT_ENDS: &str = "count_ends";
/// Images' pixels start at multiples of this many bytes.
pub(super) const ALIGNMENT: usize = 16;

/// A plan ready to run on a device.
pub struct Program {
    pub pieces: Vec<Piece>,
    /// What every frame brings.
    pub inputs: Vec<InputMemory>,
    pub indices: Vec<IndexMemory>,
    /// Forgets the cells of the frame before, if there are any.
    pub clear: Option<usize>,
    /// By array of the plan, if the device has it.
    pub arrays: Vec<Option<Memory>>,
    pub scatters: Vec<ScatterMemory>,
    /// Forgets what was counted.
    pub forget_ends: usize,
    /// By step: bytes at the ends of their range, and all bytes.
    pub ends: Memory,
    /// Arrays that leave the graph and are on the device.
    pub results: Vec<usize>,
    /// The whole frame, if it was asked for and the device does all of it.
    pub frame: Option<FrameMemory>,
    /// Bytes of activations and of weights.
    pub memory_bytes: (usize, usize),
}

/// What runs together.
pub enum Piece {
    /// A step on the host: what it needs from the device, and what the device needs of it.
    Host { step: usize, downloads: Vec<usize>, uploads: Vec<usize> },
    /// Steps on the device, from this one to before that one.
    Device {
        steps: [usize; 2],
        sequence: usize,
        /// The same, and then bytes at the ends of their range are counted.
        counting: usize,
    },
}

/// Where an input of the graph goes.
pub struct InputMemory {
    pub name: String,
    pub memory: Memory,
}

/// Where goes which rows belong to which pillar.
pub struct IndexMemory {
    pub name: String,
    pub offsets: Memory,
    /// Pillars and rows.
    pub counts: Memory,
}

/// Where a frame's pillars go.
pub struct ScatterMemory {
    pub index: String,
    pub width: usize,
    pub cells: Memory,
    pub count: Memory,
}

/// How a plan is to be run.
#[derive(Clone, Copy, Debug)]
pub struct ProgramOptions {
    /// Compute every pixel, also where nothing can have changed.
    pub dense: bool,
    /// Every step by itself, so that it can be timed.
    pub by_step: bool,
    pub capacity: Capacity,
}

/// How much of a frame there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Before they are in pillars; for whole frames only.
    pub points: usize,
    pub pillars: usize,
    /// Of points in pillars, and of padding.
    pub rows: usize,
}

impl Capacity {
    /// The larger of both.
    pub(super) fn or(self, other: Self) -> Self {
        Self { points: self.points.max(other.points), pillars: self.pillars.max(other.pillars), rows: self.rows.max(other.rows) }
    }

    /// Of an axis, at most.
    pub(super) fn of(self, dim: Dim) -> usize {
        match dim {
            Dim::Fixed(n) => n,
            Dim::Points => self.rows,
            Dim::Pillars => self.pillars,
            Dim::Batch => 1,
        }
    }
}

impl Default for ProgramOptions {
    fn default() -> Self {
        Self { dense: false, by_step: false, capacity: Capacity { points: 0, pillars: 32_768, rows: 65_536 } }
    }
}

impl Program {
    /// Copies weights to the device and prepares its kernels. The device has nothing else to do.
    ///
    /// # Errors
    /// Not enough memory, or a plan that is too large for 32-bit offsets.
    pub fn build(
        engine: &Int8Engine,
        device: &mut dyn Device,
        options: ProgramOptions,
        frame: Option<&FrameRules>,
    ) -> Result<Self, DeviceError> {
        let plan = &engine.plan;
        let mut slots = vec![0; plan.slots.len()];
        for buffer in &plan.buffers {
            let len = Image::of(buffer).len();
            if u32::try_from(len).is_err() {
                return Err(DeviceError::Plan("a value is larger than 4 GiB".into()));
            }
            slots[buffer.slot] = slots[buffer.slot].max(len);
        }
        let mut builder = Builder {
            engine,
            plan,
            device,
            options,
            slots: Vec::new(),
            seen: Vec::new(),
            arrays: vec![None; plan.arrays.len()],
            counts: Memory::NULL,
            setup: Vec::new(),
            ends: Memory::NULL,
            pending: Vec::new(),
            counting: Vec::new(),
            all: Vec::new(),
            first_pending: 0,
            pieces: Vec::new(),
            clear: Vec::new(),
            scatters: Vec::new(),
            inputs: Vec::new(),
            indices: Vec::new(),
            activations: 0,
            weights: 0,
        };
        builder.slots = slots.into_iter().map(|len| builder.activation(len)).collect::<Result<_, _>>()?;
        builder.seen = plan.buffers.iter().map(|b| builder.activation(b.height * b.width)).collect::<Result<_, _>>()?;
        builder.counts = builder.activation(4 * plan.steps.len())?;
        builder.ends = builder.activation(8 * plan.steps.len())?;
        builder.run(frame)
    }
}

pub(super) struct Builder<'a> {
    pub(super) engine: &'a Int8Engine,
    pub(super) plan: &'a Plan,
    device: &'a mut dyn Device,
    pub(super) options: ProgramOptions,
    /// By slot.
    slots: Vec<Memory>,
    /// By buffer: which pixels saw a pillar.
    pub(super) seen: Vec<Memory>,
    arrays: Vec<Option<Memory>>,
    /// By step: how many windows are in its list.
    pub(super) counts: Memory,
    /// What runs once.
    setup: Vec<Launch>,
    ends: Memory,
    pub(super) pending: Vec<Launch>,
    /// The same, with counting.
    counting: Vec<Launch>,
    /// Everything that ran on the device so far.
    all: Vec<Launch>,
    first_pending: usize,
    pieces: Vec<Piece>,
    clear: Vec<Launch>,
    pub(super) scatters: Vec<ScatterMemory>,
    pub(super) inputs: Vec<InputMemory>,
    pub(super) indices: Vec<IndexMemory>,
    activations: usize,
    weights: usize,
}

impl Builder<'_> {
    fn run(mut self, frame: Option<&FrameRules>) -> Result<Program, DeviceError> {
        let on_host = arrays_of_host(self.plan);
        let mut done = None;
        for (at, step) in self.plan.steps.iter().enumerate() {
            match &step.kind {
                _ if done == Some(at) => {}
                StepKind::Float { engine, indices, outputs, .. } if runs_on_device(self.plan, &step.kind) => {
                    self.segment(engine, indices, outputs)?;
                }
                StepKind::Float { inputs, outputs, .. } => {
                    self.flush(at)?;
                    let inside = inputs.iter().filter_map(|(_, s)| if let Source::Inside(view) = s { Some(view.array) } else { None });
                    let downloads = inside.filter(|&a| !on_host[a]).collect();
                    let uploads = outputs.iter().map(|o| o.1).filter(|&a| self.read_by_device(a)).collect();
                    self.pieces.push(Piece::Host { step: at, downloads, uploads });
                    self.first_pending = at + 1;
                }
                StepKind::Load { to, .. } => {
                    self.flush(at)?;
                    let uploads = if self.read_by_device(*to) { vec![*to] } else { vec![] };
                    self.pieces.push(Piece::Host { step: at, downloads: vec![], uploads });
                    self.first_pending = at + 1;
                }
                StepKind::Scatter { features, index, to } => self.scatter(features, index, to)?,
                StepKind::Quantize { from, to } => {
                    self.pad(to.buffer);
                    let (inverse, clamp) = to.grid.quantizer().parts();
                    self.change_form("quantize", to, from, inverse, &clamp)?;
                }
                StepKind::Dequantize { from, to } => {
                    let floats = FloatView { array: *to, first: 0, channels: from.channels };
                    self.change_form("dequantize", from, &floats, from.grid.scale, &from.grid.clamp(false))?;
                }
                StepKind::Add { a, b, to, add, opens } => self.add(a, b, to, add, *opens),
                StepKind::Conv(conv) => {
                    let sparse = self.engine.empty[at].is_some() && !self.options.dense;
                    match fused_addition(self.plan, at).filter(|_| !sparse) {
                        Some(fused) => {
                            self.conv_and_add(conv, &fused)?;
                            done = Some(at + 1);
                        }
                        None => self.conv(at, conv, sparse)?,
                    }
                }
            }
            self.count_ends(at, done == Some(at + 1));
            if self.options.by_step {
                self.flush(at + 1)?;
            }
        }
        self.flush(self.plan.steps.len())?;
        let setup = self.device.prepare(std::mem::take(&mut self.setup))?;
        self.device.run(setup)?;
        let forget = turns("zero", 2 * self.plan.steps.len(), Args::new(&[self.ends]).words(&[2 * self.plan.steps.len()]));
        let forget_ends = self.device.prepare(vec![forget])?;
        let (clear, network) = (std::mem::take(&mut self.clear), std::mem::take(&mut self.all));
        let frame = match frame {
            Some(rules) if matches!(self.pieces[..], [Piece::Device { .. }]) => self.frame(rules, &clear, &network)?,
            _ => None,
        };
        let clear = if clear.is_empty() { None } else { Some(self.device.prepare(clear)?) };
        let mut results: Vec<usize> = self.plan.outputs.iter().map(|o| o.view.array).filter(|&a| !on_host[a]).collect();
        results.sort_unstable();
        results.dedup();
        Ok(Program {
            pieces: self.pieces,
            inputs: self.inputs,
            indices: self.indices,
            clear,
            arrays: self.arrays,
            scatters: self.scatters,
            forget_ends,
            ends: self.ends,
            results,
            frame,
            memory_bytes: (self.activations, self.weights),
        })
    }

    /// Repeats what is new in `pending` for counting, and has the step's results counted if they are there.
    fn count_ends(&mut self, at: usize, is_fused: bool) {
        let counted = self.counting.iter().filter(|launch| launch.kernel != COUNT_ENDS).count();
        self.counting.extend_from_slice(&self.pending[counted..]);
        let Some(Ends { buffer, first, channels, low, high }) = Ends::of(self.plan, at).filter(|_| !is_fused) else { return };
        let own = &self.plan.buffers[buffer];
        let seen = if own.repeat.is_some() && !self.options.dense { self.seen[buffer] } else { Memory::NULL };
        let (memory, image) = self.image(buffer, first);
        let args = Args::new(&[memory, seen, self.ends.offset(8 * at)]).words(&[own.height, own.width]).words(&image.words()).words(&[
            channels,
            usize::from(low.unwrap_or(high)),
            usize::from(high),
        ]);
        self.counting.push(turns(COUNT_ENDS, own.height * own.width * channels, args));
    }

    /// Ends a piece before step `next`.
    fn flush(&mut self, next: usize) -> Result<(), DeviceError> {
        if !self.pending.is_empty() {
            self.all.extend_from_slice(&self.pending);
            let sequence = self.device.prepare(std::mem::take(&mut self.pending))?;
            let counting = self.device.prepare(std::mem::take(&mut self.counting))?;
            self.pieces.push(Piece::Device { steps: [self.first_pending, next], sequence, counting });
        }
        self.first_pending = next;
        Ok(())
    }

    pub(super) fn prepare(&mut self, launches: Vec<Launch>) -> Result<usize, DeviceError> {
        self.device.prepare(launches)
    }

    pub(super) fn activation(&mut self, bytes: usize) -> Result<Memory, DeviceError> {
        self.activations += bytes;
        self.device.allocate(bytes.max(1))
    }

    /// Memory with something in it that stays as it is.
    pub(super) fn constant(&mut self, bytes: &[u8]) -> Result<Memory, DeviceError> {
        self.weights += bytes.len();
        let memory = self.device.allocate(bytes.len().max(1))?;
        self.device.upload(memory, bytes)?;
        Ok(memory)
    }

    pub(super) fn words(&mut self, words: impl IntoIterator<Item = u32>) -> Result<Memory, DeviceError> {
        self.constant(&words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>())
    }

    /// A float array on the device, and the floats of a row of it.
    pub(super) fn array(&mut self, array: usize) -> Result<(Memory, usize), DeviceError> {
        let shape = &self.plan.arrays[array];
        let len: usize = shape.iter().map(|&d| self.options.capacity.of(d)).product();
        let row = if let Some(Dim::Fixed(n)) = shape.last() { *n } else { 1 };
        let memory = match self.arrays[array] {
            Some(memory) => memory,
            None => self.activation(4 * len)?,
        };
        self.arrays[array] = Some(memory);
        Ok((memory, row))
    }

    /// Whether a float array is an image of this height and width.
    pub(super) fn is_image(&self, array: usize, size: [usize; 2]) -> bool {
        matches!(self.plan.arrays[array][..], [_, Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(_)] if [height, width] == size)
    }

    /// The image in which a value lies, from its first channel on.
    pub(super) fn image(&self, buffer: usize, first: usize) -> (Memory, Image) {
        let image = Image::of(&self.plan.buffers[buffer]);
        (self.slots[self.plan.buffers[buffer].slot], Image { at: image.at + first, ..image })
    }

    fn read_by_device(&self, array: usize) -> bool {
        self.plan.steps.iter().any(|step| match &step.kind {
            StepKind::Scatter { features: view, .. } | StepKind::Quantize { from: view, .. } => view.array == array,
            _ => false,
        })
    }

    /// Has a buffer's border filled: each time, unless nothing else ever lies where the border is.
    pub(super) fn pad(&mut self, buffer: usize) {
        let own = &self.plan.buffers[buffer];
        if own.border == 0 {
            return;
        }
        let image = Image::of(own);
        let args = Args::new(&[self.slots[own.slot]]).words(&[
            own.height + 2 * own.border,
            own.width + 2 * own.border,
            own.border,
            image.pixel,
            usize::from(own.zero),
        ]);
        let pixels = 2 * own.border * (own.width + 2 * own.border + own.height);
        let launch = turns("pad", pixels * image.pixel / ALIGNMENT, args);
        let undisturbed = |b: &Buffer| b.slot != own.slot || (Image::of(b) == image && b.border == own.border && b.zero == own.zero);
        if !self.plan.buffers.iter().all(undisturbed) {
            self.pending.push(launch);
        } else if !self.setup.contains(&launch) {
            self.setup.push(launch);
        }
    }

    fn scatter(&mut self, features: &FloatView, index: &str, to: &View) -> Result<(), DeviceError> {
        let buffer = &self.plan.buffers[to.buffer];
        let (floats, row) = self.array(features.array)?;
        let (bytes, image) = self.image(to.buffer, to.first);
        // Nothing else ever lies there: an empty canvas, on which only the cells of a frame change.
        self.device.upload(bytes, &vec![buffer.zero; Image::of(buffer).len()])?;
        let (cells, count) = (self.activation(4 * self.options.capacity.pillars)?, self.activation(4)?);
        let (inverse, clamp) = to.grid.quantizer().parts();
        let args = |channels| {
            Args::new(&[bytes, self.seen[to.buffer], cells, count, floats])
                .words(&[buffer.width])
                .words(&image.words())
                .words(&[channels, row, features.first])
                .float(inverse)
                .clamp(&clamp)
        };
        let most = self.options.capacity.pillars * to.channels;
        self.clear.push(turns("clear_cells", most, args(to.channels)));
        self.pending.push(turns("scatter", most, args(to.channels)));
        self.scatters.push(ScatterMemory { index: index.to_owned(), width: buffer.width, cells, count });
        Ok(())
    }

    fn change_form(&mut self, kernel: &str, bytes: &View, floats: &FloatView, factor: f32, clamp: &Clamp) -> Result<(), DeviceError> {
        let buffer = &self.plan.buffers[bytes.buffer];
        let (memory, image) = self.image(bytes.buffer, bytes.first);
        let (array, row) = self.array(floats.array)?;
        let args = Args::new(&[memory, array])
            .words(&[buffer.height, buffer.width])
            .words(&image.words())
            .words(&[bytes.channels, row, floats.first])
            .float(factor)
            .clamp(clamp);
        self.pending.push(turns(kernel, buffer.height * buffer.width * bytes.channels, args));
        Ok(())
    }

    fn add(&mut self, a: &View, b: &View, to: &View, add: &Addition, opens: bool) {
        if opens {
            self.pad(to.buffer);
        }
        let buffer = &self.plan.buffers[to.buffer];
        let [(a_bytes, a_image), (b_bytes, b_image), (to_bytes, to_image)] = [a, b, to].map(|v| self.image(v.buffer, v.first));
        let [a_seen, b_seen, to_seen] = [a, b, to].map(|v| self.seen[v.buffer]);
        let args = Args::new(&[a_bytes, b_bytes, to_bytes, a_seen, b_seen, to_seen])
            .words(&[buffer.height, buffer.width, to.channels])
            .words(&[a_image, b_image, to_image].map(|i| i.words()).concat())
            .words(&[usize::from(a.grid.zero), usize::from(b.grid.zero)])
            .float(add.a_factor)
            .float(add.b_factor)
            .clamp(&add.clamp)
            .words(&[usize::from(opens)]);
        self.pending.push(turns("add", buffer.height * buffer.width * to.channels, args));
    }
}

/// Which arrays steps on the host write.
fn arrays_of_host(plan: &Plan) -> Vec<bool> {
    let mut on_host = vec![false; plan.arrays.len()];
    for step in &plan.steps {
        match &step.kind {
            StepKind::Float { outputs, .. } if !runs_on_device(plan, &step.kind) => {
                outputs.iter().for_each(|&(_, array)| on_host[array] = true);
            }
            StepKind::Load { to, .. } => on_host[*to] = true,
            _ => {}
        }
    }
    on_host
}

/// How an image lies: its first pixel, and the way from row to row and from pixel to pixel.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Image {
    pub at: usize,
    pub row: usize,
    pub pixel: usize,
    /// With the border.
    pub rows: usize,
}

impl Image {
    /// Convolutions read whole chunks of a pixel, perhaps beyond the last one.
    const SLACK: usize = 64;

    /// On the device, a pixel starts at a multiple of 16 bytes.
    fn of(buffer: &Buffer) -> Self {
        let pixel = buffer.channels.next_multiple_of(ALIGNMENT);
        let row = (buffer.width + 2 * buffer.border) * pixel;
        Self { at: buffer.border * (row + pixel), row, pixel, rows: buffer.height + 2 * buffer.border }
    }

    fn len(&self) -> usize {
        self.rows * self.row + Self::SLACK
    }

    pub fn times(self, size: usize) -> Self {
        Self { at: self.at * size, row: self.row * size, pixel: self.pixel * size, ..self }
    }

    pub fn words(&self) -> [usize; 3] {
        [self.at, self.row, self.pixel]
    }
}
