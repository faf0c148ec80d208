"""`susx.image_info` against Pillow, for every format, and for what is no image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import encode, picture, png_of_16_bits
from helpers.session import session_of

pytestmark = pytest.mark.same_everywhere

IMAGES = Path(__file__).parent.parent / "crates" / "susx-core" / "tests" / "clip" / "images"
COLUMNS = "format, width, height, orientation, frames, mode, bytes, error"
SIZE = (61, 43)


def info(sql, file: bytes):
    (row,) = sql.rows(f"SELECT {COLUMNS} FROM susx.image_info(%s)", file)
    return row


def of_pillow(file: bytes):
    """The same by Pillow, but for its names of formats."""
    image = Image.open(io.BytesIO(file))
    orientation = image.getexif().get(0x0112, 1)
    return (*image.size, orientation, getattr(image, "n_frames", 1), image.mode, len(file), None)


CASES = {
    "JPEG": ("JPEG", "RGB", {}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}),
    "grey JPEG": ("JPEG", "L", {}),
    "CMYK JPEG": ("JPEG", "CMYK", {}),
    "PNG": ("PNG", "RGB", {}),
    "transparent PNG": ("PNG", "RGBA", {}),
    "grey PNG": ("PNG", "L", {}),
    "grey transparent PNG": ("PNG", "LA", {}),
    "PNG with a palette": ("PNG", "P", {}),
    "black and white PNG": ("PNG", "1", {}),
    "GIF": ("GIF", "P", {}),
    "WebP": ("WEBP", "RGB", {}),
    "transparent WebP": ("WEBP", "RGBA", {"lossless": True}),
    "BMP": ("BMP", "RGB", {}),
    "BMP with a palette": ("BMP", "P", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "transparent TIFF": ("TIFF", "RGBA", {}),
    "grey TIFF": ("TIFF", "L", {}),
    "CMYK TIFF": ("TIFF", "CMYK", {}),
    "TIFF with a palette": ("TIFF", "P", {}),
    "fax": ("TIFF", "1", {"compression": "group4"}),
    "AVIF": ("AVIF", "RGB", {}),
    "transparent AVIF": ("AVIF", "RGBA", {}),
    "grey AVIF": ("AVIF", "L", {}),
}


def of_mode(mode: str) -> Image.Image:
    image = picture(1, SIZE)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image.convert(mode)


@pytest.mark.parametrize("case", CASES)
def test_as_pillow_says(sql, case):
    format, mode, options = CASES[case]
    file = encode(of_mode(mode), format, **options)
    found = info(sql, file)
    assert found[0].upper() == format
    assert found[1:] == of_pillow(file)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(sql, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(picture(2, SIZE), format, exif=exif)
    assert info(sql, file)[1:4] == (*SIZE, orientation)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_frames(sql, format):
    frames = [picture(seed, SIZE) for seed in range(5)]
    file = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert info(sql, file)[4] == Image.open(io.BytesIO(file)).n_frames == 5


def test_16_bits(sql):
    deep = np.asarray(picture(3, SIZE)).astype(np.uint16) * 257
    assert info(sql, png_of_16_bits(deep))[5] == "RGB;16"
    for format in ("PNG", "TIFF"):
        assert info(sql, encode(Image.fromarray(deep[..., 0]), format))[5] == "L;16"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("lossless.jxl", ("JPEG XL", 24, 16, 1, 1, "RGB")),
        ("transparent.jxl", ("JPEG XL", 24, 16, 1, 1, "RGBA")),
        ("container.jxl", ("JPEG XL", 24, 16, 1, 1, "RGB")),
        ("sideways.jxl", ("JPEG XL", 16, 24, 6, 1, "RGB")),
        ("animated.jxl", ("JPEG XL", 24, 16, 1, 2, "RGB")),
        ("modern/grid.heic", ("HEIC", 120, 120, 1, 1, "RGB")),
        ("modern/alpha.heic", ("HEIC", 61, 43, 1, 1, "RGBA")),
        ("modern/collection.heic", ("HEIC", 61, 43, 1, 1, "RGB")),
        ("modern/10_bits.heic", ("HEIC", 61, 43, 1, 1, "RGB;10")),
        ("modern/grid.avif", ("AVIF", 120, 120, 1, 1, "RGB")),
        ("modern/12_bits.avif", ("AVIF", 61, 43, 1, 1, "RGB;12")),
    ],
)
def test_formats_that_the_tests_do_not_write(sql, name, expected):
    file = (IMAGES / name).read_bytes()
    assert info(sql, file) == (*expected, len(file), None)


@pytest.mark.parametrize(
    "file, word",
    [(b"", "no bytes"), (b"hello", "found text"), (b"%PDF-1.7\n", "a PDF document"), (b"\x89PNG\r\n\x1a\n", "PNG")],
)
def test_what_is_no_image_has_a_row(sql, file, word):
    *nothing, length, error = info(sql, file)
    assert nothing == [None] * 6 and length == len(file)
    assert word in error


def test_null(sql):
    assert sql.rows(f"SELECT {COLUMNS} FROM susx.image_info(NULL)") == [(None,) * 8]


def test_only_the_header_counts(sql):
    """Of a file that ends in the middle of its pixels."""
    for format in ("JPEG", "PNG", "WEBP", "BMP", "AVIF"):
        file = encode(picture(4, (400, 300)), format)
        half = file[: len(file) // 2]
        assert sql.fails("SELECT susx.thumbnail(%s)", half).sqlstate == "22P03"
        assert info(sql, half)[1:] == (*info(sql, file)[1:6], len(half), None)


def test_rows_of_a_table(sql):
    sql.run("CREATE TABLE photos (id int, image bytea)")
    sql.copy("photos", ["id", "image"], ((i, encode(picture(i, (200 + i, 100)))) for i in range(40)))
    sql.run("INSERT INTO photos VALUES (40, NULL), (41, 'no image')")
    rows = sql.rows("SELECT id, width, bytes, error IS NULL FROM photos, susx.image_info(image) ORDER BY id")
    assert [row[:2] for row in rows[:40]] == [(i, 200 + i) for i in range(40)]
    assert rows[40:] == [(40, None, None, True), (41, None, 8, False)]


def test_no_model_is_needed_and_pixels_are_not_limited(new_cluster):
    changes = {"susx.model_dir": None, "susx.model": None, "susx.onnxruntime_library": "/nowhere"}
    limits = {"susx.max_image_pixels": 100, "susx.max_image_bytes": "100kB"}
    with new_cluster(**changes, **limits) as cluster, session_of(cluster) as sql:
        assert info(sql, encode(picture(1, (200, 150))))[1:3] == (200, 150)
        *nothing, length, error = info(sql, b"\xff" * 200_000)
        assert nothing == [None] * 6 and length == 200_000
        assert "200000" in error
