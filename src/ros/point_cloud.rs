//! `sensor_msgs/PointCloud2` to and from `sensor::PointCloud`.

use crate::ros::msg::sensor_msgs::{PointCloud2, PointCloud2Ref, PointField};
use crate::ros::msg::std_msgs::Header;
use crate::sensor::PointCloud;
use crate::sensor::columns::{TILE, column_mut};
use ndarray::Array2;

const COORDINATES: [&str; 3] = ["x", "y", "z"];

/// What was left out of a decoded cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudReport {
    /// Points whose x, y or z is not finite.
    pub dropped: usize,
    /// Fields that were wanted and are not in the message.
    pub absent: Vec<String>,
    /// All fields of the message, in its order.
    pub present: Vec<String>,
}

/// Why a message is not a point cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    #[error("the cloud has no field `{field}`; it has: {}", present.join(", "))]
    MissingCoordinate { field: &'static str, present: Vec<String> },
    #[error("field `{field}` has datatype {datatype}, expected 1 (INT8) to 8 (FLOAT64)")]
    UnknownDatatype { field: String, datatype: u8 },
    #[error("field `{field}` has {count} elements a point, expected 1")]
    NotScalar { field: String, count: u32 },
    #[error("field `{field}` ends at byte {end} of a point, but point_step is {point_step}")]
    FieldOutsidePoint { field: String, end: u64, point_step: u32 },
    #[error("row_step is {row_step}, but {width} points of {point_step} bytes need {}", u64::from(*width) * u64::from(*point_step))]
    RowTooShort { row_step: u32, width: u32, point_step: u32 },
    #[error("{height} rows of {row_step} bytes ({width} points of {point_step}) do not make up the {found} bytes of data")]
    DataLength { height: u32, row_step: u64, width: u32, point_step: u32, found: usize },
}

/// The cloud's x, y, z and those of the `wanted` fields that it has, in this order, as f32.
///
/// Fields are found by name; the layout of the message may be any that its own description allows. Points with a
/// coordinate that is not finite (as f32) are dropped. A wanted field that is absent is reported, not an error.
pub fn decode_cloud(msg: &PointCloud2Ref, wanted: &[&str]) -> Result<(PointCloud, CloudReport), CloudError> {
    let mut report = CloudReport { present: msg.fields.iter().map(|f| f.name.clone()).collect(), ..CloudReport::default() };
    let layout = Layout::of(msg)?;
    let columns = if layout.points() == 0 { wanted_of_empty(wanted) } else { find_columns(msg, wanted, &mut report)? };

    let mut values = Vec::with_capacity(layout.points() * columns.len());
    let tiles = layout.tiles_in(msg.data);
    report.dropped = match msg.is_bigendian {
        false => gather(tiles, layout.point_step, &columns, &mut values, number_from_le),
        true => gather(tiles, layout.point_step, &columns, &mut values, number_from_be),
    };

    let data = Array2::from_shape_vec((values.len() / columns.len(), columns.len()), values).expect("whole rows were gathered");
    let fields = columns.into_iter().map(|c| c.name).collect();
    Ok((PointCloud { stamp: msg.header.stamp, frame_id: msg.header.frame_id.clone(), fields, data }, report))
}

/// One field at full precision, a number for each point of [`decode_cloud`]'s cloud; `None` if the message has no such field.
pub fn decode_field(msg: &PointCloud2Ref, field: &str) -> Result<Option<Vec<f64>>, CloudError> {
    let layout = Layout::of(msg)?;
    if layout.points() == 0 {
        return Ok(Some(Vec::new()));
    }
    let mut report = CloudReport::default();
    let coordinates = find_columns(msg, &[], &mut report)?;
    let Some(column) = msg.fields.iter().find(|f| f.name == field).map(|f| Column::of(f, msg.point_step)).transpose()? else {
        return Ok(None);
    };
    let number = if msg.is_bigendian { number_from_be } else { number_from_le };
    let is_kept = |point: &&[u8]| coordinates.iter().all(|c| (number(c.of_point(point), c.datatype) as f32).is_finite());
    Ok(Some(layout.points_in(msg.data).filter(is_kept).map(|point| number(column.of_point(point), column.datatype)).collect()))
}

/// An unorganised cloud of little-endian float32 fields, tightly packed.
///
/// # Panics
/// If the cloud has 4 GiB or more, which the message cannot express.
pub fn encode_cloud(cloud: &PointCloud) -> PointCloud2 {
    let fields = (0u32..).zip(&cloud.fields).map(|(i, name)| PointField {
        name: name.clone(),
        offset: 4 * i,
        datatype: PointField::FLOAT32,
        count: 1,
    });
    let width = u32::try_from(cloud.len()).expect("a cloud has fewer than 2^32 points");
    let point_step = u32::try_from(4 * cloud.fields.len()).expect("a point has fewer than 2^30 fields");
    let mut data = Vec::with_capacity(4 * cloud.data.len());
    cloud.data.iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
    PointCloud2 {
        header: Header { stamp: cloud.stamp, frame_id: cloud.frame_id.clone() },
        height: 1,
        width,
        fields: fields.collect(),
        is_bigendian: false,
        point_step,
        row_step: width.checked_mul(point_step).expect("a cloud has fewer than 2^32 bytes"),
        data,
        is_dense: true,
    }
}

/// Where the points are, checked against the length of the data.
struct Layout {
    height: usize,
    row_step: usize,
    row_bytes: usize,
    point_step: usize,
}

impl Layout {
    fn of(msg: &PointCloud2Ref) -> Result<Self, CloudError> {
        let PointCloud2 { height, width, point_step, row_step, .. } = *msg;
        let row_bytes = u64::from(width) * u64::from(point_step);
        // Some drivers leave row_step 0 where there is only one row to step over.
        let row_step_found = if height <= 1 && row_step == 0 { row_bytes } else { u64::from(row_step) };
        if row_step_found < row_bytes {
            return Err(CloudError::RowTooShort { row_step, width, point_step });
        }
        // The padding of the last row may be missing.
        let longest = u64::from(height) * row_step_found;
        let shortest = if height == 0 { 0 } else { longest - row_step_found + row_bytes };
        let found = msg.data.len();
        let no_points = width == 0 || height == 0;
        if !(shortest..=longest).contains(&(found as u64)) || (no_points && found > 0) || (!no_points && point_step == 0) {
            return Err(CloudError::DataLength { height, row_step: row_step_found, width, point_step, found });
        }
        if no_points {
            return Ok(Self { height: 0, row_step: 1, row_bytes: 0, point_step: 1 });
        }
        // `row_bytes <= found` here, which is a usize; a row_step beyond that only occurs with one row.
        let row_step = row_step_found.min(found as u64) as usize;
        Ok(Self { height: height as usize, row_step, row_bytes: row_bytes as usize, point_step: point_step as usize })
    }

    fn points(&self) -> usize {
        self.height * (self.row_bytes / self.point_step)
    }

    /// The bytes of up to [`TILE`] points each time, without what lies between rows.
    fn tiles_in<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { height, row_step, row_bytes, point_step } = *self;
        // Rows without anything between them are one.
        let (step, bytes) = if row_step == row_bytes { (data.len().max(1), data.len()) } else { (row_step, row_bytes) };
        let rows = data.chunks(step).take(height).map(move |row| &row[..bytes.min(row.len())]);
        rows.flat_map(move |row| row.chunks(TILE.saturating_mul(point_step)))
    }

    /// The bytes of each point.
    fn points_in<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let point_step = self.point_step;
        self.tiles_in(data).flat_map(move |tile| tile.chunks_exact(point_step))
    }
}

/// A field to gather: `size` bytes at `offset` of every point.
struct Column {
    name: String,
    offset: usize,
    size: usize,
    datatype: u8,
}

fn find_columns(msg: &PointCloud2Ref, wanted: &[&str], report: &mut CloudReport) -> Result<Vec<Column>, CloudError> {
    let find = |name: &str| msg.fields.iter().find(|f| f.name == name);
    let mut columns = Vec::new();
    for name in COORDINATES {
        let field = find(name).ok_or_else(|| CloudError::MissingCoordinate { field: name, present: report.present.clone() })?;
        columns.push(Column::of(field, msg.point_step)?);
    }
    for &name in wanted {
        if columns.iter().any(|c| c.name == name) {
            continue;
        }
        match find(name) {
            Some(field) => columns.push(Column::of(field, msg.point_step)?),
            None => report.absent.push(name.to_owned()),
        }
    }
    Ok(columns)
}

/// A cloud without points may come without fields: it has every column that anyone wants.
fn wanted_of_empty(wanted: &[&str]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for name in COORDINATES.iter().chain(wanted) {
        if columns.iter().all(|c| c.name != *name) {
            columns.push(Column { name: (*name).to_owned(), offset: 0, size: 0, datatype: PointField::FLOAT32 });
        }
    }
    columns
}

impl Column {
    fn of(field: &PointField, point_step: u32) -> Result<Self, CloudError> {
        let name = field.name.clone();
        let size = match field.datatype {
            PointField::INT8 | PointField::UINT8 => 1,
            PointField::INT16 | PointField::UINT16 => 2,
            PointField::INT32 | PointField::UINT32 | PointField::FLOAT32 => 4,
            PointField::FLOAT64 => 8,
            datatype => return Err(CloudError::UnknownDatatype { field: name, datatype }),
        };
        // Old drivers leave the count 0 for a single element, and PCL accepts that.
        if field.count > 1 {
            return Err(CloudError::NotScalar { field: name, count: field.count });
        }
        let end = u64::from(field.offset) + size;
        if end > u64::from(point_step) {
            return Err(CloudError::FieldOutsidePoint { field: name, end, point_step });
        }
        Ok(Self { name, offset: field.offset as usize, size: size as usize, datatype: field.datatype })
    }

    fn of_point<'p>(&self, point: &'p [u8]) -> &'p [u8] {
        &point[self.offset..self.offset + self.size]
    }

    /// The field's number of each point, as f32.
    #[inline]
    fn read<'p, 'v>(
        &self,
        points: impl Iterator<Item = &'p [u8]>,
        values: impl Iterator<Item = &'v mut f32>,
        number: impl Fn(&[u8], u8) -> f64 + Copy,
    ) {
        // A loop for each type: asking for it at every number takes longer than the number.
        macro_rules! loops {
            ($($datatype:ident),+) => {
                match self.datatype {
                    $(PointField::$datatype => {
                        points.zip(values).for_each(|(point, value)| *value = number(self.of_point(point), PointField::$datatype) as f32);
                    })+
                    _ => unreachable!("a column is of one of these types"),
                }
            };
        }
        loops!(INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64);
    }
}

/// Appends a row of values for each point with finite coordinates; returns how many points were dropped.
#[inline]
fn gather<'a>(
    tiles: impl Iterator<Item = &'a [u8]>,
    point_step: usize,
    columns: &[Column],
    values: &mut Vec<f32>,
    number: impl Fn(&[u8], u8) -> f64 + Copy,
) -> usize {
    let width = columns.len();
    let mut tile = vec![0.0; TILE * width];
    let mut dropped = 0;
    for points in tiles {
        let tile = &mut tile[..points.len() / point_step * width];
        for (i, column) in columns.iter().enumerate() {
            column.read(points.chunks_exact(point_step), column_mut(tile, width, i), number);
        }
        let stands = |row: &&[f32]| row[..COORDINATES.len()].iter().all(|v| v.is_finite());
        let before = values.len();
        if tile.chunks_exact(width).all(|row| stands(&row)) {
            values.extend_from_slice(tile);
        } else {
            tile.chunks_exact(width).filter(stands).for_each(|row| values.extend_from_slice(row));
        }
        dropped += (tile.len() + before - values.len()) / width;
    }
    dropped
}

/// The first `N` bytes of a slice that a `Column` has measured.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("N bytes")
}

macro_rules! number_of_datatype {
    ($name:ident, $from:ident) => {
        /// Exact: a double holds every number that a field can.
        #[inline]
        fn $name(bytes: &[u8], datatype: u8) -> f64 {
            match datatype {
                PointField::INT8 => i8::$from(first(bytes)).into(),
                PointField::UINT8 => u8::$from(first(bytes)).into(),
                PointField::INT16 => i16::$from(first(bytes)).into(),
                PointField::UINT16 => u16::$from(first(bytes)).into(),
                PointField::INT32 => i32::$from(first(bytes)).into(),
                PointField::UINT32 => u32::$from(first(bytes)).into(),
                PointField::FLOAT32 => f32::$from(first(bytes)).into(),
                _ => f64::$from(first(bytes)),
            }
        }
    };
}

number_of_datatype!(number_from_le, from_le_bytes);
number_of_datatype!(number_from_be, from_be_bytes);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::Stamp;
    use ndarray::array;
    use proptest::prelude::*;

    fn field(name: &str, offset: u32, datatype: u8) -> PointField {
        PointField { name: name.to_owned(), offset, datatype, count: 1 }
    }

    /// One row of two points: x, y, z, intensity as f32.
    fn simple() -> PointCloud2 {
        encode_cloud(&PointCloud {
            stamp: Stamp(5),
            frame_id: "lidar".to_owned(),
            fields: ["x", "y", "z", "intensity"].map(str::to_owned).to_vec(),
            data: array![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
        })
    }

    #[test]
    fn encoding_and_decoding_returns_the_cloud() {
        let (cloud, report) = decode_cloud(&simple().as_view(), &["intensity", "ring", "x"]).unwrap();
        assert_eq!(cloud.data, array![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]);
        assert_eq!((cloud.stamp, cloud.frame_id.as_str()), (Stamp(5), "lidar"));
        assert_eq!(cloud.fields, ["x", "y", "z", "intensity"]);
        assert_eq!(report.absent, ["ring"]);
        assert_eq!(report.present, ["x", "y", "z", "intensity"]);
    }

    /// A field of every datatype at odd offsets, z before x, two padded rows.
    fn mixed(big: bool) -> PointCloud2 {
        let fields = vec![
            field("z", 1, PointField::FLOAT64),
            field("i8", 9, PointField::INT8),
            field("u8", 10, PointField::UINT8),
            field("i16", 11, PointField::INT16),
            field("u16", 13, PointField::UINT16),
            field("i32", 15, PointField::INT32),
            field("u32", 19, PointField::UINT32),
            field("x", 23, PointField::FLOAT32),
            field("y", 27, PointField::FLOAT32),
        ];
        let (point_step, row_step) = (33, 70);
        let mut data = Vec::new();
        for row in 0..2 {
            for point in 0..2 {
                let k = (2 * row + point) as u8;
                data.push(0xee);
                let (z, i16, u16, i32, u32) = (f64::from(k) + 0.5, -300i16, 60_000u16, -70_000i32, 4_000_000_000u32);
                let (x, y) = (f32::from(k), -f32::from(k));
                let mut put = |le: &[u8]| {
                    let mut bytes = le.to_vec();
                    if big {
                        bytes.reverse();
                    }
                    data.extend(bytes);
                };
                put(&z.to_le_bytes());
                put(&(-3i8).to_le_bytes());
                put(&[200]);
                put(&i16.to_le_bytes());
                put(&u16.to_le_bytes());
                put(&i32.to_le_bytes());
                put(&u32.to_le_bytes());
                put(&x.to_le_bytes());
                put(&y.to_le_bytes());
                data.extend([0xee; 2]);
            }
            data.extend([0xee; 4]);
        }
        PointCloud2 { height: 2, width: 2, fields, is_bigendian: big, point_step, row_step, data, ..PointCloud2::default() }
    }

    #[test]
    fn every_datatype_offset_padding_and_byte_order() {
        for big in [false, true] {
            let msg = mixed(big);
            let wanted = ["u32", "i8", "u8", "i16", "u16", "i32"];
            let (cloud, _) = decode_cloud(&msg.as_view(), &wanted).unwrap();
            assert_eq!(cloud.fields[3..], wanted);
            for (k, row) in (0u8..).zip(cloud.data.rows()) {
                let k = f32::from(k);
                assert_eq!(row.to_vec(), [k, -k, k + 0.5, 4e9, -3.0, 200.0, -300.0, 60_000.0, -70_000.0]);
            }
            assert_eq!(cloud.len(), 4);
            // The last row's padding may be missing, nothing else.
            let shorter = |by: usize| PointCloud2 { data: msg.data[..msg.data.len() - by].to_vec(), ..msg.clone() };
            assert_eq!(decode_cloud(&shorter(4).as_view(), &wanted).unwrap().0, cloud);
            assert!(matches!(decode_cloud(&shorter(5).as_view(), &wanted), Err(CloudError::DataLength { .. })));
        }
    }

    #[test]
    fn points_that_are_not_finite_are_dropped_and_counted() {
        let mut msg = simple();
        msg.data[16 + 8..16 + 12].copy_from_slice(&f32::NAN.to_le_bytes());
        let (cloud, report) = decode_cloud(&msg.as_view(), &["intensity"]).unwrap();
        assert_eq!((cloud.data, report.dropped), (array![[1.0, 2.0, 3.0, 4.0]], 1));
    }

    #[test]
    fn a_cloud_of_many_tiles_in_any_shape_keeps_all_points_but_those_that_are_not_finite() {
        let points = 4 * TILE + 36;
        let data = Array2::from_shape_fn((points, 4), |(i, j)| if (i, j) == (TILE + 5, 1) { f32::INFINITY } else { (4 * i + j) as f32 });
        let fields = ["x", "y", "z", "intensity"].map(str::to_owned).to_vec();
        let flat = encode_cloud(&PointCloud { stamp: Stamp(5), frame_id: "lidar".into(), fields, data });
        let expected: Vec<f32> = (0..4 * points).filter(|k| k / 4 != TILE + 5).map(|k| k as f32).collect();
        for (height, padding) in [(1, 0), (points, 0), (20, 0), (20, 12), (points, 3)] {
            let width = points / height;
            let padded = |row: &[u8]| row.iter().copied().chain(std::iter::repeat_n(0xee, padding)).collect::<Vec<_>>();
            let data = flat.data.chunks(16 * width).flat_map(padded).collect();
            let [height, width, row_step] = [height, width, 16 * width + padding].map(|n| n as u32);
            let message = PointCloud2 { height, width, row_step, data, ..flat.clone() };
            let (cloud, report) = decode_cloud(&message.as_view(), &["intensity"]).unwrap();
            assert_eq!((cloud.data.into_raw_vec_and_offset().0, report.dropped), (expected.clone(), 1), "{height} rows");
        }
    }

    #[test]
    fn empty_clouds_are_fine_with_and_without_fields() {
        let (cloud, report) = decode_cloud(&PointCloud2::default().as_view(), &["intensity"]).unwrap();
        assert_eq!((cloud.len(), cloud.fields.len(), report.absent.len()), (0, 4, 0));
        let emptied = PointCloud2 { width: 0, row_step: 0, data: Vec::new(), ..simple() };
        assert!(decode_cloud(&emptied.as_view(), &[]).unwrap().0.is_empty());
    }

    #[test]
    fn descriptions_that_lie_are_errors() {
        let reject = |change: fn(&mut PointCloud2)| {
            let mut msg = simple();
            change(&mut msg);
            decode_cloud(&msg.as_view(), &["intensity"]).unwrap_err()
        };
        assert!(matches!(reject(|m| m.width = 3), CloudError::RowTooShort { row_step: 32, .. }));
        assert!(matches!(reject(|m| (m.width, m.row_step) = (1, 16)), CloudError::DataLength { found: 32, .. }));
        assert!(matches!(reject(|m| m.height = u32::MAX), CloudError::DataLength { .. }));
        assert!(matches!(reject(|m| (m.width, m.height, m.point_step) = (u32::MAX, u32::MAX, u32::MAX)), CloudError::RowTooShort { .. }));
        assert!(matches!(reject(|m| (m.point_step, m.row_step) = (0, 0)), CloudError::DataLength { .. }));
        assert!(matches!(reject(|m| m.width = 0), CloudError::DataLength { .. }));
        assert!(matches!(reject(|m| m.fields[2].offset = u32::MAX), CloudError::FieldOutsidePoint { end: 0x1_0000_0003, .. }));
        assert!(matches!(reject(|m| m.fields[3].datatype = 9), CloudError::UnknownDatatype { datatype: 9, .. }));
        assert!(matches!(reject(|m| m.fields[0].count = 3), CloudError::NotScalar { count: 3, .. }));
        assert!(reject(|m| m.fields[0].name = "X".to_owned()).to_string().ends_with("it has: X, y, z, intensity"));
    }

    proptest! {
        #[test]
        fn any_description_decodes_or_is_refused(
            (width, height, point_step, row_step) in (0u32..6, 0u32..4, 0u32..40, 0u32..200),
            extreme in prop::option::of(any::<[u32; 4]>()),
            fields in prop::collection::vec((0usize..5, 0u32..40, 0u8..10, 0u32..3), 0..6),
            data in prop::collection::vec(any::<u8>(), 0..600),
            fit in any::<bool>(),
            is_bigendian in any::<bool>(),
        ) {
            let [width, height, point_step, row_step] = extreme.unwrap_or([width, height, point_step, row_step]);
            let named = |(name, offset, datatype, count): (usize, u32, u8, u32)| {
                PointField { name: ["x", "y", "z", "t", ""][name].to_owned(), offset, datatype, count }
            };
            let mut data = data;
            if fit && extreme.is_none() {
                data.resize((height * row_step) as usize, 0x3f);
            }
            let msg = PointCloud2 {
                height, width, point_step, row_step, data, is_bigendian,
                fields: fields.into_iter().map(named).collect(), ..PointCloud2::default()
            };
            if let Ok((cloud, report)) = decode_cloud(&msg.as_view(), &["t"]) {
                prop_assert_eq!((cloud.len() + report.dropped) as u64, u64::from(width) * u64::from(height));
            }
        }
    }
}
