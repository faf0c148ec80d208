//! The chunks of a PNG.

use flate2::Crc;

/// Bytes before the first chunk.
pub(in crate::clip::decode) const SIGNATURE: usize = 8;

/// A chunk. The last one of a file may be cut.
pub(in crate::clip::decode) struct Chunk<'a> {
    pub(in crate::clip::decode) name: [u8; 4],
    pub(in crate::clip::decode) content: &'a [u8],
    /// With its length, its name and its checksum.
    pub(in crate::clip::decode) whole: &'a [u8],
}

/// All chunks, until one that ends early.
pub(in crate::clip::decode) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[l0, l1, l2, l3, n0, n1, n2, n3, ref after @ ..] = rest else { return None };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let whole = &rest[..length.saturating_add(12).min(rest.len())];
        let content = &after[..length.min(after.len())];
        rest = &rest[whole.len()..];
        Some(Chunk { name: [n0, n1, n2, n3], content, whole })
    })
}

impl Chunk<'_> {
    /// Writes the chunk with no more than `length` bytes of content. A wrong checksum stays wrong.
    pub(in crate::clip::decode) fn shortened(&self, length: usize, out: &mut Vec<u8>) {
        let is_intact = self.whole.len() == self.content.len() + 12
            && self.whole.ends_with(&checksum(self.name, self.content).to_be_bytes());
        if self.content.len() <= length || !is_intact {
            out.extend(self.whole);
            return;
        }
        let content = &self.content[..length];
        out.extend((length as u32).to_be_bytes());
        out.extend(self.name);
        out.extend(content);
        out.extend(checksum(self.name, content).to_be_bytes());
    }
}

fn checksum(name: [u8; 4], content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(content);
    crc.sum()
}
