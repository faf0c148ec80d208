//! Undoes the differences between neighbours that an encoder took before it compressed a chunk.

use super::broken;
use super::page::Page;
use super::samples::Depth;
use crate::clip::error::Result;

const NONE: u64 = 1;
const HORIZONTAL: u64 = 2;
const FLOATING_POINT: u64 = 3;

/// Restores the samples of a chunk.
pub(super) fn undo(page: &Page, chunk: &mut [u8]) -> Result<()> {
    let (row, stride, bits) = (page.row_bytes(), page.chunk_samples(), page.depth.bits());
    match page.predictor {
        0 | NONE => Ok(()),
        _ if page.subsampling != (1, 1) => Err(broken("a predictor for subsampled colours is not supported")),
        HORIZONTAL if bits >= 8 => {
            chunk.chunks_mut(row).for_each(|row| add_up(row, bits / 8, stride, page.is_big_endian));
            Ok(())
        }
        HORIZONTAL => Err(broken(format!("a predictor for {bits}-bit samples is not supported"))),
        FLOATING_POINT if page.depth.is_float() && !matches!(page.depth, Depth::Bits(_)) => {
            let mut planes = vec![0; row];
            for row in chunk.chunks_exact_mut(row) {
                add_up(row, 1, stride, false);
                planes.copy_from_slice(row);
                gather(&planes, row, bits / 8, page.is_big_endian);
            }
            Ok(())
        }
        FLOATING_POINT => Err(broken("a floating-point predictor for integers is not supported")),
        other => Err(broken(format!("predictor {other} is not supported"))),
    }
}

/// Adds to each sample of `size` bytes the one before it of the same channel.
fn add_up(row: &mut [u8], size: usize, stride: usize, is_big_endian: bool) {
    let back = size * stride;
    if size == 1 {
        for at in back..row.len() {
            row[at] = row[at].wrapping_add(row[at - back]);
        }
        return;
    }
    let mut start = back;
    while start + size <= row.len() {
        let mut carry = 0;
        for digit in 0..size {
            let at = start + if is_big_endian { size - 1 - digit } else { digit };
            let sum = u16::from(row[at]) + u16::from(row[at - back]) + carry;
            (row[at], carry) = (sum as u8, sum >> 8);
        }
        start += size;
    }
}

/// Joins samples whose bytes lie in planes, the highest first.
fn gather(planes: &[u8], row: &mut [u8], size: usize, is_big_endian: bool) {
    let count = row.len() / size;
    for (index, sample) in row.chunks_exact_mut(size).enumerate() {
        for plane in 0..size {
            sample[if is_big_endian { plane } else { size - 1 - plane }] = planes[plane * count + index];
        }
    }
}
