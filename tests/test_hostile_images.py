"""Broken and hostile files: each gives an embedding or an error, and the inference process survives."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.pictures import encode, on_white, picture
from helpers.processes import PROMPTLY, servers
from helpers.session import array, cosine
from helpers.shared import SHARED, needs

pytestmark = pytest.mark.same_everywhere

EMBED = "SELECT ord, embedding::text, error FROM susx.embed_images(%s, 'tiny_split') ORDER BY ord"


@pytest.fixture
def same_server(sql, cluster):
    """The process that answers before the test is the one that answers after it."""
    sql.run("SELECT susx.embed_text('a', 'tiny_split')")
    before = servers(cluster.data_dir)
    yield
    assert servers(cluster.data_dir) == before
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'tiny_split'))", encode(picture(1))) == 32


def embed(sql, files):
    """Checks each answer; returns which were embedded."""
    rows = sql.rows(EMBED, files)
    assert len(rows) == len(files)
    for _, embedding, error in rows:
        if embedding is None:
            assert error
        else:
            assert error is None and np.linalg.norm(array(embedding)) == pytest.approx(1, abs=1e-5)
    return [embedding is not None for _, embedding, _ in rows]


@needs("bad-images")
@pytest.mark.parametrize("folder", ["pngsuite", "image-rs", "jpeg-crash", "exif"])
def test_collected_files(sql, same_server, folder):
    paths = sorted(
        path for path in (SHARED / "bad-images" / folder).iterdir() if path.suffix not in (".md", ".LICENSE", ".README")
    )
    embedded = dict(zip((path.name for path in paths), embed(sql, [path.read_bytes() for path in paths])))
    if folder == "pngsuite":
        # Files whose names begin with x are broken, the others are pictures.
        assert {name for name, good in embedded.items() if not good} == {
            name for name in embedded if name.startswith("x")
        }
    if folder == "exif":
        assert all(embedded.values())


# Damaged, or of a format that susx does not take: Pillow makes what it can of them, susx says what is wrong.
REFUSED = {
    "1cbb1bb37d62c44f67374cd451643dc4.jpg",
    "28c74d9284d9836017fd519f6932efd8.jpg",
    "extraneous-bytes-after-sos.jpg",
    "xcsn0g01.png",
    "5482a54657765056f1a94116a8dbffe7.jpg",
    "7997b6b229f25315d33f5c7085e37500.jpg",
    "8e5e74dbf9b68a322fbb9512db837329.jpg",
    "b55977028a3a574336966b6536640fc9.jpg",
    "f6b4389c3cf0f5997b2e5a4b905aea8d.jpg",
    "subtract-with-overflow.jpg",
    "clusterfuzz-testcase-minimized-fuzzer_script_tiff-5026894169374720.tif",
    "dc-predictor-overflow.jpg",
    "Bad_smile-incorrect-image-length.ico",
    "tests_bad_ico_Bad_smile-incorrect-image-length.ico",
}


@needs("bad-images")
@pytest.mark.filterwarnings("ignore")
def test_what_pillow_can_read(sql, same_server):
    """The embedding is that of Pillow's pixels, or there is an error."""
    refused, unlike, compared = set(), set(), 0
    for path in sorted((SHARED / "bad-images").glob("*/*")):
        file = path.read_bytes()
        try:
            pixels = pillow(file)
        except Exception:  # Whatever Pillow raises: it cannot read the file.
            continue
        answers = sql.rows("SELECT embedding::text FROM susx.embed_images(%s) ORDER BY ord", [file, encode(pixels)])
        (found,), (expected,) = answers
        if found is None:
            refused.add(path.name)
        else:
            compared += 1
            if cosine(array(found), array(expected)) < 0.999:
                unlike.add(path.name)
    assert (refused, unlike) == (REFUSED, set())
    assert compared > 170


def pillow(file: bytes) -> Image.Image:
    """What a viewer with Pillow's decoders shows."""
    image = Image.open(io.BytesIO(file))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Grey of 16 bits, of which Pillow's own conversion takes all above 255 for white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    transparent = "A" in image.getbands() or "transparency" in image.info
    return on_white(image) if transparent else image.convert("RGB")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_random_damage(sql, same_server, format):
    random = np.random.default_rng(len(format))
    whole = encode(picture(2, (48, 40)), format)
    files = [whole]
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 6)):
            damaged[place] = random.integers(0, 256)
        files.append(bytes(damaged))
    for length in random.integers(0, len(whole) - 1, 30):
        files.append(whole[:length])
    assert embed(sql, files)[0]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width, height, content=b""):
    """A PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 100_000), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (10_001, 10_000)])
def test_sizes_that_are_only_claimed(sql, same_server, size):
    """The size in the header is enough to refuse them, before anything is decoded."""
    started = time.monotonic()
    refusal = sql.fails("SELECT susx.embed_image(%s, 'tiny_split')", bomb(*size))
    assert time.monotonic() - started < PROMPTLY
    assert refusal.sqlstate in ("54000", "22P03")
    assert "pixels" in refusal.message or "PNG" in refusal.message


def test_strips(sql, same_server):
    """One pixel high and very long: the resized picture would be huge, but only its middle is needed."""
    for size in ((60_000, 1), (1, 60_000), (60_000, 2), (1, 1), (2, 1)):
        assert embed(sql, [encode(picture(3, (64, 64)).resize(size))]) == [True], size


def test_noise_is_no_picture(sql, same_server):
    assert embed(sql, [os.urandom(length) for length in (1, 2, 3, 8, 100, 10_000)]) == [False] * 6
