//! What libjpeg reports, in our words where its own say too little.

use std::ffi::{CStr, c_char, c_int};

use mozjpeg_sys as codes;
use mozjpeg_sys::jpeg_error_mgr;

/// Why a file cannot be decoded.
#[derive(Debug)]
pub(in crate::clip::decode) struct Problem(pub(in crate::clip::decode) String);

impl Problem {
    pub(in crate::clip::decode) fn new(reason: impl Into<String>) -> Self {
        Problem(reason.into())
    }
}

/// Whether this warning is about damage in the picture, and not in other data. `is_in_picture` says whether the first
/// scan has begun.
pub(in crate::clip::decode) fn is_damage(code: c_int, is_in_picture: bool) -> bool {
    match code {
        // An undefined colour transform or JFIF version, and parameters of a sequential scan, which have one possible
        // value. libjpeg continues as if they were right.
        codes::JWRN_ADOBE_XFORM | codes::JWRN_JFIF_MAJOR | codes::JWRN_NOT_SEQUENTIAL => false,
        // Stray bytes before a marker. Between the headers they are harmless, and some cameras write them.
        codes::JWRN_EXTRANEOUS_DATA => is_in_picture,
        _ => true,
    }
}

/// The error or warning that libjpeg has just stored.
pub(in crate::clip::decode) fn problem(errors: &mut jpeg_error_mgr) -> Problem {
    // SAFETY: libjpeg stores numbers with these messages.
    let number = unsafe { (*errors.msg_parm.i())[0] };
    Problem(match errors.msg_code {
        codes::JERR_BAD_PRECISION => format!("samples of {number} bits are not supported, only 8"),
        codes::JERR_SOF_UNSUPPORTED => match number {
            0xC3 | 0xCB => "lossless JPEG is not supported".to_owned(),
            0xC5..=0xC7 | 0xCD..=0xCF => "hierarchical JPEG is not supported".to_owned(),
            _ => format!("JPEG of type 0x{number:02x} is not supported"),
        },
        codes::JERR_EMPTY_IMAGE => {
            "its header has a width or height of 0 (a height in a DNL marker is not supported)".to_owned()
        }
        codes::JWRN_JPEG_EOF => "the file ends early".to_owned(),
        codes::JWRN_HIT_MARKER => "the image data end early".to_owned(),
        code => message(errors).unwrap_or_else(|| format!("libjpeg reports problem {code}")),
    })
}

/// libjpeg's message, with its numbers put in.
fn message(errors: &mut jpeg_error_mgr) -> Option<String> {
    let index =
        usize::try_from(errors.msg_code).ok().filter(|_| errors.msg_code <= errors.last_jpeg_message)?;
    // SAFETY: the table has `last_jpeg_message` + 1 pointers to constants.
    let text = unsafe {
        let text = *errors.jpeg_message_table.add(index);
        (!text.is_null()).then(|| CStr::from_ptr(text.cast::<c_char>()))?
    };
    // SAFETY: as in `problem`.
    let numbers = unsafe { *errors.msg_parm.i() };
    Some(with_numbers(&text.to_string_lossy(), &numbers))
}

/// Puts numbers in for the directives of a message: `%d`, `%u`, `%ld` and `%02x` are all that libjpeg uses with them.
fn with_numbers(text: &str, numbers: &[c_int]) -> String {
    let mut numbers = numbers.iter();
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        result += before;
        let Some(end) = after.find(|letter: char| letter.is_ascii_alphabetic() && letter != 'l') else {
            break;
        };
        let number = numbers.next().copied().unwrap_or(0);
        result += &match after.as_bytes()[end] {
            b'x' => format!("{number:02x}"),
            _ => number.to_string(),
        };
        rest = &after[end + 1..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::with_numbers;

    #[test]
    fn numbers_are_put_in() {
        let found = with_numbers("found marker 0x%02x instead of RST%d", &[0xD9, 3]);
        assert_eq!(found, "found marker 0xd9 instead of RST3");
        assert_eq!(with_numbers("nothing here", &[1]), "nothing here");
        assert_eq!(with_numbers("%ld and %u", &[1, 2]), "1 and 2");
    }
}
