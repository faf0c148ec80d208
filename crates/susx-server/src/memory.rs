//! Memory that was freed, given back to the system.
//!
//! A model's weights and tensors are freed when it is unloaded, but the C library keeps most of that for
//! later: it lies between things that are still in use.

/// Gives back what can be given back.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches only what is free. This is the only unsafe code
    // of the crate: no safe wrapper of the function is known.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give it back by themselves, or never.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
