//! The points' own times: which field holds them, and what its numbers mean.

use super::{PointCloud, Stamp};
use serde::{Deserialize, Serialize};

/// The column of a cloud that holds its points' lag: seconds before the cloud's stamp.
pub const TIME: &str = "time";

/// Where a cloud's points keep their own times. Drivers agree neither on name, nor unit, nor direction:
///
/// | driver | field | unit | reference |
/// |---|---|---|---|
/// | nuScenes-like files, this project | `time` | `s` | `before_stamp` |
/// | Velodyne (stamp at the scan's end, negative values) | `time` | `s` | `after_stamp` |
/// | Ouster (stamp at the scan's start) | `t` | `ns` | `after_stamp`, or `scan_start` for lags from 0 up |
/// | Hesai, RoboSense | `timestamp` | `s` | `clock` |
/// | Livox | `timestamp` | `ns` | `clock` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PointTime {
    /// Name of the field in the cloud; `null`: points have no times of their own, whatever the cloud has. A cloud without the
    /// field `time` has no own times, a cloud without a field of another name is an error.
    pub field: Option<String>,
    pub unit: TimeUnit,
    pub reference: TimeReference,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    #[default]
    S,
    Ms,
    Us,
    Ns,
}

/// What a point's time counts from, and in which direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeReference {
    /// Back from the cloud's stamp: the lag itself.
    #[default]
    BeforeStamp,
    /// Forward from the cloud's stamp; negative values are before it.
    AfterStamp,
    /// Forward from the start of the scan, wherever the stamp is: the last point has lag 0.
    ScanStart,
    /// The time of the stamp's own clock.
    Clock,
}

/// A cloud whose points' times are not to be had as asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PointTimeError {
    #[error(
        "the cloud has no field `{field}` for its points' times; it has: {found}. Name its field in `points.time.field` (--time-field), `none` if there is none"
    )]
    NoField { field: String, found: String },
    #[error(
        "the cloud's field `{field}` is there as float32, which holds a clock's seconds only to the next two minutes; `clock` in `points.time.reference` (--time-reference) is for bags"
    )]
    Imprecise { field: String },
}

/// Lags beyond this many seconds are no part of a scan, nor of ten merged ones.
const LONGEST_LAG_S: f32 = 1.0;

impl Default for PointTime {
    fn default() -> Self {
        Self { field: Some(TIME.into()), unit: TimeUnit::S, reference: TimeReference::BeforeStamp }
    }
}

impl TimeUnit {
    fn seconds(self) -> f64 {
        match self {
            TimeUnit::S => 1.0,
            TimeUnit::Ms => 1e-3,
            TimeUnit::Us => 1e-6,
            TimeUnit::Ns => 1e-9,
        }
    }
}

impl PointTime {
    /// Makes the cloud's column of points' times, if it has one, its column `time` of lags. Any other column that is called
    /// `time` is taken away.
    ///
    /// `exact`: the column's numbers at full precision; a float32 holds today's time in seconds only to the next two minutes.
    /// Returns the smallest and largest lag, `None` without own times or without points. What is not finite becomes 0.
    ///
    /// # Errors
    /// A cloud without the named field; `present` are the fields that it had where it came from. A clock's time that is not exact.
    pub fn apply(&self, cloud: &mut PointCloud, exact: Option<&[f64]>, present: &[String]) -> Result<Option<[f32; 2]>, PointTimeError> {
        // Coordinates are none of its business, whoever names them.
        let column = self.field.as_deref().and_then(|field| cloud.field_index(field)).filter(|column| *column >= 3);
        if let Some(other) = cloud.field_index(TIME).filter(|other| Some(*other) != column) {
            cloud.fields[other] = "time_not_used".into();
        }
        let Some(column) = column else {
            return match &self.field {
                Some(field) if field != TIME && !cloud.is_empty() => {
                    Err(PointTimeError::NoField { field: field.clone(), found: present.join(", ") })
                }
                _ => Ok(None),
            };
        };
        if self.reference == TimeReference::Clock && exact.is_none() {
            return Err(PointTimeError::Imprecise { field: cloud.fields[column].clone() });
        }
        let raw = exact.map_or_else(|| cloud.data.column(column).iter().map(|v| f64::from(*v)).collect(), <[f64]>::to_vec);
        let lags = self.lags(&raw, cloud.stamp);
        cloud.fields[column] = TIME.into();
        cloud.data.column_mut(column).iter_mut().zip(&lags).for_each(|(value, lag)| *value = *lag);
        let range = lags.iter().map(|lag| [*lag; 2]);
        Ok(range.reduce(|[low, high], [l, h]| [low.min(l), high.max(h)]))
    }

    /// Seconds before the stamp.
    fn lags(&self, raw: &[f64], stamp: Stamp) -> Vec<f32> {
        let unit = self.unit.seconds();
        let latest = raw.iter().copied().filter(|v| v.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let stamp_s = stamp.0.div_euclid(1_000_000_000);
        let stamp_ns = stamp.0.rem_euclid(1_000_000_000);
        let lag = |raw: f64| match self.reference {
            TimeReference::BeforeStamp => raw * unit,
            TimeReference::AfterStamp => -raw * unit,
            TimeReference::ScanStart => (latest - raw) * unit,
            // Whole seconds first: their difference is exact.
            TimeReference::Clock => {
                let seconds = (raw * unit).floor();
                (stamp_s as f64 - seconds) + (stamp_ns as f64 * 1e-9 - (raw * unit - seconds))
            }
        };
        raw.iter().map(|raw| lag(*raw) as f32).map(|lag| if lag.is_finite() { lag } else { 0.0 }).collect()
    }

    /// The lags that points of a scan, or of ten merged ones, can have.
    pub fn usual_lags(&self) -> [f32; 2] {
        match self.reference {
            TimeReference::BeforeStamp | TimeReference::ScanStart => [0.0, LONGEST_LAG_S],
            TimeReference::AfterStamp | TimeReference::Clock => [-LONGEST_LAG_S, LONGEST_LAG_S],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    const STAMP: Stamp = Stamp(1_700_000_000_250_000_000);

    fn point_time(field: &str, unit: TimeUnit, reference: TimeReference) -> PointTime {
        PointTime { field: Some(field.into()), unit, reference }
    }

    /// One scan of 0.1 s as drivers give it: what they write, and the lags that this stands for.
    #[test]
    fn one_scan_in_the_words_of_several_drivers() {
        let start = 1_700_000_000.25;
        // Field, unit, reference, values, lags. The stamp is 0.25 s after the full second.
        let drivers: [(PointTime, [f64; 3], [f32; 3]); 7] = [
            (PointTime::default(), [0.1, 0.05, 0.0], [0.1, 0.05, 0.0]),
            // Velodyne: stamp at the end, times before it negative.
            (point_time("time", TimeUnit::S, TimeReference::AfterStamp), [-0.1, -0.05, 0.0], [0.1, 0.05, 0.0]),
            // Ouster: stamp at the start.
            (point_time("t", TimeUnit::Ns, TimeReference::AfterStamp), [0.0, 5e7, 1e8], [0.0, -0.05, -0.1]),
            (point_time("t", TimeUnit::Ns, TimeReference::ScanStart), [0.0, 5e7, 1e8], [0.1, 0.05, 0.0]),
            (point_time("t", TimeUnit::Us, TimeReference::ScanStart), [100.0, 50_100.0, 100_100.0], [0.1, 0.05, 0.0]),
            // Hesai, stamp at the start; Livox, stamp at the end.
            (point_time("timestamp", TimeUnit::S, TimeReference::Clock), [start, start + 0.05, start + 0.1], [0.0, -0.05, -0.1]),
            (
                point_time("timestamp", TimeUnit::Ns, TimeReference::Clock),
                [1.70000000015e18, 1.7000000002e18, 1.70000000025e18],
                [0.1, 0.05, 0.0],
            ),
        ];
        for (point_time, raw, expected) in drivers {
            for (found, expected) in point_time.lags(&raw, STAMP).into_iter().zip(expected) {
                // A double holds today's seconds to 0.24 microseconds.
                assert!((found - expected).abs() < 5e-7, "{point_time:?}: {found}, {expected}");
            }
        }
    }

    fn cloud(fields: &[&str], data: Array2<f32>) -> PointCloud {
        PointCloud { stamp: STAMP, frame_id: "lidar".into(), fields: fields.iter().map(|f| f.to_string()).collect(), data }
    }

    #[test]
    fn the_column_is_found_converted_and_renamed() {
        let fields = ["x", "y", "z", "time", "t"];
        let data = array![[1.0, 2.0, 3.0, 99.0, 0.0], [4.0, 5.0, 6.0, 98.0, 1e8], [4.0, 5.0, 6.0, 98.0, f32::NAN]];
        let mut found = cloud(&fields, data.clone());
        let range = point_time("t", TimeUnit::Ns, TimeReference::ScanStart).apply(&mut found, None, &[]).unwrap();
        assert_eq!((range, found.column("time").unwrap().to_vec()), (Some([0.0, 0.1]), vec![0.1, 0.0, 0.0]));
        assert_eq!(found.data.column(3), data.column(3));

        let mut without = cloud(&fields, data.clone());
        let none = PointTime { field: None, ..PointTime::default() };
        assert_eq!((none.apply(&mut without, None, &[]), without.column("time")), (Ok(None), None));

        let mut default = cloud(&fields, data);
        assert_eq!(PointTime::default().apply(&mut default, None, &[]), Ok(Some([98.0, 99.0])));
        assert_eq!(default.column("time").unwrap().to_vec(), [99.0, 98.0, 98.0], "seconds before the stamp stay as they are");
    }

    #[test]
    fn a_field_that_was_named_must_be_there() {
        let mut plain = cloud(&["x", "y", "z"], array![[1.0, 2.0, 3.0]]);
        assert_eq!(PointTime::default().apply(&mut plain, None, &[]), Ok(None));
        let present = ["x", "y", "z", "offset_time"].map(String::from);
        let error = point_time("t", TimeUnit::Ns, TimeReference::Clock).apply(&mut plain, None, &present).unwrap_err().to_string();
        for part in ["`t`", "x, y, z, offset_time", "--time-field"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn clock_times_must_be_exact() {
        let clock = point_time("t", TimeUnit::S, TimeReference::Clock);
        let mut rounded = cloud(&["x", "y", "z", "t"], array![[1.0, 2.0, 3.0, 1.7e9]]);
        assert_eq!(clock.apply(&mut rounded, None, &[]), Err(PointTimeError::Imprecise { field: "t".into() }));
        assert_eq!(clock.apply(&mut rounded, Some(&[1_700_000_000.0]), &[]), Ok(Some([0.25; 2])));
    }

    #[test]
    fn names_in_a_configuration() {
        let text = "{field: t, unit: ns, reference: scan_start}";
        assert_eq!(serde_norway::from_str::<PointTime>(text).unwrap(), point_time("t", TimeUnit::Ns, TimeReference::ScanStart));
        assert_eq!(serde_norway::from_str::<PointTime>("{field: null}").unwrap(), PointTime { field: None, ..PointTime::default() });
        assert!(serde_norway::from_str::<PointTime>("{unit: minutes}").is_err());
    }
}
