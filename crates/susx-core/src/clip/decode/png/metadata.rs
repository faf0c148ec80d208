//! Where PNGs have EXIF and XMP metadata: in a separate chunk or in texts, before or after the image.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::chunks::chunks;

/// A compressed text that is longer is ignored.
const MAX_TEXT: u64 = 1 << 20;

/// What a file has of them.
pub(super) struct Metadata<'a> {
    pub(super) exif: Option<Cow<'a, [u8]>>,
    pub(super) xmp: Option<Cow<'a, [u8]>>,
}

/// Of several the last count. EXIF metadata in a chunk count before those in ImageMagick's hexadecimal text.
pub(super) fn find(bytes: &[u8]) -> Metadata<'_> {
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for chunk in chunks(bytes) {
        let text = match &chunk.name {
            b"eXIf" => {
                exif = Some(Cow::Borrowed(chunk.content));
                continue;
            }
            b"IEND" => break,
            b"tEXt" => split(chunk.content).map(|(key, text)| (key, Cow::Borrowed(text))),
            b"zTXt" => compressed(chunk.content),
            b"iTXt" => international(chunk.content),
            _ => None,
        };
        match text {
            Some((b"exif", text)) if &chunk.name == b"tEXt" => exif = Some(text),
            Some((b"Raw profile type exif", text)) => profile = Some(text),
            Some((b"XML:com.adobe.xmp", text)) => xmp = Some(text),
            _ => {}
        }
    }
    let exif = exif.or_else(|| profile.and_then(|text| from_hexadecimal(&text)).map(Cow::Owned));
    Metadata { exif, xmp }
}

/// What is before a zero, and what is after it.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| byte == 0)?;
    Some((&text[..end], &text[end + 1..]))
}

fn compressed(text: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>)> {
    match split(text)? {
        (key, [0, text @ ..]) => Some((key, Cow::Owned(inflate(text)?))),
        _ => None,
    }
}

/// A key, whether and how the text is compressed, a language, the key in that language, and the text.
fn international(text: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>)> {
    let (key, rest) = split(text)?;
    let (&[is_compressed, method], rest) = rest.split_first_chunk()?;
    let (_, text) = split(split(rest)?.1)?;
    match (is_compressed, method) {
        (0, _) => Some((key, Cow::Borrowed(text))),
        (_, 0) => Some((key, Cow::Owned(inflate(text)?))),
        _ => None,
    }
}

fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(bytes).take(MAX_TEXT + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT).then_some(text)
}

/// The bytes that follow three lines: an empty one, the kind of profile, and its length.
fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Vec<u8> = lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = digits.as_chunks();
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect::<Option<_>>();
    bytes.filter(|_| rest.is_empty())
}
