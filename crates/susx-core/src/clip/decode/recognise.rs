//! What bytes are that no decoder takes: files of other kinds, text where bytes should be, raw photographs.

mod raw;
mod text;

pub(super) use raw::raw_tiff;

use super::bmff;
use crate::clip::error::ClipError;

/// What bytes are, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    advice: &'static str,
}

impl Finding {
    fn new(what: impl Into<String>, advice: &'static str) -> Self {
        Finding { what: what.into(), advice }
    }
}

const CONVERT: &str = "Convert it, for example with ImageMagick: magick FILE out.png.";
const DEVELOP: &str = "Convert it to JPEG or TIFF first, or use the camera's JPEG.";
const UNPACK: &str = "Extract it, and store each image file in its own row.";
const PAGES: &str = "Store its pages as images: pdftoppm -png FILE page.";
const FRAME: &str = "Store one of its frames as an image: ffmpeg -i FILE -frames:v 1 out.jpg.";
const STORE: &str = "Store the bytes of an image file.";

/// The error for bytes that are of no format that is decoded.
pub(super) fn not_an_image(bytes: &[u8]) -> ClipError {
    let Finding { what, advice } = finding(bytes);
    ClipError::NotAnImage { found: what, advice }
}

/// The error for a raw photograph in a TIFF.
pub(super) fn raw_photograph(what: &str) -> ClipError {
    ClipError::NotAnImage { found: what.to_owned(), advice: DEVELOP }
}

fn finding(bytes: &[u8]) -> Finding {
    if bytes.is_empty() {
        return Finding::new("no bytes", STORE);
    }
    signature(bytes)
        .or_else(|| text::finding(bytes))
        .or_else(|| other_type(bytes))
        .unwrap_or_else(|| Finding::new("data of an unknown format", STORE))
}

/// Formats that `infer` does not know, or knows by another name.
fn signature(bytes: &[u8]) -> Option<Finding> {
    const SIGNATURES: [(usize, &[u8], &str, &str); 30] = [
        (0, b"FUJIFILMCCD-RAW", "a raw photograph (Fujifilm RAF)", DEVELOP),
        (0, b"IIU\0", "a raw photograph (Panasonic RW2)", DEVELOP),
        (0, b"IIRO", "a raw photograph (Olympus ORF)", DEVELOP),
        (0, b"IIRS", "a raw photograph (Olympus ORF)", DEVELOP),
        (0, b"MMOR", "a raw photograph (Olympus ORF)", DEVELOP),
        (0, b"FOVb", "a raw photograph (Sigma X3F)", DEVELOP),
        (0, b"8BPS", "a Photoshop document (PSD)", CONVERT),
        (0, b"\0\0\x01\0", "an icon (ICO)", CONVERT),
        (0, b"\0\0\x02\0", "a cursor (CUR)", CONVERT),
        (0, b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image", CONVERT),
        (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", CONVERT),
        (0, b"II\xBC\x01", "a JPEG XR image", CONVERT),
        (0, b"\x76\x2F\x31\x01", "an OpenEXR image", CONVERT),
        (0, b"#?RADIANCE", "a Radiance image (HDR)", CONVERT),
        (0, b"#?RGBE", "a Radiance image (HDR)", CONVERT),
        (0, b"DDS ", "a DirectDraw surface (DDS)", CONVERT),
        (0, b"qoif", "a QOI image", CONVERT),
        (0, b"farbfeld", "a farbfeld image", CONVERT),
        (0, b"gimp xcf", "a GIMP document (XCF)", CONVERT),
        (0, b"SIMPLE  =", "a FITS file", CONVERT),
        (128, b"DICM", "a DICOM file", CONVERT),
        (0, b"%PDF", "a PDF document", PAGES),
        (0, b"%!PS", "a PostScript document", CONVERT),
        (0, b"\xD7\xCD\xC6\x9A", "a Windows metafile (WMF)", CONVERT),
        (0, b"\x1F\x8B", "data compressed by gzip", "Decompress and store the data: gunzip FILE."),
        (0, b"BZh", "data compressed by bzip2", "Decompress and store the data."),
        (0, b"\xFD7zXZ\0", "data compressed by xz", "Decompress and store the data."),
        (0, b"\x28\xB5\x2F\xFD", "data compressed by zstd", "Decompress and store the data."),
        (0, b"SQLite format 3\0", "an SQLite database", STORE),
        (0, b"\x7FELF", "a program", STORE),
    ];
    let is_at = |at: usize, signature: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(signature));
    if let Some((_, _, what, advice)) = SIGNATURES.iter().find(|(at, signature, ..)| is_at(*at, signature)) {
        return Some(Finding::new(*what, advice));
    }
    if let [b'P', kind @ b'1'..=b'7', b' ' | b'\t' | b'\n' | b'\r' | b'#', ..] = bytes {
        return Some(Finding::new(format!("a Netpbm image (P{})", char::from(*kind)), CONVERT));
    }
    if let [0x0A, 0 | 2..=5, 0 | 1, 1 | 2 | 4 | 8, ..] = bytes {
        return Some(Finding::new("a PCX image", CONVERT));
    }
    if bytes.ends_with(b"TRUEVISION-XFILE.\0") {
        return Some(Finding::new("a Targa image (TGA)", CONVERT));
    }
    video(bytes)
}

/// ISO base media files that are not images.
fn video(bytes: &[u8]) -> Option<Finding> {
    let brands = bmff::brands(bytes);
    let main = brands.first()?;
    Some(match main {
        b"crx " => Finding::new("a raw photograph (Canon CR3)", DEVELOP),
        b"avif" | b"avis" => Finding::new("an AVIF image", CONVERT),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"mif2" | b"msf1" => {
            Finding::new("a HEIC image", CONVERT)
        }
        b"qt  " => Finding::new("a video (QuickTime MOV)", FRAME),
        b"jp2 " | b"jpx " => Finding::new("a JPEG 2000 image", CONVERT),
        b"M4A " | b"M4B " => Finding::new("an audio file (MPEG-4)", STORE),
        _ => Finding::new("a video (MP4)", FRAME),
    })
}

/// Everything else that `infer` knows.
fn other_type(bytes: &[u8]) -> Option<Finding> {
    use infer::MatcherType;
    let kind = infer::get(bytes)?;
    let (name, mime) = (kind.extension().to_uppercase(), kind.mime_type());
    Some(match kind.matcher_type() {
        MatcherType::Video => Finding::new(format!("a video ({name})"), FRAME),
        MatcherType::Audio => Finding::new(format!("an audio file ({name})"), STORE),
        MatcherType::Archive => Finding::new(format!("an archive ({name})"), UNPACK),
        MatcherType::Doc | MatcherType::Book => Finding::new(format!("a document ({name})"), CONVERT),
        MatcherType::Image => Finding::new(format!("an image of the type {mime}"), CONVERT),
        _ => Finding::new(format!("a file of the type {mime}"), STORE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> String {
        finding(bytes).what
    }

    #[test]
    fn files_of_other_kinds() {
        let mut mkv = b"\x1A\x45\xDF\xA3\x93\x42\x82\x88matroska".to_vec();
        mkv.resize(300, 0);
        for (bytes, expected) in [
            (&b""[..], "no bytes"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"PK\x03\x04\x14\0\0\0\x08\0", "an archive (ZIP)"),
            (b"\x1F\x8B\x08\0\0\0\0\0", "data compressed by gzip"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video (MP4)"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video (QuickTime MOV)"),
            (&mkv, "a video (MKV)"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "a raw photograph (Canon CR3)"),
            (b"8BPS\0\x01\0\0", "a Photoshop document (PSD)"),
            (b"\0\0\x01\0\x01\0\x10\x10", "an icon (ICO)"),
            (b"P6\n2 2\n255\n", "a Netpbm image (P6)"),
            (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "a Radiance image (HDR)"),
            (b"\x76\x2F\x31\x01\x02\0\0\0", "an OpenEXR image"),
            (b"ID3\x03\0\0\0\0\0\0", "an audio file (MP3)"),
            (&[0xFA; 40], "data of an unknown format"),
        ] {
            assert_eq!(what(bytes), expected);
        }
    }
}
