//! Returns freed memory to the system.
//!
//! Unloading a model frees its weights and tensors, but the C library keeps most of that memory at the end of each
//! thread's heap and between live allocations.
//!
//! This is the crate's only unsafe code: no safe wrapper of these functions is known.

/// Bytes that the C library may keep at the end of a heap: enough to decode common images without asking the system
/// for memory. Its own threshold adapts to large models and grows to 64 MiB for every thread's heap.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 4 << 20;
/// Larger allocations, in bytes, are mapped outside the heaps: the largest value that the library would choose itself.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 32 << 20;

/// Bounds the freed memory that the process keeps. Call it before threads are started.
#[cfg(target_env = "gnu")]
pub fn limit_retained_memory() {
    // SAFETY: `mallopt` sets two parameters of the allocator under the allocator's lock.
    let are_set = unsafe {
        [
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        ] == [1, 1]
    };
    if !are_set {
        log::debug!("the C library rejected the memory thresholds");
    }
}

/// Returns all free memory that can be returned.
#[cfg(target_env = "gnu")]
pub fn release_free_memory() {
    // SAFETY: `malloc_trim` takes the allocator's locks and touches only free memory.
    unsafe { libc::malloc_trim(0) };
}

/// Does nothing: other C libraries have no such parameters.
#[cfg(not(target_env = "gnu"))]
pub fn limit_retained_memory() {}

/// Does nothing: other C libraries have no such function.
#[cfg(not(target_env = "gnu"))]
pub fn release_free_memory() {}
