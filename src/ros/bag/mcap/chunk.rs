//! The records inside an MCAP chunk.

use super::record::{ChunkHeader, HEADER_BYTES, Records, op};
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};

/// No chunk is larger, compressed or not. Writers close a chunk after a few megabytes; a single large message makes a larger one.
pub(super) const MAX_CHUNK_BYTES: u64 = 1 << 30;

/// Calls `record` with the opcode and content of each record of a chunk.
///
/// `content` is that of the chunk record. In a chunk that is there in full, the checksum is verified before the first call.
/// If the file ended inside it (`cut`), the records are those before the end, unverified.
///
/// # Errors
/// What is wrong with the chunk. Records before the damage have then been passed on, except after a wrong checksum.
pub(super) fn read_chunk(content: &[u8], cut: bool, mut record: impl FnMut(u8, &[u8])) -> Result<(), String> {
    let (mut header, records) = ChunkHeader::parse(content).ok_or("its header is not complete")?;
    if cut {
        header.uncompressed_crc = 0;
    }
    if !header.compression.is_empty() {
        return decompress(&header, records, cut, record);
    }
    // `mcap` trusts that uncompressed records end where their chunk does.
    let whole = whole_records(records);
    if cut || whole == records.len() {
        header.uncompressed_size = whole as u64;
        return decompress(&header, &records[..whole], cut, record);
    }
    Records(records).for_each(|(opcode, content)| record(opcode, content));
    Err("its records do not end where it does".to_owned())
}

fn decompress(header: &ChunkHeader, records: &[u8], cut: bool, mut record: impl FnMut(u8, &[u8])) -> Result<(), String> {
    let limit = most_bytes(&header.compression, records.len() as u64);
    if !cut && header.uncompressed_size > limit {
        return Err(format!(
            "it claims {} bytes, but {} bytes of `{}` make at most {limit}",
            header.uncompressed_size,
            records.len(),
            header.compression
        ));
    }
    let prefix = chunk_record_prefix(header, records.len() as u64);
    // The limit also holds for the chunk's own header.
    let options = LinearReaderOptions::default()
        .with_skip_start_magic(true)
        .with_skip_end_magic(true)
        .with_prevalidate_chunk_crcs(true)
        .with_record_length_limit(usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(prefix.len()));
    let mut reader = LinearReader::new_with_options(options);
    let mut input = [&prefix[..], records];
    let mut read = 0;
    while let Some(event) = reader.next_event() {
        match event {
            Ok(LinearReadEvent::Record { opcode, data }) => {
                read += HEADER_BYTES + data.len() as u64;
                record(opcode, data);
            }
            Ok(LinearReadEvent::ReadRequest(wanted)) => {
                let Some(part) = input.iter_mut().find(|part| !part.is_empty()) else { break };
                let (given, rest) = part.split_at(wanted.min(part.len()));
                reader.insert(given.len()).copy_from_slice(given);
                reader.notify_read(given.len());
                *part = rest;
            }
            Err(_) if cut => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if cut || read == header.uncompressed_size {
        Ok(())
    } else {
        Err(format!("it holds {read} of the {} bytes that it claims", header.uncompressed_size))
    }
}

/// An upper bound of what `compressed` bytes decompress to, so that a size that lies costs no memory.
fn most_bytes(compression: &str, compressed: u64) -> u64 {
    let ratio = match compression {
        "zstd" => 1 << 15, // a block of 128 KiB repeated from one byte takes 4 bytes (RFC 8878, 3.1.1.2)
        "lz4" => 1 << 8,   // each byte of a match length adds at most 255
        _ => 1,
    };
    compressed.saturating_mul(ratio).min(MAX_CHUNK_BYTES)
}

/// The bytes of a chunk record before its compressed records, with sizes that are true.
fn chunk_record_prefix(header: &ChunkHeader, compressed_size: u64) -> Vec<u8> {
    let compression = header.compression.as_bytes();
    let mut content = vec![0; 16]; // start and end time, which nobody looks at here
    content.extend(header.uncompressed_size.to_le_bytes());
    content.extend(header.uncompressed_crc.to_le_bytes());
    content.extend((compression.len() as u32).to_le_bytes());
    content.extend(compression);
    content.extend(compressed_size.to_le_bytes());
    let length = content.len() as u64 + compressed_size;
    [&[op::CHUNK][..], &length.to_le_bytes(), &content].concat()
}

/// Bytes of the records that are there in full.
fn whole_records(records: &[u8]) -> usize {
    let mut walk = Records(records);
    walk.by_ref().for_each(drop);
    records.len() - walk.0.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(compression: &str, uncompressed_size: u64, crc: u32, records: &[u8]) -> Vec<u8> {
        let header = ChunkHeader { uncompressed_size, uncompressed_crc: crc, compression: compression.to_owned() };
        let prefix = chunk_record_prefix(&header, records.len() as u64);
        [&prefix[HEADER_BYTES as usize..], records].concat()
    }

    type OwnedRecords = Vec<(u8, Vec<u8>)>;

    fn read(content: &[u8], cut: bool) -> (OwnedRecords, Result<(), String>) {
        let mut records = Vec::new();
        let result = read_chunk(content, cut, |op, data| records.push((op, data.to_vec())));
        (records, result)
    }

    fn record(opcode: u8, content: &[u8]) -> Vec<u8> {
        [&[opcode][..], &(content.len() as u64).to_le_bytes(), content].concat()
    }

    #[test]
    fn sizes_that_lie_are_refused_before_memory_is_taken() {
        let records = zstd::encode_all(&record(5, b"hello")[..], 0).unwrap();
        for size in [1 << 60, u64::MAX, MAX_CHUNK_BYTES, 15, 13] {
            assert!(read(&chunk("zstd", size, 0, &records), false).1.is_err(), "{size}");
        }
        assert_eq!(read(&chunk("zstd", 14, 0, &records), false), (vec![(5, b"hello".to_vec())], Ok(())));
        assert!(read(&chunk("snappy", 14, 0, &records), false).1.is_err());
    }

    #[test]
    fn an_uncompressed_record_that_runs_past_the_chunk_ends_it() {
        let mut records = [record(5, b"hello"), record(5, b"world")].concat();
        let size = records.len() as u64;
        records[14 + 1] = 6;
        assert_eq!(
            read(&chunk("", size, 0, &records), false),
            (vec![(5, b"hello".to_vec())], Err("its records do not end where it does".to_owned()))
        );
        records[14 + 1..14 + 9].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&chunk("", size, 0, &records), false).1.is_err());
        assert_eq!(read(&chunk("", size, 0, &records), true), (vec![(5, b"hello".to_vec())], Ok(())));
    }

    #[test]
    fn a_wrong_checksum_gives_no_records() {
        let records = record(5, b"hello");
        let (got, result) = read(&chunk("", records.len() as u64, 1234, &records), false);
        assert!(got.is_empty() && result.is_err());
    }
}
