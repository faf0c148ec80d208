"""Every format is read as a viewer shows it: its embedding equals that of the same pixels as a plain PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.pictures import encode, on_white, picture, png_of_16_bits
from helpers.session import array, cosine
from helpers.shared import needs, SHARED

pytestmark = pytest.mark.same_everywhere

ORIENTATION = 0x0112


@pytest.fixture
def embed(sql):
    return lambda file: array(sql.one("SELECT susx.embed_image(%s)::text", file))


@pytest.fixture
def same(embed):
    """Checks that a file shows what `pixels` show, and not what `wrong` shows."""

    def check(file: bytes, pixels: Image.Image, wrong: Image.Image | None = None) -> None:
        found = embed(file)
        assert cosine(found, embed(encode(pixels.convert("RGB")))) >= 0.999
        if wrong is not None:
            assert cosine(found, embed(encode(wrong.convert("RGB")))) < 0.99

    return check


def decoded(file: bytes) -> Image.Image:
    """Pillow's pixels of a file whose format loses some."""
    return Image.open(io.BytesIO(file))


@pytest.mark.parametrize(
    "mode, options",
    [
        ("RGB", {"quality": 90}),
        ("RGB", {"quality": 90, "progressive": True}),
        ("RGB", {"quality": 90, "subsampling": 0}),
        ("RGB", {"quality": 90, "restart_marker_blocks": 4}),
        ("L", {"quality": 90}),
        ("CMYK", {"quality": 95}),
    ],
)
def test_jpeg(same, mode, options):
    file = encode(picture(1).convert(mode), "JPEG", **options)
    same(file, decoded(file), wrong=ImageOps.invert(picture(1)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(same, format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = encode(picture(2), format, exif=exif, **({"quality": 95} if format == "JPEG" else {}))
    upright = ImageOps.exif_transpose(decoded(file))
    same(file, upright, wrong=picture(2) if orientation != 1 else ImageOps.flip(picture(2)))


@needs("bad-images/exif")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_cameras(same, orientation):
    file = (SHARED / "bad-images" / "exif" / f"Landscape_{orientation}.jpg").read_bytes()
    stored = decoded(file)
    upright = ImageOps.exif_transpose(stored)
    stored.getexif().clear()
    same(file, upright, wrong=stored.rotate(180) if orientation == 1 else stored)


def test_png_palette(same):
    image = picture(3).quantize(4)
    same(encode(image), image)
    file = encode(image, transparency=image.getpixel((5, 5)))
    same(file, on_white(decoded(file)), wrong=image)


def test_png_with_a_transparent_colour(same):
    image = picture(3).quantize(4).convert("RGB")
    file = encode(image, transparency=image.getpixel((5, 5)))
    same(file, on_white(decoded(file)), wrong=image)


@pytest.mark.parametrize("format, options", [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_transparency_shows_white(same, format, options):
    image = picture(4)
    alpha = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(alpha))
    # The colour stored in transparent pixels does not show.
    same(encode(image, format, **options), on_white(image), wrong=image.convert("RGB"))


def test_png_grey_with_transparency(same):
    image = picture(5).convert("LA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    same(encode(image), on_white(image), wrong=image.convert("L"))


def test_png_grey_and_black_and_white(same):
    for mode in ("L", "1"):
        same(encode(picture(6).convert(mode)), picture(6).convert(mode), wrong=ImageOps.invert(picture(6)))


def test_16_bits(same):
    """Scaled to 8 bits. Pillow itself cuts off what is above 255, which is nearly white everywhere."""
    image = picture(7)
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    for format in ("PNG", "TIFF"):
        same(encode(Image.fromarray(grey), format), image.convert("L"), wrong=Image.new("L", image.size, 255))
    same(png_of_16_bits(np.asarray(image).astype(np.uint16) * 257), image)


def test_first_picture_of_an_animation(same):
    frames = [picture(seed) for seed in (8, 9, 10)]
    for format, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        file = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50, loop=0, **options)
        same(file, decoded(file).convert("RGB"), wrong=frames[1])


def test_first_page_of_a_tiff(same):
    file = encode(picture(8), "TIFF", save_all=True, append_images=[picture(9)])
    same(file, picture(8), wrong=picture(9))


def test_gif_transparency(same):
    image = picture(11).quantize(16)
    file = encode(image, "GIF", transparency=image.getpixel((5, 5)))
    same(file, on_white(decoded(file)), wrong=picture(11))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 90}])
def test_webp(same, options):
    file = encode(picture(12), "WEBP", **options)
    same(file, decoded(file))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_bmp(same, mode):
    image = picture(13).quantize(64) if mode == "P" else picture(13).convert(mode)
    same(encode(image, "BMP"), image.convert("RGB"), wrong=ImageOps.flip(picture(13)))


@pytest.mark.parametrize(
    "mode, compression",
    [
        ("RGB", "raw"),
        ("RGB", "tiff_lzw"),
        ("RGB", "tiff_adobe_deflate"),
        ("RGB", "packbits"),
        ("RGB", "jpeg"),
        ("L", "raw"),
        ("P", "tiff_lzw"),
        ("1", "group4"),
        ("CMYK", "raw"),
    ],
)
def test_tiff(same, mode, compression):
    image = picture(14).quantize(64) if mode == "P" else picture(14).convert(mode)
    file = encode(image, "TIFF", compression=compression)
    same(file, decoded(file).convert("RGB"), wrong=ImageOps.invert(picture(14)))


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "PCX", "JPEG2000"])
def test_other_formats_are_named_in_the_error(sql, format):
    refusal = sql.fails("SELECT susx.embed_image(%s)", encode(picture(15, (64, 64)), format))
    assert refusal.sqlstate == "22P03"
    assert "JPEG, PNG, GIF, WebP, BMP" in refusal.message
