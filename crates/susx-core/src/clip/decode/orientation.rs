//! The orientation that a camera or an editor stored in a file's metadata, by Pillow's rules
//! (`ImageOps.exif_transpose`): EXIF first, and XMP where EXIF says nothing.
//!
//! Broken metadata never make a picture fail: what cannot be read says nothing.

use image::metadata::Orientation;

use super::tiff::directory::Directory;

/// The marker before EXIF in a JPEG, which other formats often copy.
pub(super) const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// The tag of the orientation in an image file directory.
const ORIENTATION: u16 = 0x112;

/// From EXIF metadata or, where these do not have the tag, from XMP.
pub(super) fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let found = exif.and_then(from_exif).or_else(|| xmp.and_then(from_xmp));
    found.unwrap_or(Orientation::NoTransforms)
}

/// The same for a directory of tags.
pub(super) fn of_directory(directory: &Directory, xmp: Option<&[u8]>) -> Orientation {
    let found = in_directory(directory).or_else(|| xmp.and_then(from_xmp));
    found.unwrap_or(Orientation::NoTransforms)
}

/// The orientation in EXIF data, with or without [`EXIF_PREFIX`]. `None` if there is none. A value that is not an
/// orientation leaves the picture as it is.
pub(super) fn from_exif(exif: &[u8]) -> Option<Orientation> {
    in_directory(&directory(exif)?)
}

/// Whether these bytes are EXIF data, with or without [`EXIF_PREFIX`].
pub(super) fn is_exif(exif: &[u8]) -> bool {
    directory(exif).is_some()
}

fn directory(exif: &[u8]) -> Option<Directory<'_>> {
    let mut data = exif;
    while let Some(rest) = data.strip_prefix(EXIF_PREFIX) {
        data = rest;
    }
    Directory::first(data)
}

/// Of several entries the last one counts, of several values the first one: a whole number of any size.
fn in_directory(directory: &Directory) -> Option<Orientation> {
    let values = directory.last_values(ORIENTATION)?;
    Some(known(if values.are_bytes() { None } else { values.number(0) }))
}

/// The orientation in an XMP packet: an attribute or an element `tiff:Orientation`. `None` if there is none.
pub(super) fn from_xmp(packet: &[u8]) -> Option<Orientation> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut digits = (0..packet.len()).filter_map(|at| {
        let rest = packet[at..].strip_prefix(NAME)?;
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        value.first().filter(|digit| digit.is_ascii_digit())
    });
    digits.next().map(|digit| known(Some(u64::from(digit - b'0'))))
}

fn known(value: Option<u64>) -> Orientation {
    let orientation = value.and_then(|value| u8::try_from(value).ok()).and_then(Orientation::from_exif);
    orientation.unwrap_or(Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF with these entries: tag, kind, count, and the four bytes of the value.
    fn exif(entries: &[(u16, u16, u32, [u8; 4])]) -> Vec<u8> {
        let mut data = b"MM\0*\0\0\0\x08".to_vec();
        data.extend((entries.len() as u16).to_be_bytes());
        for (tag, kind, count, value) in entries {
            data.extend(tag.to_be_bytes());
            data.extend(kind.to_be_bytes());
            data.extend(count.to_be_bytes());
            data.extend(value);
        }
        data.extend([0; 4]);
        data
    }

    #[test]
    fn every_whole_number_is_read() {
        for (kind, value) in
            [(3, [0, 6, 0, 0]), (4, [0, 0, 0, 6]), (6, [6, 0, 0, 0]), (8, [0, 6, 0, 0]), (9, [0, 0, 0, 6])]
        {
            assert_eq!(from_exif(&exif(&[(0x112, kind, 1, value)])), Some(Orientation::Rotate90), "{kind}");
        }
        // Pillow takes bytes and texts for no orientation.
        for (kind, value) in [(1, [6, 0, 0, 0]), (2, *b"6\0\0\0"), (7, [6, 0, 0, 0])] {
            assert_eq!(from_exif(&exif(&[(0x112, kind, 1, value)])), Some(Orientation::NoTransforms));
        }
        assert_eq!(from_exif(&exif(&[(0x112, 3, 0, [0, 6, 0, 0])])), None);
    }

    #[test]
    fn the_last_entry_and_the_first_value_count() {
        let entries = [(0x10F, 3, 1, [0; 4]), (0x112, 3, 1, [0, 3, 0, 0]), (0x112, 3, 2, [0, 8, 0, 1])];
        assert_eq!(from_exif(&exif(&entries)), Some(Orientation::Rotate270));
    }

    #[test]
    fn prefixes_are_skipped() {
        let data = exif(&[(0x112, 3, 1, [0, 6, 0, 0])]);
        let prefixed = [EXIF_PREFIX, EXIF_PREFIX, &data].concat();
        assert_eq!(from_exif(&prefixed), Some(Orientation::Rotate90));
    }

    #[test]
    fn damaged_data_say_nothing() {
        let data = exif(&[(0x112, 4, 3, [0, 0, 0, 200]), (0x112, 3, 1, [0, 6, 0, 0])]);
        for length in 0..data.len() {
            // The first entry names values beyond the end.
            let expected = (length >= data.len() - 4).then_some(Orientation::Rotate90);
            assert_eq!(from_exif(&data[..length]), expected, "{length}");
        }
        for offset in [u32::MAX, 0, 7] {
            let mut data = data.clone();
            data[4..8].copy_from_slice(&offset.to_be_bytes());
            assert_eq!(from_exif(&data), None);
        }
        for value in [0, 9, 200] {
            let found = from_exif(&exif(&[(0x112, 3, 1, [0, value, 0, 0])]));
            assert_eq!(found, Some(Orientation::NoTransforms));
        }
    }

    #[test]
    fn xmp_has_an_attribute_or_an_element() {
        let turned = Some(Orientation::Rotate180);
        assert_eq!(from_xmp(b"<rdf:Description tiff:Orientation=\"3\"/>"), turned);
        assert_eq!(from_xmp(b"<tiff:Orientation>3</tiff:Orientation>"), turned);
        assert_eq!(from_xmp(b"tiff:Orientation tiff:OrientationX=\"6\" tiff:Orientation=\"3\""), turned);
        for none in
            ["", "tiff:Orientation", "tiff:Orientation=\"", "tiff:Orientation='3'", "exif:Orientation=\"3\""]
        {
            assert_eq!(from_xmp(none.as_bytes()), None, "{none}");
        }
    }
}
