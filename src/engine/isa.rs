//! Which instructions this processor has, and which of them to use.

use std::fmt;
use std::str::FromStr;

/// A family of kernels. Every family gives the same bits; only the speed differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; runs everywhere.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// x86-64 with AVX-512F, BW and VNNI: integer dot products.
    Avx512Vnni,
    /// x86-64 with tile registers for integers (AMX-TILE, AMX-INT8), and the above.
    Amx,
    /// 64-bit Arm.
    Neon,
    /// 64-bit Arm with integer dot products (most from 2018 on).
    NeonDot,
    /// 64-bit Arm with mixed-sign dot products (I8MM), and the above.
    NeonI8mm,
}

impl Isa {
    pub const ALL: [Isa; 8] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni, Isa::Amx, Isa::Neon, Isa::NeonDot, Isa::NeonI8mm];

    /// The family whose float kernels belong to this one.
    pub fn float(self) -> Isa {
        match self {
            Isa::Avx512Vnni | Isa::Amx => Isa::Avx512,
            Isa::NeonDot | Isa::NeonI8mm => Isa::Neon,
            other => other,
        }
    }

    /// The family whose integer kernels belong to this one. AVX-512 without VNNI has none of its own.
    pub fn integer(self) -> Isa {
        match self {
            Isa::Avx512 => Isa::Avx2,
            other => other,
        }
    }

    /// Whether this processor (and this build) can run the family.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Isa::Avx512Vnni.is_available() && super::int8::has_tile_unit(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => std::arch::is_aarch64_feature_detected!("dotprod") && std::arch::is_aarch64_feature_detected!("i8mm"),
            #[allow(unreachable_patterns)] // families of other architectures
            _ => false,
        }
    }

    /// The fastest family that is available, or the one that `LIDAR_PTQ_ISA` names.
    ///
    /// # Errors
    /// The variable names no family, or one that this processor lacks.
    pub fn choose() -> Result<Isa, IsaError> {
        match std::env::var("LIDAR_PTQ_ISA") {
            Ok(name) if !name.is_empty() => {
                let isa: Isa = name.parse()?;
                if isa.is_available() { Ok(isa) } else { Err(IsaError::Unavailable(isa)) }
            }
            _ => Ok(Isa::ALL.into_iter().rfind(|i| i.is_available()).unwrap_or(Isa::Portable)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    #[error("LIDAR_PTQ_ISA: `{0}` is no instruction set of ours; expected one of {names}", names = Isa::ALL.map(|isa| isa.to_string()).join(", "))]
    Unknown(String),
    #[error("LIDAR_PTQ_ISA: this processor or build has no {0}; unset the variable to use the best there is")]
    Unavailable(Isa),
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        Isa::ALL.into_iter().find(|i| i.to_string() == name.to_ascii_lowercase()).ok_or_else(|| IsaError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::NeonDot => "neondot",
            Isa::NeonI8mm => "neoni8mm",
        })
    }
}
