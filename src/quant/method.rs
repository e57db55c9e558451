//! The methods by name, each a composition of the same parts.

use super::frames::Cells;
use super::observer::{Clip, Entropy, STEP_SEARCH, Zeros};
use super::reconstruct::{ADAROUND, BRECQ, LIDAR_PTQ, PD_QUANT, QDROP, Reconstruction, TaskTerm};
use super::sampling::Weighing;
use super::task::Labels;
use super::weights::WeightScale;

/// A way from ranges and weights to integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// As on the command line and in a model's provenance.
    pub name: &'static str,
    pub about: &'static str,
    /// Whether channels are brought to like sizes first.
    pub equalized: bool,
    pub activations: Clip,
    pub cells: Cells,
    pub weights: WeightScale,
    pub rounding: Rounding,
}

/// Which of the integers around it a weight becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    Nearest,
    /// Those with which the layer's output is best, by the second moments of windows that are weighed like this.
    Adaptive(Weighing),
    /// Those that gradient descent finds, with steps of activations.
    Learnt(Reconstruction),
}

const EVEN: Weighing = Weighing { task: 0.0, occupied: 0.5 };
const TASK: Weighing = Weighing { task: 0.5, occupied: 0.25 };

const fn ranges(name: &'static str, about: &'static str, activations: Clip, cells: Cells) -> Method {
    Method { name, about, equalized: false, activations, cells, weights: WeightScale::MaxMin, rounding: Rounding::Nearest }
}

const fn entropy(zeros: Zeros) -> Clip {
    Clip::Entropy(Entropy::customary(zeros))
}

const GRID: Clip = Clip::LeastError(STEP_SEARCH);

const SOFT: Reconstruction = Reconstruction { task: Some(TaskTerm { labels: Labels::Soft, weight: 1.0 }), ..LIDAR_PTQ };

const fn adaptive(name: &'static str, about: &'static str, weighing: Weighing) -> Method {
    let weights = WeightScale::LeastError(STEP_SEARCH);
    Method { name, about, equalized: false, activations: GRID, cells: Cells::All, weights, rounding: Rounding::Adaptive(weighing) }
}

const fn learnt(name: &'static str, about: &'static str, recipe: Reconstruction) -> Method {
    let weights = WeightScale::LeastError(STEP_SEARCH);
    Method { name, about, equalized: false, activations: GRID, cells: Cells::All, weights, rounding: Rounding::Learnt(recipe) }
}

pub(super) const MAX_MIN: Method = ranges("max-min", "nothing is clipped", Clip::MaxMin, Cells::All);

/// Every method, in the order of LiDAR-PTQ's ladder.
pub const METHODS: [Method; 21] = [
    ranges(
        "entropy-s8",
        "KL divergence, zeros counted, 128 levels",
        Clip::Entropy(Entropy { levels: Some(128), ..Entropy::customary(Zeros::Counted) }),
        Cells::All,
    ),
    ranges("entropy", "KL divergence, zeros counted", entropy(Zeros::Counted), Cells::All),
    ranges("entropy-nvidia", "KL divergence, first bin replaced by the second", entropy(Zeros::FirstBinReplaced), Cells::All),
    ranges("entropy-nonzero", "KL divergence, zeros left out", entropy(Zeros::Skipped), Cells::All),
    ranges("entropy-occupied", "KL divergence over occupied cells, zeros left out", entropy(Zeros::Skipped), Cells::Occupied),
    ranges("percentile", "99.99 % of all values", Clip::Percentile { share: 0.9999, zeros: true }, Cells::All),
    ranges(
        "percentile-occupied",
        "99.99 % of the values in occupied cells",
        Clip::Percentile { share: 0.9999, zeros: false },
        Cells::Occupied,
    ),
    MAX_MIN,
    Method {
        weights: WeightScale::LeastError(STEP_SEARCH),
        ..ranges("grid", "LiDAR-PTQ's sparsity-based calibration: the step with the least squared error", GRID, Cells::All)
    },
    ranges("grid-activations", "that, of activations only", GRID, Cells::All),
    ranges("grid-occupied", "that, over occupied cells", GRID, Cells::Occupied),
    Method {
        cells: Cells::Occupied,
        ..adaptive("adaptive-occupied", "ranges over occupied cells, and adaptive rounding by the layer's output", EVEN)
    },
    adaptive("adaptive", "grid, and adaptive rounding by the layer's output", EVEN),
    adaptive("adaptive-task", "that, with the layer's output weighed by what it means to the task", TASK),
    Method { equalized: true, ..adaptive("lidar-ptq", "that, with channels brought to like sizes first", TASK) },
    learnt("adaround", "grid, and AdaRound layer by layer", ADAROUND),
    learnt("brecq", "grid, and BRECQ: block by block, errors weighed by Fisher's diagonal, steps afterwards", BRECQ),
    learnt("qdrop", "grid, and QDrop: block by block with steps, activations float at random", QDROP),
    learnt("pd-quant", "that, and PD-Quant's difference of scores", PD_QUANT),
    learnt("paper", "LiDAR-PTQ as published, its task-guided loss with soft labels", SOFT),
    learnt("paper-hard", "LiDAR-PTQ as published, its task-guided loss with pseudo-boxes", LIDAR_PTQ),
];

/// Their names.
pub const METHOD_NAMES: [&str; METHODS.len()] = {
    let mut names = [""; METHODS.len()];
    let mut at = 0;
    while at < METHODS.len() {
        names[at] = METHODS[at].name;
        at += 1;
    }
    names
};

impl Method {
    pub fn find(name: &str) -> Option<Self> {
        METHODS.into_iter().find(|m| m.name == name)
    }
}
