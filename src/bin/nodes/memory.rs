//! Memory of a process that works on one cloud after the other.

/// Keeps what is given back, since every cloud needs as much as the one before. By itself, glibc returns large pieces to the system,
/// which clears them before it hands them out again: that was half of a node's time beside its network.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Free memory at the heap's end that is returned to the system, bytes.
        const TRIM: libc::c_int = 1 << 30;
        /// Pieces that are asked of the system one by one, bytes; the most that glibc allows.
        const MMAP: libc::c_int = 32 << 20;
        // SAFETY: sets two numbers of the allocator.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP);
        }
    }
}
