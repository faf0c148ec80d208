use super::{ImageInfo, broken};
use crate::clip::decode::orientation;
use crate::clip::decode::tiff::directory::{Directory, pages};
use crate::clip::decode::tiff::{page, tags};
use crate::clip::error::Result;

/// Values of `PhotometricInterpretation`.
const WHITE_IS_ZERO: u64 = 0;
const BLACK_IS_ZERO: u64 = 1;
const PALETTE: u64 = 3;
const CMYK: u64 = 5;

pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let directory = Directory::first(bytes).ok_or_else(|| broken("TIFF", "it has no directory of tags"))?;
    let (width, height) = page::size(&directory)?;
    let xmp = directory.values(tags::XMP).map(|values| values.bytes);
    Ok(ImageInfo {
        format: "TIFF",
        width,
        height,
        orientation: orientation::of_directory(&directory, xmp).to_exif(),
        frames: pages(bytes).max(1),
        mode: mode(&directory),
    })
}

fn mode(directory: &Directory) -> String {
    let number = |tag, default| directory.number(tag).unwrap_or(default);
    let bits = u8::try_from(number(tags::BITS_PER_SAMPLE, 1)).unwrap_or(u8::MAX);
    let channels = number(tags::SAMPLES_PER_PIXEL, 1);
    let extra = directory.number(tags::EXTRA_SAMPLES);
    // An extra sample of unspecified meaning is not alpha. RGB with a fourth sample has alpha even if none is declared.
    let is_alpha = extra.is_some_and(|meaning| meaning != 0);
    match number(tags::PHOTOMETRIC, BLACK_IS_ZERO) {
        PALETTE => "P".to_owned(),
        CMYK => "CMYK".to_owned(),
        WHITE_IS_ZERO | BLACK_IS_ZERO if bits == 1 && channels == 1 => "1".to_owned(),
        WHITE_IS_ZERO | BLACK_IS_ZERO => super::mode(true, channels > 1 && is_alpha, bits),
        _ => super::mode(false, channels > 3 && (is_alpha || extra.is_none()), bits),
    }
}
