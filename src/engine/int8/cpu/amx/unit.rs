//! What the kernel needs of a unit of tile registers, and the software that defines it.

/// Rows of a tile.
pub const ROWS: usize = 16;
/// Bytes of a row.
pub const ROW: usize = 64;

/// Eight registers of sixteen rows of 64 bytes, all of that size all the time.
///
/// # Safety
/// Callers of the methods guarantee that the processor has the unit, and that sixteen rows of 64 bytes, `stride` bytes apart, may be
/// read or written.
pub(super) trait TileUnit: Sized {
    /// Takes hold of the unit. What its registers hold is not known.
    unsafe fn open() -> Self;
    /// Register `T` from memory.
    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize);
    /// Register `T` to memory.
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, stride: usize);
    /// To each i32 of `C` (row `p`, column `l`) adds the 64 products of row `p` of `A`, unsigned, with the signed bytes
    /// `4 l .. 4 l + 4` of every row of `B`: bytes `4 q .. 4 q + 4` of `A` meet row `q` of `B`. Wrapping.
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self);
}

/// The definition, in plain Rust.
#[cfg(test)]
pub(super) struct Software([[[u8; ROW]; ROWS]; 8]);

#[cfg(test)]
impl TileUnit for Software {
    unsafe fn open() -> Self {
        Self([[[0xa5; ROW]; ROWS]; 8])
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        for (r, row) in self.0[T].iter_mut().enumerate() {
            // SAFETY: the trait's contract.
            *row = unsafe { from.add(r * stride).cast::<[u8; ROW]>().read() };
        }
    }

    unsafe fn store<const T: usize>(&mut self, to: *mut u8, stride: usize) {
        for (r, row) in self.0[T].iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { to.add(r * stride).cast::<[u8; ROW]>().write(*row) }
        }
    }

    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        let (a, b) = (self.0[A], self.0[B]);
        for (sums, a) in self.0[C].iter_mut().zip(a) {
            for (lane, sum) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let mut total = i32::from_ne_bytes(*sum);
                for (quad, b) in a.as_chunks::<4>().0.iter().zip(b) {
                    for (i, &byte) in quad.iter().enumerate() {
                        total = total.wrapping_add(i32::from(byte) * i32::from(b[4 * lane + i] as i8));
                    }
                }
                *sum = total.to_ne_bytes();
            }
        }
    }
}
