//! What the columns of a matrix without names mean.
//!
//! Rows of four numbers are x, y, z, intensity. Rows of five are told apart by what the fifth column looks like:
//! * the ring (laser number) of nuScenes: whole numbers in 0..=127, many different ones;
//! * the time lag of merged sweeps: seconds from 0 up, one value a sweep, so few different ones in long runs.
//!
//! A length that fits both four and five columns (any multiple of 80 bytes) is decided by which reading is possible: with
//! the wrong width every column is a mixture, so that negative coordinates turn up as intensity and fractions as ring.
//! When both or none are possible, the user has to say; a wrong guess would silently give boxes of nothing.

/// Names of the columns of a nuScenes sweep.
pub(super) const NUSCENES: [&str; 5] = ["x", "y", "z", "intensity", "ring"];
const FOUR: [&str; 4] = ["x", "y", "z", "intensity"];
const WITH_TIME: [&str; 5] = ["x", "y", "z", "intensity", "time"];

/// Bytes. A field of many values makes a column of each, all with its name.
pub(super) const MAX_NAME: usize = 256;
/// Far beyond any lidar's reach; metres.
const MAX_COORDINATE: f32 = 1000.0;
/// The largest raw intensity of any sensor that we know of is 16 bits.
const MAX_INTENSITY: f32 = 65535.0;
/// Lasers of the largest spinning sensors.
const MAX_RING: f32 = 127.0;
/// Fewer different whole numbers may be anything (a return number, a flag).
const MIN_RINGS: usize = 8;
/// Ten sweeps at 10 Hz span 0.9 s.
const MAX_LAG_S: f32 = 1.1;
const MAX_SWEEPS: usize = 64;
/// Different lags need this many points each before they count as sweeps.
const MIN_POINTS_PER_LAG: usize = 4;

/// Columns that are missing, doubled, or not to be told apart.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ColumnsError {
    #[error("{bytes} bytes are no whole number of rows of {columns} float32 columns ({names}); name the file's columns with --fields")]
    RowLength { bytes: usize, columns: usize, names: String },
    #[error("{bytes} bytes are no whole number of float32 rows of 4 or 5 columns; name the file's columns with --fields")]
    Length { bytes: usize },
    #[error(
        "the content does not show what the columns are ({why}); name them, for example --fields x,y,z,intensity,time or --fields x,y,z,intensity,ring"
    )]
    Undecided { why: &'static str },
    #[error("{found} columns, but {named} are named ({names}); name every column with --fields")]
    Count { found: usize, named: usize, names: String },
    #[error("no column `{axis}`; there are: {found}")]
    NoCoordinate { axis: &'static str, found: String },
    #[error("column `{name}` is there twice")]
    Duplicate { name: String },
    #[error("a nuScenes sweep by its name, but column 5 is no laser number; name the columns with --fields")]
    NotNuscenes,
}

/// Names for a matrix of which only the values are known, row by row.
pub(super) fn guess_from_values(values: &[f32]) -> Result<&'static [&'static str], ColumnsError> {
    let fits = |width: usize| values.len().is_multiple_of(width);
    if !fits(4) && !fits(5) {
        return Err(ColumnsError::Length { bytes: values.len() * 4 });
    }
    let four = fits(4) && plausible(values, 4);
    let five = if fits(5) && plausible(values, 5) { guess_five(values.chunks_exact(5).map(|row| row[4])) } else { None };
    match (four, five) {
        (true, None) => Ok(&FOUR),
        (false, Some(names)) => Ok(names),
        (true, Some(_)) => Err(ColumnsError::Undecided { why: "it can be read as 4 and as 5 columns" }),
        (false, None) => Err(ColumnsError::Undecided { why: "it looks neither like 4 nor like 5 columns" }),
    }
}

/// Names for a matrix of known width; `fifth` is its fifth column, if it has one.
pub(super) fn guess_from_width(width: usize, fifth: impl Iterator<Item = f32>) -> Result<&'static [&'static str], ColumnsError> {
    match width {
        3 => Ok(&FOUR[..3]),
        4 => Ok(&FOUR),
        5 => guess_five(fifth).ok_or(ColumnsError::Undecided { why: "column 5 looks neither like a laser number nor like a time lag" }),
        _ => Err(ColumnsError::Undecided { why: "only 3, 4 and 5 columns have customary names" }),
    }
}

/// Whether all are laser numbers.
pub(super) fn is_ring(mut column: impl Iterator<Item = f32>) -> bool {
    column.all(|v| (0.0..=MAX_RING).contains(&v) && v.fract() == 0.0)
}

fn plausible(values: &[f32], width: usize) -> bool {
    values
        .chunks_exact(width)
        .filter(|row| row[..3].iter().all(|v| v.is_finite()))
        .all(|row| row[..3].iter().all(|v| v.abs() <= MAX_COORDINATE) && (!row[3].is_finite() || (0.0..=MAX_INTENSITY).contains(&row[3])))
}

fn guess_five(fifth: impl Iterator<Item = f32>) -> Option<&'static [&'static str]> {
    let (mut rows, mut changes, mut previous) = (0usize, 0usize, None);
    let mut distinct: Vec<f32> = Vec::new();
    for value in fifth {
        rows += 1;
        changes += usize::from(previous.is_some_and(|p| p != value));
        previous = Some(value);
        if !distinct.contains(&value) {
            distinct.push(value);
        }
        // More than any ring or lag has: neither. Also keeps the search above short.
        if distinct.len() > MAX_RING as usize + 1 {
            return None;
        }
    }
    let sweeps_in_runs = distinct.len() <= MAX_SWEEPS && changes < distinct.len() && rows >= (distinct.len() - 1) * MIN_POINTS_PER_LAG;
    let lags = distinct.iter().all(|v| (0.0..=MAX_LAG_S).contains(v)) && distinct.contains(&0.0);
    let fractions = distinct.iter().any(|v| v.fract() != 0.0);
    if distinct.len() >= MIN_RINGS && is_ring(distinct.iter().copied()) {
        Some(&NUSCENES)
    } else if lags && sweeps_in_runs && (fractions || distinct.len() == 1) {
        Some(&WITH_TIME)
    } else {
        None
    }
}
