use super::{ImageInfo, broken};
use crate::clip::error::Result;

/// Walks through the blocks, and over the pixels of each frame.
pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let Some(&[w0, w1, h0, h1, flags, _, _]) = bytes.get(6..13) else {
        return Err(broken("GIF", "the image ends early"));
    };
    let mut next = 13 + palette(flags);
    let mut frames = 0;
    while let Some(&block) = bytes.get(next) {
        next += match block {
            // An extension: its label, and its data.
            0x21 => 2,
            // A frame: its place and size, its palette, the length of codes, and its data.
            0x2C => {
                frames += 1;
                let Some(&flags) = bytes.get(next + 9) else { break };
                10 + palette(flags) + 1
            }
            _ => break,
        };
        while let Some(&length) = bytes.get(next) {
            next += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
    Ok(ImageInfo {
        format: "GIF",
        width: u16::from_le_bytes([w0, w1]).into(),
        height: u16::from_le_bytes([h0, h1]).into(),
        orientation: 1,
        frames: frames.max(1),
        mode: "P".to_owned(),
    })
}

/// Bytes of the palette that these flags announce.
fn palette(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}
