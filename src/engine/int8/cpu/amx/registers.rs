//! Tile registers as Intel defines them, in plain Rust: what tests run the kernel on where no processor has them.
//!
//! "SDM" is Intel's Software Developer's Manual. Volume 1, chapter 18 has the registers and their configuration, volume 2 a page
//! for each instruction, with its operation in pseudocode and its exceptions. What is wrong there is an error here.

use super::unit::{ALL_WHOLE, ROW, ROWS, TileUnit};

/// What a processor would raise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("invalid opcode: {0}")]
    Opcode(&'static str),
    #[error("general protection: {0}")]
    Protection(&'static str),
}

/// Registers of palette 1.
pub const TILES: usize = 8;

#[derive(Clone, Copy, PartialEq)]
struct Shape {
    rows: usize,
    row_bytes: usize,
}

#[derive(Clone)]
pub struct Registers {
    /// TILES_CONFIGURED.
    is_configured: bool,
    /// Where an interrupted load or store goes on.
    start_row: usize,
    shapes: [Shape; TILES],
    rows: [[[u8; ROW]; ROWS]; TILES],
}

impl Registers {
    /// As TILERELEASE leaves them.
    pub const RELEASED: Self =
        Self { is_configured: false, start_row: 0, shapes: [Shape { rows: 0, row_bytes: 0 }; TILES], rows: [[[0; ROW]; ROWS]; TILES] };

    pub fn is_configured(&self) -> bool {
        self.is_configured
    }

    /// LDTILECFG (SDM 2, LDTILECFG; layout and limits: SDM 1, "Tile Configuration").
    pub fn configure(&mut self, operand: &[u8; 64]) -> Result<(), Fault> {
        let [palette, start_row] = [operand[0], operand[1]];
        if palette == 0 {
            self.release();
            return Ok(());
        }
        if palette != 1 {
            return Err(Fault::Protection("LDTILECFG: no such palette"));
        }
        // Reserved: bytes 2 to 15, and what belongs to registers 8 to 15.
        if [2..16, 32..48, 56..64].into_iter().flatten().any(|at| operand[at] != 0) {
            return Err(Fault::Protection("LDTILECFG: reserved bytes must be zero"));
        }
        let shapes = std::array::from_fn(|tile| Shape {
            row_bytes: usize::from(u16::from_le_bytes([operand[16 + 2 * tile], operand[17 + 2 * tile]])),
            rows: usize::from(operand[48 + tile]),
        });
        for Shape { rows, row_bytes } in shapes {
            if rows > ROWS || row_bytes > ROW {
                return Err(Fault::Protection("LDTILECFG: a register larger than the palette's"));
            }
            if (rows == 0) != (row_bytes == 0) {
                return Err(Fault::Protection("LDTILECFG: a register with rows of nothing, or no rows of something"));
            }
        }
        *self = Self { is_configured: true, start_row: start_row.into(), shapes, ..Self::RELEASED };
        Ok(())
    }

    /// TILERELEASE.
    pub fn release(&mut self) {
        *self = Self::RELEASED;
    }

    /// TILELOADD (SDM 2, TILELOADD/TILELOADDT1): row `r` from `stride` times `r` bytes behind `from`; zeros beyond the shape.
    ///
    /// # Safety
    /// The rows of the register's shape can be read.
    pub unsafe fn load(&mut self, tile: usize, from: *const u8, stride: isize) -> Result<(), Fault> {
        let shape = self.shape_of_transfer(tile)?;
        for (r, row) in self.rows[tile].iter_mut().enumerate().skip(self.start_row) {
            row.fill(0);
            if r < shape.rows {
                // SAFETY: the caller vouches for the row.
                unsafe { from.wrapping_offset(r as isize * stride).copy_to_nonoverlapping(row.as_mut_ptr(), shape.row_bytes) }
            }
        }
        self.start_row = 0;
        Ok(())
    }

    /// TILESTORED (SDM 2, TILESTORED).
    ///
    /// # Safety
    /// The rows of the register's shape can be written.
    pub unsafe fn store(&mut self, tile: usize, to: *mut u8, stride: isize) -> Result<(), Fault> {
        let shape = self.shape_of_transfer(tile)?;
        for (r, row) in self.rows[tile].iter().enumerate().take(shape.rows).skip(self.start_row) {
            // SAFETY: the caller vouches for the row.
            unsafe { to.wrapping_offset(r as isize * stride).copy_from_nonoverlapping(row.as_ptr(), shape.row_bytes) }
        }
        self.start_row = 0;
        Ok(())
    }

    /// TDPBUSD (SDM 2, TDPBSSD/TDPBSUD/TDPBUSD/TDPBUUD): `sums += a * b`, bytes of `a` unsigned, of `b` signed, in fours. Wrapping.
    pub fn dot_u8s8(&mut self, sums: usize, a: usize, b: usize) -> Result<(), Fault> {
        if sums == a || sums == b || a == b {
            return Err(Fault::Opcode("TDPBUSD: its three registers must differ"));
        }
        let [of_sums, of_a, of_b] = [self.shape(sums)?, self.shape(a)?, self.shape(b)?];
        if [of_sums, of_a, of_b].iter().any(|shape| shape.row_bytes % 4 != 0) {
            return Err(Fault::Opcode("TDPBUSD: rows must be whole fours of bytes"));
        }
        if of_sums.rows != of_a.rows || of_sums.row_bytes != of_b.row_bytes || of_a.row_bytes / 4 != of_b.rows {
            return Err(Fault::Opcode("TDPBUSD: the registers' shapes do not fit"));
        }
        let (of_a, of_b) = (self.rows[a], self.rows[b]);
        // Rows and columns beyond a shape are zeros in all three.
        for (sums, a) in self.rows[sums].iter_mut().zip(&of_a) {
            let mut totals: [i32; ROW / 4] = std::array::from_fn(|lane| i32::from_le_bytes(fours(sums)[lane]));
            for (quad, b) in fours(a).iter().zip(&of_b) {
                let quad = quad.map(i32::from);
                for (total, b) in totals.iter_mut().zip(fours(b)) {
                    let b = b.map(|byte| i32::from(byte as i8));
                    *total = total.wrapping_add(quad[0] * b[0] + quad[1] * b[1] + quad[2] * b[2] + quad[3] * b[3]);
                }
            }
            sums.as_chunks_mut::<4>().0.iter_mut().zip(totals).for_each(|(sum, total)| *sum = total.to_le_bytes());
        }
        self.start_row = 0;
        Ok(())
    }

    /// A register that exists in this configuration.
    fn shape(&self, tile: usize) -> Result<Shape, Fault> {
        if !self.is_configured {
            return Err(Fault::Opcode("registers that are not configured"));
        }
        match self.shapes.get(tile) {
            None => Err(Fault::Opcode("no such register")),
            Some(Shape { rows: 0, .. }) => Err(Fault::Opcode("a register of no size")),
            Some(&shape) => Ok(shape),
        }
    }

    fn shape_of_transfer(&self, tile: usize) -> Result<Shape, Fault> {
        let shape = self.shape(tile)?;
        if self.start_row >= shape.rows { Err(Fault::Opcode("starts behind the register's last row")) } else { Ok(shape) }
    }
}

fn fours(row: &[u8; ROW]) -> &[[u8; 4]] {
    row.as_chunks().0
}

/// Called instead of trapped.
impl TileUnit for Registers {
    unsafe fn open() -> Self {
        let mut registers = Self::RELEASED;
        // SAFETY: plain bytes without padding.
        registers.configure(unsafe { &*(&raw const ALL_WHOLE).cast() }).expect("the kernel's configuration");
        // Within a session they hold what the tile before left there.
        registers.rows = [[[0xa5; ROW]; ROWS]; TILES];
        registers
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe { Registers::load(self, T, from, stride as isize) }.expect("a register");
    }

    unsafe fn store<const T: usize>(&mut self, to: *mut u8, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe { Registers::store(self, T, to, stride as isize) }.expect("a register");
    }

    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.dot_u8s8(C, A, B).expect("three registers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operand of LDTILECFG for registers of these rows and bytes a row.
    fn operand(shapes: &[(u8, u16)]) -> [u8; 64] {
        let mut operand = [0; 64];
        operand[0] = 1;
        for (tile, &(rows, row_bytes)) in shapes.iter().enumerate() {
            operand[16 + 2 * tile..][..2].copy_from_slice(&row_bytes.to_le_bytes());
            operand[48 + tile] = rows;
        }
        operand
    }

    fn configured(shapes: &[(u8, u16)]) -> Registers {
        let mut registers = Registers::RELEASED;
        registers.configure(&operand(shapes)).expect("valid");
        registers
    }

    #[test]
    fn invalid_configurations_are_refused() {
        let with = |at: usize, value: u8| {
            let mut operand = operand(&[(16, 64); TILES]);
            operand[at] = value;
            let mut registers = Registers::RELEASED;
            registers.configure(&operand)
        };
        assert_eq!(with(0, 1), Ok(()));
        // Palette, reserved bytes, a ninth register, too long and too many rows, no rows, rows of nothing.
        for (at, value) in [(0, 2), (2, 1), (15, 1), (32, 4), (47, 1), (56, 1), (63, 1), (16, 65), (17, 1), (48, 17), (48, 0), (16, 0)] {
            assert!(matches!(with(at, value), Err(Fault::Protection(_))), "{at} {value}");
        }
    }

    #[test]
    fn invalid_operands_are_refused() {
        let is_opcode = |result: Result<(), Fault>| assert!(matches!(result, Err(Fault::Opcode(_))), "{result:?}");
        let mut memory = [0; 1024];
        let mut released = Registers::RELEASED;
        is_opcode(unsafe { released.load(0, memory.as_ptr(), 64) });
        is_opcode(released.dot_u8s8(0, 1, 2));
        // Sums of 5 x 12, 5 x 16 bytes times 4 x 12 quads; a register of six bytes a row, and none.
        let mut registers = configured(&[(5, 48), (5, 16), (4, 48), (5, 16), (5, 6)]);
        assert_eq!(registers.dot_u8s8(0, 1, 2), Ok(()));
        for [sums, a, b] in [[0, 0, 2], [0, 1, 1], [2, 1, 2], [0, 2, 1], [1, 3, 2], [0, 4, 2], [0, 1, 5], [0, 1, 8]] {
            is_opcode(registers.dot_u8s8(sums, a, b));
        }
        is_opcode(unsafe { registers.store(5, memory.as_mut_ptr(), 64) });
        let mut late = operand(&[(5, 48)]);
        late[1] = 5;
        registers.configure(&late).expect("valid");
        is_opcode(unsafe { registers.load(0, memory.as_ptr(), 64) });
    }

    #[test]
    fn shapes_are_honoured() {
        let mut registers = configured(&[(2, 8), (2, 4), (1, 8)]);
        let memory: Vec<u8> = (0..=255).collect();
        // SAFETY: two rows of eight bytes, 100 apart.
        unsafe { registers.load(0, memory.as_ptr(), 100) }.expect("a register");
        assert_eq!(registers.rows[0][1][..9], [100, 101, 102, 103, 104, 105, 106, 107, 0]);
        assert_eq!(registers.rows[0][2], [0; ROW]);
        // SAFETY: rows from the last to the first.
        unsafe { registers.load(1, memory[200..].as_ptr(), -4) }.expect("a register");
        assert_eq!([&registers.rows[1][0][..5], &registers.rows[1][1][..5]], [[200, 201, 202, 203, 0], [196, 197, 198, 199, 0]]);
        let weights = [1i8, -1, 127, -128, 0, 0, 0, 1].map(|w| w as u8);
        // SAFETY: one row of eight bytes.
        unsafe { registers.load(2, weights.as_ptr(), 0) }.expect("a register");
        registers.dot_u8s8(0, 1, 2).expect("they fit");
        let mut sums = [[77u8; 12]; 2];
        // SAFETY: two rows of eight bytes, twelve apart.
        unsafe { registers.store(0, sums.as_mut_ptr().cast(), 12) }.expect("a register");
        let sum = |row: usize, lane: usize| i32::from_le_bytes(sums[row][4 * lane..][..4].try_into().expect("four"));
        let was = |first: u8| i32::from_le_bytes([first, first + 1, first + 2, first + 3]);
        assert_eq!([sum(0, 0), sum(0, 1)], [was(0) + 200 - 201 + 127 * 202 - 128 * 203, was(4) + 203]);
        assert_eq!([sum(1, 0), sum(1, 1)], [was(100) + 196 - 197 + 127 * 198 - 128 * 199, was(104) + 199]);
        assert!(sums.iter().all(|row| row[8..] == [77; 4]));
    }
}
