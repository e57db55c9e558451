//! Number types as they stand in files.

/// The type of one stored number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

impl Scalar {
    /// From a kind (`I` signed, `U` unsigned, `F` floating, as PCD writes it) and a size in bytes.
    pub fn new(kind: char, size: usize) -> Option<Self> {
        Some(match (kind, size) {
            ('I', 1) => Self::I8,
            ('U', 1) => Self::U8,
            ('I', 2) => Self::I16,
            ('U', 2) => Self::U16,
            ('I', 4) => Self::I32,
            ('U', 4) => Self::U32,
            ('I', 8) => Self::I64,
            ('U', 8) => Self::U64,
            ('F', 2) => Self::F16,
            ('F', 4) => Self::F32,
            ('F', 8) => Self::F64,
            _ => return None,
        })
    }

    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// The number at the start of `bytes`, rounded to `f32`. `None` if the bytes are too few.
    pub fn read(self, bytes: &[u8], big_endian: bool) -> Option<f32> {
        let size = self.size();
        let mut little = [0u8; 8];
        little[..size].copy_from_slice(bytes.get(..size)?);
        if big_endian {
            little[..size].reverse();
        }
        let bits = u64::from_le_bytes(little);
        Some(match self {
            Self::I8 => f32::from(bits as i8),
            Self::U8 => f32::from(bits as u8),
            Self::I16 => f32::from(bits as i16),
            Self::U16 => f32::from(bits as u16),
            Self::I32 => bits as i32 as f32,
            Self::U32 => bits as u32 as f32,
            Self::I64 => bits as i64 as f32,
            Self::U64 => bits as f32,
            Self::F16 => half::f16::from_bits(bits as u16).to_f32(),
            Self::F32 => f32::from_bits(bits as u32),
            Self::F64 => f64::from_bits(bits) as f32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_in_both_byte_orders() {
        let cases: [(Scalar, Vec<u8>, f32); 11] = [
            (Scalar::I8, (-5i8).to_le_bytes().into(), -5.0),
            (Scalar::U8, 251u8.to_le_bytes().into(), 251.0),
            (Scalar::I16, (-300i16).to_le_bytes().into(), -300.0),
            (Scalar::U16, 60000u16.to_le_bytes().into(), 60000.0),
            (Scalar::I32, (-70000i32).to_le_bytes().into(), -70000.0),
            (Scalar::U32, 0xf000_0000u32.to_le_bytes().into(), 4_026_531_840.0),
            (Scalar::I64, (-(1i64 << 40)).to_le_bytes().into(), -1_099_511_627_776.0),
            (Scalar::U64, (1u64 << 63).to_le_bytes().into(), 9_223_372_036_854_775_808.0),
            (Scalar::F16, vec![0x00, 0xc1], -2.5),
            (Scalar::F32, 1.25f32.to_le_bytes().into(), 1.25),
            (Scalar::F64, (-0.125f64).to_le_bytes().into(), -0.125),
        ];
        for (scalar, mut bytes, value) in cases {
            assert_eq!(bytes.len(), scalar.size());
            assert_eq!(scalar.read(&bytes, false), Some(value), "{scalar:?}");
            bytes.reverse();
            assert_eq!(scalar.read(&bytes, true), Some(value), "{scalar:?}");
            assert_eq!(scalar.read(&bytes[1..], true), None);
        }
    }
}
