//! Centre crops: which pixels of an axis they keep. Libraries round differently.

use serde::Deserialize;

/// Whose rules round the size and the crop of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// torchvision's, by which OpenAI's CLIP and open_clip were trained: half a pixel goes to the even number.
    #[default]
    Torchvision,
    /// Those of `CLIPImageProcessor` in `transformers`: the crop begins at the whole number below.
    Transformers,
    /// Those of Immich: the crop as in `transformers`, and the long side of the resized image rounded down after a
    /// division in double precision.
    Immich,
}

/// One axis of a crop: `len` pixels are copied from position `from` of the image to position `to` of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub from: u32,
    pub to: u32,
    pub len: u32,
}

impl Window {
    /// The middle `crop` of `side` pixels. torchvision begins at `int(round((side - crop) / 2.0))`, where Python rounds
    /// halves to the even number, and `transformers` at `(side - crop) // 2`. A smaller image is centred, with the odd
    /// pixel of padding before it, as in `transformers`.
    pub fn centre(side: u32, crop: u32, rounding: Rounding) -> Window {
        if side < crop {
            return Window { from: 0, to: (crop - side).div_ceil(2), len: side };
        }
        let difference = side - crop;
        let half = difference / 2;
        let rounds_up = rounding == Rounding::Torchvision && difference % 2 == 1 && half % 2 == 1;
        Window { from: if rounds_up { half + 1 } else { half }, to: 0, len: crop }
    }

    /// The same, but the odd pixel of padding is behind a smaller image: `center_crop_or_pad` of open_clip.
    pub fn centre_or_pad(side: u32, crop: u32) -> Window {
        match side < crop {
            true => Window { from: 0, to: (crop - side) / 2, len: side },
            false => Window::centre(side, crop, Rounding::Torchvision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_begins_where_the_library_begins_it() {
        let from = |rounding| {
            [224, 225, 226, 227, 228, 229, 231, 298].map(|side| Window::centre(side, 224, rounding).from)
        };
        // int(round((side - crop) / 2.0)) in Python.
        assert_eq!(from(Rounding::Torchvision), [0, 0, 1, 2, 2, 2, 4, 37]);
        // (side - crop) // 2 in Python.
        assert_eq!(from(Rounding::Transformers), [0, 0, 1, 1, 2, 2, 3, 37]);
        assert_eq!(from(Rounding::Immich), from(Rounding::Transformers));
    }

    #[test]
    fn a_smaller_image_is_centred() {
        for rounding in [Rounding::Torchvision, Rounding::Transformers, Rounding::Immich] {
            assert_eq!(Window::centre(3, 8, rounding), Window { from: 0, to: 3, len: 3 });
            assert_eq!(Window::centre(4, 8, rounding), Window { from: 0, to: 2, len: 4 });
        }
        assert_eq!(Window::centre_or_pad(3, 8), Window { from: 0, to: 2, len: 3 });
        assert_eq!(Window::centre_or_pad(11, 8), Window { from: 2, to: 0, len: 8 });
    }
}
