//! The compressions of fax machines (ITU-T T.4 and T.6): Group 3 in one and two dimensions, Group 4, and modified
//! Huffman, which is Group 3 without end-of-line codes.
//!
//! The tables of codes are those of the `fax` crate. Its own decoders end lines in other places than libtiff where the
//! data have no, or additional, end-of-line codes, and know neither two dimensions of Group 3 nor modified Huffman.

use std::convert::Infallible;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

use super::{broken, ends_early};
use crate::clip::error::{ClipError, Result};

/// How lines are coded.
#[derive(Clone, Copy)]
pub(super) enum Code {
    /// Each line begins at a multiple of this many bits.
    Rle {
        align: usize,
    },
    /// `T4Options`, whose lowest bit says that there are two-dimensional lines.
    Group3 {
        options: u64,
    },
    Group4,
}

/// Rows of pixels, 8 in a byte, 1 for black. Each row begins with a new byte.
pub(super) fn decode(data: &[u8], code: Code, width: usize, rows: usize) -> Result<Vec<u8>> {
    let mut bits = Bits { data, at: 0 };
    let mut pixels = vec![0; width.div_ceil(8) * rows];
    let (mut above, mut line) = (Vec::new(), Vec::new());
    for row in pixels.chunks_exact_mut(width.div_ceil(8)) {
        line.clear();
        let has_two_dimensions = match code {
            Code::Rle { align } => {
                bits.at = bits.at.next_multiple_of(align);
                false
            }
            Code::Group3 { options } => {
                let is_after_end = bits.skip_end_of_line();
                // One bit after the code says how the line is coded. Without a code there is no such bit.
                options & 1 == 1 && is_after_end && !bits.take_bit()
            }
            Code::Group4 => true,
        };
        match has_two_dimensions {
            true => in_two_dimensions(&mut bits, &above, &mut line, width)?,
            false => in_one_dimension(&mut bits, &mut line, width)?,
        }
        for run in line.chunks(2) {
            blacken(row, run[0], run.get(1).copied().unwrap_or(width));
        }
        std::mem::swap(&mut above, &mut line);
    }
    Ok(pixels)
}

/// The data from bit `at` on. Beyond their end there are zeros.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |index: usize| u32::from(self.data.get(index).copied().unwrap_or(0));
        let first = self.at / 8;
        let window = byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
        let window = window << (8 + self.at % 8);
        Some((u64::from(window) >> (32 - u32::from(bits))) as u16)
    }

    fn consume(&mut self, bits: u8) -> std::result::Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.next_multiple_of(8) - self.at) as u8
    }
}

impl Bits<'_> {
    fn is_at_end(&self) -> bool {
        self.at > 8 * self.data.len()
    }

    fn take_bit(&mut self) -> bool {
        let bit = self.peek(1) == Some(1);
        self.at += 1;
        bit
    }

    /// Skips an end-of-line code, at least 11 zeros and a one. Does nothing if there is none.
    fn skip_end_of_line(&mut self) -> bool {
        if self.peek(11) != Some(0) {
            return false;
        }
        let start = self.at;
        while !self.take_bit() {
            if self.is_at_end() {
                self.at = start;
                return false;
            }
        }
        true
    }

    /// The length of a run: any number of codes for multiples of 64, and one below 64.
    fn run(&mut self, is_black: bool) -> Result<usize> {
        let mut length = 0;
        loop {
            let part = if is_black { black::decode(self) } else { white::decode(self) };
            let part = part.filter(|_| !self.is_at_end()).ok_or_else(damaged)?;
            length += usize::from(part);
            if part < 64 {
                return Ok(length);
            }
        }
    }
}

fn damaged() -> ClipError {
    broken("its fax data are damaged, or end early")
}

/// Fails where a line becomes longer than the picture, or changes its colour more often than it has pixels: runs of no
/// pixels would fill the memory.
fn check(at: usize, line: &[usize], width: usize) -> Result<()> {
    match at <= width && line.len() <= 2 * width + 2 {
        true => Ok(()),
        false => Err(damaged()),
    }
}

/// Writes to `line` where the colour changes, from white at first. A line that is too long is damaged.
fn in_one_dimension(bits: &mut Bits, line: &mut Vec<usize>, width: usize) -> Result<()> {
    let (mut at, mut is_black) = (0, false);
    while at < width {
        at += bits.run(is_black)?;
        check(at, line, width)?;
        line.push(at);
        is_black = !is_black;
    }
    Ok(())
}

/// The same for a line that is coded as differences to the line above it.
fn in_two_dimensions(bits: &mut Bits, above: &[usize], line: &mut Vec<usize>, width: usize) -> Result<()> {
    let (mut at, mut is_black, mut next) = (0, false, 0);
    while at < width {
        // The next change above that is right of this place and is to the other colour. At the left edge the
        // first pixel's is.
        while next > 0 && above.get(next - 1).is_none_or(|&x| x > at) {
            next -= 1;
        }
        while above.get(next).is_some_and(|&x| x <= at && !(x == 0 && at == 0 && line.is_empty()))
            || next % 2 != usize::from(is_black)
        {
            next += 1;
        }
        let change = |index: usize| above.get(index).copied().unwrap_or(width);
        let code = mode::decode(bits).filter(|_| !bits.is_at_end()).ok_or_else(damaged)?;
        match code {
            Mode::Pass => at = change(next + 1),
            Mode::Vertical(by) => {
                let to = change(next).checked_add_signed(by.into());
                at = to.filter(|&to| at <= to).ok_or_else(damaged)?;
                check(at, line, width)?;
                line.push(at);
                is_black = !is_black;
            }
            Mode::Horizontal => {
                for color in [is_black, !is_black] {
                    at += bits.run(color)?;
                    check(at, line, width)?;
                    line.push(at);
                }
            }
            Mode::Extension => return Err(broken("uncompressed sections in fax data are not supported")),
            Mode::EOF => return Err(ends_early()),
        }
    }
    Ok(())
}

/// Sets the pixels from `start` to before `end`.
fn blacken(row: &mut [u8], start: usize, end: usize) {
    for at in start..end {
        row[at / 8] |= 0x80 >> (at % 8);
    }
}
