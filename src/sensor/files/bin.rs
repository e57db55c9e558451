//! Raw little-endian `float32` rows, as KITTI and nuScenes store sweeps.

use super::builder::CloudBuilder;
use super::columns::{self, ColumnsError};
use super::{CloudFormatError, ParsedCloud};

/// Parses raw rows. `columns` names them in file order; without it four columns are x, y, z, intensity, and of five the
/// last is the ring or the time lag, whichever its values look like. What cannot be told is an error.
pub fn parse_bin(bytes: &[u8], columns: Option<&[String]>) -> Result<ParsedCloud, CloudFormatError> {
    let Some(names) = columns else {
        if !bytes.len().is_multiple_of(4) {
            return Err(ColumnsError::Length { bytes: bytes.len() }.into());
        }
        let values = floats(bytes);
        let names = columns::guess_from_values(&values)?;
        return Ok(build(&values, &owned(names))?);
    };
    let row_length = || ColumnsError::RowLength { bytes: bytes.len(), columns: names.len(), names: names.join(",") };
    if names.is_empty() || !bytes.len().is_multiple_of(names.len() * 4) {
        return Err(row_length().into());
    }
    Ok(build(&floats(bytes), names)?)
}

/// [`parse_bin`] for a file whose name says that nuScenes' five columns are in it. The content must agree.
pub(super) fn parse_nuscenes_bin(bytes: &[u8], columns: Option<&[String]>) -> Result<ParsedCloud, CloudFormatError> {
    let parsed = match columns {
        Some(names) => return parse_bin(bytes, Some(names)),
        None => parse_bin(bytes, Some(&owned(&columns::NUSCENES)))?,
    };
    match parsed.cloud.column("ring") {
        Some(ring) if columns::is_ring(ring.iter().copied()) => Ok(parsed),
        _ => Err(ColumnsError::NotNuscenes.into()),
    }
}

fn build(values: &[f32], names: &[String]) -> Result<ParsedCloud, ColumnsError> {
    let mut builder = CloudBuilder::new(names)?;
    values.chunks_exact(names.len()).for_each(|row| builder.push(row));
    Ok(builder.finish())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}
