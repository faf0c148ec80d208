"""Odd images and texts. Every row of the table compares the embeddings of all of them."""

from __future__ import annotations

import io

from helpers.pictures import encode, picture
from PIL import Image

# Landscape and portrait, square, smaller than any model's input, strips, and sides whose crop begins at half a pixel. Not
# so large that susx would decode a JPEG at a part of its size, which changes a vector a little.
SIZES = [(320, 200), (301, 447), (224, 224), (30, 21), (400, 31), (57, 333), (227, 225), (389, 512)]

TEXTS = [
    "a photo of a cat",
    "A Photo of the  HOUSE, isn't it?",
    "x",
    "naïve café in 東京 🙂",
    "what\tis\nthis?!",
    "two dogs & 3 cats (1990)",
    # Longer than any context.
    "a very long text about trains and boats " * 60,
]


def files() -> list[bytes]:
    """The image files: PNG, and two JPEGs."""
    made = [picture(seed, size) for seed, size in enumerate(SIZES)]
    return [*(encode(image) for image in made), *(encode(image, "JPEG", quality=90) for image in made[:2])]


def images() -> list[Image.Image]:
    """The same, as a program opens them."""
    return [Image.open(io.BytesIO(file)).convert("RGB") for file in files()]
