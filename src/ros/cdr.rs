//! Common Data Representation, the bytes of every ROS 2 message: plain CDR as DDS-XTypes 1.3 (7.4.3) calls version 1.
//!
//! A message is four bytes of encapsulation (representation identifier and options) and the payload. Primitives are
//! aligned to their own size, counted from the start of the payload. Strings carry their length with a closing zero.

use crate::sensor::Stamp;

/// Bytes before the payload: representation identifier (big-endian) and options.
pub(super) const ENCAPSULATION_BYTES: usize = 4;
const CDR_BIG_ENDIAN: [u8; 2] = [0x00, 0x00];
const CDR_LITTLE_ENDIAN: [u8; 2] = [0x00, 0x01];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    Big,
    Little,
}

/// Why a message could not be decoded, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {}at byte {offset}: {problem}", in_field(.field))]
pub struct CdrError {
    /// Type name of the message being decoded.
    pub message: &'static str,
    /// Path of the field, such as `header.frame_id`; empty for the encapsulation.
    pub field: String,
    /// Offset in the message's bytes, encapsulation included.
    pub offset: usize,
    pub problem: CdrProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CdrProblem {
    #[error("encapsulation {found:02x?}, expected [00, 00] or [00, 01] (plain CDR)")]
    Encapsulation { found: Vec<u8> },
    #[error("{needed} bytes needed, {left} left")]
    TooShort { needed: usize, left: usize },
    #[error("a sequence of {count} elements needs at least {needed} bytes, {left} left")]
    SequenceTooLong { count: usize, needed: u64, left: usize },
    #[error("the string is not closed by a zero byte")]
    StringNotTerminated,
    #[error("the string is not UTF-8")]
    StringNotUtf8,
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field {field} ") }
}

impl CdrError {
    /// The same error seen from the structure that holds the field.
    fn inside(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field.push_str(field);
        } else {
            self.field.insert(0, '.');
            self.field.insert_str(0, field);
        }
        self
    }
}

/// A type with a CDR form: primitives, strings, sequences, arrays, and structures of them.
pub trait Cdr: Sized {
    /// Lower bound of the encoded size in bytes, at least 1: what a sequence's length is checked against before memory is allocated.
    const MIN_BYTES: usize;

    fn write(&self, writer: &mut CdrWriter);

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError>;

    /// The elements of a sequence or array, without its length.
    fn write_all(elements: &[Self], writer: &mut CdrWriter) {
        elements.iter().for_each(|e| e.write(writer));
    }

    /// `count` elements; the reader has already checked that they can be there.
    fn read_all(reader: &mut CdrReader, count: usize) -> Result<Vec<Self>, CdrError> {
        (0..count).map(|_| Self::read(reader)).collect()
    }
}

/// Reads one message. Never looks beyond the bytes it was given and never allocates more than a multiple of their number.
pub struct CdrReader<'a> {
    message: &'static str,
    payload: &'a [u8],
    position: usize,
    endian: Endian,
}

impl<'a> CdrReader<'a> {
    /// `bytes` with encapsulation; `message` is the type name for errors.
    pub fn new(bytes: &'a [u8], message: &'static str) -> Result<Self, CdrError> {
        let fail = |problem| CdrError { message, field: String::new(), offset: 0, problem };
        let Some((header, payload)) = bytes.split_at_checked(ENCAPSULATION_BYTES) else {
            return Err(fail(CdrProblem::TooShort { needed: ENCAPSULATION_BYTES, left: bytes.len() }));
        };
        let endian = match [header[0], header[1]] {
            CDR_BIG_ENDIAN => Endian::Big,
            CDR_LITTLE_ENDIAN => Endian::Little,
            _ => return Err(fail(CdrProblem::Encapsulation { found: header[..2].to_vec() })),
        };
        Ok(Self { message, payload, position: 0, endian })
    }

    /// A field of a structure: like `T::read`, with the field's name added to errors.
    pub fn field<T: Cdr>(&mut self, name: &'static str) -> Result<T, CdrError> {
        T::read(self).map_err(|e| e.inside(name))
    }

    /// A `uint8[]` field as a view of the message's own bytes.
    pub fn bytes_field(&mut self, name: &'static str) -> Result<&'a [u8], CdrError> {
        self.sequence_length(1).and_then(|count| self.take(count)).map_err(|e| e.inside(name))
    }

    /// The length of a sequence whose elements take at least `min_bytes` each, checked against what is left.
    fn sequence_length(&mut self, min_bytes: usize) -> Result<usize, CdrError> {
        let count = u32::read(self)? as usize;
        let (needed, left) = (count as u64 * min_bytes as u64, self.left());
        if needed > left as u64 {
            return Err(self.error(CdrProblem::SequenceTooLong { count, needed, left }));
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String, CdrError> {
        let length = self.sequence_length(1)?;
        // Some writers give an empty string as length 0, without even the closing zero.
        let Some((last, text)) = self.take(length)?.split_last() else { return Ok(String::new()) };
        if *last != 0 {
            return Err(self.error(CdrProblem::StringNotTerminated));
        }
        String::from_utf8(text.to_vec()).map_err(|_| self.error(CdrProblem::StringNotUtf8))
    }

    fn primitive<const N: usize>(&mut self) -> Result<[u8; N], CdrError> {
        let padding = self.position.wrapping_neg() % N;
        self.take(padding)?;
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CdrError> {
        let rest = self.payload.get(self.position..).unwrap_or_default();
        let Some(taken) = rest.get(..count) else {
            return Err(self.error(CdrProblem::TooShort { needed: count, left: rest.len() }));
        };
        self.position += count;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.payload.len().saturating_sub(self.position)
    }

    fn error(&self, problem: CdrProblem) -> CdrError {
        CdrError { message: self.message, field: String::new(), offset: ENCAPSULATION_BYTES + self.position, problem }
    }
}

/// Writes one message.
pub struct CdrWriter {
    bytes: Vec<u8>,
    endian: Endian,
}

impl CdrWriter {
    pub fn new(endian: Endian) -> Self {
        let identifier = match endian {
            Endian::Big => CDR_BIG_ENDIAN,
            Endian::Little => CDR_LITTLE_ENDIAN,
        };
        Self { bytes: [identifier[0], identifier[1], 0, 0].to_vec(), endian }
    }

    /// The message with its encapsulation.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A `uint8[]`.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        self.write_length(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// # Panics
    /// If a sequence has 2^32 elements or more, which CDR cannot express.
    fn write_length(&mut self, count: usize) {
        u32::try_from(count).expect("a CDR sequence has fewer than 2^32 elements").write(self);
    }

    fn align(&mut self, size: usize) {
        let padding = (self.bytes.len() - ENCAPSULATION_BYTES).wrapping_neg() % size;
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

macro_rules! cdr_number {
    ($($number:ty),*) => {$(
        impl Cdr for $number {
            const MIN_BYTES: usize = size_of::<$number>();

            fn write(&self, writer: &mut CdrWriter) {
                writer.align(size_of::<$number>());
                match writer.endian {
                    Endian::Big => writer.bytes.extend_from_slice(&self.to_be_bytes()),
                    Endian::Little => writer.bytes.extend_from_slice(&self.to_le_bytes()),
                }
            }

            fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
                let bytes = reader.primitive()?;
                Ok(match reader.endian {
                    Endian::Big => <$number>::from_be_bytes(bytes),
                    Endian::Little => <$number>::from_le_bytes(bytes),
                })
            }
        }
    )*};
}

cdr_number!(i8, i32, u32, i64, u64, f32, f64);

impl Cdr for u8 {
    const MIN_BYTES: usize = 1;

    fn write(&self, writer: &mut CdrWriter) {
        writer.bytes.push(*self);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        reader.primitive::<1>().map(|[byte]| byte)
    }

    fn write_all(elements: &[Self], writer: &mut CdrWriter) {
        writer.bytes.extend_from_slice(elements);
    }

    fn read_all(reader: &mut CdrReader, count: usize) -> Result<Vec<Self>, CdrError> {
        reader.take(count).map(<[u8]>::to_vec)
    }
}

impl Cdr for bool {
    const MIN_BYTES: usize = 1;

    fn write(&self, writer: &mut CdrWriter) {
        u8::from(*self).write(writer);
    }

    /// Any byte but 0 is true, as in C.
    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        Ok(u8::read(reader)? != 0)
    }
}

impl Cdr for String {
    const MIN_BYTES: usize = 4;

    /// A zero byte inside the text would end it early for C readers; it is written as it is.
    fn write(&self, writer: &mut CdrWriter) {
        writer.write_length(self.len() + 1);
        writer.bytes.extend_from_slice(self.as_bytes());
        writer.bytes.push(0);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        reader.string()
    }
}

impl<T: Cdr> Cdr for Vec<T> {
    const MIN_BYTES: usize = 4;

    fn write(&self, writer: &mut CdrWriter) {
        writer.write_length(self.len());
        T::write_all(self, writer);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        let count = reader.sequence_length(T::MIN_BYTES)?;
        T::read_all(reader, count)
    }
}

impl<T: Cdr + Copy + Default, const N: usize> Cdr for [T; N] {
    const MIN_BYTES: usize = N * T::MIN_BYTES;

    fn write(&self, writer: &mut CdrWriter) {
        T::write_all(self, writer);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        let mut array = [T::default(); N];
        for element in &mut array {
            *element = T::read(reader)?;
        }
        Ok(array)
    }
}

/// `builtin_interfaces/Time`: `int32 sec`, `uint32 nanosec`. Written clamped to the years 1901 to 2038 that it can hold.
impl Cdr for Stamp {
    const MIN_BYTES: usize = 8;

    fn write(&self, writer: &mut CdrWriter) {
        let (sec, nanosec) = seconds_and_nanoseconds(self.0);
        sec.write(writer);
        nanosec.write(writer);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        let sec: i32 = reader.field("sec")?;
        let nanosec: u32 = reader.field("nanosec")?;
        // |sec| * 1e9 + nanosec < 2^62: it cannot overflow, even with nanosec beyond a second.
        Ok(Stamp(i64::from(sec) * 1_000_000_000 + i64::from(nanosec)))
    }
}

fn seconds_and_nanoseconds(nanoseconds: i64) -> (i32, u32) {
    let clamped = nanoseconds.clamp(i64::from(i32::MIN) * 1_000_000_000, i64::from(i32::MAX) * 1_000_000_000 + 999_999_999);
    // Both fit after the clamp: the quotient is an i32, the remainder below 1e9.
    (clamped.div_euclid(1_000_000_000) as i32, clamped.rem_euclid(1_000_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_counts_from_the_payload_and_follows_the_encapsulation_byte_order() {
        // After 1 + 3 + 4 bytes of payload the f64 is aligned, although byte 12 of the message is not.
        let little = [0, 1, 0, 0, 7, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        let big = [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 1, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
        for (endian, expected) in [(Endian::Little, little), (Endian::Big, big)] {
            let mut writer = CdrWriter::new(endian);
            7u8.write(&mut writer);
            0x201u32.write(&mut writer);
            1.0f64.write(&mut writer);
            let bytes = writer.finish();
            assert_eq!(bytes, expected);
            let mut reader = CdrReader::new(&bytes, "test").unwrap();
            assert_eq!((u8::read(&mut reader), u32::read(&mut reader), f64::read(&mut reader)), (Ok(7), Ok(0x201), Ok(1.0)));
        }
    }

    #[test]
    fn a_length_that_lies_is_told_before_memory_is_taken() {
        let bytes = [0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8];
        let error = CdrReader::new(&bytes, "test").unwrap().field::<Vec<f64>>("values").unwrap_err();
        assert_eq!(error.problem, CdrProblem::SequenceTooLong { count: 0xffff_ffff, needed: 0xffff_ffff * 8, left: 8 });
        assert_eq!(
            error.to_string(),
            "test: field values at byte 8: a sequence of 4294967295 elements needs at least 34359738360 bytes, 8 left"
        );
        assert!(CdrReader::new(&bytes, "test").unwrap().field::<String>("name").is_err());
        assert!(CdrReader::new(&bytes, "test").unwrap().bytes_field("data").is_err());
    }

    #[test]
    fn strings_may_be_empty_in_both_ways_and_must_be_closed() {
        let read = |bytes: &[u8]| CdrReader::new(bytes, "test").unwrap().field::<String>("s");
        assert_eq!(read(&[0, 1, 0, 0, 0, 0, 0, 0]), Ok(String::new()));
        assert_eq!(read(&[0, 1, 0, 0, 1, 0, 0, 0, 0]), Ok(String::new()));
        assert_eq!(read(&[0, 1, 0, 0, 2, 0, 0, 0, b'a', 0]), Ok("a".to_owned()));
        assert_eq!(read(&[0, 1, 0, 0, 2, 0, 0, 0, b'a', b'b']).unwrap_err().problem, CdrProblem::StringNotTerminated);
        assert_eq!(read(&[0, 1, 0, 0, 2, 0, 0, 0, 0xff, 0]).unwrap_err().problem, CdrProblem::StringNotUtf8);
    }

    #[test]
    fn other_representations_are_refused() {
        assert!(matches!(CdrReader::new(&[0, 3, 0, 0], "test").err().unwrap().problem, CdrProblem::Encapsulation { .. }));
        assert!(matches!(CdrReader::new(&[0, 1], "test").err().unwrap().problem, CdrProblem::TooShort { needed: 4, left: 2 }));
    }

    #[test]
    fn times_before_the_epoch_and_out_of_range() {
        assert_eq!(seconds_and_nanoseconds(-1), (-1, 999_999_999));
        assert_eq!(seconds_and_nanoseconds(i64::MAX), (i32::MAX, 999_999_999));
        assert_eq!(seconds_and_nanoseconds(i64::MIN), (i32::MIN, 0));
    }
}
