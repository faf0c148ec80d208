use super::{ImageInfo, broken};
use crate::clip::decode::jpeg::orientation;
use crate::clip::error::Result;

/// Walks through the headers up to the frame's.
pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let mut at = 2;
    while let Some(&[first, marker, high, low, ref rest @ ..]) = bytes.get(at..) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match (first, marker) {
            // Fill bytes, or stray bytes between two segments.
            (0xFF, 0x00 | 0xFF) | (0..0xFF, _) => {
                at += 1;
                continue;
            }
            // All markers of frames, but not those of tables.
            (0xFF, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) => {
                let &[bits, h0, h1, w0, w1, channels, ..] = rest else { break };
                let mode = match channels {
                    1 => super::mode(true, false, bits),
                    4 => "CMYK".to_owned(),
                    _ => super::mode(false, false, bits),
                };
                return Ok(ImageInfo {
                    format: "JPEG",
                    width: u16::from_be_bytes([w0, w1]).into(),
                    height: u16::from_be_bytes([h0, h1]).into(),
                    orientation: orientation(bytes).to_exif(),
                    frames: 1,
                    mode,
                });
            }
            _ => {}
        }
        at += 2 + length;
    }
    Err(broken("JPEG", "there is no image"))
}
