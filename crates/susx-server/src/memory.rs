//! Memory that was freed, given back to the system.
//!
//! A model's weights and tensors are freed when it is unloaded, but the C library keeps most of that for later,
//! at the end of each thread's heap and between things that are still in use.
//!
//! This is the only unsafe code of the crate: no safe wrapper of these functions is known.

/// What the C library may keep at the end of a heap, in bytes: what a thread needs to decode common pictures again
/// and again. By itself the library learns from a large model to keep up to 64 MiB at the end of every thread's heap.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 4 << 20;
/// What is larger lies apart from the heaps, in bytes: the most that the library would come to by itself.
#[cfg(target_env = "gnu")]
const APART: libc::c_int = 32 << 20;

/// Bounds what is kept, for the whole process; called before there are threads.
#[cfg(target_env = "gnu")]
pub fn keep_little() {
    // SAFETY: it sets two numbers of the allocator's, under its own lock.
    let are_set = unsafe {
        [libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT), libc::mallopt(libc::M_MMAP_THRESHOLD, APART)] == [1, 1]
    };
    if !are_set {
        log::debug!("the C library does not let its thresholds be set");
    }
}

/// Gives back what can be given back.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches only what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give it back by themselves, or never.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

/// As above.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
