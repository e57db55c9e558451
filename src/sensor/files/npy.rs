//! NPY, the array file of NumPy: a matrix `[points, columns]`, or an array of records with named fields.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3.
//!
//! We read the header ourselves: it comes from outside, and the crate that we use for our own arrays allocates what a header asks for.

use super::builder::{StridedColumn, cloud_from_columns};
use super::columns::{self, ColumnsError, MAX_NAME};
use super::pyliteral::Literal;
use super::scalar::Scalar;
use super::{CloudFormatError, ParsedCloud};

const MAGIC: &[u8] = b"\x93NUMPY";
const MAX_COLUMNS: usize = 4096;

/// An NPY file that breaks the format or holds something else than points.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NpyError {
    #[error("the file does not start like an NPY file of version 1, 2 or 3")]
    Magic,
    #[error("the header is cut off after {found} of {expected} bytes")]
    HeaderTruncated { expected: usize, found: usize },
    #[error("the header is no dictionary with descr, fortran_order and shape (byte {at} of it)")]
    Header { at: usize },
    #[error("the array has the shape {0:?}; [points, columns] or, for records, [points] is expected")]
    Shape(Vec<usize>),
    #[error("the type {0} is not supported; integers and floats of up to 8 bytes are, and records of them with one byte order")]
    Type(String),
    #[error("a field name of {bytes} bytes; at most {MAX_NAME} are read")]
    NameLength { bytes: usize },
    #[error("{columns} columns; at most {MAX_COLUMNS} are read")]
    TooWide { columns: usize },
    #[error("{expected} bytes of data announced, {found} found; the file is truncated or its header wrong")]
    Truncated { expected: usize, found: usize },
}

/// Parses an NPY file.
///
/// A matrix of numbers, in C or Fortran order, takes its column names from `columns`, or from its width and its fifth
/// column as in [`super::parse_bin`]. Records name their own; a field of n values becomes `name_0` to `name_{n-1}`.
pub fn parse_npy(bytes: &[u8], columns: Option<&[String]>) -> Result<ParsedCloud, CloudFormatError> {
    let (header, body) = split_header(bytes)?;
    let entry = |key| header.get(key).ok_or(NpyError::Header { at: 0 });
    let Literal::Bool(fortran_order) = *entry("fortran_order")? else { return Err(NpyError::Header { at: 0 }.into()) };
    let shape = shape(entry("shape")?)?;
    match entry("descr")? {
        Literal::Str(descr) => {
            let &[rows, width] = shape.as_slice() else { return Err(NpyError::Shape(shape).into()) };
            let matrix = Matrix::new(body, descr, rows, width, fortran_order)?;
            Ok(matrix.parse(columns)?)
        }
        Literal::Seq(fields) => {
            let &[rows] = shape.as_slice() else { return Err(NpyError::Shape(shape).into()) };
            parse_records(body, rows, fields)
        }
        _ => Err(NpyError::Header { at: 0 }.into()),
    }
}

/// Parsed header, and the data behind it.
fn split_header(bytes: &[u8]) -> Result<(Literal, &[u8]), NpyError> {
    let (length, rest) = match bytes.strip_prefix(MAGIC) {
        Some([1, _, a, b, rest @ ..]) => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        Some([2 | 3, _, a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(NpyError::Magic),
    };
    let (header, body) = rest.split_at_checked(length).ok_or(NpyError::HeaderTruncated { expected: length, found: rest.len() })?;
    let header = Literal::parse(&String::from_utf8_lossy(header)).map_err(|at| NpyError::Header { at })?;
    Ok((header, body))
}

fn shape(literal: &Literal) -> Result<Vec<usize>, NpyError> {
    let Literal::Seq(items) = literal else { return Err(NpyError::Header { at: 0 }) };
    let size = |item: &Literal| if let Literal::Int(n) = item { Ok(*n) } else { Err(NpyError::Header { at: 0 }) };
    items.iter().map(size).collect()
}

/// Type of a number, and whether it is big-endian: `<f4`, `>f8`, `|u1`.
fn number_type(descr: &str) -> Option<(Scalar, bool)> {
    let big_endian = descr.starts_with('>');
    let mut rest = descr.strip_prefix(['<', '>', '|', '='])?.chars();
    let kind = rest.next()?.to_ascii_uppercase();
    Some((Scalar::new(kind, rest.as_str().parse().ok()?)?, big_endian))
}

/// A matrix without column names.
struct Matrix<'a> {
    body: &'a [u8],
    rows: usize,
    scalar: Scalar,
    big_endian: bool,
    /// Byte offset of each column's first value; the step to its next.
    starts: Vec<usize>,
    stride: usize,
}

impl<'a> Matrix<'a> {
    fn new(body: &'a [u8], descr: &str, rows: usize, width: usize, fortran_order: bool) -> Result<Self, NpyError> {
        let (scalar, big_endian) = number_type(descr).ok_or_else(|| NpyError::Type(descr.to_owned()))?;
        if width > MAX_COLUMNS {
            return Err(NpyError::TooWide { columns: width });
        }
        let size = scalar.size();
        check_length(rows, width * size, body.len())?;
        let (column_step, stride) = if fortran_order { (rows * size, size) } else { (size, width * size) };
        Ok(Self { body, rows, scalar, big_endian, starts: (0..width).map(|c| c * column_step).collect(), stride })
    }

    fn parse(&self, columns: Option<&[String]>) -> Result<ParsedCloud, ColumnsError> {
        let width = self.starts.len();
        let names = match columns {
            Some(names) if names.len() != width => {
                return Err(ColumnsError::Count { found: width, named: names.len(), names: names.join(",") });
            }
            Some(names) => names.to_vec(),
            None => columns::guess_from_width(width, self.fifth())?.iter().map(|n| n.to_string()).collect(),
        };
        let column = |(name, &start): (String, &usize)| StridedColumn { name, start, stride: self.stride, scalar: self.scalar };
        let columns: Vec<_> = names.into_iter().zip(&self.starts).map(column).collect();
        cloud_from_columns(self.body, self.rows, &columns, self.big_endian)
    }

    fn fifth(&self) -> impl Iterator<Item = f32> {
        let start = self.starts.get(4).copied();
        (0..self.rows).map_while(move |i| self.scalar.read(self.body.get(start? + i * self.stride..)?, self.big_endian))
    }
}

/// Records: a list of `(name, type)` or `(name, type, shape)`; an empty name of type `|V4` is padding.
fn parse_records(body: &[u8], rows: usize, fields: &[Literal]) -> Result<ParsedCloud, CloudFormatError> {
    let unsupported = |field: &Literal| NpyError::Type(format!("{field:?}"));
    let mut columns = Vec::new();
    let mut byte_order = None;
    let mut step = 0usize;
    for field in fields {
        let Literal::Seq(parts) = field else { return Err(unsupported(field).into()) };
        let (name, descr, count) = match parts.as_slice() {
            [Literal::Str(name), Literal::Str(descr)] => (name, descr, None),
            [Literal::Str(name), Literal::Str(descr), shape_of_field] => (name, descr, Some(shape(shape_of_field)?)),
            _ => return Err(unsupported(field).into()),
        };
        if name.len() > MAX_NAME {
            return Err(NpyError::NameLength { bytes: name.len() }.into());
        }
        let padding: Option<usize> = descr.strip_prefix("|V").and_then(|n| n.parse().ok());
        if let Some(bytes) = padding {
            step = step.checked_add(bytes).ok_or_else(|| unsupported(field))?;
            continue;
        }
        let (scalar, big_endian) = number_type(descr).ok_or_else(|| unsupported(field))?;
        // One byte has no order.
        if scalar.size() > 1 && *byte_order.get_or_insert(big_endian) != big_endian {
            return Err(unsupported(field).into());
        }
        let values = count.iter().flatten().fold(1usize, |product, n| product.saturating_mul(*n));
        if columns.len().saturating_add(values) > MAX_COLUMNS {
            return Err(NpyError::TooWide { columns: columns.len().saturating_add(values) }.into());
        }
        for k in 0..values {
            let name = if count.is_none() { name.clone() } else { format!("{name}_{k}") };
            columns.push(StridedColumn { name, start: step, stride: 0, scalar });
            step = step.checked_add(scalar.size()).ok_or_else(|| unsupported(field))?;
        }
    }
    check_length(rows, step, body.len())?;
    columns.iter_mut().for_each(|column| column.stride = step);
    Ok(cloud_from_columns(body, rows, &columns, byte_order.unwrap_or(false))?)
}

/// That `rows` times `step` bytes are there. Afterwards no offset of a value can overflow.
fn check_length(rows: usize, step: usize, found: usize) -> Result<(), NpyError> {
    let expected = rows.saturating_mul(step.max(1));
    if expected > found { Err(NpyError::Truncated { expected, found }) } else { Ok(()) }
}
