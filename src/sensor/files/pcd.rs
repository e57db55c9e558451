//! PCD, the file format of the Point Cloud Library, versions 0.5 to 0.7: <https://pointclouds.org/documentation/tutorials/pcd_file_format.html>.
//!
//! `VIEWPOINT` is not applied: it says where the sensor stood, in the frame that the points are already in. Fields named `_`
//! are padding. A field with `COUNT` n > 1 becomes the columns `name_0` to `name_{n-1}`.

use super::builder::{CloudBuilder, StridedColumn, cloud_from_columns};
use super::columns::MAX_NAME;
use super::scalar::Scalar;
use super::{CloudFormatError, ParsedCloud};

/// PCL's longest descriptors have under 700 values a point.
const MAX_COLUMNS: usize = 4096;
/// Bytes. Real headers have a few hundred; a file that is no PCD at all should not be read as one to its end.
const MAX_HEADER: usize = 1 << 20;
/// The LZF code with the best ratio: three bytes stand for at most 264.
const LZF_MAX_RATIO: usize = 88;

/// A PCD file that breaks the format. Lines count from 1.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PcdError {
    #[error("the header has no `{entry}` line")]
    Missing { entry: &'static str },
    #[error("header line `{entry}`: {found} is not {expected}")]
    Header { entry: &'static str, found: String, expected: &'static str },
    #[error("`{entry}` has {found} entries for {fields} fields")]
    EntryCount { entry: &'static str, found: usize, fields: usize },
    #[error("field `{field}`: TYPE {kind} with SIZE {size} does not exist")]
    Type { field: String, kind: String, size: usize },
    #[error("a field name of {bytes} bytes; at most {MAX_NAME} are read")]
    NameLength { bytes: usize },
    #[error("{columns} values a point; at most {MAX_COLUMNS} are read")]
    TooWide { columns: usize },
    #[error("WIDTH {width} times HEIGHT {height} is not POINTS {points}")]
    Size { width: usize, height: usize, points: usize },
    #[error("{points} points need {expected} bytes of data, {found} are there; the file is truncated or its header wrong")]
    Truncated { points: usize, expected: usize, found: usize },
    #[error("{expected} points expected, {found} found")]
    Rows { expected: usize, found: usize },
    #[error("line {line}: {found} values, {expected} expected")]
    RowLength { line: usize, found: usize, expected: usize },
    #[error("line {line}: `{found}` is not a number")]
    Number { line: usize, found: String },
    #[error("compressed data: {0}")]
    Lzf(String),
}

/// Parses a PCD file of any of the three kinds of data. Unorganised and organised clouds give the same list of points.
pub fn parse_pcd(bytes: &[u8]) -> Result<ParsedCloud, CloudFormatError> {
    let header = Header::parse(bytes)?;
    match header.encoding {
        Encoding::Ascii => parse_ascii(&header),
        Encoding::Binary => parse_binary(&header),
        Encoding::BinaryCompressed => parse_compressed(&header),
    }
}

struct Header<'a> {
    fields: Vec<Field>,
    /// `None` if the header does not say, which only ascii data can do without.
    points: Option<usize>,
    encoding: Encoding,
    /// All that follows the header.
    body: &'a [u8],
    /// Lines of the header.
    lines: usize,
}

struct Field {
    name: String,
    scalar: Scalar,
    count: usize,
}

#[derive(Clone, Copy)]
enum Encoding {
    Ascii,
    Binary,
    BinaryCompressed,
}

impl Field {
    fn is_padding(&self) -> bool {
        self.name == "_"
    }

    fn size(&self) -> usize {
        self.scalar.size() * self.count
    }

    fn column_name(&self, k: usize) -> String {
        if self.count == 1 { self.name.clone() } else { format!("{}_{k}", self.name) }
    }
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, PcdError> {
        let mut entries: Vec<(String, Vec<String>)> = Vec::new();
        let (mut body, mut lines) = (bytes, 0);
        while entries.last().is_none_or(|(key, _)| key != "DATA") {
            if body.is_empty() || bytes.len() - body.len() > MAX_HEADER {
                return Err(PcdError::Missing { entry: "DATA" });
            }
            let end = body.iter().position(|b| *b == b'\n').unwrap_or(body.len());
            let line = String::from_utf8_lossy(&body[..end]);
            body = body.get(end + 1..).unwrap_or_default();
            lines += 1;
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            // Before version 0.7 FIELDS was called COLUMNS.
            let key = words.next().map(|k| if k == "COLUMNS" { "FIELDS".into() } else { k });
            if let Some(key) = key.filter(|k| !k.starts_with('#')) {
                entries.push((key, words.collect()));
            }
        }
        let entry = |key: &'static str| entries.iter().find(|(k, _)| k == key).map(|(_, values)| values.as_slice());
        let size = |key: &'static str| entry(key).map(|values| parse_size(key, values.first())).transpose();
        Ok(Self {
            fields: parse_fields(entry)?,
            points: count_points(size("WIDTH")?, size("HEIGHT")?, size("POINTS")?)?,
            encoding: parse_encoding(entry("DATA").and_then(|values| values.first()))?,
            body,
            lines,
        })
    }

    /// Number of points for data that does not end by itself.
    fn known_points(&self) -> Result<usize, PcdError> {
        self.points.ok_or(PcdError::Missing { entry: "POINTS" })
    }
}

fn parse_fields<'e>(entry: impl Fn(&'static str) -> Option<&'e [String]>) -> Result<Vec<Field>, PcdError> {
    let names = entry("FIELDS").ok_or(PcdError::Missing { entry: "FIELDS" })?;
    let of_all_fields = |key: &'static str| match entry(key) {
        Some(values) if values.len() != names.len() => Err(PcdError::EntryCount { entry: key, found: values.len(), fields: names.len() }),
        values => Ok(values),
    };
    let sizes = of_all_fields("SIZE")?.ok_or(PcdError::Missing { entry: "SIZE" })?;
    let kinds = of_all_fields("TYPE")?.ok_or(PcdError::Missing { entry: "TYPE" })?;
    let counts = of_all_fields("COUNT")?;
    let mut fields = Vec::with_capacity(names.len());
    let mut columns = 0usize;
    for (i, (name, (size, kind))) in names.iter().zip(sizes.iter().zip(kinds)).enumerate() {
        if name.len() > MAX_NAME {
            return Err(PcdError::NameLength { bytes: name.len() });
        }
        let size = parse_size("SIZE", Some(size))?;
        let count = counts.map_or(Ok(1), |c| parse_size("COUNT", c.get(i)))?;
        let mut letters = kind.chars();
        let scalar = letters.next().filter(|_| letters.next().is_none()).and_then(|letter| Scalar::new(letter, size));
        let scalar = scalar.ok_or_else(|| PcdError::Type { field: name.clone(), kind: kind.clone(), size })?;
        columns = columns.saturating_add(count);
        if columns > MAX_COLUMNS {
            return Err(PcdError::TooWide { columns });
        }
        fields.push(Field { name: name.clone(), scalar, count });
    }
    Ok(fields)
}

fn parse_size(entry: &'static str, value: Option<&String>) -> Result<usize, PcdError> {
    let found = value.map_or("", String::as_str);
    found.parse().map_err(|_| PcdError::Header { entry, found: format!("`{found}`"), expected: "a whole number" })
}

fn count_points(width: Option<usize>, height: Option<usize>, points: Option<usize>) -> Result<Option<usize>, PcdError> {
    let Some(width) = width else { return Ok(points) };
    let height = height.unwrap_or(1);
    // Too many points for the type are too many for any data, which is found out later.
    let area = width.saturating_mul(height);
    match points {
        Some(points) if area != points => Err(PcdError::Size { width, height, points }),
        _ => Ok(Some(area)),
    }
}

fn parse_encoding(value: Option<&String>) -> Result<Encoding, PcdError> {
    match value.map_or("", String::as_str) {
        "ascii" => Ok(Encoding::Ascii),
        "binary" => Ok(Encoding::Binary),
        "binary_compressed" => Ok(Encoding::BinaryCompressed),
        other => Err(PcdError::Header { entry: "DATA", found: format!("`{other}`"), expected: "ascii, binary or binary_compressed" }),
    }
}

/// One line a point, the values of all fields in order, padding included.
fn parse_ascii(header: &Header) -> Result<ParsedCloud, CloudFormatError> {
    let used: Vec<bool> = header.fields.iter().flat_map(|f| std::iter::repeat_n(!f.is_padding(), f.count)).collect();
    let names: Vec<String> =
        header.fields.iter().filter(|f| !f.is_padding()).flat_map(|f| (0..f.count).map(|k| f.column_name(k))).collect();
    let mut builder = CloudBuilder::new(&names)?;
    let mut row = Vec::with_capacity(names.len());
    let mut rows = 0;
    for (i, line) in header.body.split(|b| *b == b'\n').enumerate() {
        let line_number = header.lines + i + 1;
        let line = String::from_utf8_lossy(line);
        if header.points.is_some_and(|points| rows >= points) {
            break;
        }
        let found = line.split_ascii_whitespace().count();
        if found == 0 {
            continue;
        }
        if found != used.len() {
            return Err(PcdError::RowLength { line: line_number, found, expected: used.len() }.into());
        }
        row.clear();
        for (word, _) in line.split_ascii_whitespace().zip(&used).filter(|(_, used)| **used) {
            // Through f64, so that whole numbers of 32 bits round once.
            let value: f64 = word.parse().map_err(|_| PcdError::Number { line: line_number, found: word.to_owned() })?;
            row.push(value as f32);
        }
        builder.push(&row);
        rows += 1;
    }
    match header.points {
        Some(expected) if rows < expected => Err(PcdError::Rows { expected, found: rows }.into()),
        _ => Ok(builder.finish()),
    }
}

/// Point after point, each with its fields in order.
fn parse_binary(header: &Header) -> Result<ParsedCloud, CloudFormatError> {
    let points = header.known_points()?;
    let step = header.fields.iter().map(Field::size).sum();
    check_length(points, step, header.body.len())?;
    let mut offset = 0;
    let columns = strided_columns(&header.fields, |field| {
        let start = offset;
        offset += field.size();
        (start, step)
    });
    Ok(cloud_from_columns(header.body, points, &columns, false)?)
}

/// Two little-endian `u32` sizes (compressed, uncompressed), then LZF data that holds field after field, each with its
/// values for all points.
fn parse_compressed(header: &Header) -> Result<ParsedCloud, CloudFormatError> {
    let points = header.known_points()?;
    let block = decompress(header.body, points)?;
    let size_of_all: usize = header.fields.iter().map(Field::size).sum();
    let size_of_used: usize = header.fields.iter().filter(|f| !f.is_padding()).map(Field::size).sum();
    // PCL leaves the padding out of the data but not always out of the header; other writers store it.
    let padded = block.len() != size_of_used.saturating_mul(points);
    check_length(points, if padded { size_of_all } else { size_of_used }, block.len())?;
    let mut offset = 0;
    let columns = strided_columns(&header.fields, |field| {
        let start = offset;
        offset += if field.is_padding() && !padded { 0 } else { field.size() * points };
        (start, field.size())
    });
    Ok(cloud_from_columns(&block, points, &columns, false)?)
}

/// The columns of all fields but padding. `place` gives a field's first byte and its step from point to point.
fn strided_columns(fields: &[Field], mut place: impl FnMut(&Field) -> (usize, usize)) -> Vec<StridedColumn> {
    let mut columns = Vec::new();
    for field in fields {
        let (start, stride) = place(field);
        let size = field.scalar.size();
        let column = |k| StridedColumn { name: field.column_name(k), start: start + k * size, stride, scalar: field.scalar };
        columns.extend((0..field.count).filter(|_| !field.is_padding()).map(column));
    }
    columns
}

fn decompress(body: &[u8], points: usize) -> Result<Vec<u8>, PcdError> {
    let Some((sizes, data)) = body.split_first_chunk::<8>() else {
        return Err(PcdError::Truncated { points, expected: 8, found: body.len() });
    };
    let size = |bytes: [u8; 4]| u32::from_le_bytes(bytes) as usize;
    let [c0, c1, c2, c3, u0, u1, u2, u3] = *sizes;
    let (compressed, uncompressed) = (size([c0, c1, c2, c3]), size([u0, u1, u2, u3]));
    let data = data.get(..compressed).ok_or(PcdError::Truncated { points, expected: compressed, found: data.len() })?;
    if uncompressed == 0 {
        return Ok(Vec::new());
    }
    // The decompressor allocates what it is asked for, and counts in i32.
    if uncompressed > compressed.saturating_mul(LZF_MAX_RATIO) || i32::try_from(uncompressed).is_err() {
        return Err(PcdError::Lzf(format!("{compressed} bytes cannot hold {uncompressed}")));
    }
    let block = lzf::decompress(data, uncompressed).map_err(|error| PcdError::Lzf(error.to_string()))?;
    if block.len() != uncompressed {
        return Err(PcdError::Lzf(format!("{uncompressed} bytes announced, {} found", block.len())));
    }
    Ok(block)
}

/// That `points` times `step` bytes are there. Afterwards no offset of a value can overflow.
fn check_length(points: usize, step: usize, found: usize) -> Result<(), PcdError> {
    // A step of nothing would let `points` be any number; such fields have no x either.
    let expected = points.saturating_mul(step.max(1));
    if expected > found { Err(PcdError::Truncated { points, expected, found }) } else { Ok(()) }
}
