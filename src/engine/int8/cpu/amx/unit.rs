//! What the kernel needs of a unit of tile registers.

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

/// The operand of LDTILECFG.
#[repr(C, align(64))]
pub struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}
const _: () = assert!(size_of::<Config>() == 64);

/// Eight registers of full size.
pub static ALL_WHOLE: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (ROW as u16, ROWS as u8);
        tile += 1;
    }
    Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};
