//! From the samples of a row to 8-bit levels.

use half::f16;

use super::broken;
use crate::clip::error::Result;

/// Size and type of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// 1, 2, 4 or 8 bits.
    Bits(u8),
    U16,
    U32,
    F16,
    F32,
    F64,
}

/// `SampleFormat`: unsigned and signed integers, floating point, and undefined.
const UNSIGNED: u64 = 1;
const SIGNED: u64 = 2;
const FLOAT: u64 = 3;
const UNDEFINED: u64 = 4;

impl Depth {
    pub(super) fn new(bits: u64, format: u64) -> Result<Depth> {
        match (format, bits) {
            (UNSIGNED | UNDEFINED, 1 | 2 | 4 | 8) => Ok(Depth::Bits(bits as u8)),
            (UNSIGNED | UNDEFINED, 16) => Ok(Depth::U16),
            (UNSIGNED | UNDEFINED, 32) => Ok(Depth::U32),
            (FLOAT, 16) => Ok(Depth::F16),
            (FLOAT, 32) => Ok(Depth::F32),
            (FLOAT, 64) => Ok(Depth::F64),
            (UNSIGNED | UNDEFINED, _) => Err(broken(format!("{bits} bits per sample are not supported"))),
            (FLOAT, _) => Err(broken(format!("{bits}-bit floating point is not supported"))),
            (SIGNED, _) => {
                Err(broken("signed samples are not supported, because the file does not define black"))
            }
            _ => Err(broken("complex numbers are not supported")),
        }
    }

    pub(super) fn bits(self) -> usize {
        match self {
            Depth::Bits(bits) => bits.into(),
            Depth::U16 | Depth::F16 => 16,
            Depth::U32 | Depth::F32 => 32,
            Depth::F64 => 64,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Depth::F16 | Depth::F32 | Depth::F64)
    }

    /// Writes every `of`-th sample of a row, from sample `first`, to every `every`-th level.
    ///
    /// Samples of less than 8 bits fill the range 0 to 255, unless they are an `is_index` into a palette.
    pub(super) fn levels(
        self,
        row: &[u8],
        (first, of): (usize, usize),
        is_big_endian: bool,
        is_index: bool,
        levels: &mut [u8],
        every: usize,
    ) -> Result<()> {
        let levels = levels.iter_mut().step_by(every);
        let high_byte = if is_big_endian { 0 } else { self.bits() / 8 - self.bits().min(8) / 8 };
        match self {
            Depth::Bits(8) => {
                levels.zip(row.iter().skip(first).step_by(of)).for_each(|(level, &sample)| *level = sample);
            }
            Depth::Bits(bits) => {
                let largest = (1u16 << bits) as u8 - 1;
                let scale = if is_index { 1 } else { 255 / largest };
                let per_byte = usize::from(8 / bits);
                for (index, level) in levels.enumerate() {
                    let sample = first + index * of;
                    let byte = row.get(sample / per_byte).copied().unwrap_or(0);
                    let shift = 8 - usize::from(bits) * (sample % per_byte + 1);
                    *level = ((byte >> shift) & largest) * scale;
                }
            }
            Depth::U16 | Depth::U32 => {
                let samples = row.chunks_exact(self.bits() / 8).skip(first).step_by(of);
                levels.zip(samples).for_each(|(level, sample)| *level = sample[high_byte]);
            }
            Depth::F16 | Depth::F32 | Depth::F64 => {
                for (level, sample) in levels.zip(row.chunks_exact(self.bits() / 8).skip(first).step_by(of)) {
                    let value = float(sample, is_big_endian);
                    if !(-TOLERANCE..=1.0 + TOLERANCE).contains(&value) {
                        return Err(broken(format!(
                            "a floating-point sample is {value}; only those from 0 to 1 are supported"
                        )));
                    }
                    *level = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
                }
            }
        }
        Ok(())
    }
}

/// Filters that sharpen overshoot a little.
const TOLERANCE: f64 = 0.05;

fn float(sample: &[u8], is_big_endian: bool) -> f64 {
    let mut bytes = [0; 8];
    let bits = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
    for (index, &byte) in sample.iter().enumerate().take(8) {
        bytes[if is_big_endian { sample.len() - 1 - index } else { index }] = byte;
    }
    match sample.len() {
        2 => f16::from_bits(bits(bytes) as u16).to_f64(),
        4 => f32::from_bits(bits(bytes) as u32).into(),
        _ => f64::from_bits(bits(bytes)),
    }
}
