"""JPEGs of every kind have the pixels that Pillow reads, or are refused. `thumbnail` returns a picture of up to 1024
pixels as it is, so every pixel is compared."""

from __future__ import annotations

import io
import itertools

import numpy as np
import psycopg
import pytest
from PIL import Image, ImageOps

from helpers.jpegs import JFIF, adobe, composed, damaged
from helpers.pictures import encode, picture
from helpers.processes import eventually
from helpers.session import array, cosine
from helpers.settings import reloaded
from helpers.shared import SHARED, needs

pytestmark = pytest.mark.same_everywhere


def found(sql, file: bytes) -> np.ndarray:
    bytes_ = sql.one("SELECT susx.thumbnail(%s, 1024, 'png')", file)
    return np.asarray(Image.open(io.BytesIO(bytes_)))


def expected(file: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(file))
    image.load()
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


SIZES = [(1, 1), (7, 9), (16, 16), (33, 17), (100, 75), (1000, 3)]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_pillow_writes(sql, mode, progressive):
    for size, subsampling, restart in itertools.product(SIZES, (0, 1, 2), (0, 3)):
        options = {"subsampling": subsampling, "restart_marker_blocks": restart, "progressive": progressive}
        file = encode(picture(1, size).convert(mode), "JPEG", quality=85, **options)
        assert equal(found(sql, file), expected(file)), (size, options)


ONE_TO_FOUR = [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2)]


@pytest.mark.parametrize("first", ONE_TO_FOUR, ids=str)
def test_every_sampling(sql, first):
    """Any component may be sampled less than another one, also the first."""
    for second, third in itertools.product(ONE_TO_FOUR, [(1, 1), (2, 2)]):
        file = composed([first, second, third])
        assert equal(found(sql, file), expected(file)), (second, third)
        file = composed([first, (1, 1), second, third], markers=adobe(2))
        assert equal(found(sql, file), expected(file)), ("CMYK", second, third)


def test_sampling_that_nobody_reads(sql):
    """Three samples for two pixels: Pillow cannot read it either."""
    file = composed([(3, 1), (2, 1), (1, 1)])
    with pytest.raises(OSError):
        expected(file)
    refusal = sql.fails("SELECT susx.thumbnail(%s)", file)
    assert refusal.sqlstate == "22P03" and "JPEG" in refusal.message


MARKERS = {
    "none": b"",
    "JFIF": JFIF,
    "Adobe 0": adobe(0),
    "Adobe 1": adobe(1),
    "Adobe 2": adobe(2),
    "Adobe 9": adobe(9),
    "JFIF, Adobe 0": JFIF + adobe(0),
    "JFIF, Adobe 1": JFIF + adobe(1),
    "Adobe 0, JFIF": adobe(0) + JFIF,
}


@pytest.mark.parametrize("markers", MARKERS.values(), ids=list(MARKERS))
def test_colours_where_markers_and_ids_disagree(sql, markers):
    for ids in (b"\1\2\3\4", b"RGBA", b"\0\1\2\3", b"CMYK", b"\7\5\3\1", b"rgb\1"):
        for count in (1, 3, 4):
            file = composed([(1, 1)] * count, ids=ids, markers=markers)
            assert equal(found(sql, file), expected(file)), (ids, count)


def test_a_component_without_its_scan(sql):
    """Pillow shows such a picture in wrong colours."""
    for count in (3, 4):
        file = composed([(1, 1)] * count, scans=count - 1)
        assert expected(file).shape == (61, 83, 3)
        refusal = sql.fails("SELECT susx.thumbnail(%s)", file)
        assert refusal.sqlstate == "22P03" and "one of its scans is missing" in refusal.message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["baseline", "progressive", "composed"])
def test_damage(sql, kind):
    """A damaged file gives an error, or the pixels that Pillow reads: never another picture."""
    random = np.random.default_rng(len(kind))
    if kind == "composed":
        whole = composed([(1, 1), (2, 2), (2, 1)])
    else:
        whole = encode(picture(3, (60, 44)), "JPEG", quality=80, progressive=kind == "progressive")
    read = refused = 0
    for _ in range(400):
        file = damaged(whole, random)
        try:
            pixels = found(sql, file)
        except psycopg.Error as error:
            assert error.sqlstate in ("22P03", "54000"), error
            refused += 1
            continue
        read += 1
        try:
            reference = expected(file)
        except Exception:  # Pillow's own reading of the headers is stricter than libjpeg's.
            continue
        assert equal(pixels, reference), file.hex()
    assert read > 10 and refused > 200


@needs("bug-reports")
def test_pictures_of_bug_reports(sql):
    paths = sorted((SHARED / "bug-reports").glob("*.jpg"))
    assert len(paths) > 4
    for path in paths:
        file = path.read_bytes()
        assert equal(found(sql, file), expected(file)), path.name


def large(**options) -> tuple[bytes, Image.Image]:
    """A JPEG that is large enough for every model of these tests, and its pixels."""
    file = encode(picture(8, (2003, 1507)), "JPEG", quality=95, **options)
    return file, Image.fromarray(expected(file))


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_a_large_picture_is_decoded_at_a_part_of_its_size(sql, cluster, options):
    file, pixels = large(**options)
    embed = "SELECT embedding::text FROM susx.embed_images(%s, 'tiny_split') ORDER BY ord"
    shrink = "SELECT susx.thumbnail(%s, 200, 'png')"
    exact = encode(pixels)

    def made() -> tuple[np.ndarray, np.ndarray]:
        (one,), (other,) = sql.rows(embed, [file, exact])
        return array(one), array(other)

    reference = np.asarray(Image.open(io.BytesIO(sql.one(shrink, exact))), float)
    scaled = np.asarray(Image.open(io.BytesIO(sql.one(shrink, file))), float)
    one, other = made()
    assert 0 < np.abs(scaled - reference).mean() < 0.5
    assert cosine(one, other) > 0.999
    with reloaded(cluster, scaled_decoding="off"):
        assert eventually(lambda: sql.one(shrink, file) == sql.one(shrink, exact))
        one, other = made()
        assert (one == other).all()


def test_orientation_of_a_large_picture(sql):
    """The size of the picture is no multiple of eight: wherever its last row and column come to lie, nothing shifts."""
    image = picture(9, (2003, 1507))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        file = encode(image, "JPEG", quality=95, exif=exif)
        small = sql.one("SELECT susx.thumbnail(%s, 100, 'png')", file)
        exact = sql.one("SELECT susx.thumbnail(%s, 100, 'png')", encode(Image.fromarray(expected(file))))
        one, other = (np.asarray(Image.open(io.BytesIO(png)), float) for png in (small, exact))
        assert one.shape == other.shape and np.abs(one - other).mean() < 0.5, orientation
