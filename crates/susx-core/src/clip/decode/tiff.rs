//! TIFF: libtiff's picture of the first page, by the rules of Pillow where they differ.
//!
//! This module reads the tags, and puts the strips or tiles together. Crates decompress them, except PackBits and the
//! lines of a fax. (The `tiff` crate panics on some tiled files, ignores the fill order, and rejects modified Huffman,
//! two-dimensional Group 3, palettes, subsampled YCbCr and LZW without an end code.)

mod color;
mod compression;
pub(super) mod directory;
mod fax;
mod jpeg;
mod lab;
pub(super) mod page;
mod predictor;
mod samples;
pub(super) mod tags;
mod ycbcr;

use image::RgbImage;
use image::metadata::Orientation;

use self::directory::Directory;
pub(super) use self::directory::is_tiff;
use self::page::Page;
use super::{Admission, orientation};
use crate::clip::error::{ClipError, Result};

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("TIFF"), reason: reason.to_string() }
}

fn ends_early() -> ClipError {
    broken("the image ends early")
}

/// Decodes the first page.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let directory = Directory::first(bytes).ok_or_else(|| broken("it has no directory of tags"))?;
    let (width, height) = page::size(&directory)?;
    limits.check_pixels(width, height)?;
    if directory.has_lost(&tags::PICTURE) {
        return Err(broken("its tags are damaged, or end early"));
    }
    compression::check(page::compression(&directory))?;
    let page = Page::new(&directory)?;
    let xmp = directory.values(tags::XMP).map(|values| values.bytes);
    let orientation = orientation::of_directory(&directory, xmp);

    let channels = page.colors.samples();
    let mut levels = vec![0; channels.len() * width as usize * height as usize];
    // Of a compressed file. Strips that overlap could make a small file cost hours.
    let mut budget = bytes.len().saturating_mul(8);
    for place in places(&page)? {
        let data = stored(&page, bytes, &place)?;
        if page.compression != compression::NONE {
            budget = budget.checked_sub(data.len()).ok_or_else(|| broken("its strips or tiles overlap"))?;
        }
        read(&page, data, &place, &channels, &mut levels)?;
    }
    let mut image = RgbImage::new(width, height);
    for (pixel, levels) in image.pixels_mut().zip(levels.chunks_exact(channels.len())) {
        pixel.0 = page.colors.rgb(levels)?;
    }
    Ok((image, orientation))
}

/// A strip or tile, and where it belongs.
struct Place {
    index: usize,
    /// The only sample in it.
    plane: Option<usize>,
    x: usize,
    y: usize,
    /// Rows that are stored.
    rows: usize,
}

/// All chunks that show something. Fails if they would take much more memory or time than the picture.
fn places(page: &Page) -> Result<impl Iterator<Item = Place>> {
    let (width, height) = (page.width as usize, page.height as usize);
    let (across, down) = (width.div_ceil(page.grid.width), height.div_ceil(page.grid.height));
    let planes = if page.is_planar { page.samples } else { 1 };
    let (pixels, length) = ((width * height) as u64, page.chunk_bytes(page.grid.height) as u64);
    let total = length.saturating_mul((across * down * planes) as u64);
    if length > 16 * pixels + (16 << 20) || total > 64 * pixels + (256 << 20) {
        return Err(broken("its strips or tiles are far larger than the image"));
    }
    if page.grid.offsets.len() < across * down * planes {
        return Err(broken("it has fewer strips or tiles than the image needs"));
    }
    // Pillow's rule for uncompressed files with more strips than the picture needs: the last one is the picture.
    let is_whole = page.grid.width == width && page.grid.height == height && !page.is_planar;
    let first = match page.compression {
        compression::NONE if is_whole => page.grid.offsets.len() - 1,
        _ => 0,
    };
    let wanted = page.colors.samples();
    let planes = (0..planes).filter(move |plane| !page.is_planar || wanted.contains(plane));
    let places = planes.flat_map(move |plane| (0..across * down).map(move |index| (plane, index)));
    Ok(places.map(move |(plane, index)| {
        let y = index / across * page.grid.height;
        Place {
            index: first + plane * across * down + index,
            plane: page.is_planar.then_some(plane),
            x: index % across * page.grid.width,
            y,
            rows: if page.grid.is_tiled { page.grid.height } else { page.grid.height.min(height - y) },
        }
    }))
}

/// The bytes of a chunk, and perhaps more.
fn stored<'a>(page: &Page, bytes: &'a [u8], place: &Place) -> Result<&'a [u8]> {
    let number = |values: &directory::Values, index| {
        values.number(index).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let offset = number(&page.grid.offsets, place.index).ok_or_else(ends_early)?;
    let data = bytes.get(offset..).ok_or_else(ends_early)?;
    let length =
        page.grid.lengths.and_then(|lengths| number(&lengths, place.index)).filter(|&length| length > 0);
    let length = match (page.compression, length) {
        // The length of uncompressed chunks is known; a tag that is missing or wrong does not matter.
        (compression::NONE, _) => page.chunk_bytes(place.rows),
        (_, Some(length)) => length,
        (_, None) => match number(&page.grid.offsets, place.index + 1) {
            Some(next) if next > offset => next - offset,
            _ => usize::MAX,
        },
    };
    Ok(&data[..data.len().min(length)])
}

/// Decodes a chunk and writes the levels of those `channels` that it has.
fn read(page: &Page, data: &[u8], place: &Place, channels: &[usize], levels: &mut [u8]) -> Result<()> {
    let length = page.chunk_bytes(place.rows);
    let chunk = compression::decode(page, data, place.rows, length)?;
    let expanded = match page.subsampling {
        (1, 1) => None,
        factors => Some(ycbcr::expand(&chunk, page.grid.width, place.rows, factors)),
    };
    let (chunk, row_bytes) = match &expanded {
        Some(pixels) => (pixels.as_slice(), 3 * page.grid.width),
        None => (&*chunk, page.row_bytes()),
    };
    let (width, height) = (page.width as usize, page.height as usize);
    let columns = page.grid.width.min(width - place.x);
    for (row, samples) in chunk.chunks_exact(row_bytes).take(place.rows.min(height - place.y)).enumerate() {
        let start = ((place.y + row) * width + place.x) * channels.len();
        for (channel, &sample) in channels.iter().enumerate() {
            let (first, of) = match place.plane {
                Some(plane) if plane != sample => continue,
                Some(_) => (0, 1),
                None => (sample, page.samples),
            };
            let levels = &mut levels[start + channel..start + columns * channels.len()];
            let is_index = page.colors.are_indices() && channel == 0;
            page.depth.levels(samples, (first, of), page.is_big_endian, is_index, levels, channels.len())?;
        }
    }
    Ok(())
}
