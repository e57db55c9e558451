//! rosbag2's zstd compression, of whole files and of single messages, and other temporary copies.

use super::report::BagError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Also the test for a compressed message: no CDR encapsulation starts with these bytes.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// No single message is larger: more than ten times the largest clouds and images.
pub(super) const MAX_MESSAGE_BYTES: u64 = 512 << 20;

const COPY_BYTES: usize = 1 << 20;

/// Decompresses into a temporary file (in `TMPDIR`). The second part says what was wrong with a file that is only readable so far.
pub(super) fn unpack_file(path: &Path) -> Result<(NamedTempFile, Option<String>), BagError> {
    let fail = |source| BagError::Io { path: path.to_owned(), source };
    let mut decoder = File::open(path).and_then(zstd::stream::read::Decoder::new).map_err(fail)?;
    let mut unpacked = temporary_file().map_err(fail)?;
    let mut buffer = vec![0; COPY_BYTES];
    let damage = loop {
        match decoder.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => unpacked.write_all(&buffer[..n]).map_err(fail)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Some(e.to_string()),
        }
    };
    unpacked.flush().map_err(fail)?;
    Ok((unpacked, damage))
}

/// A temporary copy (in `TMPDIR`) of the first `length` bytes.
pub(super) fn copy_start(path: &Path, length: u64) -> io::Result<NamedTempFile> {
    let mut copy = temporary_file()?;
    io::copy(&mut File::open(path)?.take(length), &mut copy)?;
    Ok(copy)
}

fn temporary_file() -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix("lidar_ptq-bag-").tempfile()
}

/// The CDR bytes of a message that may be a zstd frame.
pub(super) fn unpack_message(data: Vec<u8>) -> Result<Vec<u8>, String> {
    if !data.starts_with(&ZSTD_MAGIC) {
        return Ok(data);
    }
    let mut unpacked = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(&data[..]).map_err(|e| e.to_string())?;
    // Grows with what is really there, whatever size the frame claims.
    decoder.take(MAX_MESSAGE_BYTES + 1).read_to_end(&mut unpacked).map_err(|e| e.to_string())?;
    if unpacked.len() as u64 > MAX_MESSAGE_BYTES {
        return Err(format!("more than {MAX_MESSAGE_BYTES} bytes when decompressed"));
    }
    Ok(unpacked)
}
