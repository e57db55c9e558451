//! Tables of text, aligned.

use std::fmt;

/// Rows under headers. The first column is aligned left, all others right.
///
/// ```
/// use lidar_ptq::eval::table::Table;
/// let mut table = Table::new(&["class", "AP"]);
/// table.row(["car".into(), "0.81".into()]);
/// assert_eq!(table.to_string(), "class    AP\ncar    0.81\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    left: usize,
}

impl<const N: usize> Table<N> {
    pub fn new(headers: &[&str; N]) -> Self {
        Self { rows: vec![headers.map(str::to_owned)], left: 1 }
    }

    /// Aligns the first `columns` columns left.
    pub fn left(self, columns: usize) -> Self {
        Self { left: columns, ..self }
    }

    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: [usize; N] = std::array::from_fn(|c| self.rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0));
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| if column < self.left { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}
