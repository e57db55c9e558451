//! Tables of text, aligned.

use std::fmt;

/// Rows under headers. The first column is aligned left, all others right.
///
/// ```
/// use lidar_ptq::eval::table::Table;
/// let mut table = Table::new(["class", "AP"]);
/// table.row(["car".into(), "0.81".into()]);
/// assert_eq!(table.to_string(), "class    AP\ncar    0.81\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    pub fn new<S: Into<String>>(headers: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![headers.into_iter().map(Into::into).collect()], left: 1 }
    }

    /// Aligns the first `columns` columns left.
    pub fn left(self, columns: usize) -> Self {
        Self { left: columns, ..self }
    }

    /// All rows, the headers first.
    pub(super) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Whether a column is aligned left.
    pub(super) fn is_left(&self, column: usize) -> bool {
        column < self.left
    }

    /// A row may be shorter than the headers.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells =
                row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                    if self.is_left(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}
