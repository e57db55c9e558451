//! Bytes that start at a cache line, so that vector loads of whole lines never straddle two.

const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Numbers that any bits stand for.
trait Whole {}
impl Whole for i8 {}
impl Whole for i16 {}
impl Whole for i32 {}

/// A fixed number of bytes, aligned to 64.
#[derive(Clone, Default)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    pub fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0; LINE]); len.div_ceil(LINE)], len }
    }

    /// At least so many bytes; there may be more. What it held is lost if it grows.
    pub fn grow(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len);
        }
    }

    pub fn as_i8(&self) -> &[i8] {
        self.cast()
    }

    pub fn as_i16_mut(&mut self) -> &mut [i16] {
        self.cast_mut()
    }

    pub fn as_i32_mut(&mut self) -> &mut [i32] {
        self.cast_mut()
    }

    /// A rest that is no whole `T` is left out.
    fn cast<T: Whole>(&self) -> &[T] {
        // SAFETY: lines are aligned to more than `T` is, hold `len` bytes at least, and any bits are a `T`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len / size_of::<T>()) }
    }

    fn cast_mut<T: Whole>(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len / size_of::<T>()) }
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the lines are `len` rounded up to whole lines of plain bytes, one after the other without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
