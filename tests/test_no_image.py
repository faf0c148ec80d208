"""What people store where an image should be: the error says what it is, and its HINT what to do."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zipfile

import pytest
from PIL import Image, TiffImagePlugin

from helpers.pictures import encode, picture

pytestmark = pytest.mark.same_everywhere

JPEG = encode(picture(1), "JPEG")


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zip:
        zip.writestr("cat.jpg", JPEG)
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def raw(make: str, tag: int | None = None) -> bytes:
    """A TIFF that begins with a preview, as raw photographs do."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254], tags[271] = 1, make
    if tag == 330:
        tags[330] = 8
        tags.tagtype[330] = 4
    elif tag is not None:
        tags[tag] = b"\1\4\0\0"
        tags.tagtype[tag] = 1
    return encode(picture(2), "TIFF", tiffinfo=tags)


CASES = {
    "PDF": (encode(picture(1), "PDF"), "a PDF document", "pdftoppm"),
    "ZIP": (archive(), "an archive (ZIP)", "Extract"),
    "gzip": (gzip.compress(JPEG), "gzip", "gunzip"),
    "MP4": (box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"free", b""), "a video (MP4)", "ffmpeg"),
    "MOV": (box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"wide", b""), "a video (QuickTime MOV)", "ffmpeg"),
    "SVG": (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", "rsvg-convert"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><title>404 Not Found</title>", "an HTML page", "Download the image again"),
    "JSON": (json.dumps({"error": "not found"}).encode(), "JSON", "Store the bytes"),
    "base64": (base64.b64encode(JPEG), "the base64 form of a JPEG image", "'base64'"),
    "base64 in lines": (base64.encodebytes(JPEG), "the base64 form of a JPEG image", "'base64'"),
    "data URL": (b"data:image/jpeg;base64," + base64.b64encode(JPEG), "the data URL of a JPEG image", "split_part"),
    "bytea as text": (b"\\x" + JPEG.hex().encode(), "the hexadecimal form of a JPEG image", "::bytea"),
    "hex": (JPEG.hex().encode(), "the hexadecimal form of a JPEG image", "'hex'"),
    "path": (b"/srv/photos/cat.jpg", "a file's path", "pg_read_binary_file"),
    "name": (b"IMG_0001.HEIC\n", "a file's path", "pg_read_binary_file"),
    "URL": (b"https://example.org/cat.jpg", "a URL", "Store the bytes"),
    "nothing": (b"", "no bytes", "Store the bytes"),
    "PSD": (b"8BPS\0\1" + bytes(20), "a Photoshop document (PSD)", "Convert"),
    "ICO": (encode(picture(1, (32, 32)), "ICO"), "an icon (ICO)", "Convert"),
    "JPEG 2000": (encode(picture(1), "JPEG2000"), "a JPEG 2000 image", "Convert"),
    "PNM": (encode(picture(1), "PPM"), "a Netpbm image (P6)", "Convert"),
    "EXR": (b"\x76\x2f\x31\x01\x02\0\0\0", "an OpenEXR image", "Convert"),
    "HDR": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", "a Radiance image", "Convert"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "Canon CR2", "Convert it to JPEG"),
    "CR3": (box(b"ftyp", b"crx \0\0\0\1crx isom"), "Canon CR3", "Convert it to JPEG"),
    "DNG": (raw("Google", 50706), "(DNG)", "Convert it to JPEG"),
    "NEF": (raw("NIKON CORPORATION", 330), "Nikon NEF", "Convert it to JPEG"),
    "ARW": (raw("SONY", 330), "Sony ARW", "Convert it to JPEG"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(20), "Fujifilm RAF", "Convert it to JPEG"),
    "noise": (bytes(range(128, 256)), "data of an unknown format", "Store the bytes"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_recognised(sql, case):
    file, found, advice = CASES[case]
    refusal = sql.fails("SELECT susx.embed_image(%s)", file)
    assert refusal.sqlstate == "22P03"
    assert refusal.message.startswith("expected an image (JPEG, PNG, ") and found in refusal.message
    assert advice in refusal.hint
    assert sql.one("SELECT error FROM susx.image_info(%s)", file) == refusal.message


@pytest.mark.parametrize("case", ["base64", "base64 in lines", "data URL", "bytea as text", "hex"])
def test_the_advice_works(sql, case):
    """The expression of the HINT makes an image of it."""
    file, _, _ = CASES[case]
    hint = sql.fails("SELECT susx.embed_image(%s)", file).hint
    expression = hint.removeprefix("Decode it: ").removesuffix(".")
    sql.run("CREATE TEMP TABLE stored (image bytea)")
    sql.copy("stored", ["image"], [(file,)])
    width = sql.one(f"SELECT width FROM stored, susx.image_info({expression})")
    assert width == picture(1).width


def test_a_tiff_of_a_camera_maker_is_no_raw_photograph(sql):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[271] = "NIKON CORPORATION"
    file = encode(picture(2), "TIFF", tiffinfo=tags)
    assert sql.one("SELECT format FROM susx.image_info(%s)", file) == "TIFF"
    assert Image.open(io.BytesIO(sql.one("SELECT susx.thumbnail(%s)", file))).size == picture(2).size


def test_the_table_of_errors_says_it_too(sql):
    sql.run("CREATE TABLE stored (id int PRIMARY KEY, image bytea, embedding vector)")
    names = ["base64", "HTML", "path"]
    sql.copy("stored", ["id", "image"], [(place, CASES[name][0]) for place, name in enumerate(names)])
    sql.run("CALL susx.embed_table('stored')")
    errors = dict(sql.rows("SELECT key, message FROM susx.errors WHERE relation = 'stored'::regclass"))
    for place, name in enumerate(names):
        assert CASES[name][1] in errors[str(place)]
