//! Slices that end where memory ends, for tests: who reads or writes a byte more is ended by the system.

use std::ops::{Deref, DerefMut};

/// A copy of a slice of plain numbers, with a page behind it that nobody may touch. Where there are no such pages, a copy.
pub struct Guarded<T: Copy> {
    #[cfg(unix)]
    pages: *mut libc::c_void,
    #[cfg(unix)]
    size: usize,
    #[cfg(unix)]
    slice: *mut [T],
    #[cfg(not(unix))]
    slice: Vec<T>,
}

#[cfg(unix)]
impl<T: Copy> Guarded<T> {
    pub fn new(from: &[T]) -> Self {
        let bytes = size_of_val(from);
        // SAFETY: asks for a number, then for new pages, and takes the last from everyone. What is copied ends where that starts, and is
        // as aligned as a page's end.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let size = bytes.next_multiple_of(page) + page;
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
            let pages = libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED, "{size} bytes of memory");
            let guard = pages.cast::<u8>().add(size - page);
            assert_eq!(libc::mprotect(guard.cast(), page, libc::PROT_NONE), 0, "a page that nobody may touch");
            let first = guard.sub(bytes).cast::<T>();
            first.copy_from_nonoverlapping(from.as_ptr(), from.len());
            Self { pages, size, slice: std::ptr::slice_from_raw_parts_mut(first, from.len()) }
        }
    }
}

#[cfg(not(unix))]
impl<T: Copy> Guarded<T> {
    pub fn new(from: &[T]) -> Self {
        Self { slice: from.to_vec() }
    }
}

#[cfg(unix)]
impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the pages of `new`, which nothing outlives that was borrowed.
        unsafe { libc::munmap(self.pages, self.size) };
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];

    #[cfg(unix)]
    fn deref(&self) -> &[T] {
        // SAFETY: filled by `new`, and there until it is dropped.
        unsafe { &*self.slice }
    }
    #[cfg(not(unix))]
    fn deref(&self) -> &[T] {
        &self.slice
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    #[cfg(unix)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { &mut *self.slice }
    }
    #[cfg(not(unix))]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.slice
    }
}
