//! Strips and tiles that are JPEGs, whose tables may lie in a tag.
//!
//! The components are taken as they are: the TIFF says what they mean, and the JPEG's markers do not count.

use super::page::Page;
use super::{broken, ends_early};
use crate::clip::decode::jpeg::{Decompressor, Problem};
use crate::clip::error::{ClipError, Result};

const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// The components of `rows` rows, interleaved.
pub(super) fn decode(page: &Page, data: &[u8], rows: usize) -> Result<Vec<u8>> {
    let whole = with_tables(page.jpeg_tables, data);
    let mut jpeg = Decompressor::new(&whole).map_err(in_it)?;
    let (width, height) = jpeg.size();
    let (width, height) = (width as usize, height as usize);
    // Some writers pad the last strip to that of the others, or to whole blocks.
    let most_rows = rows.next_multiple_of(16).max(page.grid.height);
    if width != page.grid.width || !(rows..=most_rows).contains(&height) {
        let expected = page.grid.width;
        return Err(broken(format!(
            "a JPEG in it has {width} × {height} pixels instead of {expected} × {rows}"
        )));
    }
    jpeg.choose(jpeg.color_space(), 1).map_err(in_it)?;
    jpeg.start().map_err(in_it)?;
    let (found, samples) = (jpeg.row_bytes() / width, page.chunk_samples());
    if found != samples {
        return Err(broken(format!("a JPEG in it has {found} components instead of {samples}")));
    }
    let mut pixels = vec![0; width * height * samples];
    jpeg.read(&mut pixels).map_err(in_it)?;
    jpeg.finish().map_err(in_it)?;
    pixels.truncate(width * rows * samples);
    if pixels.is_empty() { Err(ends_early()) } else { Ok(pixels) }
}

fn in_it(Problem(reason): Problem) -> ClipError {
    broken(format!("a JPEG in it: {reason}"))
}

/// The tables without their end marker, then the image without its start marker.
fn with_tables(tables: &[u8], image: &[u8]) -> Vec<u8> {
    let tables = match tables.len() {
        0..4 => &[],
        _ => tables.strip_suffix(&END_OF_IMAGE).unwrap_or(tables),
    };
    let image = if tables.is_empty() { image } else { image.get(2..).unwrap_or_default() };
    [tables, image].concat()
}
