//! From the samples of a pixel to its colour.

use super::directory::{Directory, Values};
use super::lab::lab_to_rgb;
use super::samples::Depth;
use super::ycbcr::YCbCr;
use super::{broken, tags};
use crate::clip::decode::flatten::over_white;
use crate::clip::error::Result;

/// What the samples of a pixel mean.
pub(super) struct Colors<'a> {
    kind: Kind<'a>,
    /// The sample that is the opacity.
    alpha: Option<usize>,
    /// Whether the colours are multiplied by it.
    is_associated: bool,
}

enum Kind<'a> {
    /// From black to white, or from white to black.
    Gray {
        is_inverted: bool,
    },
    Rgb,
    Cmyk,
    YCbCr(YCbCr),
    Lab,
    Palette {
        map: Values<'a>,
        colors: usize,
    },
}

/// `ExtraSamples`: colours that are multiplied by their opacity, an opacity beside the colours, and Corel's number
/// for the latter.
const ASSOCIATED: u64 = 1;
const UNASSOCIATED: u64 = 2;
const COREL: u64 = 999;

impl<'a> Colors<'a> {
    pub(super) fn new(
        directory: &Directory<'a>,
        depth: Depth,
        samples: usize,
        compression: u16,
    ) -> Result<Colors<'a>> {
        let photometric = match directory.number(tags::PHOTOMETRIC) {
            Some(photometric) => photometric,
            // What Pillow takes if the tag is missing.
            None if samples == 1 => 0,
            None => return Err(broken("its colour space is missing")),
        };
        let is_byte = depth == Depth::Bits(8);
        let (kind, count) = match photometric {
            0 | 1 => (Kind::Gray { is_inverted: photometric == 0 }, 1),
            // The luma alone.
            6 if samples == 1 => (Kind::Gray { is_inverted: false }, 1),
            2 => (Kind::Rgb, 3),
            3 => (palette(directory, depth)?, 1),
            5 => (Kind::Cmyk, 4),
            6 if is_byte => (Kind::YCbCr(YCbCr::new(directory, compression)?), 3),
            8 if is_byte => (Kind::Lab, 3),
            6 => return Err(broken("YCbCr is only supported with 8 bits")),
            8 => return Err(broken("L*a*b* is only supported with 8 bits")),
            4 => return Err(broken("its first page is a transparency mask, not an image")),
            9 | 10 => return Err(broken("ICC and ITU L*a*b* are not supported")),
            32803 | 34892 => return Err(broken("raw camera data are not supported")),
            32844 | 32845 => return Err(broken("SGI's LogLuv is not supported")),
            other => return Err(broken(format!("colour space {other} is unknown"))),
        };
        let Some(extra) = samples.checked_sub(count) else {
            return Err(broken(format!("it has {samples} samples per pixel instead of {count}")));
        };
        let said = directory.values(tags::EXTRA_SAMPLES).and_then(|values| values.few()).unwrap_or_default();
        let said = match (&kind, extra, said.len()) {
            (Kind::Rgb, 1, 0) => vec![UNASSOCIATED],
            (_, extra, said) if extra > said => {
                return Err(broken(format!(
                    "the meaning of {} of its samples per pixel is missing",
                    extra - said
                )));
            }
            _ => said,
        };
        let alpha = said[..extra].iter().position(|kind| matches!(*kind, ASSOCIATED | UNASSOCIATED | COREL));
        let is_associated = alpha.is_some_and(|index| said[index] == ASSOCIATED);
        if is_associated && !matches!(kind, Kind::Gray { is_inverted: false } | Kind::Rgb) {
            return Err(broken("premultiplied alpha is not supported for this colour space"));
        }
        Ok(Colors { kind, alpha: alpha.map(|index| count + index), is_associated })
    }

    pub(super) fn ycbcr(&self) -> Option<&YCbCr> {
        match &self.kind {
            Kind::YCbCr(ycbcr) => Some(ycbcr),
            _ => None,
        }
    }

    pub(super) fn are_indices(&self) -> bool {
        matches!(self.kind, Kind::Palette { .. })
    }

    /// The samples that count: those of the colour, and the opacity as the last.
    pub(super) fn samples(&self) -> Vec<usize> {
        (0..self.count()).chain(self.alpha).collect()
    }

    fn count(&self) -> usize {
        match self.kind {
            Kind::Gray { .. } | Kind::Palette { .. } => 1,
            Kind::Rgb | Kind::YCbCr(_) | Kind::Lab => 3,
            Kind::Cmyk => 4,
        }
    }

    /// The colour on white of a pixel whose [samples](Colors::samples) have these levels.
    pub(super) fn rgb(&self, levels: &[u8]) -> Result<[u8; 3]> {
        let rgb = match (&self.kind, levels) {
            (Kind::Gray { is_inverted: false }, &[grey, ..]) => [grey; 3],
            (Kind::Gray { is_inverted: true }, &[grey, ..]) => [255 - grey; 3],
            (Kind::Rgb, &[r, g, b, ..]) => [r, g, b],
            (Kind::Cmyk, &[c, m, y, k, ..]) => [c, m, y].map(|ink| 255 - k - product(ink, 255 - k)),
            (Kind::YCbCr(ycbcr), &[y, cb, cr, ..]) => ycbcr.rgb([y, cb, cr]),
            (Kind::Lab, &[l, a, b, ..]) => lab_to_rgb([l, a, b]),
            (Kind::Palette { map, colors }, &[index, ..]) => {
                let color =
                    |channel| map.number(channel * colors + usize::from(index)).map(|level| level >> 8);
                match (color(0), color(1), color(2)) {
                    _ if usize::from(index) >= *colors => {
                        return Err(broken("a pixel has no colour in the palette"));
                    }
                    (Some(r), Some(g), Some(b)) => [r as u8, g as u8, b as u8],
                    _ => return Err(broken("a pixel has no colour in the palette")),
                }
            }
            _ => return Err(broken("the image ends early")),
        };
        Ok(match (self.alpha, levels.last()) {
            (Some(_), Some(&alpha)) if self.is_associated => {
                rgb.map(|level| level.saturating_add(255 - alpha))
            }
            (Some(_), Some(&alpha)) => rgb.map(|level| over_white(level, alpha)),
            _ => rgb,
        })
    }
}

/// Pillow's product of two levels.
fn product(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

fn palette<'a>(directory: &Directory<'a>, depth: Depth) -> Result<Kind<'a>> {
    if !matches!(depth, Depth::Bits(_)) {
        return Err(broken("a palette of more than 256 colours is not supported"));
    }
    let map = directory.values(tags::COLOR_MAP).ok_or_else(|| broken("its palette is missing"))?;
    let count = map.len().min(3 * 256);
    let mut levels = (0..count).filter_map(|index| map.number(index)).filter(|&level| level > 0).peekable();
    // libtiff takes these for levels of 8 bits, and Pillow for black.
    if levels.peek().is_some() && levels.all(|level| level < 256) {
        return Err(broken("its palette has levels of 8 bits instead of 16"));
    }
    Ok(Kind::Palette { map, colors: map.len() / 3 })
}
