//! The records of an MCAP file, as <https://mcap.dev/spec> defines them, parsed with every length checked against the bytes there are.
//!
//! Own parsing, because `mcap::parse_record` reserves memory for whatever length a string claims.

use std::collections::BTreeMap;

pub(super) use mcap::records::op;

/// Opcode and length before every record.
pub(super) const HEADER_BYTES: u64 = 9;

/// Splits a sequence of records into opcodes and contents; ends before the first record that is not there in full.
pub(super) struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = Fields(self.0);
        let opcode = fields.number::<1>()?;
        let length = usize::try_from(fields.number::<8>()?).ok()?;
        let content = fields.bytes(length)?;
        self.0 = fields.0;
        Some((opcode as u8, content))
    }
}

#[derive(Debug)]
pub(super) struct Schema {
    pub id: u16,
    pub name: String,
}

impl Schema {
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        Some(Self { id: fields.u16()?, name: fields.string()? })
    }
}

#[derive(Debug)]
pub(super) struct Channel {
    pub id: u16,
    pub schema_id: u16,
    pub topic: String,
    pub message_encoding: String,
}

impl Channel {
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        Some(Self { id: fields.u16()?, schema_id: fields.u16()?, topic: fields.string()?, message_encoding: fields.string()? })
    }
}

#[derive(Debug)]
pub(super) struct Message<'a> {
    pub channel_id: u16,
    pub log_time: u64,
    pub data: &'a [u8],
}

/// Bytes of a message record before the data: channel, sequence number, log and publish time.
pub(super) const MESSAGE_HEADER_BYTES: usize = 2 + 4 + 8 + 8;

impl<'a> Message<'a> {
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(content);
        let channel_id = fields.u16()?;
        let _sequence = fields.u32()?;
        let log_time = fields.u64()?;
        let _publish_time = fields.u64()?;
        Some(Self { channel_id, log_time, data: fields.0 })
    }
}

#[derive(Debug)]
pub(super) struct ChunkHeader {
    pub uncompressed_size: u64,
    pub uncompressed_crc: u32,
    pub compression: String,
}

impl ChunkHeader {
    /// The header, and the compressed records as far as they are there.
    pub fn parse(content: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = Fields(content);
        let (_start, _end) = (fields.u64()?, fields.u64()?);
        let header = Self { uncompressed_size: fields.u64()?, uncompressed_crc: fields.u32()?, compression: fields.string()? };
        let compressed_size = usize::try_from(fields.u64()?).ok()?;
        Some((header, &fields.0[..compressed_size.min(fields.0.len())]))
    }
}

#[derive(Debug)]
pub(super) struct ChunkIndex {
    pub message_start_time: u64,
    pub message_end_time: u64,
    pub chunk_start_offset: u64,
    pub chunk_length: u64,
    /// Channels with messages in the chunk; empty where the writer made no message index.
    pub channels: Vec<u16>,
    pub message_index_length: u64,
}

impl ChunkIndex {
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        Some(Self {
            message_start_time: fields.u64()?,
            message_end_time: fields.u64()?,
            chunk_start_offset: fields.u64()?,
            chunk_length: fields.u64()?,
            channels: fields.channel_map()?.into_keys().collect(),
            message_index_length: fields.u64()?,
        })
    }
}

#[derive(Debug)]
pub(super) struct Statistics {
    pub message_count: u64,
    pub chunk_count: u32,
    pub message_start_time: u64,
    pub message_end_time: u64,
    pub channel_message_counts: BTreeMap<u16, u64>,
}

impl Statistics {
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        let message_count = fields.u64()?;
        let (_schemas, _channels, _attachments, _metadata) = (fields.u16()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let chunk_count = fields.u32()?;
        Some(Self {
            message_count,
            chunk_count,
            message_start_time: fields.u64()?,
            message_end_time: fields.u64()?,
            channel_message_counts: fields.channel_map()?,
        })
    }
}

/// Where the summary starts, from the content of a footer; 0 without a summary.
pub(super) fn summary_start(footer: &[u8]) -> Option<u64> {
    Fields(footer).u64()
}

/// Little-endian fields, front to back; `None` when there are too few bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.bytes(N)?);
        Some(u64::from_le_bytes(bytes))
    }

    fn u16(&mut self) -> Option<u16> {
        self.number::<2>().map(|n| n as u16)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number::<4>().map(|n| n as u32)
    }

    fn u64(&mut self) -> Option<u64> {
        self.number::<8>()
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    /// A map from channel to number, preceded by its length in bytes.
    fn channel_map(&mut self) -> Option<BTreeMap<u16, u64>> {
        let length = self.u32()? as usize;
        let mut entries = Fields(self.bytes(length)?);
        let mut map = BTreeMap::new();
        while !entries.0.is_empty() {
            map.insert(entries.u16()?, entries.u64()?);
        }
        Some(map)
    }
}
