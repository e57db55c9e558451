//! From rows in a file's own column order to a [`PointCloud`].

use super::columns::ColumnsError;
use super::scalar::Scalar;
use super::{FILE_FRAME, ParsedCloud};
use crate::sensor::{PointCloud, Stamp};
use ndarray::Array2;

/// Collects rows: moves x, y, z to the front and leaves out rows where one of them is not finite.
pub(super) struct CloudBuilder {
    fields: Vec<String>,
    /// For each column of the cloud, its position in the file's row.
    order: Vec<usize>,
    values: Vec<f32>,
    dropped: usize,
}

/// Where a column's values lie in a block of bytes: value `i` at `start + i * stride`.
pub(super) struct StridedColumn {
    pub name: String,
    pub start: usize,
    pub stride: usize,
    pub scalar: Scalar,
}

impl CloudBuilder {
    /// `names` in file order; there must be x, y and z, and no name twice.
    pub fn new(names: &[String]) -> Result<Self, ColumnsError> {
        if let Some(name) = names.iter().enumerate().find_map(|(i, n)| names[..i].contains(n).then_some(n)) {
            return Err(ColumnsError::Duplicate { name: name.clone() });
        }
        let mut order = Vec::with_capacity(names.len());
        for axis in ["x", "y", "z"] {
            let position = names.iter().position(|n| n == axis);
            order.push(position.ok_or_else(|| ColumnsError::NoCoordinate { axis, found: names.join(", ") })?);
        }
        order.extend((0..names.len()).filter(|i| !["x", "y", "z"].contains(&names[*i].as_str())));
        let fields = order.iter().map(|&i| names[i].clone()).collect();
        Ok(Self { fields, order, values: Vec::new(), dropped: 0 })
    }

    /// `row` has one value for each of the names, in file order.
    pub fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.order.len());
        if self.order[..3].iter().all(|&i| row[i].is_finite()) {
            self.values.extend(self.order.iter().map(|&i| row[i]));
        } else {
            self.dropped += 1;
        }
    }

    pub fn finish(self) -> ParsedCloud {
        let columns = self.fields.len();
        let data = Array2::from_shape_vec((self.values.len() / columns, columns), self.values).expect("a push adds one value per column");
        let cloud = PointCloud { stamp: Stamp::default(), frame_id: FILE_FRAME.into(), fields: self.fields, data };
        ParsedCloud { cloud, dropped_non_finite: self.dropped }
    }
}

/// Builds a cloud of `rows` points out of columns in `block`. The caller has checked that `rows` fit; rows that reach
/// beyond the block would be left out.
pub(super) fn cloud_from_columns(
    block: &[u8],
    rows: usize,
    columns: &[StridedColumn],
    big_endian: bool,
) -> Result<ParsedCloud, ColumnsError> {
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let mut builder = CloudBuilder::new(&names)?;
    let mut row = Vec::with_capacity(columns.len());
    for i in 0..rows {
        row.clear();
        row.extend(columns.iter().map_while(|c| c.scalar.read(block.get(c.start + i * c.stride..)?, big_endian)));
        if row.len() < columns.len() {
            break;
        }
        builder.push(&row);
    }
    Ok(builder.finish())
}
