//! Boxes of ISO base media files (ISO/IEC 14496-12), of which HEIC and AVIF images and most videos are made.

/// Reads fields one after the other; `None` where the bytes end early. Numbers are big-endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Fields(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of up to eight bytes; 0 if it has none.
    pub(super) fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number(4).map(|number| number as u32)
    }

    pub(super) fn code(&mut self) -> Option<[u8; 4]> {
        self.bytes(4)?.try_into().ok()
    }

    /// The version and the flags with which a full box begins.
    pub(super) fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        Some((self.u8()?, self.number(3)? as u32))
    }
}

/// A box, or what the file has of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BmffBox<'a> {
    pub(super) kind: [u8; 4],
    pub(super) content: &'a [u8],
}

/// The boxes that follow each other in `bytes`, up to one whose header is broken.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = BmffBox<'_>> {
    let mut rest = Fields::new(bytes);
    std::iter::from_fn(move || {
        let (size, kind) = (u64::from(rest.u32()?), rest.code()?);
        let length = match size {
            // Up to the end.
            0 => u64::MAX,
            1 => rest.number(8)?.checked_sub(16)?,
            size => size.checked_sub(8)?,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.rest().len());
        Some(BmffBox { kind, content: rest.bytes(length)? })
    })
}

/// The content of the first box of a kind.
pub(super) fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|it| it.kind == *kind).map(|it| it.content)
}

/// The brands of a file, its main one first; empty if the file does not begin with a box of brands.
pub(super) fn brands(bytes: &[u8]) -> Vec<[u8; 4]> {
    let Some(BmffBox { kind, content }) = boxes(bytes).next() else { return Vec::new() };
    if &kind != b"ftyp" {
        return Vec::new();
    }
    // The second is the version of the first.
    let brands = content.chunks_exact(4).enumerate().filter(|&(index, _)| index != 1);
    brands.filter_map(|(_, brand)| brand.try_into().ok()).collect()
}
