//! A curve in the ground plane, known by its arc length.

pub(crate) type Vec2 = nalgebra::Vector2<f32>;

/// Distance between stored points, metres.
const STEP: f32 = 0.5;

#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Equally far apart along the curve, at least two.
    points: Vec<Vec2>,
    step: f32,
}

impl Path {
    /// Through these points (at least two, not all the same), by straight lines, resampled.
    pub fn through(corners: &[Vec2]) -> Self {
        let lengths: Vec<f32> = corners.windows(2).map(|w| (w[1] - w[0]).norm()).collect();
        let total: f32 = lengths.iter().sum();
        let count = (total / STEP).ceil().max(1.0) as usize;
        let step = total / count as f32;
        let mut points = Vec::with_capacity(count + 1);
        let (mut leg, mut before) = (0, 0.0);
        for i in 0..=count {
            let s = i as f32 * step;
            while leg + 1 < lengths.len() && s > before + lengths[leg] {
                before += lengths[leg];
                leg += 1;
            }
            let t = ((s - before) / lengths[leg].max(1e-6)).clamp(0.0, 1.0);
            points.push(corners[leg].lerp(&corners[leg + 1], t));
        }
        Self { points, step: step.max(1e-4) }
    }

    /// A cubic curve that leaves `from` along `out` and arrives at `to` along `into` (unit vectors).
    pub fn bend(from: Vec2, out: Vec2, to: Vec2, into: Vec2) -> Self {
        let reach = 0.4 * (to - from).norm();
        let (a, b) = (from + reach * out, to - reach * into);
        let corners: Vec<Vec2> = (0..=32)
            .map(|i| {
                let t = i as f32 / 32.0;
                let u = 1.0 - t;
                u * u * u * from + 3.0 * u * u * t * a + 3.0 * u * t * t * b + t * t * t * to
            })
            .collect();
        Self::through(&corners)
    }

    pub fn length(&self) -> f32 {
        self.step * (self.points.len() - 1) as f32
    }

    /// Position and unit direction at arc length `s`; straight on beyond the ends.
    pub fn at(&self, s: f32) -> (Vec2, Vec2) {
        let i = ((s / self.step).max(0.0) as usize).min(self.points.len() - 2);
        let t = s / self.step - i as f32;
        let chord = self.points[i + 1] - self.points[i];
        (self.points[i] + t * chord, chord / self.step)
    }

    pub fn points(&self) -> &[Vec2] {
        &self.points
    }

    /// The part from `s0` to `s1`, shifted `left` of it.
    pub fn beside(&self, left: f32, s0: f32, s1: f32) -> Self {
        let count = ((s1 - s0) / 1.0).ceil().max(2.0) as usize;
        let corners: Vec<Vec2> = (0..=count)
            .map(|i| {
                let (point, direction) = self.at(s0 + (s1 - s0) * i as f32 / count as f32);
                point + left * left_of(direction)
            })
            .collect();
        Self::through(&corners)
    }

    pub fn reversed(mut self) -> Self {
        self.points.reverse();
        self
    }
}

/// A quarter turn to the left.
pub(crate) fn left_of(direction: Vec2) -> Vec2 {
    Vec2::new(-direction.y, direction.x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arc_length_runs_around_a_corner() {
        let path = Path::through(&[Vec2::new(0.0, 0.0), Vec2::new(10.0, 0.0), Vec2::new(10.0, 5.0)]);
        assert!((path.length() - 15.0).abs() < 1e-4);
        let (point, direction) = path.at(12.25);
        assert!((point - Vec2::new(10.0, 2.25)).norm() < 1e-4 && (direction - Vec2::y()).norm() < 1e-4);
        assert!((path.at(16.0).0 - Vec2::new(10.0, 6.0)).norm() < 1e-3);
    }

    #[test]
    fn a_bend_keeps_its_end_directions_and_a_lane_its_distance() {
        let bend = Path::bend(Vec2::zeros(), Vec2::x(), Vec2::new(10.0, 10.0), Vec2::y());
        assert!((bend.at(0.0).1 - Vec2::x()).norm() < 0.05 && (bend.at(bend.length()).1 - Vec2::y()).norm() < 0.05);
        let lane = Path::through(&[Vec2::zeros(), Vec2::new(40.0, 0.0)]).beside(-1.5, 5.0, 35.0);
        assert!((lane.length() - 30.0).abs() < 1e-3 && (lane.at(10.0).0 - Vec2::new(15.0, -1.5)).norm() < 1e-3);
    }
}
