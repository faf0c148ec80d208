//! Digests of what decides an answer, which are the same on every machine and in every version of this library.

use sha2::{Digest as _, Sha256};

/// Numbers that are written out as bytes at a time.
const NUMBERS: usize = 1024;

/// A SHA-256 of values, each with its length: so no two sequences of values are hashed as the same bytes.
#[derive(Clone, Debug)]
pub struct Digest(Sha256);

impl Digest {
    /// A digest for one purpose; that of another purpose differs.
    pub fn of(purpose: &str) -> Self {
        Digest(Sha256::new()).bytes(purpose.as_bytes())
    }

    /// Adds bytes, or a text.
    #[must_use]
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds bytes that may be absent, which differs from no bytes.
    #[must_use]
    pub fn option(self, bytes: Option<impl AsRef<[u8]>>) -> Self {
        match bytes {
            Some(bytes) => self.bytes([1]).bytes(bytes),
            None => self.bytes([0]),
        }
    }

    /// Adds numbers, bit by bit.
    #[must_use]
    pub fn numbers(mut self, numbers: &[f32]) -> Self {
        self.0.update((numbers.len() as u64).to_le_bytes());
        let mut bytes = [0; NUMBERS * 4];
        for part in numbers.chunks(NUMBERS) {
            let bytes = &mut bytes[..part.len() * 4];
            for (place, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(part) {
                *place = number.to_le_bytes();
            }
            self.0.update(bytes);
        }
        self
    }

    /// All of it.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// The first 64 bits of [`finish`](Self::finish).
    pub fn finish_short(self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = self.finish();
        i64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_sha_256_of_values_with_their_lengths() {
        let expected = Sha256::digest(b"\x01\0\0\0\0\0\0\0p\x02\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\xc0");
        assert_eq!(Digest::of("p").numbers(&[1.0, -2.0]).finish(), <[u8; 32]>::from(expected));
        let many: Vec<f32> = (0..3000).map(|i| i as f32).collect();
        let bytes: Vec<u8> = many.iter().flat_map(|number| number.to_le_bytes()).collect();
        let length = 3000u64.to_le_bytes();
        let expected = Sha256::digest([&b"\x01\0\0\0\0\0\0\0p"[..], &length, &bytes].concat());
        assert_eq!(Digest::of("p").numbers(&many).finish(), <[u8; 32]>::from(expected));
    }

    #[test]
    fn tells_values_apart() {
        let digests = [
            Digest::of("p").bytes("ab").bytes("c"),
            Digest::of("p").bytes("a").bytes("bc"),
            Digest::of("p").option(Some("")),
            Digest::of("p").option(None::<&str>),
            Digest::of("q").bytes("ab").bytes("c"),
        ]
        .map(Digest::finish_short);
        for (i, one) in digests.iter().enumerate() {
            assert!(!digests[..i].contains(one));
        }
    }
}
