//! Raw photographs that are TIFF files. What a TIFF decoder finds in most of them is a small preview.

use crate::clip::decode::tiff::directory::Directory;

/// Tags of TIFF.
const NEW_SUBFILE_TYPE: u16 = 254;
const MAKE: u16 = 271;
const SUB_IFDS: u16 = 330;
const DNG_VERSION: u16 = 50706;

/// What kind of raw photograph a TIFF file is; `None` if it is an ordinary TIFF.
///
/// * Canon's CR2 says so behind the header.
/// * DNG has the tag of its version.
/// * NEF, ARW, PEF and others have a preview first, which is marked as one, and the rest in separate directories. An
///   ordinary TIFF of a camera's maker has no preview first.
pub(in crate::clip::decode) fn raw_tiff(bytes: &[u8]) -> Option<&'static str> {
    if bytes.get(..4) == Some(b"II*\0") && bytes.get(8..10) == Some(b"CR") {
        return Some("a raw photograph (Canon CR2)");
    }
    let first = Directory::first(bytes)?;
    if first.values(DNG_VERSION).is_some() {
        return Some("a raw photograph (DNG)");
    }
    let is_preview = first.number(NEW_SUBFILE_TYPE).is_some_and(|kind| kind & 1 == 1);
    if !is_preview || first.values(SUB_IFDS).is_none() {
        return None;
    }
    let make = first.values(MAKE)?.bytes.to_ascii_uppercase();
    let makes = [
        ("NIKON", "a raw photograph (Nikon NEF)"),
        ("SONY", "a raw photograph (Sony ARW)"),
        ("PENTAX", "a raw photograph (Pentax PEF)"),
        ("RICOH", "a raw photograph (Ricoh PEF)"),
        ("SAMSUNG", "a raw photograph (Samsung SRW)"),
        ("HASSELBLAD", "a raw photograph (Hasselblad 3FR)"),
    ];
    makes.iter().find(|(name, _)| make.starts_with(name.as_bytes())).map(|(_, what)| *what)
}
