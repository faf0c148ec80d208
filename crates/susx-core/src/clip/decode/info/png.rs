use super::{ImageInfo, broken};
use crate::clip::decode::png::{chunks, orientation};
use crate::clip::error::Result;

pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let ends_early = || broken("PNG", "the image ends early");
    let mut chunks = chunks(bytes);
    let header = chunks.next().filter(|chunk| &chunk.name == b"IHDR").ok_or_else(ends_early)?;
    let &[w0, w1, w2, w3, h0, h1, h2, h3, bits, colours, ..] = header.content else {
        return Err(ends_early());
    };
    let (mut frames, mut is_transparent) = (1, false);
    for chunk in chunks {
        match (&chunk.name, chunk.content) {
            (b"acTL", &[n0, n1, n2, n3, ..]) => frames = u32::from_be_bytes([n0, n1, n2, n3]).max(1),
            (b"tRNS", _) => is_transparent = true,
            (b"IDAT", _) => break,
            _ => {}
        }
    }
    let mode = match (colours, bits) {
        (3, _) => "P".to_owned(),
        (0, 1) if !is_transparent => "1".to_owned(),
        (0 | 4, _) => super::mode(true, colours == 4 || is_transparent, bits),
        _ => super::mode(false, colours == 6 || is_transparent, bits),
    };
    Ok(ImageInfo {
        format: "PNG",
        width: u32::from_be_bytes([w0, w1, w2, w3]),
        height: u32::from_be_bytes([h0, h1, h2, h3]),
        orientation: orientation(bytes).to_exif(),
        frames,
        mode,
    })
}
