//! Head maps into boxes on the device.

use super::program::Builder;
use super::voxelize::{self, TILE};
use crate::engine::cuda::{Args, DeviceError, Launch, Memory};

/// Threads of a block; see `boxes.cu`.
const THREADS: usize = 512;
/// Words of a box, of a rectangle, and of what became of a task's candidates.
const BOX: usize = 12;
const RECT: usize = 18;
const FOUND: usize = 4;
/// More boxes of a task, or candidates that are chosen, than this are not for one block.
const MOST: usize = 1 << 14;

/// How head maps become boxes, in plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxRules {
    pub tasks: Vec<TaskRules>,
    /// Of a head map.
    pub height: usize,
    pub width: usize,
    /// The best so many pairs of class and cell of a task; otherwise each cell's best class.
    pub top_k: Option<usize>,
    /// The cosine comes before the sine, the width before the length.
    pub cosine_first: bool,
    pub width_first: bool,
    /// Yaws are `-yaw - pi/2`.
    pub det3d_yaw: bool,
    /// Grid cells per cell of a head map.
    pub factor: usize,
    /// Of the grid, x, y.
    pub voxel: [f32; 2],
    pub min: [f32; 2],
    /// Centres outside are dropped.
    pub range: [[f32; 3]; 2],
    pub suppression: Suppression,
    /// Boxes of a task, at most.
    pub post: usize,
}

/// The outputs of the network that belong to a task, by role, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRules {
    pub heatmap: String,
    pub offset: String,
    pub height: String,
    pub size: String,
    pub rotation: String,
    pub velocity: Option<String>,
    /// By class: what a score must be above, and a bound on the logit below which no score is.
    pub thresholds: Vec<[f32; 2]>,
    /// Square metres, of suppression by distance.
    pub min_radius: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Suppression {
    Near,
    /// Of the best `pre`, by overlap.
    Iou3d {
        pre: usize,
        threshold: f32,
    },
    Mmcv {
        pre: usize,
        threshold: f32,
    },
}

/// A box as it comes from the device. Its yaw is not wrapped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceBox {
    pub center: [f32; 3],
    pub size: [f32; 3],
    pub yaw: f32,
    pub velocity: [f32; 2],
    pub score: f32,
    /// Within the task.
    pub class: usize,
}

/// What was found for a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskBoxes {
    /// Best first.
    pub boxes: Vec<DeviceBox>,
    /// Candidates within the range, before suppression.
    pub candidates: usize,
    /// Candidates that were dropped because their box is not finite.
    pub non_finite: usize,
}

impl BoxRules {
    /// Words of all that is found.
    pub(super) fn words(&self) -> usize {
        self.tasks.len() * (FOUND + self.post * BOX)
    }

    /// From those words.
    pub(super) fn read(&self, words: &[u32]) -> Vec<TaskBoxes> {
        let (found, boxes) = words.split_at(FOUND * self.tasks.len());
        let of_task = |(found, boxes): (&[u32], &[u32])| TaskBoxes {
            boxes: boxes.chunks_exact(BOX).take(found[2] as usize).map(DeviceBox::read).collect(),
            candidates: found[0] as usize,
            non_finite: found[1] as usize,
        };
        found.chunks_exact(FOUND).zip(boxes.chunks_exact(self.post.max(1) * BOX)).map(of_task).collect()
    }
}

impl DeviceBox {
    fn read(words: &[u32]) -> Self {
        let at = |i: usize| f32::from_bits(words[i]);
        Self {
            center: [at(0), at(1), at(2)],
            size: [at(3), at(4), at(5)],
            yaw: at(6),
            velocity: [at(7), at(8)],
            score: at(9),
            class: words[10] as usize,
        }
    }
}

impl Builder<'_> {
    /// The launches that find boxes in the network's outputs and write them to `results`. `None` where the network's outputs are others, or
    /// more is to be found than a block should look for.
    pub(super) fn boxes(&mut self, rules: &BoxRules, results: Memory) -> Result<Option<Vec<Launch>>, DeviceError> {
        let cells = rules.height * rules.width;
        let (circles, pre, mmcv, threshold) = match rules.suppression {
            Suppression::Near => (true, 0, false, 0.0),
            Suppression::Iou3d { pre, threshold } => (false, pre, false, threshold),
            Suppression::Mmcv { pre, threshold } => (false, pre, true, threshold),
        };
        if rules.tasks.is_empty() || rules.post == 0 || rules.post.max(rules.top_k.unwrap_or(0)) > MOST {
            return Ok(None);
        }
        let items = |classes: usize| if rules.top_k.is_some() { cells * classes } else { cells };
        // All heat maps have as many tiles as the largest.
        let tiles = rules.tasks.iter().map(|t| items(t.thresholds.len()).div_ceil(TILE)).max().unwrap_or(0).max(1);
        let mut heads = Vec::new();
        for (task, own) in rules.tasks.iter().enumerate() {
            let classes = own.thresholds.len();
            // How many channels a map must have.
            let maps = [(&own.heatmap, classes), (&own.offset, 2), (&own.height, 1), (&own.size, 3), (&own.rotation, 2)];
            let mut pointers = Vec::new();
            for (role, channels) in maps.into_iter().map(|(role, n)| (Some(role), n)).chain([(own.velocity.as_ref(), 2)]) {
                let Some(role) = role else {
                    pointers.extend([Memory::NULL; 2]);
                    continue;
                };
                let Some(view) = self.plan.outputs.iter().find(|o| o.role == *role).map(|o| o.view) else { return Ok(None) };
                if view.channels != channels || !self.is_image(view.array, [rules.height, rules.width]) {
                    return Ok(None);
                }
                let (memory, row) = self.array(view.array)?;
                pointers.extend([memory.offset(4 * view.first), Memory(row as u64)]);
            }
            let peaks = items(classes);
            let candidates = rules.top_k.map_or(peaks, |count| peaks.min(count));
            pointers.push(self.words(own.thresholds.iter().flatten().map(|t| t.to_bits()))?);
            for bytes in [4 * tiles, 8 * peaks, 4 * peaks, 4 * BOX * candidates, 4 * RECT * candidates] {
                pointers.push(self.activation(bytes)?);
            }
            pointers.push(results.offset(4 * FOUND * task));
            pointers.push(results.offset(4 * (FOUND * rules.tasks.len() + BOX * rules.post * task)));
            heads.extend(Args::new(&pointers).words(&[classes]).float(own.min_radius).bytes());
        }
        let heads = self.constant(&heads)?;
        let flags = [rules.cosine_first, rules.width_first, rules.det3d_yaw, circles].map(usize::from);
        let args = Args::new(&[heads])
            .words(&[rules.width, cells, rules.top_k.unwrap_or(0)])
            .words(&flags)
            .words(&[pre, rules.post, usize::from(mmcv)])
            .float(threshold)
            .float(rules.factor as f32);
        let floats = rules.voxel.iter().chain(&rules.min).chain(rules.range.iter().flatten());
        let args = floats.fold(args, |args, &float| args.float(float));
        let suppress = match rules.suppression {
            Suppression::Near => "suppress_near",
            Suppression::Iou3d { .. } => "suppress_iou3d",
            Suppression::Mmcv { .. } => "suppress_mmcv",
        };
        let tasks = rules.tasks.len();
        let launch = |kernel: &str, grid: [usize; 2], threads: usize| Launch {
            kernel: kernel.to_owned(),
            grid: [grid[0] as u32, grid[1] as u32, 1],
            threads: threads as u32,
            args: args.clone(),
        };
        Ok(Some(vec![
            launch("peaks_count", [tiles, tasks], voxelize::THREADS),
            launch("peaks_place", [tiles, tasks], voxelize::THREADS),
            launch("find_candidates", [tasks, 1], THREADS),
            launch(suppress, [tasks, 1], THREADS),
        ]))
    }
}
