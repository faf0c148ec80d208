//! GIF: Pillow's picture of the first frame.
//!
//! The `image` crate rejects screens that are empty or smaller than the frame, which are common, and makes the pixels
//! transparent that a frame leaves out.

use image::RgbImage;
use weezl::{BitOrder, LzwStatus};

use super::Admission;
use crate::clip::error::{ClipError, Result};

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("GIF"), reason: reason.to_string() }
}

fn ends_early() -> ClipError {
    broken("the image ends early")
}

/// What begins with a length and ends with a block of none.
const EXTENSION: u8 = b'!';
const FRAME: u8 = b',';
const TRAILER: u8 = b';';
/// The kind of extension that has the transparent colour.
const GRAPHIC_CONTROL: u8 = 0xF9;

/// Decodes the first frame on its screen.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<RgbImage> {
    let mut file = Reader { rest: bytes.get(6..).unwrap_or_default() };
    let (screen_width, screen_height) = (file.short()?, file.short()?);
    let &[flags, _, _] = file.take(3)? else { return Err(ends_early()) };
    let mut palette = file.palette(flags)?;
    let mut transparent = None;
    loop {
        match file.byte()? {
            EXTENSION => {
                let kind = file.byte()?;
                let mut block = file.block()?;
                if let (GRAPHIC_CONTROL, &[flags, _, _, index, ..]) = (kind, block)
                    && flags & 1 == 1
                {
                    transparent = Some(index);
                }
                while !block.is_empty() {
                    block = file.block()?;
                }
            }
            FRAME => break,
            TRAILER => return Err(broken("there is no image")),
            // Stray bytes.
            _ => {}
        }
    }
    let (left, top) = (u32::from(file.short()?), u32::from(file.short()?));
    let (width, height) = (u32::from(file.short()?), u32::from(file.short()?));
    let flags = file.byte()?;
    if let local @ [_, ..] = file.palette(flags)? {
        palette = local;
    }
    // A screen that is too small grows.
    let screen = (u32::from(screen_width).max(left + width), u32::from(screen_height).max(top + height));
    if screen.0 == 0 || screen.1 == 0 || width == 0 || height == 0 {
        return Err(broken("it has no width or no height"));
    }
    limits.check_pixels(screen.0, screen.1)?;
    let indices = file.pixels(width as usize * height as usize)?;

    let color = |index: u8| match palette.chunks_exact(3).nth(index.into()) {
        _ if transparent == Some(index) => [255; 3],
        Some(color) => [color[0], color[1], color[2]],
        // Without a palette the indices are levels of grey.
        None if palette.is_empty() => [index; 3],
        None => [0; 3],
    };
    let colors: Vec<[u8; 3]> = (0..=255).map(color).collect();
    let around = colors[usize::from(transparent.unwrap_or(0))];
    let mut image = RgbImage::from_pixel(screen.0, screen.1, image::Rgb(around));
    let is_interlaced = flags & 0x40 != 0;
    for (y, row) in rows(height, is_interlaced).zip(indices.chunks_exact(width as usize)) {
        for (x, &index) in (left..).zip(row) {
            image.put_pixel(x, top + y, image::Rgb(colors[usize::from(index)]));
        }
    }
    Ok(image)
}

/// The rows in the order in which they are stored.
fn rows(height: u32, is_interlaced: bool) -> Box<dyn Iterator<Item = u32>> {
    match is_interlaced {
        false => Box::new(0..height),
        true => Box::new(
            [(0, 8), (4, 8), (2, 4), (1, 2)]
                .into_iter()
                .flat_map(move |(first, every)| (first..height).step_by(every)),
        ),
    }
}

/// What is left of the file.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(ends_early)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// The bytes of a block, which follow its length.
    fn block(&mut self) -> Result<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// The colours that the flags of a screen or frame announce; none if they do not.
    fn palette(&mut self, flags: u8) -> Result<&'a [u8]> {
        match flags & 0x80 {
            0 => Ok(&[]),
            _ => self.take(3 << ((flags & 7) + 1)),
        }
    }

    /// Decompresses a frame, whose end code and what follows do not matter.
    fn pixels(&mut self, count: usize) -> Result<Vec<u8>> {
        let bits = self.byte()?;
        if !(2..=11).contains(&bits) {
            return Err(broken(format!("codes of {bits} bits are invalid")));
        }
        let mut decoder = weezl::decode::Decoder::new(BitOrder::Lsb, bits);
        let mut pixels = vec![0; count];
        let mut done = 0;
        let mut block = self.block()?;
        while done < count {
            let result = decoder.decode_bytes(block, &mut pixels[done..]);
            block = &block[result.consumed_in..];
            done += result.consumed_out;
            match result.status {
                _ if done == count => {}
                // The decoder may hold back what it has read.
                Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
                Ok(LzwStatus::Ok | LzwStatus::NoProgress) if block.is_empty() => {
                    block = self.block()?;
                    if block.is_empty() {
                        return Err(ends_early());
                    }
                }
                Ok(_) => return Err(ends_early()),
                Err(_) => return Err(broken("its data are damaged")),
            }
        }
        Ok(pixels)
    }
}
