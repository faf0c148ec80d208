//! Text where the bytes of an image should be.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{CONVERT, Finding};
use crate::clip::decode::image_format;

/// Bytes that decide what kind of text it is.
const BEGINNING: usize = 4096;
/// Bytes of an encoded image that decide its format.
const ENCODED: usize = 64;

/// What kind of text the bytes are; `None` if they are not text.
pub(super) fn finding(bytes: &[u8]) -> Option<Finding> {
    let beginning = &bytes[..bytes.len().min(BEGINNING)];
    let text = match str::from_utf8(beginning) {
        Ok(text) => text,
        // The limit may have cut a character into two.
        Err(error) if bytes.len() > BEGINNING && error.valid_up_to() + 4 > beginning.len() => {
            str::from_utf8(&beginning[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().any(|it| it.is_control() && !it.is_whitespace()) {
        return None;
    }
    let text = text.trim_start_matches('\u{FEFF}').trim();
    Some(markup(text).or_else(|| encoded(text)).or_else(|| place(text)).unwrap_or_else(|| {
        Finding::new("text", "Store the bytes of an image file. susx.embed_text embeds texts.")
    }))
}

fn markup(text: &str) -> Option<Finding> {
    let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    let is_xml = begins("<?xml") || begins("<!--") || begins("<!doctype svg");
    if begins("<svg") || is_xml && text.contains("<svg") {
        return Some(Finding::new("an SVG drawing", "Render it first: rsvg-convert FILE -o out.png."));
    }
    if begins("<!doctype html") || begins("<html") || begins("<head") || begins("<body") {
        let advice = "It may be the error page of a failed download. Download the image again.";
        return Some(Finding::new("an HTML page", advice));
    }
    if is_xml {
        let advice = "It may be the error message of a failed download. Download the image again.";
        return Some(Finding::new("an XML document", advice));
    }
    if text.starts_with("{\\rtf") {
        return Some(Finding::new("an RTF document", CONVERT));
    }
    let is_json = text.starts_with(['{', '['])
        && text[1..].trim_start().starts_with(['"', '{', '[', '}', ']', '1', '2']);
    is_json.then(|| {
        let advice = "It may be the error message of a download that failed, or an object that holds the image. Store \
                      the bytes of the image file.";
        Finding::new("JSON", advice)
    })
}

/// Text that encodes bytes.
fn encoded(text: &str) -> Option<Finding> {
    let of_image = |how: &str, bytes: &[u8]| match image_format(bytes) {
        Some(name) => format!("the {how} of a {name} image, as text"),
        None => format!("the {how} of bytes, as text"),
    };
    let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    if begins("data:") {
        let bytes = text.split_once(',').and_then(|(_, data)| base64(data)).unwrap_or_default();
        let advice = "Decode it: decode(split_part(convert_from(image, 'UTF8'), ',', 2), 'base64').";
        return Some(Finding::new(of_image("data URL", &bytes), advice));
    }
    let prefixed = text.strip_prefix("\\x").or_else(|| text.strip_prefix("\\\\x"));
    if let Some(bytes) = prefixed.and_then(hex) {
        let advice = "Decode it: convert_from(image, 'UTF8')::bytea.";
        return Some(Finding::new(of_image("hexadecimal form", &bytes), advice));
    }
    if let Some(bytes) = hex(text).filter(|bytes| bytes.len() >= 16) {
        let advice = "Decode it: decode(convert_from(image, 'UTF8'), 'hex').";
        return Some(Finding::new(of_image("hexadecimal form", &bytes), advice));
    }
    // A word may be base64 by chance.
    let bytes = base64(text).filter(|bytes| image_format(bytes).is_some() || text.len() >= 4 * ENCODED)?;
    let advice = "Decode it: decode(convert_from(image, 'UTF8'), 'base64').";
    Some(Finding::new(of_image("base64 form", &bytes), advice))
}

/// Where an image is, instead of the image.
fn place(text: &str) -> Option<Finding> {
    if text.lines().count() != 1 {
        return None;
    }
    if let Some((scheme, _)) = text.split_once("://")
        && scheme.chars().all(|it| it.is_ascii_alphanumeric())
    {
        return Some(Finding::new(
            "a URL",
            "Nothing is fetched from SQL. Store the bytes of the image file.",
        ));
    }
    const ENDINGS: [&str; 14] = [
        "jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "svg",
        "dng",
    ];
    let ending = text.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let is_path = ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
        || text.starts_with('/') && !text.starts_with("/9j/")
        || text.get(1..3) == Some(":\\");
    is_path.then(|| {
        let advice = "Store the file's bytes: pg_read_binary_file(path) for a file on the server, a parameter of type \
                      bytea for one on the client.";
        Finding::new("a file's path", advice)
    })
}

/// The first bytes that hexadecimal digits stand for; `None` if there are other characters.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|it| it.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    Some(digits.chunks_exact(2).take(ENCODED).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The first bytes that base64 stands for, with either alphabet; `None` if there are other characters.
fn base64(text: &str) -> Option<Vec<u8>> {
    let is_digit = |it: char| it.is_ascii_alphanumeric() || matches!(it, '+' | '/' | '-' | '_' | '=');
    // Lines are wrapped, but words are not base64.
    if !text.chars().all(|it| is_digit(it) || matches!(it, '\r' | '\n')) {
        return None;
    }
    let standard = |it: char| match it {
        '-' => '+',
        '_' => '/',
        it => it,
    };
    let digits = text.chars().filter(|it| !it.is_ascii_whitespace() && *it != '=').map(standard);
    let digits: String = digits.take(ENCODED).collect();
    let whole = &digits[..digits.len() / 4 * 4];
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config).decode(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01\x01\x01\x00\x48\x00\x48\x00\x00";

    #[test]
    fn kinds_of_text() {
        let hex: String = JPEG.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = base64::engine::general_purpose::STANDARD.encode(JPEG);
        let lines = format!("{}\n{}\n", &base64[..12], &base64[12..]);
        for (text, expected) in [
            ("<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
            ("<?xml version=\"1.0\"?>\n<!-- drawn -->\n<svg>", "an SVG drawing"),
            ("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", "an XML document"),
            ("\u{FEFF}<!DOCTYPE html>\n<html>", "an HTML page"),
            ("{\"error\": \"not found\"}", "JSON"),
            ("[1, 2]", "JSON"),
            ("hello", "text"),
            ("a photo of a cat", "text"),
            ("photos/cat 1.jpg", "a file's path"),
            ("/srv/photos/1", "a file's path"),
            ("C:\\photos\\1", "a file's path"),
            ("https://example.org/cat.jpg", "a URL"),
            (&format!("\\x{hex}"), "the hexadecimal form of a JPEG image, as text"),
            (&hex.to_uppercase(), "the hexadecimal form of a JPEG image, as text"),
            (&base64, "the base64 form of a JPEG image, as text"),
            (&lines, "the base64 form of a JPEG image, as text"),
            (&format!("data:image/jpeg;base64,{base64}"), "the data URL of a JPEG image, as text"),
            (&"QUJD".repeat(100), "the base64 form of bytes, as text"),
            ("deadbeef", "text"),
        ] {
            assert_eq!(finding(text.as_bytes()).map(|it| it.what).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_text() {
        assert_eq!(finding(b"ab\0cd"), None);
        assert_eq!(finding(b"ab\xFFcd"), None);
    }

    #[test]
    fn a_character_may_be_cut() {
        let text = format!("a {}ä", "b ".repeat(BEGINNING / 2 - 2) + "c");
        assert_eq!(text.len(), BEGINNING + 1);
        assert_eq!(finding(text.as_bytes()).map(|it| it.what).as_deref(), Some("text"));
    }
}
