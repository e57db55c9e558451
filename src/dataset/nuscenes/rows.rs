//! The rows of nuScenes' tables: only the fields that are needed, one row at a time. The full tables have gigabytes.

use crate::dataset::DatasetError;
use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::Path;

/// Names a row of a table: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Token(u128);

impl Token {
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_token.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let link = link(deserializer)?;
        link.ok_or_else(|| D::Error::custom("expected a token of 32 hexadecimal digits, found an empty one"))
    }
}

/// A token, or an empty text where there is nothing to refer to.
fn link<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Option<Token>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a token of 32 hexadecimal digits")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match Token::parse(text) {
                None if !text.is_empty() => Err(E::custom(format_args!("expected a token of 32 hexadecimal digits, found `{text}`"))),
                token => Ok(token),
            }
        }
    }
    deserializer.deserialize_str(Text)
}

#[derive(Deserialize)]
pub(super) struct SceneRow {
    pub token: Token,
    pub name: String,
}

#[derive(Deserialize)]
pub(super) struct SampleRow {
    pub token: Token,
    pub scene_token: Token,
    /// Microseconds.
    pub timestamp: i64,
}

#[derive(Deserialize)]
pub(super) struct SensorRow {
    pub token: Token,
    pub channel: String,
}

#[derive(Deserialize)]
pub(super) struct CalibratedSensorRow {
    pub token: Token,
    pub sensor_token: Token,
    pub translation: [f64; 3],
    /// w, x, y, z.
    pub rotation: [f64; 4],
}

#[derive(Deserialize)]
pub(super) struct SampleDataRow {
    pub token: Token,
    pub sample_token: Token,
    pub ego_pose_token: Token,
    pub calibrated_sensor_token: Token,
    pub timestamp: i64,
    pub is_key_frame: bool,
    pub filename: String,
    #[serde(deserialize_with = "link")]
    pub prev: Option<Token>,
}

#[derive(Deserialize)]
pub(super) struct EgoPoseRow {
    pub token: Token,
    pub translation: [f64; 3],
    /// w, x, y, z.
    pub rotation: [f64; 4],
}

#[derive(Deserialize)]
pub(super) struct CategoryRow {
    pub token: Token,
    pub name: String,
}

#[derive(Deserialize)]
pub(super) struct InstanceRow {
    pub token: Token,
    pub category_token: Token,
}

#[derive(Deserialize)]
pub(super) struct AnnotationRow {
    pub token: Token,
    pub sample_token: Token,
    pub instance_token: Token,
    pub translation: [f64; 3],
    /// Width, length, height.
    pub size: [f32; 3],
    /// w, x, y, z.
    pub rotation: [f64; 4],
    #[serde(deserialize_with = "link")]
    pub prev: Option<Token>,
    #[serde(deserialize_with = "link")]
    pub next: Option<Token>,
    pub num_lidar_pts: u32,
    pub num_radar_pts: u32,
}

/// Hands every row of a table to `take`.
///
/// # Errors
/// A file that cannot be read or is no list of such rows (with line and column), and what `take` returns.
pub(super) fn each_row<R: DeserializeOwned>(path: &Path, take: impl FnMut(R) -> Result<(), DatasetError>) -> Result<(), DatasetError> {
    let file = File::open(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
    let mut refused = None;
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 20, file));
    let rows = Rows { take, refused: &mut refused, row: PhantomData };
    let read = json.deserialize_seq(rows).and_then(|()| json.end());
    match (refused, read) {
        (Some(error), _) => Err(error),
        (None, Err(source)) => Err(DatasetError::Json { path: path.to_owned(), source }),
        (None, Ok(())) => Ok(()),
    }
}

struct Rows<'r, F, R> {
    take: F,
    refused: &'r mut Option<DatasetError>,
    row: PhantomData<R>,
}

impl<'de, R: Deserialize<'de>, F: FnMut(R) -> Result<(), DatasetError>> Visitor<'de> for Rows<'_, F, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element()? {
            if let Err(error) = (self.take)(row) {
                *self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
