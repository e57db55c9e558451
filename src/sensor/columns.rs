//! Rows of numbers, worked on a column at a time: within a loop, all numbers come from one place and become one thing.

/// Rows whose columns are worked on one after the other: so many stay in the first cache.
pub(crate) const TILE: usize = 256;

/// The column of rows that are `width` wide.
pub(crate) fn column(rows: &[f32], width: usize, column: usize) -> impl Iterator<Item = &f32> {
    rows.get(column..).unwrap_or_default().iter().step_by(width)
}

/// As [`column`], to be written.
pub(crate) fn column_mut(rows: &mut [f32], width: usize, column: usize) -> impl Iterator<Item = &mut f32> {
    rows.get_mut(column..).unwrap_or_default().iter_mut().step_by(width)
}
