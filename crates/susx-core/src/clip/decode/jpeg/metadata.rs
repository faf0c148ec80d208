//! The orientation in a JPEG's segments. Only EXIF is copied, and no more of it than a camera writes.

use image::metadata::Orientation;

use crate::clip::decode::orientation::{self, EXIF_PREFIX};

/// First bytes of an APP1 segment with XMP.
const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Most bytes of EXIF that are joined. A segment has at most 64 kB, and few files have a second one.
const MAX_EXIF: usize = 1 << 20;

/// The orientation in EXIF, which may be spread over several segments, else in XMP.
pub(in crate::clip::decode) fn orientation(file: &[u8]) -> Orientation {
    let exif = || Segments { rest: file }.filter_map(|segment| segment.strip_prefix(EXIF_PREFIX));
    let mut joined = Vec::new();
    for part in exif() {
        if joined.len() + part.len() > MAX_EXIF {
            break;
        }
        joined.extend_from_slice(part);
    }
    // Where the first segment is garbage, the others count by themselves.
    let found = match orientation::is_exif(&joined) {
        true => orientation::from_exif(&joined),
        false => exif().find_map(orientation::from_exif),
    };
    let xmp = || Segments { rest: file }.filter_map(|segment| segment.strip_prefix(XMP_PREFIX)).last();
    found.or_else(|| orientation::from_xmp(xmp()?)).unwrap_or(Orientation::NoTransforms)
}

/// The contents of the APP1 segments before the first scan. Finds markers as libjpeg does, past stray bytes.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const APP1: u8 = 0xE1;
        loop {
            let start =
                self.rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
            let (marker, rest) = self.rest[start + 1..].split_first()?;
            self.rest = rest;
            match marker {
                // The start of the image, restart markers and TEM have no content.
                0x01 | 0xD0..=0xD8 => continue,
                // The end of the image, and a scan.
                0xD9 | 0xDA => return None,
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes(*self.rest.first_chunk()?)).max(2);
            let (segment, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            if *marker == APP1 {
                return Some(&segment[2..]);
            }
        }
    }
}
