//! What the tags of a page say about its pixels.

use super::color::Colors;
use super::directory::{Directory, Values};
use super::samples::Depth;
use super::{broken, tags};
use crate::clip::error::Result;

/// The first page. Only what can be decoded has one.
pub(super) struct Page<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) depth: Depth,
    /// Samples of a pixel.
    pub(super) samples: usize,
    /// Whether each sample has its own chunks.
    pub(super) is_planar: bool,
    pub(super) compression: u16,
    pub(super) fax_options: u64,
    /// Whether the first pixel of a byte is in its lowest bit.
    pub(super) has_reversed_bits: bool,
    pub(super) predictor: u64,
    pub(super) jpeg_tables: &'a [u8],
    pub(super) is_big_endian: bool,
    pub(super) colors: Colors<'a>,
    /// Luma samples for each chroma sample, horizontally and vertically.
    pub(super) subsampling: (usize, usize),
    pub(super) grid: Grid<'a>,
}

/// How the page is cut into strips or tiles.
pub(super) struct Grid<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) is_tiled: bool,
    pub(super) offsets: Values<'a>,
    pub(super) lengths: Option<Values<'a>>,
}

/// The compression's number. Those of more than 16 bits are unknown, as is the largest.
pub(super) fn compression(directory: &Directory) -> u16 {
    directory
        .number(tags::COMPRESSION)
        .map_or(super::compression::NONE, |number| u16::try_from(number).unwrap_or(u16::MAX))
}

/// Width and height.
pub(in crate::clip::decode) fn size(directory: &Directory) -> Result<(u32, u32)> {
    let side = |tag| directory.number(tag).and_then(|side| u32::try_from(side).ok()).unwrap_or(0);
    match (side(tags::WIDTH), side(tags::HEIGHT)) {
        (0, _) | (_, 0) => Err(broken("it has no width or no height")),
        size => Ok(size),
    }
}

impl<'a> Page<'a> {
    pub(super) fn new(directory: &Directory<'a>) -> Result<Page<'a>> {
        let (width, height) = size(directory)?;
        let number = |tag, default| directory.number(tag).unwrap_or(default);
        let compression = compression(directory);
        let samples = number(tags::SAMPLES_PER_PIXEL, 1);
        if !(1..=64).contains(&samples) {
            return Err(broken(format!("{samples} samples per pixel are not supported")));
        }
        let samples = samples as usize;
        let depth = Depth::new(
            one(directory, tags::BITS_PER_SAMPLE, samples, 1, "bits")?,
            one(directory, tags::SAMPLE_FORMAT, samples, 1, "number formats")?,
        )?;
        let colors = Colors::new(directory, depth, samples, compression)?;
        let is_planar = samples > 1 && number(tags::PLANAR_CONFIGURATION, 1) == 2;
        let grid = Grid::new(directory, width, height, compression == super::compression::NONE)?;
        let mut page = Page {
            width,
            height,
            depth,
            samples,
            is_planar,
            compression,
            fax_options: number(tags::FAX_OPTIONS, 0),
            has_reversed_bits: number(tags::FILL_ORDER, 1) == 2,
            predictor: number(tags::PREDICTOR, 1),
            jpeg_tables: directory.values(tags::JPEG_TABLES).map_or(&[], |values| values.bytes),
            is_big_endian: directory.is_big_endian,
            colors,
            subsampling: (1, 1),
            grid,
        };
        if let Some(ycbcr) = page.colors.ycbcr()
            && compression != super::compression::JPEG
        {
            page.subsampling = page.ycbcr_subsampling(directory)?;
            // libtiff obeys the file, Pillow does not.
            if compression == super::compression::NONE && page.subsampling == (1, 1) && ycbcr.is_unusual() {
                return Err(broken(
                    "uncompressed YCbCr with its own coefficients or reference levels is not supported",
                ));
            }
        }
        Ok(page)
    }

    /// A JPEG says itself how it is subsampled.
    fn ycbcr_subsampling(&self, directory: &Directory) -> Result<(usize, usize)> {
        let said = directory.values(tags::YCBCR_SUBSAMPLING);
        let factor = |index| match &said {
            Some(values) => values.number(index).unwrap_or(1),
            None => 2,
        };
        let mut factors = (factor(0), factor(1));
        // The default is 2 × 2, but writers that leave the tag out mean 1 × 1. The length shows it.
        if said.is_none() && self.compression == super::compression::NONE {
            let rows = self.grid.height.min(self.height as usize);
            let whole = (self.grid.width * rows * 3) as u64;
            let length = self.grid.lengths.and_then(|lengths| lengths.number(0)).unwrap_or(0);
            if length >= whole {
                factors = (1, 1);
            }
        }
        match factors {
            (1 | 2 | 4, 1 | 2 | 4) if factors == (1, 1) || !self.is_planar => {
                Ok((factors.0 as usize, factors.1 as usize))
            }
            (1 | 2 | 4, 1 | 2 | 4) => Err(broken("subsampled YCbCr in separate planes is not supported")),
            (x, y) => Err(broken(format!("a subsampling of {x} × {y} is not supported"))),
        }
    }

    /// Samples of a pixel that lie together in a chunk.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Bytes of one row of a chunk. Each row begins with a new byte.
    pub(super) fn row_bytes(&self) -> usize {
        self.grid.width.saturating_mul(self.chunk_samples()).saturating_mul(self.depth.bits()).div_ceil(8)
    }

    /// Bytes of a decoded chunk with this many rows.
    pub(super) fn chunk_bytes(&self, rows: usize) -> usize {
        match self.subsampling {
            (1, 1) => self.row_bytes().saturating_mul(rows),
            (x, y) => {
                let blocks = self.grid.width.div_ceil(x).saturating_mul(rows.div_ceil(y));
                blocks.saturating_mul(x * y + 2)
            }
        }
    }
}

/// The value that a tag gives for all samples.
fn one(directory: &Directory, tag: u16, samples: usize, default: u64, what: &str) -> Result<u64> {
    let values = directory.values(tag).and_then(|values| values.few()).unwrap_or_default();
    let values = &values[..values.len().min(samples)];
    match values.split_first() {
        None => Ok(default),
        Some((&first, others)) if others.iter().all(|&value| value == first) => Ok(first),
        Some(_) => Err(broken(format!("channels with different {what} ({values:?}) are not supported"))),
    }
}

impl<'a> Grid<'a> {
    fn new(directory: &Directory<'a>, width: u32, height: u32, is_raw: bool) -> Result<Grid<'a>> {
        let side = |tag| directory.number(tag).and_then(|side| usize::try_from(side).ok());
        let (strips, tiles) = (directory.values(tags::STRIP_OFFSETS), directory.values(tags::TILE_OFFSETS));
        let tile = side(tags::TILE_WIDTH).zip(side(tags::TILE_HEIGHT));
        let missing = || broken("the positions of its strips or tiles are missing");
        // A file with both is uncommon; Pillow takes the strips if they are uncompressed, libtiff the tiles.
        match tile {
            Some((tile_width, tile_height)) if !(is_raw && strips.is_some() && tiles.is_some()) => {
                if tile_width == 0 || tile_height == 0 {
                    return Err(broken("its tiles have no width or no height"));
                }
                Ok(Grid {
                    width: tile_width,
                    height: tile_height,
                    is_tiled: true,
                    offsets: tiles.or(strips).ok_or_else(missing)?,
                    lengths: directory.values(tags::TILE_LENGTHS).or(directory.values(tags::STRIP_LENGTHS)),
                })
            }
            _ => Ok(Grid {
                width: width as usize,
                height: match side(tags::ROWS_PER_STRIP) {
                    None | Some(0) => height as usize,
                    Some(rows) => rows.min(height as usize),
                },
                is_tiled: false,
                offsets: strips.ok_or_else(missing)?,
                lengths: directory.values(tags::STRIP_LENGTHS),
            }),
        }
    }
}
