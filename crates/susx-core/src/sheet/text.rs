//! Text in letters of 8 × 8 pixels.

use font8x8::{
    BASIC_FONTS, BLOCK_FONTS, BOX_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, MISC_FONTS, UnicodeFonts,
};
use image::{Rgb, RgbImage};

/// Width and height of a letter in pixels.
pub const LETTER: u64 = 8;

/// The font has no ellipsis.
const ELLIPSIS: [u8; 8] = [0, 0, 0, 0, 0, 0b0100_1001, 0b0100_1001, 0];
/// Stands for a letter that the font does not have.
const MISSING: [u8; 8] = [0, 0b0111_1110, 0b0100_0010, 0b0100_0010, 0b0100_0010, 0b0100_0010, 0b0111_1110, 0];
const INK: Rgb<u8> = Rgb([32, 32, 32]);

/// The text in lines of at most `width` letters. Ends in an ellipsis if `lines` lines are too few.
pub fn lines(text: &str, width: usize, lines: usize) -> Vec<String> {
    let room = width.saturating_mul(lines);
    if room == 0 {
        return Vec::new();
    }
    let mut letters: Vec<char> = text.trim_end().chars().take(room + 1).collect();
    if letters.len() > room {
        letters.truncate(room - 1);
        letters.push('…');
    }
    letters.chunks(width).map(|line| line.iter().collect()).collect()
}

/// Writes a line of text. What is beyond the edge of the picture is left out.
pub fn write(picture: &mut RgbImage, left: u64, top: u64, line: &str) {
    for (letter, index) in line.chars().zip(0..) {
        for (row, y) in glyph(letter).into_iter().zip(top..) {
            for x in (0..LETTER).filter(|x| row & (1 << x) != 0) {
                let place = (u32::try_from(left + index * LETTER + x), u32::try_from(y));
                if let (Ok(x), Ok(y)) = place
                    && let Some(pixel) = picture.get_pixel_mut_checked(x, y)
                {
                    *pixel = INK;
                }
            }
        }
    }
}

/// Rows of a letter from top to bottom; the lowest bit is the leftmost pixel.
fn glyph(letter: char) -> [u8; 8] {
    if letter.is_control() || letter.is_whitespace() {
        return [0; 8];
    }
    if letter == '…' {
        return ELLIPSIS;
    }
    BASIC_FONTS
        .get(letter)
        .or_else(|| LATIN_FONTS.get(letter))
        .or_else(|| GREEK_FONTS.get(letter))
        .or_else(|| HIRAGANA_FONTS.get(letter))
        .or_else(|| BOX_FONTS.get(letter))
        .or_else(|| BLOCK_FONTS.get(letter))
        .or_else(|| MISC_FONTS.get(letter))
        .unwrap_or(MISSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut() {
        assert_eq!(lines("short", 8, 1), ["short"]);
        assert_eq!(lines("12345678", 8, 1), ["12345678"]);
        assert_eq!(lines("123456789", 8, 1), ["1234567…"]);
        assert_eq!(lines("123456789", 4, 2), ["1234", "567…"]);
        assert_eq!(lines("padded     ", 8, 1), ["padded"]);
        assert!(lines("text", 0, 3).is_empty() && lines("", 8, 1).is_empty());
    }

    #[test]
    fn letters_that_the_font_lacks_are_boxes() {
        assert_eq!(glyph('漢'), MISSING);
        assert_eq!(glyph('\u{7}'), [0; 8]);
        for letter in ['A', 'é', 'ß', '…'] {
            assert!(glyph(letter) != MISSING && glyph(letter) != [0; 8], "{letter}");
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_picture() {
        let mut picture = RgbImage::from_pixel(10, 4, Rgb([255; 3]));
        write(&mut picture, 6, 2, "HHH");
        assert!(picture.pixels().any(|&pixel| pixel == INK));
    }
}
