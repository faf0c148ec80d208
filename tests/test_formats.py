"""Every format is read as a viewer shows it: its embedding equals that of the same pixels as a plain PNG."""

from __future__ import annotations

import ctypes.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.pictures import encode, on_white, picture, png_of_16_bits
from helpers.session import array, cosine, session_of
from helpers.shared import needs, SHARED
from tools.paths import LIBHEIF

pytestmark = pytest.mark.same_everywhere

ORIENTATION = 0x0112
# Two decoders round differently, by up to 4 levels: the small random model of the tests sees it.
ROUNDED = 0.99
MODERN = Path(__file__).parent.parent / "crates" / "susx-core" / "tests" / "clip" / "images" / "modern"


@pytest.fixture
def embed(sql):
    return lambda file: array(sql.one("SELECT susx.embed_image(%s)::text", file))


@pytest.fixture
def same(embed):
    """Checks that a file shows what `pixels` show, and not what `wrong` shows."""

    def check(file: bytes, pixels: Image.Image, wrong: Image.Image | None = None, least: float = 0.999) -> None:
        found = embed(file)
        assert cosine(found, embed(encode(pixels.convert("RGB")))) >= least
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


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4", "4:0:0"])
@pytest.mark.parametrize("levels", ["full", "limited"])
def test_avif(same, subsampling, levels):
    file = encode(picture(16), "AVIF", subsampling=subsampling, range=levels)
    same(file, decoded(file).convert("RGB"), wrong=ImageOps.invert(picture(16)), least=ROUNDED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_orientation(same, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = encode(picture(2), "AVIF", exif=exif)
    wrong = picture(2) if orientation != 1 else picture(2).rotate(180)
    same(file, ImageOps.exif_transpose(decoded(file)), wrong, least=ROUNDED)


def test_avif_transparency_and_animation(same):
    image = picture(4)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = encode(image, "AVIF")
    same(file, on_white(decoded(file)), wrong=image.convert("RGB"), least=ROUNDED)
    file = encode(picture(8), "AVIF", save_all=True, append_images=[picture(9)])
    same(file, decoded(file).convert("RGB"), wrong=picture(9), least=ROUNDED)


def with_its_pixels(name: str) -> tuple[bytes, Image.Image]:
    """A file that the tests have no encoder for, and what its own library decodes: see images/make_modern.py."""
    return (MODERN / name).read_bytes(), Image.open(MODERN / f"{name}.png")


@pytest.mark.parametrize("name", sorted(path.name for path in MODERN.glob("*.jxl")))
def test_jpeg_xl(same, name):
    file, pixels = with_its_pixels(name)
    same(file, pixels, wrong=ImageOps.invert(pixels), least=ROUNDED)


HEIC = sorted(path.name for path in MODERN.glob("*.heic"))


@pytest.mark.skipif(not LIBHEIF.exists(), reason="needs build/libheif: python3 -m tools.libheif")
def test_heic(new_cluster, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(LIBHEIF))
    with new_cluster() as cluster, session_of(cluster) as sql:
        for name in HEIC:
            file, pixels = with_its_pixels(name)
            found, right, wrong = (
                array(sql.one("SELECT susx.embed_image(%s)::text", it))
                for it in (file, encode(pixels), encode(ImageOps.invert(pixels)))
            )
            assert cosine(found, right) >= 0.999 > cosine(found, wrong), name


@pytest.mark.skipif(ctypes.util.find_library("heif") is not None, reason="this system has libheif")
def test_heic_without_libheif(new_cluster, monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with new_cluster() as cluster, session_of(cluster) as sql:
        refusal = sql.fails("SELECT susx.embed_image(%s)", (MODERN / HEIC[0]).read_bytes())
    assert refusal.sqlstate == "22P03"
    assert "HEIC" in refusal.message and "libheif.so.1" in refusal.message
    assert "libheif1" in refusal.hint


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "PCX", "JPEG2000"])
def test_other_formats_are_named_in_the_error(sql, format):
    refusal = sql.fails("SELECT susx.embed_image(%s)", encode(picture(15, (64, 64)), format))
    assert refusal.sqlstate == "22P03"
    assert "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC, JPEG XL" in refusal.message
    assert "found a" in refusal.message and refusal.hint.startswith("Convert it")
