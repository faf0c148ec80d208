//! The noise of an image: a function of its seed, the same on every machine.
//!
//! 1. Bytes: the key stream of ChaCha20 in its original form (64-bit block counter from 0, 64-bit nonce).
//!    The 32-byte key is the seed as 8 bytes, little-endian, and then 24 zeros. The nonce is 0 for the initial noise. For
//!    a scheduler that adds noise after its steps, it is the number of the step, from 1.
//! 2. Uniform numbers: the stream is read as pairs n, m of 64-bit little-endian integers, each of which gives two values.
//!    u = (⌊n / 2¹¹⌋ + 1) / 2⁵³ is in (0, 1], v = ⌊m / 2¹¹⌋ / 2⁵³ in [0, 1).
//! 3. Normal numbers (Box and Muller): √(−2 ln u) · cos(2πv), then √(−2 ln u) · sin(2πv), in double
//!    precision, rounded to single. Logarithm, sine and cosine are those of the crate `libm`, which is the
//!    same code on every machine.
//!
//! The numbers fill the latents in the order channel, row, column. An image's noise depends on its seed, its size and the
//! number of the step alone, not on other images of the batch.

use std::f64::consts::TAU;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// `count` numbers of a standard normal distribution: the initial noise for `step` 0, else what follows that step.
pub fn normal(seed: u64, step: u64, count: usize) -> Vec<f32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut stream = ChaCha20Rng::from_seed(key);
    stream.set_stream(step);
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let u = ((stream.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let v = (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let radius = (-2.0 * libm::log(u)).sqrt();
        numbers.push((radius * libm::cos(TAU * v)) as f32);
        numbers.push((radius * libm::sin(TAU * v)) as f32);
    }
    numbers.truncate(count);
    numbers
}
