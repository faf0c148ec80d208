//! The directory of tags that describes a page. EXIF metadata have the same structure.

use std::collections::HashSet;

/// The first directory of a file. What lies outside the file, or has an unknown type, counts as missing.
pub(in crate::clip::decode) struct Directory<'a> {
    bytes: &'a [u8],
    pub(super) is_big_endian: bool,
    entries: Vec<Entry>,
    /// Tags whose values are missing.
    lost: Vec<u16>,
    /// Whether the file ends in the middle of the directory.
    is_cut: bool,
}

struct Entry {
    tag: u16,
    kind: u16,
    start: usize,
    end: usize,
}

/// BigTIFF can claim 2⁶⁴.
const MAX_ENTRIES: u64 = 65_535;

/// Whether these are the first bytes of a TIFF. Some writers turn the magic number round, and readers bear with them.
pub(in crate::clip::decode) fn is_tiff(bytes: &[u8]) -> bool {
    byte_order(bytes).is_some()
}

/// Whether the file is big-endian, and whether it is a BigTIFF.
fn byte_order(bytes: &[u8]) -> Option<(bool, bool)> {
    match bytes.first_chunk()? {
        b"II*\0" | b"II\0*" => Some((false, false)),
        b"MM\0*" | b"MM*\0" => Some((true, false)),
        b"II+\0" => Some((false, true)),
        b"MM\0+" => Some((true, true)),
        _ => None,
    }
}

/// The number of directories of a file, which are its pages.
pub(in crate::clip::decode) fn pages(bytes: &[u8]) -> u32 {
    let Some((is_big_endian, is_big_tiff)) = byte_order(bytes) else { return 0 };
    let (word, head, entry) = if is_big_tiff { (8, 8, 20) } else { (4, 2, 12) };
    let unsigned = |at: usize, size: usize| {
        let value = bytes.get(at..at.checked_add(size)?)?;
        usize::try_from(number(value, is_big_endian)).ok()
    };
    let mut seen = HashSet::new();
    let mut next = unsigned(if is_big_tiff { 8 } else { 4 }, word);
    // The last one names none, and a damaged file may name one twice.
    while let Some(start) = next.filter(|&start| start != 0 && seen.insert(start)) {
        let Some(count) = unsigned(start, head) else {
            seen.remove(&start);
            break;
        };
        let end = count.checked_mul(entry).and_then(|length| length.checked_add(start + head));
        next = end.and_then(|end| unsigned(end, word));
    }
    seen.len() as u32
}

impl<'a> Directory<'a> {
    /// `None` if there is no directory. A directory that ends early has the entries before its end.
    pub(in crate::clip::decode) fn first(bytes: &'a [u8]) -> Option<Directory<'a>> {
        let (is_big_endian, is_big_tiff) = byte_order(bytes)?;
        let unsigned = |at: usize, size: usize| {
            let value = bytes.get(at..at.checked_add(size)?)?;
            Some(number(value, is_big_endian))
        };
        let (word, head) = if is_big_tiff { (8, 8) } else { (4, 2) };
        let start = usize::try_from(unsigned(if is_big_tiff { 8 } else { 4 }, word)?).ok()?;
        let count = unsigned(start, head)?.min(MAX_ENTRIES) as usize;
        // A tag, its type, the number of its values, and the values or their position.
        let size = 4 + 2 * word;
        let (mut entries, mut lost, mut is_cut) = (Vec::new(), Vec::new(), false);
        for index in 0..count {
            let at = start + head + size * index;
            let (Some(tag), Some(kind), Some(values), Some(place)) =
                (unsigned(at, 2), unsigned(at + 2, 2), unsigned(at + 4, word), unsigned(at + 4 + word, word))
            else {
                is_cut = true;
                break;
            };
            let length = values.checked_mul(size_of(kind as u16) as u64);
            let start = match length {
                Some(length) if length <= word as u64 => Some(at + 4 + word),
                _ => usize::try_from(place).ok(),
            };
            let end =
                start.zip(length).and_then(|(start, length)| start.checked_add(length.try_into().ok()?));
            match start.zip(end) {
                Some((start, end)) if start < end && end <= bytes.len() => {
                    entries.push(Entry { tag: tag as u16, kind: kind as u16, start, end });
                }
                _ => lost.push(tag as u16),
            }
        }
        Some(Directory { bytes, is_big_endian, entries, lost, is_cut })
    }

    /// Whether the file has, but does not show, the values of one of these tags.
    pub(super) fn has_lost(&self, tags: &[u16]) -> bool {
        self.is_cut || self.lost.iter().any(|tag| tags.contains(tag))
    }

    /// The values of a tag. Of two entries the first counts.
    pub(in crate::clip::decode) fn values(&self, tag: u16) -> Option<Values<'a>> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| self.of(entry))
    }

    /// The values of a tag. Of two entries the last counts, as in Pillow's reader of EXIF.
    pub(in crate::clip::decode) fn last_values(&self, tag: u16) -> Option<Values<'a>> {
        self.entries.iter().rfind(|entry| entry.tag == tag).map(|entry| self.of(entry))
    }

    fn of(&self, entry: &Entry) -> Values<'a> {
        let bytes = &self.bytes[entry.start..entry.end];
        Values { bytes, kind: entry.kind, is_big_endian: self.is_big_endian }
    }

    /// The first value of a tag that has whole numbers.
    pub(in crate::clip::decode) fn number(&self, tag: u16) -> Option<u64> {
        self.values(tag)?.number(0)
    }
}

/// Bytes of a value; 0 for an unknown type.
fn size_of(kind: u16) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}

fn number(bytes: &[u8], is_big_endian: bool) -> u64 {
    let digits = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    if is_big_endian { bytes.iter().fold(0, digits) } else { bytes.iter().rev().fold(0, digits) }
}

/// The values of one tag, which are read when asked for.
#[derive(Clone, Copy)]
pub(in crate::clip::decode) struct Values<'a> {
    pub(in crate::clip::decode) bytes: &'a [u8],
    kind: u16,
    is_big_endian: bool,
}

impl Values<'_> {
    pub(in crate::clip::decode) fn len(&self) -> usize {
        self.bytes.len() / size_of(self.kind).max(1)
    }

    /// Whether the values are single bytes, which Pillow takes for a text.
    pub(in crate::clip::decode) fn are_bytes(&self) -> bool {
        matches!(self.kind, 1 | 2 | 7)
    }

    /// A whole number that is not negative.
    pub(in crate::clip::decode) fn number(&self, index: usize) -> Option<u64> {
        let size = size_of(self.kind);
        let value = number(self.bytes.chunks_exact(size.max(1)).nth(index)?, self.is_big_endian);
        match self.kind {
            1 | 3 | 4 | 7 | 13 | 16 | 18 => Some(value),
            6 | 8 | 9 | 17 => Some(value).filter(|value| value >> (8 * size - 1) == 0),
            _ => None,
        }
    }

    /// A fraction or a whole number.
    pub(super) fn fraction(&self, index: usize) -> Option<f64> {
        match (self.kind, self.bytes.chunks_exact(8).nth(index)) {
            (5, Some(bytes)) => {
                let (above, below) = bytes.split_at(4);
                let (above, below) = (number(above, self.is_big_endian), number(below, self.is_big_endian));
                Some(above as f64 / below as f64).filter(|value| value.is_finite())
            }
            _ => self.number(index).map(|value| value as f64),
        }
    }

    /// All of them as whole numbers, if they are few.
    pub(super) fn few(&self) -> Option<Vec<u64>> {
        (self.len() <= 64).then(|| (0..self.len()).map_while(|index| self.number(index)).collect())
    }
}
