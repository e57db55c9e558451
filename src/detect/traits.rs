//! What a cloud is like, in a few numbers: to notice clouds that are unlike those of a model's calibration.

use super::{DetectorConfig, PillarInput};
use crate::graph::Spread;
use std::collections::BTreeMap;

/// Numbers about a cloud by name.
pub type CloudTraits = BTreeMap<String, f32>;

/// A deviation counts as at least this share of the mean: frames of one short recording are alike.
const LEAST_DEVIATION: f32 = 0.1;
/// And as at least this: means may be near zero.
const LEAST_MEAN: f32 = 0.1;

/// `points` and `pillars` within the grid, and the mean of each feature of the points, such as `mean_z` (how the sensor is mounted) and
/// `mean_intensity` (its scale). Not of x and y, which the surroundings decide, nor of time, which begins anew with each recording.
pub fn cloud_traits(config: &DetectorConfig, input: &PillarInput) -> CloudTraits {
    let (kept, pillars) = (input.report.kept, input.report.pillars);
    let mut traits = CloudTraits::from([("points".to_owned(), kept as f32), ("pillars".to_owned(), pillars as f32)]);
    if kept > 0 {
        for (column, feature) in config.points.features.iter().enumerate().filter(|(_, f)| !["x", "y", "time"].contains(&f.as_str())) {
            // Rows of padding are zero and add nothing.
            let sum: f64 = input.features.column(column).iter().map(|&v| f64::from(v)).sum();
            traits.insert(format!("mean_{feature}"), (sum / kept as f64) as f32);
        }
    }
    traits
}

/// A trait, and how far it is from what calibration saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    pub name: String,
    pub value: f32,
    pub seen: Spread,
    /// In deviations.
    pub deviations: f32,
}

/// Those traits of a cloud that calibration has noted, farthest off first.
pub fn drift(traits: &CloudTraits, seen: &BTreeMap<String, Spread>) -> Vec<Drift> {
    let of = |(name, &seen): (&String, &Spread)| {
        let value = *traits.get(name)?;
        let deviation = seen.deviation.max(LEAST_DEVIATION * seen.mean.abs().max(LEAST_MEAN));
        Some(Drift { name: name.clone(), value, seen, deviations: (value - seen.mean).abs() / deviation })
    };
    let mut all: Vec<Drift> = seen.iter().filter_map(of).collect();
    all.sort_by(|a, b| b.deviations.total_cmp(&a.deviations));
    all
}

/// By trait, over frames.
pub fn spreads(frames: &[CloudTraits]) -> BTreeMap<String, Spread> {
    let mut values: BTreeMap<&String, Vec<f32>> = BTreeMap::new();
    for (name, &value) in frames.iter().flatten() {
        values.entry(name).or_default().push(value);
    }
    values.into_iter().map(|(name, values)| (name.clone(), Spread::of(&values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{self, CodeBase};
    use crate::detect::{Pillarizer, Voxelization};
    use ndarray::array;

    #[test]
    fn traits_by_hand() {
        let mut config = test_support::config(CodeBase::Det3d);
        config.voxelization = Voxelization::Hard { max_points: 3, max_pillars: 9 };
        assert_eq!(config.points.features, ["x", "y", "z", "intensity", "time"]);
        // Two in a pillar with room for a third, one beside it, one outside.
        let points =
            array![[1.01f32, 1.0, -1.0, 10.0, 0.0], [1.02, 1.0, -2.0, 20.0, 0.1], [9.0, 9.0, 0.0, 60.0, 0.2], [999.0, 0.0, 2.0, 90.0, 0.0]];
        let input = Pillarizer::new(&config).unwrap().pillarize(points.view()).unwrap();
        let traits = cloud_traits(&config, &input);
        let expected = [("points", 3.0), ("pillars", 2.0), ("mean_z", -1.0), ("mean_intensity", 30.0)];
        assert_eq!(traits, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn drift_is_counted_in_deviations_of_calibration() {
        let frame = |points: f32, z: f32| CloudTraits::from([("points".to_owned(), points), ("mean_z".to_owned(), z)]);
        let seen = spreads(&[frame(1000.0, -1.0), frame(3000.0, -1.0)]);
        assert_eq!(seen["points"], Spread { mean: 2000.0, deviation: 1000.0 });
        assert_eq!(seen["mean_z"], Spread { mean: -1.0, deviation: 0.0 });
        let found = drift(&frame(4000.0, -1.5), &seen);
        // The mean of z hardly changed in calibration; it counts as if by a tenth.
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("mean_z", "points"));
        assert!((found[0].deviations - 5.0).abs() < 1e-5 && (found[1].deviations - 2.0).abs() < 1e-5, "{found:?}");
        assert!(drift(&frame(1.0, 1.0), &BTreeMap::new()).is_empty());
    }
}
