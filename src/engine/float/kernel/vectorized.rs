//! Plain loops, compiled once for each instruction set.

/// Writes a function whose body the compiler turns into vectors of the processor at hand. The body says what happens
/// element by element; no sum is reordered, so every version gives the same bits.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)] // the loops of one operation simply need them
        $vis fn $name<$t: $crate::engine::float::Real>($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$t: $crate::engine::float::Real>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$t: $crate::engine::float::Real>($($arg: $type),*) {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$t: $crate::engine::float::Real>($($arg: $type),*) {
                body($($arg),*)
            }

            match $t::kernels().isa() {
                // SAFETY of both: kernels are only made for instruction sets that the processor has.
                #[cfg(target_arch = "x86_64")]
                $crate::engine::Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                $crate::engine::Isa::Avx512 => unsafe { avx512($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(in crate::engine::float) use vectorized;
