//! Numbers of the tags that are read.

pub(in crate::clip::decode) const WIDTH: u16 = 256;
pub(in crate::clip::decode) const HEIGHT: u16 = 257;
pub(in crate::clip::decode) const BITS_PER_SAMPLE: u16 = 258;
pub(in crate::clip::decode) const COMPRESSION: u16 = 259;
pub(in crate::clip::decode) const PHOTOMETRIC: u16 = 262;
pub(in crate::clip::decode) const FILL_ORDER: u16 = 266;
pub(in crate::clip::decode) const STRIP_OFFSETS: u16 = 273;
pub(in crate::clip::decode) const SAMPLES_PER_PIXEL: u16 = 277;
pub(in crate::clip::decode) const ROWS_PER_STRIP: u16 = 278;
pub(in crate::clip::decode) const STRIP_LENGTHS: u16 = 279;
pub(in crate::clip::decode) const PLANAR_CONFIGURATION: u16 = 284;
/// `T4Options`, also called `Group3Options`.
pub(in crate::clip::decode) const FAX_OPTIONS: u16 = 292;
pub(in crate::clip::decode) const PREDICTOR: u16 = 317;
pub(in crate::clip::decode) const COLOR_MAP: u16 = 320;
pub(in crate::clip::decode) const TILE_WIDTH: u16 = 322;
pub(in crate::clip::decode) const TILE_HEIGHT: u16 = 323;
pub(in crate::clip::decode) const TILE_OFFSETS: u16 = 324;
pub(in crate::clip::decode) const TILE_LENGTHS: u16 = 325;
pub(in crate::clip::decode) const EXTRA_SAMPLES: u16 = 338;
pub(in crate::clip::decode) const SAMPLE_FORMAT: u16 = 339;
pub(in crate::clip::decode) const JPEG_TABLES: u16 = 347;
pub(in crate::clip::decode) const YCBCR_COEFFICIENTS: u16 = 529;
pub(in crate::clip::decode) const YCBCR_SUBSAMPLING: u16 = 530;
pub(in crate::clip::decode) const REFERENCE_BLACK_WHITE: u16 = 532;
pub(in crate::clip::decode) const XMP: u16 = 700;

/// Those without which a picture could be decoded wrongly.
pub(in crate::clip::decode) const PICTURE: [u16; 22] = [
    WIDTH,
    HEIGHT,
    BITS_PER_SAMPLE,
    COMPRESSION,
    PHOTOMETRIC,
    FILL_ORDER,
    STRIP_OFFSETS,
    SAMPLES_PER_PIXEL,
    ROWS_PER_STRIP,
    PLANAR_CONFIGURATION,
    FAX_OPTIONS,
    PREDICTOR,
    COLOR_MAP,
    TILE_WIDTH,
    TILE_HEIGHT,
    TILE_OFFSETS,
    EXTRA_SAMPLES,
    SAMPLE_FORMAT,
    JPEG_TABLES,
    YCBCR_COEFFICIENTS,
    YCBCR_SUBSAMPLING,
    REFERENCE_BLACK_WHITE,
];
