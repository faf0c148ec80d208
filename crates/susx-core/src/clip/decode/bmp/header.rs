//! The headers of a BMP, of which there are many versions.

use super::{broken, ends_early};
use crate::clip::error::Result;

/// What the headers say.
pub(super) struct Header<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) is_top_down: bool,
    pub(super) bits: usize,
    pub(super) compression: Compression,
    /// Where the bits of red, green, blue and opacity are in a pixel of 16 or 32 bits.
    pub(super) masks: [Mask; 4],
    /// Position of the pixels.
    pub(super) offset: usize,
    palette: &'a [u8],
    /// Bytes of a colour in the palette.
    entry: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    RunLength { is_of_4_bits: bool },
}

/// Bits of a channel.
#[derive(Clone, Copy)]
pub(super) struct Mask(u32);

impl Mask {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The channel of a pixel, scaled to 8 bits; 0 if the mask is empty.
    pub(super) fn level(self, pixel: u32) -> u8 {
        let shift = self.0.trailing_zeros().min(31);
        let (value, largest) = ((pixel & self.0) >> shift, self.0 >> shift);
        (u64::from(value) * 255).checked_div(largest.into()).unwrap_or(0) as u8
    }
}

const FILE_HEADER: usize = 14;
/// `BITMAPCOREHEADER`, also the first version of OS/2.
const CORE: usize = 12;
/// The second version of OS/2, whose compressions have other numbers.
const OS2: usize = 64;

impl<'a> Header<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Header<'a>> {
        let long = |at: usize| -> Result<u32> {
            let bytes = bytes.get(at..at + 4).ok_or_else(ends_early)?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let short = |at: usize| -> Result<u32> { Ok(long(at - 2)? >> 16) };
        let size = long(FILE_HEADER)? as usize;
        let start = FILE_HEADER;
        if !matches!(size, CORE | 40 | 52 | 56 | OS2 | 108 | 124) {
            return Err(broken(format!("headers of {size} bytes are not supported")));
        }
        let (width, height, bits) = match size {
            CORE => (short(start + 4)?, short(start + 6)?, short(start + 10)?),
            _ => (long(start + 4)?, long(start + 8)?, short(start + 14)?),
        };
        // A negative height.
        let is_top_down = size != CORE && height >> 24 == 0xFF;
        let height = if is_top_down { height.wrapping_neg() } else { height };
        if width == 0 || height == 0 {
            return Err(broken("it has no width or no height"));
        }
        let code = if size == CORE { 0 } else { long(start + 16)? };
        let (compression, has_masks) = match (code, bits) {
            (0, 1 | 4 | 8 | 16 | 24 | 32) => (Compression::None, false),
            (1, 8) => (Compression::RunLength { is_of_4_bits: false }, false),
            (2, 4) => (Compression::RunLength { is_of_4_bits: true }, false),
            (3, _) if size == OS2 => return Err(broken("OS/2's Huffman compression is not supported")),
            (4, _) if size == OS2 => {
                return Err(broken("OS/2's 24-bit run-length compression is not supported"));
            }
            (3, 16 | 24 | 32) => (Compression::None, true),
            (4, _) => return Err(broken("a JPEG in a BMP is not supported")),
            (5, _) => return Err(broken("a PNG in a BMP is not supported")),
            (11..=13, _) => return Err(broken("CMYK is not supported")),
            (0, bits) => return Err(broken(format!("{bits} bits per pixel are not supported"))),
            (code, bits) => {
                return Err(broken(format!("compression {code} of {bits} bits is not supported")));
            }
        };
        // In the shortest of the headers that can have masks they come after it.
        let masks_at = start + 40;
        let mut end = start + size;
        let masks = match (has_masks, bits) {
            (true, _) => {
                let alpha = if size >= 56 { long(masks_at + 12)? } else { 0 };
                end = end.max(masks_at + 12);
                [long(masks_at)?, long(masks_at + 4)?, long(masks_at + 8)?, alpha]
            }
            (false, 16) => [0x7C00, 0x3E0, 0x1F, 0],
            (false, _) => [0xFF_0000, 0xFF00, 0xFF, 0],
        };
        let masks = match (masks, bits) {
            ([0, 0, 0, 0], 32) => [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000],
            (masks, 24) if masks[..3] != [0xFF_0000, 0xFF00, 0xFF] => {
                return Err(broken("this order of colours in 24 bits is not supported"));
            }
            (masks, _) if has_masks && masks[..3].contains(&0) => {
                return Err(broken("a colour mask is missing"));
            }
            _ => masks,
        };
        let entry = if size == CORE { 3 } else { 4 };
        let colors = match if size == CORE { 0 } else { long(start + 32)? } {
            0 if bits <= 8 => 1 << bits,
            colors => colors as usize,
        };
        let palette = match bits {
            1 | 4 | 8 if colors > 65_536 => return Err(broken(format!("a palette of {colors} colours"))),
            1 | 4 | 8 => bytes.get(end..).unwrap_or_default(),
            _ => &[],
        };
        let palette = &palette[..palette.len().min(entry * colors)];
        let said = long(10)? as usize;
        // Some writers forget the palette, or the whole offset.
        let offset = match said {
            0 => end + palette.len(),
            _ if said == end && bits <= 8 => said + palette.len(),
            _ => said,
        };
        let masks = masks.map(Mask);
        let bits = bits as usize;
        Ok(Header { width, height, is_top_down, bits, compression, masks, offset, palette, entry })
    }

    /// A colour of the palette; black if it is not there.
    pub(super) fn color(&self, index: usize) -> [u8; 3] {
        match self.palette.get(self.entry * index..self.entry * index + 3) {
            Some(color) => [color[2], color[1], color[0]],
            None => [0; 3],
        }
    }
}
