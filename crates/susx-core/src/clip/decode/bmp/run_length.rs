//! Run-length compression of 4 and 8 bits.

use super::{broken, ends_early};
use crate::clip::error::Result;

/// Codes after a zero: what is none of them is a number of pixels.
const END_OF_LINE: u8 = 0;
const END_OF_IMAGE: u8 = 1;
const MOVE: u8 = 2;

/// The indices of all pixels, a byte each. Those that are skipped are 0, as in Pillow.
pub(super) fn decode(mut data: &[u8], width: usize, height: usize, is_of_4_bits: bool) -> Result<Vec<u8>> {
    let mut indices = vec![0; width * height];
    let (mut x, mut y) = (0, 0);
    while y < height {
        let (count, code) = match data {
            [count, code, rest @ ..] => {
                data = rest;
                (*count, *code)
            }
            // The end code is missing, but nothing else.
            _ if y + 1 == height && x == width => break,
            _ => return Err(ends_early()),
        };
        let line = &mut indices[y * width..(y + 1) * width];
        match (count, code) {
            (0, END_OF_LINE) => (x, y) = (0, y + 1),
            (0, END_OF_IMAGE) => break,
            (0, MOVE) => {
                let [right, up, rest @ ..] = data else { return Err(ends_early()) };
                data = rest;
                let at = y * width + x + usize::from(*right) + usize::from(*up) * width;
                (x, y) = (at % width, at / width);
            }
            (0, count) => {
                let count = usize::from(count);
                let length = if is_of_4_bits { count.div_ceil(2) } else { count };
                let run = data.get(..length).ok_or_else(ends_early)?;
                // Padded to an even number of bytes. At the end of a file the padding may be missing.
                data = data.get(length.next_multiple_of(2)..).unwrap_or_default();
                if x + count > width {
                    return Err(broken("a run of its pixels is longer than the line"));
                }
                for (index, to) in line[x..x + count].iter_mut().enumerate() {
                    *to = match is_of_4_bits {
                        true => run[index / 2] >> (4 - 4 * (index % 2)) & 15,
                        false => run[index],
                    };
                }
                x += count;
            }
            (count, value) => {
                // Pillow cuts runs that are too long, of which some writers make the last of a line.
                let end = (x + usize::from(count)).min(width);
                for (index, to) in line[x..end].iter_mut().enumerate() {
                    *to = match is_of_4_bits {
                        true => value >> (4 - 4 * (index % 2)) & 15,
                        false => value,
                    };
                }
                x = end;
            }
        }
    }
    Ok(indices)
}
