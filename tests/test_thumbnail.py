"""`susx.thumbnail` against Pillow: size, orientation, colours, limits; and that it needs no model."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.pictures import encode, on_white, picture
from helpers.session import session_of

pytestmark = pytest.mark.same_everywhere

SIZES = [(640, 480), (480, 640), (1000, 40), (161, 160), (333, 1000)]


def made(sql, file: bytes, size: int = 160, format: str = "png") -> Image.Image:
    bytes_ = sql.one("SELECT susx.thumbnail(%s, %s, %s)", file, size, format)
    image = Image.open(io.BytesIO(bytes_))
    assert image.format == format.upper()
    assert image.mode == "RGB"
    return image


def reference(image: Image.Image, size: int) -> Image.Image:
    """What Pillow makes of the image: its longest side has the size."""
    scale = size / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of grey levels."""
    assert one.size == other.size
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


@pytest.mark.parametrize("dimensions", SIZES, ids=str)
@pytest.mark.parametrize("size", [16, 100, 160])
def test_size_and_pixels(sql, dimensions, size):
    image = picture(3, dimensions)
    assert difference(made(sql, encode(image), size), reference(image, size)) < 0.5


@pytest.mark.parametrize("dimensions", SIZES[:2], ids=str)
def test_jpeg_is_close(sql, dimensions):
    image = picture(4, dimensions)
    small = made(sql, encode(image), 160, "jpeg")
    assert difference(small, reference(image, 160)) < 5
    # A picture of other colours is not.
    assert difference(small, reference(picture(5, dimensions), 160)) > 20


def test_jpeg_of_160_pixels_is_the_default(sql):
    file = encode(picture(6, (500, 300)))
    assert sql.one("SELECT susx.thumbnail(%s)", file) == sql.one("SELECT susx.thumbnail(%s, 160, 'jpeg')", file)
    assert sql.one("SELECT susx.thumbnail(%s, NULL, NULL)", file) == sql.one("SELECT susx.thumbnail(%s)", file)


@pytest.mark.parametrize("dimensions", [(1, 1), (20, 10), (160, 160)], ids=str)
def test_a_small_image_is_not_enlarged(sql, dimensions):
    image = picture(7, dimensions)
    assert np.array_equal(np.asarray(made(sql, encode(image))), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_its_camera_says(sql, orientation):
    image = picture(8, (400, 200))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(image, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert difference(made(sql, file), reference(upright, 160)) < 0.5


def test_transparency_is_on_white(sql):
    image = picture(9, (300, 200)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert difference(made(sql, encode(image)), reference(on_white(image), 160)) < 1


@pytest.mark.parametrize("format", ["JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_other_formats(sql, format):
    file = encode(picture(10, (320, 240)), format)
    shown = Image.open(io.BytesIO(file)).convert("RGB")
    assert difference(made(sql, file), reference(shown, 160)) < 1.5


@pytest.mark.parametrize("file", [b"", b"no image", encode(picture(1))[:200]], ids=["empty", "text", "cut"])
def test_what_is_no_image(sql, file):
    assert sql.fails("SELECT susx.thumbnail(%s)", file).sqlstate == "22P03"


def test_arguments(sql):
    file = encode(picture(1))
    for size in (15, 1025, 0, -1, 2**31 - 1):
        refusal = sql.fails("SELECT susx.thumbnail(%s, %s)", file, size)
        assert refusal.sqlstate == "22023" and str(size) in refusal.message and "1024" in refusal.message
    for format in ("webp", "JPEG", ""):
        refusal = sql.fails("SELECT susx.thumbnail(%s, 160, %s)", file, format)
        assert refusal.sqlstate == "22023" and '"jpeg" or "png"' in refusal.message


def test_rows_of_a_table(sql):
    sql.run("CREATE TABLE photos (id int, image bytea)")
    sql.copy("photos", ["id", "image"], ((i, encode(picture(i, (200 + i, 100)))) for i in range(40)))
    sql.run("INSERT INTO photos VALUES (40, NULL)")
    rows = dict(sql.rows("SELECT id, susx.thumbnail(image, 32, 'png') FROM photos"))
    assert rows.pop(40) is None
    for i, file in rows.items():
        image = picture(i, (200 + i, 100))
        assert difference(Image.open(io.BytesIO(file)), reference(image, 32)) < 0.5


def test_no_model_is_needed_and_limits_apply(new_cluster):
    changes = {"susx.model_dir": None, "susx.model": None, "susx.onnxruntime_library": "/nowhere"}
    limits = {"susx.max_image_pixels": 60_000, "susx.max_image_bytes": "100kB"}
    with new_cluster(**changes, **limits) as cluster, session_of(cluster) as sql:
        image = picture(1, (200, 150))
        assert difference(made(sql, encode(image)), reference(image, 160)) < 0.5
        refusal = sql.fails("SELECT susx.thumbnail(%s)", encode(picture(1, (400, 300))))
        assert refusal.sqlstate == "54000" and "120000" in refusal.message and "60000" in refusal.message
        assert "susx.max_image_pixels" in refusal.hint
        refusal = sql.fails("SELECT susx.thumbnail(%s)", b"\xff" * 200_000)
        assert refusal.sqlstate == "54000" and "200000" in refusal.message
        assert "susx.max_image_bytes" in refusal.hint
