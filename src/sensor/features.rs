//! The matrix that a network is fed with: chosen columns of a cloud, intensity transformed.

use super::columns::{TILE, column, column_mut};
use super::{PointCloud, PointTime, SweepsConfig};
use ndarray::{Array2, CowArray, Ix2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The columns that a point enters the network with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointsConfig {
    /// `x`, `y`, `z` first, then any of `intensity`, `time`, `elongation`, or another field of the cloud by its name.
    /// A field that a cloud lacks is an error, except `time`, which is the sweep's time lag and 0 for a single frame.
    pub features: Vec<String>,
    #[serde(default)]
    pub intensity: IntensityTransform,
    /// The points' own times, which the lag of their sweep is added to.
    #[serde(default)]
    pub time: PointTime,
    #[serde(default)]
    pub sweeps: SweepsConfig,
}

/// `value = f(clip(raw * scale + offset))`, or a constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntensityTransform {
    /// Name of the field in the cloud.
    pub field: String,
    pub scale: f32,
    pub offset: f32,
    /// Lowest and highest value after scale and offset.
    pub clip: Option<[f32; 2]>,
    /// Waymo's `tanh`, after clipping.
    pub tanh: bool,
    /// For sensors without intensity: this value for every point; the field is then not looked for.
    pub constant: Option<f32>,
}

impl Default for IntensityTransform {
    fn default() -> Self {
        Self { field: "intensity".into(), scale: 1.0, offset: 0.0, clip: None, tanh: false, constant: None }
    }
}

/// A cloud that does not give what the network needs, or a transform that means nothing.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FeatureError {
    #[error(
        "the cloud in frame `{frame}` has no field `{field}` for intensity; it has: {found}. Name its field in `points.intensity.field`, or set `points.intensity.constant` if the sensor gives none"
    )]
    NoIntensity { frame: String, field: String, found: String },
    #[error(
        "the cloud in frame `{frame}` has no field `{field}`, which the network needs; it has: {found}. Rename the sensor's field, or name the columns of a raw file with --fields"
    )]
    NoField { frame: String, field: String, found: String },
    #[error("`points.intensity.clip` is [{low}, {high}]; the lower bound comes first")]
    Clip { low: f32, high: f32 },
}

impl IntensityTransform {
    /// Whether finite values stay what they are.
    fn is_identity(&self) -> bool {
        (self.scale, self.offset, self.clip, self.tanh, self.constant) == (1.0, 0.0, None, false, None)
    }

    /// What the network gets for one raw value. Without finite result (the sensor gave none): 0.
    pub fn apply(&self, raw: f32) -> f32 {
        let scaled = raw * self.scale + self.offset;
        let clipped = match self.clip {
            // Not `f32::clamp`, which panics on bounds in the wrong order.
            Some([low, high]) if !scaled.is_nan() => scaled.max(low).min(high),
            _ => scaled,
        };
        finite_or_zero(self.constant.unwrap_or(if self.tanh { clipped.tanh() } else { clipped }))
    }
}

/// The network's input `[points, features]`, a row per point of the cloud in its order, columns as in `config.features`.
///
/// `time` is the cloud's column of that name (seconds of lag, see [`super::SweepBuffer`]), or 0. Values that are not
/// finite become 0: one of them would spoil every cell of the map that the network's convolutions can reach. A cloud that is like that
/// already is not copied.
///
/// # Errors
/// A feature that the cloud does not have, or bounds of intensity in the wrong order.
pub fn assemble<'c>(cloud: &'c PointCloud, config: &PointsConfig) -> Result<CowArray<'c, f32, Ix2>, FeatureError> {
    if let Some([low, high]) = config.intensity.clip.filter(|[low, high]| low > high) {
        return Err(FeatureError::Clip { low, high });
    }
    let sources = config.features.iter().map(|feature| Source::of(feature, cloud, config)).collect::<Result<Vec<_>, _>>()?;
    let (width, features) = (cloud.fields.len(), sources.len());
    let data = cloud.data.as_standard_layout();
    let rows = data.as_slice().unwrap_or_default();
    // Where rows are as wide as they were, columns that stay what they are need not be filled.
    let stays = |(i, source): (usize, &Source)| width == features && source.is_column(i, &config.intensity);
    let mut matrix = if width == features {
        let finite = all_finite(rows);
        if finite && sources.iter().enumerate().all(stays) {
            return Ok(data);
        }
        let copied = data.to_owned();
        if finite { copied } else { copied.mapv_into(finite_or_zero) }
    } else {
        Array2::zeros((cloud.len(), features))
    };
    let out = matrix.as_slice_mut().unwrap_or_default();
    if features > 0 {
        let fill = |(out, rows): (&mut [f32], &[f32])| {
            for (i, source) in sources.iter().enumerate().filter(|&(i, source)| !stays((i, source))) {
                source.fill(rows, width, column_mut(out, features, i), &config.intensity);
            }
        };
        if cloud.len() > ALONE {
            out.par_chunks_mut(TILE * features).zip(rows.par_chunks(TILE * width)).for_each(fill);
        } else {
            out.chunks_mut(TILE * features).zip(rows.chunks(TILE * width)).for_each(fill);
        }
    }
    Ok(matrix.into())
}

/// So many points are faster filled than other threads are woken up.
const ALONE: usize = 1 << 18;

/// Where a feature comes from.
enum Source {
    Column(usize),
    Intensity(usize),
    Constant(f32),
}

impl Source {
    fn of(feature: &str, cloud: &PointCloud, config: &PointsConfig) -> Result<Self, FeatureError> {
        let (frame, found) = (cloud.frame_id.clone(), || cloud.fields.join(", "));
        match feature {
            "intensity" if config.intensity.constant.is_some() => Ok(Self::Constant(config.intensity.apply(0.0))),
            "intensity" => {
                let field = &config.intensity.field;
                let missing = || FeatureError::NoIntensity { frame, field: field.clone(), found: found() };
                cloud.field_index(field).map(Self::Intensity).ok_or_else(missing)
            }
            name => match cloud.field_index(name) {
                Some(i) => Ok(Self::Column(i)),
                None if name == "time" => Ok(Self::Constant(0.0)),
                None => Err(FeatureError::NoField { frame, field: name.into(), found: found() }),
            },
        }
    }

    /// Whether it is the cloud's column `i`, as it stands there where it is finite.
    fn is_column(&self, i: usize, intensity: &IntensityTransform) -> bool {
        match *self {
            Self::Column(column) => column == i,
            Self::Intensity(column) => column == i && intensity.is_identity(),
            Self::Constant(_) => false,
        }
    }

    /// A value for each row of the cloud, which is `width` wide.
    fn fill<'v>(&self, rows: &[f32], width: usize, values: impl Iterator<Item = &'v mut f32>, intensity: &IntensityTransform) {
        match *self {
            Self::Column(i) => values.zip(column(rows, width, i)).for_each(|(value, &raw)| *value = finite_or_zero(raw)),
            Self::Intensity(i) => values.zip(column(rows, width, i)).for_each(|(value, &raw)| *value = intensity.apply(raw)),
            Self::Constant(constant) => values.for_each(|value| *value = constant),
        }
    }
}

fn finite_or_zero(value: f32) -> f32 {
    if value.is_finite() { value } else { 0.0 }
}

fn all_finite(values: &[f32]) -> bool {
    // Without a way out after each value, vectors of them are looked at.
    values.chunks(1024).all(|chunk| chunk.iter().fold(true, |all, v| all & v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::Stamp;
    use ndarray::array;

    fn cloud() -> PointCloud {
        let fields = ["x", "y", "z", "reflectivity", "ring"].map(String::from).to_vec();
        let data = array![[1.0, 2.0, 3.0, 100.0, 7.0], [4.0, 5.0, 6.0, f32::NAN, 8.0]];
        PointCloud { stamp: Stamp(0), frame_id: "os_lidar".into(), fields, data }
    }

    fn config(features: &[&str], intensity: IntensityTransform) -> PointsConfig {
        PointsConfig {
            features: features.iter().map(|f| f.to_string()).collect(),
            intensity,
            time: PointTime::default(),
            sweeps: SweepsConfig::default(),
        }
    }

    #[test]
    fn columns_in_the_order_asked_for_and_no_time_is_zero() {
        let intensity = IntensityTransform { field: "reflectivity".into(), scale: 0.5, offset: 1.0, ..Default::default() };
        let cloud = cloud();
        let matrix = assemble(&cloud, &config(&["x", "y", "z", "ring", "intensity", "time"], intensity)).unwrap();
        assert_eq!(matrix, array![[1.0, 2.0, 3.0, 7.0, 51.0, 0.0], [4.0, 5.0, 6.0, 8.0, 0.0, 0.0]]);
    }

    #[test]
    fn every_point_has_its_row_in_clouds_for_one_thread_and_for_several() {
        for points in [0, 1, TILE + 1, ALONE + 1] {
            let data = Array2::from_shape_fn((points, 3), |(i, j)| (i + j) as f32);
            let cloud = PointCloud { fields: ["x", "y", "z"].map(str::to_owned).to_vec(), data, ..cloud() };
            let matrix = assemble(&cloud, &config(&["z", "time", "x"], IntensityTransform::default())).unwrap();
            let expected = Array2::from_shape_fn((points, 3), |(i, j)| [(i + 2) as f32, 0.0, i as f32][j]);
            assert_eq!(matrix, expected);
        }
    }

    #[test]
    fn a_cloud_that_is_the_input_already_is_not_copied() {
        let (names, scaled) = (["x", "y", "intensity"], IntensityTransform { scale: 2.0, ..Default::default() });
        let cloud = |data| PointCloud { fields: names.map(str::to_owned).to_vec(), data, ..cloud() };
        let fine = cloud(array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let same = assemble(&fine, &config(&names, IntensityTransform::default())).unwrap();
        assert!(same.is_view() && same == fine.data);
        let twice = assemble(&fine, &config(&names, scaled.clone())).unwrap();
        assert_eq!(twice, array![[1.0, 2.0, 6.0], [4.0, 5.0, 12.0]]);
        let other_order = assemble(&fine, &config(&["y", "x", "intensity"], IntensityTransform::default())).unwrap();
        assert_eq!(other_order, array![[2.0, 1.0, 3.0], [5.0, 4.0, 6.0]]);
        let unfit = cloud(array![[f32::NAN, 2.0, 3.0], [4.0, 5.0, f32::INFINITY]]);
        assert_eq!(assemble(&unfit, &config(&names, scaled)).unwrap(), array![[0.0, 2.0, 6.0], [4.0, 5.0, 0.0]]);
        let mended = assemble(&unfit, &config(&names, IntensityTransform::default())).unwrap();
        assert_eq!(mended, array![[0.0, 2.0, 3.0], [4.0, 5.0, 0.0]]);
    }

    #[test]
    fn time_is_taken_when_there() {
        let mut cloud = cloud();
        cloud.fields[4] = "time".into();
        let intensity = IntensityTransform { constant: Some(0.25), ..Default::default() };
        let matrix = assemble(&cloud, &config(&["x", "y", "z", "intensity", "time"], intensity)).unwrap();
        assert_eq!(matrix, array![[1.0, 2.0, 3.0, 0.25, 7.0], [4.0, 5.0, 6.0, 0.25, 8.0]]);
    }

    #[test]
    fn scale_offset_clip_tanh_in_this_order() {
        let all = IntensityTransform { scale: 2.0, offset: -1.0, clip: Some([-0.5, 1.5]), tanh: true, ..Default::default() };
        for (raw, clipped) in [(0.5f32, 0.0f32), (1.0, 1.0), (10.0, 1.5), (-10.0, -0.5), (f32::INFINITY, 1.5)] {
            assert_eq!(all.apply(raw), clipped.tanh(), "{raw}");
        }
        assert_eq!(all.apply(f32::NAN), 0.0);
        assert_eq!(IntensityTransform::default().apply(f32::INFINITY), 0.0);
        assert_eq!(IntensityTransform::default().apply(17.0), 17.0);
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let plain = IntensityTransform::default();
        let error = assemble(&cloud(), &config(&["x", "y", "z", "intensity"], plain.clone())).unwrap_err().to_string();
        for part in ["`intensity`", "x, y, z, reflectivity, ring", "points.intensity.field", "points.intensity.constant", "os_lidar"] {
            assert!(error.contains(part), "{error}");
        }
        let error = assemble(&cloud(), &config(&["x", "y", "z", "elongation"], plain.clone())).unwrap_err();
        assert!(matches!(error, FeatureError::NoField { field, .. } if field == "elongation"));
        let reversed = IntensityTransform { clip: Some([1.0, 0.0]), ..plain };
        assert_eq!(assemble(&cloud(), &config(&["x"], reversed)), Err(FeatureError::Clip { low: 1.0, high: 0.0 }));
    }
}
