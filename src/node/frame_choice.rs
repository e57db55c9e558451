//! Which frames of a recording to calibrate with: spread over time, over the places where the robot was, and over what stood around it.
//!
//! A robot that waits at a crossing for a minute records a thousand frames of one scene. Frames are drawn one after the other, each with a
//! probability that grows with the square of its distance from the nearest one drawn before (the seeding of k-means++, Arthur and
//! Vassilvitskii 2007): whatever is far from everything chosen comes soon, and a single odd frame does not come for certain.

use super::evaluator::LabelledEvent;
use super::motion::MotionTracker;
use crate::graph::sha256_hex;
use crate::random::Rng;
use crate::sensor::PointCloud;
use std::collections::BTreeSet;

/// What tells frames of a recording apart.
#[derive(Clone, Debug, Default, PartialEq)]
struct Traits {
    /// Position among all frames of the inputs.
    number: usize,
    /// Seconds since the recording's first frame.
    time_s: f64,
    /// Of the inputs, in order.
    recording: usize,
    /// Metres and the heading's cosine and sine in a frame that stands still, if motion is known.
    place: Option<[f64; 4]>,
    occupancy: [f64; OCCUPANCY],
}

/// How many frames are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub frames: usize,
    pub held_out: usize,
}

/// Frames, by their position among all frames of the inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub calibrate: BTreeSet<usize>,
    pub held_out: BTreeSet<usize>,
}

/// What the frames of a recording are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// That come into question.
    seen: Vec<Traits>,
    fingerprint: String,
}

/// Sectors around the sensor and rings of each, beyond these ranges in metres.
const SECTORS: usize = 8;
const RINGS: [f32; 3] = [0.0, 15.0, 30.0];
const OCCUPANCY: usize = SECTORS * RINGS.len();
/// Frames that are looked at for each one that is wanted, evenly over the inputs: clouds of hours need not all be decoded.
const LOOKED_AT: usize = 24;

impl Survey {
    /// Looks through recordings of about `expected` frames, of which a choice will want `total`. Frames before which fewer than
    /// `sweeps - 1` others were recorded are left out where there are others: less is in them than the network will see. `on_frame` hears
    /// of each frame, and may end the reading by returning false.
    pub fn new(
        events: impl Iterator<Item = LabelledEvent>,
        expected: usize,
        mut motion: MotionTracker,
        (total, sweeps): (usize, usize),
        on_frame: &mut dyn FnMut() -> bool,
    ) -> Self {
        let every = (expected / (total * LOOKED_AT).max(1)).max(1);
        let (mut seen, mut thin) = (Vec::new(), Vec::new());
        let mut prints = Vec::new();
        let (mut number, mut recording, mut first, mut before) = (0, 0, None, 0);
        for event in events {
            let frame = match event {
                LabelledEvent::Start { .. } => {
                    motion.reset();
                    (recording, first, before) = (recording + 1, None, 0);
                    continue;
                }
                LabelledEvent::Motion(message) => {
                    motion.on_message(&message);
                    continue;
                }
                LabelledEvent::Cloud(cloud) => Some(cloud.input),
                LabelledEvent::Failed(_) => None,
            };
            if let Some(frame) = frame.filter(|_| number % every == every - 1) {
                let stamp = frame.cloud.stamp;
                let time_s = stamp.seconds_since(*first.get_or_insert(stamp));
                let place = motion.place(&frame.cloud.frame_id, stamp).map(|pose| {
                    let ([x, y, _], yaw) = (pose.translation(), pose.yaw());
                    [x, y, yaw.cos(), yaw.sin()]
                });
                prints.extend(print(&frame.cloud));
                let is_full = before + 1 >= sweeps || !frame.in_sequence;
                let traits = Traits { number, time_s, recording, place, occupancy: occupancy(&frame.cloud) };
                if is_full { &mut seen } else { &mut thin }.push(traits);
            }
            (number, before) = (number + 1, before + 1);
            if !on_frame() {
                break;
            }
        }
        if seen.len() < total {
            seen.append(&mut thin);
        }
        Self { seen, fingerprint: sha256_hex(&prints) }
    }

    /// `seed` decides what is left to chance.
    pub fn choose(&self, wanted: Wanted, seed: u64) -> Choice {
        let total = wanted.frames + wanted.held_out;
        let drawn = draw(&self.seen, total, seed);
        // What comes early is farther apart: both sets get of that.
        let judge_every = total.checked_div(wanted.held_out).map_or(usize::MAX, |every| every.max(2));
        let (held_out, calibrate): (Vec<_>, Vec<_>) = drawn.iter().enumerate().partition(|(i, _)| i % judge_every == judge_every - 1);
        let numbers = |set: Vec<(usize, &usize)>| set.into_iter().map(|(_, &i)| self.seen[i].number).collect();
        Choice { calibrate: numbers(calibrate), held_out: numbers(held_out) }
    }

    /// SHA-256, in hexadecimal, over time, number of points and sum of the coordinates' bits of every cloud that was looked at.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Frames that come into question.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

fn print(cloud: &PointCloud) -> Vec<u8> {
    let sum = cloud.data.iter().fold(0u64, |sum, x| sum.wrapping_mul(31).wrapping_add(u64::from(x.to_bits())));
    [cloud.stamp.0 as u64, cloud.len() as u64, sum].iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Logarithms of the numbers of points in sectors and rings.
fn occupancy(cloud: &PointCloud) -> [f64; OCCUPANCY] {
    let mut counts = [0.0; OCCUPANCY];
    for point in cloud.data.outer_iter() {
        let (range, angle) = (point[0].hypot(point[1]), point[1].atan2(point[0]));
        let sector = ((angle / std::f32::consts::TAU + 0.5) * SECTORS as f32) as usize % SECTORS;
        let ring = RINGS.iter().rposition(|from| range >= *from).unwrap_or(0);
        counts[sector * RINGS.len() + ring] += 1.0;
    }
    counts.map(|n: f64| n.ln_1p())
}

/// Coordinates in which time, position, heading and occupancy matter alike: each has a mean square of 1 over the frames.
fn coordinates(frames: &[Traits]) -> Vec<Vec<f64>> {
    let group = |f: &Traits, group: usize| match (group, f.place) {
        (0, _) => vec![f.time_s],
        (1, place) => place.map_or(vec![0.0; 2], |p| vec![p[0], p[1]]),
        (2, place) => place.map_or(vec![0.0; 2], |p| vec![p[2], p[3]]),
        _ => f.occupancy.to_vec(),
    };
    let mut all = vec![Vec::new(); frames.len()];
    for number in 0..4 {
        let mut values: Vec<Vec<f64>> = frames.iter().map(|f| group(f, number)).collect();
        let width = values.first().map_or(0, Vec::len);
        let count = frames.len().max(1) as f64;
        let means: Vec<f64> = (0..width).map(|i| values.iter().map(|v| v[i]).sum::<f64>() / count).collect();
        values.iter_mut().for_each(|v| v.iter_mut().zip(&means).for_each(|(x, mean)| *x -= mean));
        let spread = (values.iter().flatten().map(|x| x * x).sum::<f64>() / count).sqrt();
        for (all, values) in all.iter_mut().zip(values) {
            all.extend(values.into_iter().map(|x| if spread > 1e-9 { x / spread } else { 0.0 }));
        }
    }
    all
}

/// Frames of different recordings are at least this far apart, whatever their times and places, which cannot be compared.
const BETWEEN_RECORDINGS: f64 = 1.0;

/// Positions of the frames drawn, in the order of drawing.
fn draw(frames: &[Traits], count: usize, seed: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed, "calibration frames");
    let coordinates = coordinates(frames);
    let mut drawn: Vec<usize> = Vec::new();
    let mut distances = vec![f64::INFINITY; frames.len()];
    while drawn.len() < count.min(frames.len()) {
        let total: f64 = distances.iter().sum();
        let next = if drawn.is_empty() {
            rng.index(frames.len())
        } else if total > 0.0 {
            let mut left = f64::from(rng.unit()) * total;
            let passed = |d: &f64| {
                left -= d;
                left < 0.0
            };
            // Sums of floats may end a little below the total.
            distances.iter().position(passed).or_else(|| distances.iter().rposition(|d| *d > 0.0)).unwrap_or(0)
        } else {
            // What is left cannot be told apart from what is drawn.
            (0..frames.len()).find(|i| !drawn.contains(i)).unwrap_or(0)
        };
        drawn.push(next);
        for (i, distance) in distances.iter_mut().enumerate() {
            let apart: f64 = coordinates[i].iter().zip(&coordinates[next]).map(|(a, b)| (a - b) * (a - b)).sum();
            let apart = if frames[i].recording == frames[next].recording { apart } else { apart.max(BETWEEN_RECORDINGS) };
            *distance = if drawn.contains(&i) { 0.0 } else { distance.min(apart) };
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::Stamp;

    /// A robot that stands for 900 frames and then drives for 100.
    fn drive() -> Vec<Traits> {
        let frame = |i: usize| {
            let x = i.saturating_sub(900) as f64;
            let mut occupancy = [3.0; OCCUPANCY];
            occupancy[i.saturating_sub(900) / 20] = 5.0;
            Traits { number: i, time_s: i as f64 * 0.1, recording: 1, place: Some([x, 0.0, 1.0, 0.0]), occupancy }
        };
        (0..1000).map(frame).collect()
    }

    #[test]
    fn frames_are_drawn_where_something_changes() {
        let frames = drive();
        for seed in 1..4 {
            let drawn = draw(&frames, 40, seed);
            let moving = drawn.iter().filter(|&&i| i >= 900).count();
            // Evenly over time it would be 4.
            assert!(moving >= 15, "seed {seed}: {moving}");
            assert!(drawn.iter().any(|&i| i < 300) && drawn.iter().any(|&i| (300..900).contains(&i)));
            assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 40);
            assert_eq!(drawn, draw(&frames, 40, seed));
        }
        assert!(draw(&frames, 40, 1) != draw(&frames, 40, 2));
    }

    #[test]
    fn frames_that_are_all_alike_are_drawn_all_the_same() {
        let alike = vec![Traits { recording: 1, ..Traits::default() }; 5];
        let mut drawn = draw(&alike, 9, 1);
        drawn.sort_unstable();
        assert_eq!(drawn, [0, 1, 2, 3, 4]);
        assert!(draw(&[], 3, 1).is_empty());
    }

    #[test]
    fn occupancy_by_hand() {
        let data = ndarray::arr2(&[[20.0, 0.1, 0.0], [20.0, 0.2, 0.0], [-1.0, -0.1, 0.0]]);
        let fields = ["x", "y", "z"].map(String::from).to_vec();
        let cloud = PointCloud { stamp: Stamp(0), frame_id: "lidar".into(), fields, data };
        let found = occupancy(&cloud);
        // Straight on and a little left: the sector after the middle; straight back and a little right: the first.
        assert_eq!(found.iter().filter(|n| **n > 0.0).count(), 2);
        assert!((found[4 * 3 + 1] - 3f64.ln()).abs() < 1e-12 && (found[0] - 2f64.ln()).abs() < 1e-12, "{found:?}");
    }
}
