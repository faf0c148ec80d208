"""Uncommon TIFF, PNG, GIF, BMP and WebP files are Pillow's picture, or an error that says why they are not.

The right picture is what Pillow reads, or where it cannot, or is known to be wrong, the picture that the file was made
of."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from helpers.files import (
    REVERSED,
    bmp,
    chunk,
    exif,
    png_chunks,
    png_with,
    subsampled,
    tiff,
    tiles,
    webp,
    webp_chunks,
)
from helpers.pictures import encode, on_white, picture
from helpers.session import array, cosine
from helpers.shared import SHARED, needs

pytestmark = pytest.mark.same_everywhere

SIZE = (100, 76)
PICTURE = picture(1, SIZE)
RGB = np.asarray(PICTURE)
GREY = np.asarray(PICTURE.convert("L"))
BITS = PICTURE.convert("1")
PALETTE = PICTURE.quantize(40)
UNASSOCIATED = 2
# The largest difference of a pixel from the right one, in grey levels.
MOST = 3


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def pillow(file: bytes) -> Image.Image:
    """What a viewer with Pillow's decoders shows."""
    image = Image.open(io.BytesIO(file))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    transparent = "A" in image.getbands() or "transparency" in image.info
    return on_white(image) if transparent else image.convert("RGB")


@pytest.fixture
def compare(sql):
    """Checks that each file shows the same as a picture: by default as Pillow's."""

    def check(files: dict[str, bytes], right: dict[str, Image.Image] | None = None, most=MOST, mean=MOST) -> None:
        for name, file in files.items():
            expected = (right or {}).get(name) or pillow(file)
            # A thumbnail of a picture that is smaller has its very pixels.
            found = pixels(Image.open(io.BytesIO(sql.one("SELECT susx.thumbnail(%s, 1024, 'png')", file))))
            wanted = pixels(expected)
            assert found.shape == wanted.shape, name
            # Conversions of colours and of opacity may round another way.
            assert np.abs(found - wanted).max() <= most and np.abs(found - wanted).mean() <= mean, name

    return check


@pytest.fixture
def refused(sql):
    """Checks that each file is refused for its reason."""

    def check(files: dict[str, tuple[bytes, str]]) -> None:
        for name, (file, reason) in files.items():
            refusal = sql.fails("SELECT susx.embed_image(%s)", file)
            assert refusal.sqlstate == "22P03" and reason in refusal.message, (name, refusal.message)

    return check


@needs("bug-reports")
def test_public_bug_reports(compare):
    paths = [path for path in (SHARED / "bug-reports").iterdir() if path.suffix in (".tif", ".png", ".webp")]
    assert len(paths) >= 7
    compare({path.name: path.read_bytes() for path in paths})


def test_tiff_of_a_fax(compare):
    files = {}
    for compression in ("raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        for fill_order in (1, 2):
            for options in (0, 1, 4, 5) if compression == "group3" else (0,):
                for width in (100, 97):
                    tags = {266: fill_order, 292: options}
                    image = BITS.crop((0, 0, width, SIZE[1]))
                    name = f"{compression} {fill_order} {options} {width}"
                    files[name] = encode(image, "TIFF", compression=compression, tiffinfo=tags)
    compare(files)


def test_tiff_whose_compressed_bits_are_reversed(compare):
    raw = RGB.tobytes()
    packed = zlib.compress(raw)
    files = {
        "raw": tiff(SIZE, [raw.translate(REVERSED)], _266=2),
        "deflate": tiff(SIZE, [packed.translate(REVERSED)], _259=8, _266=2),
    }
    compare(files, dict.fromkeys(files, PICTURE))


@pytest.mark.parametrize("big", [False, True])
def test_tiff_tiles_and_planes(compare, big):
    planes = [RGB[..., channel] for channel in range(3)]
    tiled = {"_322": 64, "_323": 48}
    files = {
        "tiles": tiff(SIZE, tiles(RGB, 64, 48), big=big, **tiled),
        "planes": tiff(SIZE, [plane.tobytes() for plane in planes], big=big, _284=2),
        "planes of tiles": tiff(
            SIZE, [tile for plane in planes for tile in tiles(plane, 64, 48)], big=big, _284=2, **tiled
        ),
        "packed planes of tiles": tiff(
            SIZE,
            [zlib.compress(tile) for plane in planes for tile in tiles(plane, 64, 48)],
            big=big,
            _284=2,
            _259=8,
            **tiled,
        ),
    }
    compare(files, dict.fromkeys(files, PICTURE))
    colors = np.zeros((3, 256), np.uint16)
    levels = np.array(PALETTE.getpalette(), np.uint16).reshape(-1, 3).T
    colors[:, : levels.shape[1]] = levels * 257
    compare(
        {
            "palette": tiff(
                SIZE, [np.asarray(PALETTE).tobytes()], big=big, _258=8, _262=3, _277=1, _320=colors.ravel().tolist()
            )
        }
    )


def test_tiff_ycbcr(compare):
    ycbcr = np.asarray(PICTURE.convert("YCbCr"))
    files, right = {}, {}
    for across, down in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2)):
        blocks = subsampled(ycbcr, across, down)
        for compression, pack in ((1, bytes), (8, zlib.compress)):
            name = f"{across} {down} {compression}"
            files[name] = tiff(SIZE, [pack(blocks)], _259=compression, _262=6, _530=(across, down))
            right[name] = with_coarse_chroma(ycbcr, across, down)
    # Pillow cannot read the uncompressed ones.
    compare(files, right)
    for quality, subsampling in ((95, 0), (95, 1), (95, 2)):
        file = encode(PICTURE.convert("YCbCr"), "TIFF", compression="jpeg", quality=quality, subsampling=subsampling)
        compare({f"JPEG {subsampling}": file})


def with_coarse_chroma(ycbcr: np.ndarray, across: int, down: int) -> Image.Image:
    height, width, _ = ycbcr.shape
    means = ycbcr.reshape(height // down, down, width // across, across, 3).mean((1, 3)).astype(np.uint8)
    coarse = means.repeat(down, 0).repeat(across, 1)
    whole = np.dstack([ycbcr[..., 0], coarse[..., 1:]])
    return Image.frombytes("YCbCr", (width, height), whole.tobytes()).convert("RGB")


def test_tiff_whose_strips_are_not_as_the_tags_say(compare, refused):
    raw = RGB.tobytes()
    packed = zlib.compress(raw)
    half = [raw[: len(raw) // 2], raw[len(raw) // 2 :]]
    files = {
        "no lengths": tiff(SIZE, [raw], lengths=False),
        "no lengths, packed": tiff(SIZE, [packed], lengths=False, _259=8),
        "no checksum": tiff(SIZE, [packed[:-4]], _259=8),
        "no rows per strip": tiff(SIZE, [raw]),
        "two strips": tiff(SIZE, half, _278=SIZE[1] // 2),
        "one strip more": tiff(SIZE, [*half, b"more"], _278=SIZE[1] // 2),
    }
    compare(files, dict.fromkeys(files, PICTURE))
    refused(
        {
            "one strip less": (tiff(SIZE, half[:1], _278=SIZE[1] // 2), "fewer strips or tiles"),
            "half a strip": (tiff(SIZE, half[:1]), "ends early"),
            "half a packed strip": (tiff(SIZE, [packed[: len(packed) // 2]], _259=8), "ends early"),
        }
    )


def test_tiff_opacity_and_ink(compare):
    alpha = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    times = (RGB.astype(int) * alpha[..., None] // 255).astype(np.uint8)
    four = (8, 8, 8, 8)
    files = {
        "unspecified": tiff(SIZE, [np.dstack([RGB, alpha]).tobytes()], _258=four, _277=4, _338=0),
        "associated": tiff(SIZE, [np.dstack([times, alpha]).tobytes()], _258=four, _277=4, _338=1),
        "unassociated": tiff(SIZE, [np.dstack([RGB, alpha]).tobytes()], _258=four, _277=4, _338=UNASSOCIATED),
        "nothing said": tiff(SIZE, [np.dstack([RGB, alpha]).tobytes()], _258=four, _277=4),
        "and one more": tiff(SIZE, [np.dstack([RGB, alpha, alpha]).tobytes()], _258=(8,) * 5, _277=5, _338=(2, 0)),
        "white is zero": tiff(SIZE, [GREY.tobytes()], _258=8, _262=0, _277=1),
        "ink": tiff(SIZE, [np.asarray(PICTURE.convert("CMYK")).tobytes()], _258=four, _262=5, _277=4),
    }
    compare(files)


def test_tiff_of_lab(compare):
    """As LittleCMS computes it, without the table of few colours that it, and so Pillow's convert(), looks up by default."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE
    )
    anything = np.random.default_rng(5).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    images = {
        "of sRGB": PICTURE.convert("LAB"),
        # Most of these are no colours of sRGB.
        "of anything": Image.frombytes("LAB", SIZE, anything.tobytes()),
        "greys": Image.merge("LAB", [PICTURE.convert("L"), *[Image.new("L", SIZE, 128)] * 2]),
    }
    files = {name: encode(image, "TIFF") for name, image in images.items()}
    compare(files, {name: ImageCms.applyTransform(image, transform) for name, image in images.items()}, most=1, mean=0.05)


def test_tiff_that_is_refused(refused):
    one = {"_258": 8, "_262": 1, "_277": 1}
    floats = {"_258": 32, "_262": 1, "_277": 1, "_339": 3}
    raw = RGB.tobytes()
    refused(
        {
            "sign": (tiff(SIZE, [GREY.tobytes()], **one, _339=2), "signed samples"),
            "12 bits": (tiff(SIZE, [raw], _258=12, _262=1, _277=1), "12 bits per sample"),
            "5, 6 and 5 bits": (tiff(SIZE, [raw], _258=(5, 6, 5)), "different bits"),
            "floats to 255": (tiff(SIZE, [GREY.astype("<f4").tobytes()], **floats), "only those from 0 to 1"),
            "old JPEG": (tiff(SIZE, [raw], _259=6), "old-style JPEG"),
            "JPEG 2000": (tiff(SIZE, [raw], _259=34712), "JPEG 2000"),
            "Zstandard": (tiff(SIZE, [raw], _259=50000), "Zstandard"),
            "LZMA": (tiff(SIZE, [raw], _259=34925), "LZMA"),
            "camera": (tiff(SIZE, [GREY.tobytes()], _258=8, _262=32803, _277=1), "raw camera data"),
            "mask": (tiff(SIZE, [GREY.tobytes()], _258=8, _262=4, _277=1), "transparency mask"),
            "palette of 8 bits": (
                tiff(SIZE, [GREY.tobytes()], _258=8, _262=3, _277=1, _320=list(range(256)) * 3),
                "levels of 8 bits",
            ),
        }
    )


def hexadecimal(content: bytes) -> bytes:
    return b"\nexif\n%8d\n%s\n" % (len(content), content.hex().encode())


def test_png_orientation(compare):
    file = encode(PICTURE)
    profile, xmp = b"Raw profile type exif", b"XML:com.adobe.xmp"
    attribute = b'<rdf:Description tiff:Orientation="6"/>'
    places = {
        "before": [chunk(b"eXIf", exif(6))],
        "prefix": [chunk(b"eXIf", b"Exif\0\0" + exif(6))],
        "long": [chunk(b"eXIf", exif(6, kind=4))],
        "text": [chunk(b"tEXt", profile + b"\0" + hexadecimal(b"Exif\0\0" + exif(6)))],
        "text without prefix": [chunk(b"tEXt", profile + b"\0" + hexadecimal(exif(6)))],
        "packed text": [chunk(b"zTXt", profile + b"\0\0" + zlib.compress(hexadecimal(exif(6))))],
        "international text": [chunk(b"iTXt", profile + b"\0\0\0\0\0" + hexadecimal(exif(6)))],
        "XMP": [chunk(b"iTXt", xmp + b"\0\0\0\0\0" + attribute)],
        "packed XMP": [chunk(b"iTXt", xmp + b"\0\1\0\0\0" + zlib.compress(attribute))],
        # What Pillow does not read, or puts before another.
        "APP1": [chunk(b"tEXt", b"Raw profile type APP1\0" + hexadecimal(exif(6)))],
        "two": [chunk(b"eXIf", exif(6)), chunk(b"eXIf", exif(3))],
        "EXIF and XMP": [chunk(b"eXIf", exif(1)), chunk(b"iTXt", xmp + b"\0\0\0\0\0" + attribute)],
    }
    files = {name: png_with(file, *chunks) for name, chunks in places.items()}
    files |= {f"{name}, after": png_with(file, after=tuple(chunks)) for name, chunks in places.items()}
    assert pillow(files["text, after"]).size == SIZE[::-1] and pillow(files["APP1"]).size == SIZE
    compare(files)


def test_png_damage_beside_the_picture(compare, refused):
    file, palette = encode(PICTURE), dict(png_chunks(encode(PALETTE)))[b"PLTE"]
    files = {"animation": encode(PICTURE, save_all=True, append_images=[PICTURE.rotate(180)])}
    for name in (b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"sRGB", b"acTL", b"fcTL", b"eXIf", b"quUx"):
        files[f"{name!r} too short"] = png_with(file, chunk(name, b"\1"))
        files[f"{name!r} with a wrong checksum"] = png_with(file, chunk(name, b"\0" * 8, damaged=True))
    compare(files, dict.fromkeys(files, PICTURE))
    odd = encode(PALETTE)
    compare(
        {f"palette {more:+}": png_with(odd, palette=(palette + b"xy")[: len(palette) + more]) for more in (-2, -1, 1)}
    )
    refused({"Apple's": (file[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + file[8:], "CgBI")})


def gif(screen: tuple[int, int], at: tuple[int, int] = (0, 0), **options: object) -> bytes:
    """The palette's picture on a screen of any size, with `options` of Pillow."""
    file = encode(PALETTE, "GIF", **options)
    frame = file.rindex(b",\0\0\0\0" + struct.pack("<HH", *SIZE))
    head = file[:6] + struct.pack("<HH", *screen) + file[10:frame]
    return head + b"," + struct.pack("<HH", *at) + file[frame + 5 :]


def test_gif_screens(compare):
    transparent = PALETTE.getpixel((5, 5))
    files = {}
    for screen in ((0, 0), (10, 10), SIZE, (120, 130)):
        for at in ((0, 0), (7, 11)):
            files[f"{screen} {at}"] = gif(screen, at)
            files[f"{screen} {at} transparent"] = gif(screen, at, transparency=transparent)
    whole = gif(SIZE)
    files |= {
        "no end": whole[:-1],
        "stray bytes": whole + b"stray",
        "interlaced": gif(SIZE, interlace=1),
        "lines in order": gif(SIZE, interlace=0),
        "grey without a palette": without_palette(encode(PICTURE.convert("L"), "GIF")),
    }
    compare(files)


def without_palette(file: bytes) -> bytes:
    flags = file[10]
    assert flags & 0x80
    return file[:10] + bytes([flags & 0x7F]) + file[11:13] + file[13 + (3 << (flags & 7) + 1) :]


def lines(pixels: np.ndarray) -> bytes:
    """Rows from the bottom, each padded to 4 bytes."""
    rows = (row.tobytes() for row in pixels[::-1])
    return b"".join(row + b"\0" * (-len(row) % 4) for row in rows)


# Blue, green, red.
COLORS = np.zeros((256, 4), np.uint8)
COLORS[:40, :3] = np.array(PALETTE.getpalette()[:120], np.uint8).reshape(-1, 3)[:, ::-1]


def runs(pixels: np.ndarray) -> bytes:
    """Run-length compression of 8 bits: the left half as runs of one, the right half as it is."""
    data = b""
    for row in pixels[::-1]:
        half = len(row) // 2
        data += b"".join(bytes([1, index]) for index in row[:half])
        rest = row[half:].tobytes()
        data += bytes([0, len(rest)]) + rest + b"\0" * (len(rest) % 2) + b"\0\0"
    return data[:-2] + b"\0\1"


def test_bmp(compare, refused):
    indices = np.asarray(PALETTE)
    skipping = bytes([20, 5, 0, 2, 30, 0, 50, 7, 0, 0]) * (SIZE[1] - 1) + bytes([SIZE[0], 9, 0, 1])
    upwards = bytes([20, 5, 0, 2, 20, 1, 60, 7, 0, 0]) * (SIZE[1] // 2 - 1) + bytes([0, 2, 0, 1, SIZE[0], 9, 0, 1])
    files = {
        "OS/2": bmp(SIZE, 8, COLORS[:, :3].tobytes(), lines(indices), 12),
        "top down": bmp((SIZE[0], -SIZE[1]), 24, b"", lines(RGB[::-1, :, ::-1])),
        "runs": bmp(SIZE, 8, COLORS.tobytes(), runs(indices), compression=1),
        "runs of OS/2": bmp(SIZE, 8, COLORS.tobytes(), runs(indices), 64, compression=1),
        "skipped": bmp(SIZE, 8, COLORS.tobytes(), skipping, compression=1),
        "skipped upwards": bmp(SIZE, 8, COLORS.tobytes(), upwards, compression=1),
        "skipped, 4 bits": bmp(SIZE, 4, COLORS[:16].tobytes(), skipping, compression=2),
    }
    r, g, b = (RGB[..., channel].astype("<u4") for channel in range(3))
    alpha = np.tile(np.linspace(0, 255, SIZE[0]).astype("<u4"), (SIZE[1], 1))
    high = lines((r >> 3 << 11 | g >> 2 << 5 | b >> 3).astype("<u2"))
    for header in (40, 52, 56, 108, 124):
        files[f"palette {header}"] = bmp(SIZE, 8, COLORS.tobytes(), lines(indices), header)
        files[f"16 bits {header}"] = bmp(SIZE, 16, b"", high, header, compression=3, masks=(0xF800, 0x7E0, 0x1F))
        files[f"32 bits {header}"] = bmp(
            SIZE,
            32,
            b"",
            lines(alpha << 24 | r << 16 | g << 8 | b),
            header,
            compression=3,
            masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)[: 4 if header >= 56 else 3],
        )
    compare(files)
    palette = COLORS.tobytes()
    refused(
        {
            "JPEG": (bmp(SIZE, 0, b"", encode(PICTURE, "JPEG"), compression=4), "a JPEG in a BMP"),
            "PNG": (bmp(SIZE, 0, b"", encode(PICTURE), compression=5), "a PNG in a BMP"),
            "Huffman": (bmp(SIZE, 1, palette[:8], bytes(2000), 64, compression=3), "Huffman"),
            "24-bit runs": (bmp(SIZE, 24, b"", bytes(2000), 64, compression=4), "24-bit run-length"),
            "cut": (bmp(SIZE, 8, palette, lines(indices)[:-80]), "ends early"),
            "cut runs": (bmp(SIZE, 8, palette, runs(indices)[:2000], compression=1), "ends early"),
            "16 bytes": (bmp(SIZE, 8, palette, lines(indices), 16), "headers of 16 bytes"),
        }
    )


EXIF, ALPHA, ALL = 0x08, 0x10, 0x3C


def test_webp_that_promises(compare):
    clear = PICTURE.copy()
    clear.putalpha(Image.linear_gradient("L").resize(SIZE))
    kinds = {
        "lossy": (PICTURE, {"quality": 90}),
        "lossless": (PICTURE, {"lossless": True}),
        "clear": (clear, {"quality": 90}),
        "clear, lossless": (clear, {"lossless": True, "exact": True}),
    }
    files, right = {}, {}
    for kind, (image, options) in kinds.items():
        chunks = [
            part for part in webp_chunks(encode(image, "WEBP", **options)) if part[0] in (b"VP8 ", b"VP8L", b"ALPH")
        ]
        for flags in (0, EXIF, ALPHA, ALL):
            files[f"{kind} {flags:x}"] = webp(flags, SIZE, *chunks)
        for prefix in (b"", b"Exif\0\0"):
            metadata = (b"EXIF", prefix + exif(6))
            files[f"{kind} {prefix!r} first"] = webp(EXIF | ALPHA, SIZE, metadata, *chunks)
            files[f"{kind} {prefix!r} last"] = webp(EXIF | ALPHA, SIZE, *chunks, metadata)
            files[f"{kind} {prefix!r} not promised"] = webp(ALPHA, SIZE, *chunks, metadata)
        files[f"{kind} broken"] = webp(EXIF | ALPHA, SIZE, *chunks, (b"EXIF", b"broken"))
        right[f"{kind} broken"] = pillow(webp(ALPHA, SIZE, *chunks))
        files[f"{kind} stray"] = webp(ALPHA, SIZE, (b"XYZ ", b"odd"), *chunks) + b"stray"
        frames = encode(image, "WEBP", save_all=True, append_images=[image.rotate(180)], **options)
        _, *parts = webp_chunks(frames)
        for flags in (2, 2 | ALPHA, 2 | ALPHA | EXIF):
            files[f"{kind} animated {flags:x}"] = webp(flags, (120, 90), *parts)
    compare(files, right)
