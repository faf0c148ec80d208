"""Image files byte by byte, for what Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

# The struct codes of TIFF's types.
TYPES = {1: "B", 3: "H", 4: "I", 7: "B"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS, PLANAR = 273, 274, 277, 278, 279, 284
COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS = 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 338, 339, 530

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def tiff(size: tuple[int, int], chunks: list[bytes], lengths: bool = True, big: bool = False, **tags: object) -> bytes:
    """A little-endian TIFF or BigTIFF of 8-bit RGB, unless `tags`, named by their numbers as in `_262`, say otherwise.

    With a `TILE_WIDTH` the chunks are tiles, else strips.
    """
    fields = {WIDTH: size[0], HEIGHT: size[1], BITS: (8, 8, 8), COMPRESSION: 1, PHOTOMETRIC: 2, SAMPLES: 3}
    fields |= {int(name[1:]): value for name, value in tags.items()}
    tiled = TILE_WIDTH in fields
    head, start, offsets = (16 if big else 8), b"", []
    for chunk in chunks:
        offsets.append(head + len(start))
        start += chunk + b"\0" * (len(chunk) % 2)
    fields[TILE_OFFSETS if tiled else STRIP_OFFSETS] = tuple(offsets)
    if lengths:
        fields[TILE_LENGTHS if tiled else STRIP_LENGTHS] = tuple(map(len, chunks))
    place, word = head + len(start), 8 if big else 4
    after = place + (16 + 20 * len(fields) if big else 6 + 12 * len(fields))
    entries, values = b"", b""
    for tag, value in sorted(fields.items()):
        content = (value,) if isinstance(value, int) else tuple(value)
        kind = 7 if isinstance(value, bytes) else 3 if max(content) < 1 << 16 else 4
        packed = struct.pack(f"<{len(content)}{TYPES[kind]}", *content)
        entries += struct.pack("<HHQ" if big else "<HHI", tag, kind, len(content))
        if len(packed) > word:
            entries += struct.pack("<Q" if big else "<I", after + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            entries += packed.ljust(word, b"\0")
    magic = struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) if big else struct.pack("<2sHI", b"II", 42, place)
    count = struct.pack("<Q" if big else "<H", len(fields))
    return magic + start + count + entries + b"\0" * word + values


def tiles(pixels: np.ndarray, width: int, height: int) -> list[bytes]:
    """Tiles of one or more channels. Those at the edge are filled with noise."""
    noise = np.random.default_rng(1)
    found = []
    for top in range(0, pixels.shape[0], height):
        for left in range(0, pixels.shape[1], width):
            part = pixels[top : top + height, left : left + width]
            tile = noise.integers(0, 256, (height, width, *pixels.shape[2:]), np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            found.append(tile.tobytes())
    return found


def subsampled(ycbcr: np.ndarray, across: int, down: int) -> bytes:
    """The blocks of luma and chroma of a TIFF whose sides are multiples of the block's."""
    blocks = b""
    for top in range(0, ycbcr.shape[0], down):
        for left in range(0, ycbcr.shape[1], across):
            block = ycbcr[top : top + down, left : left + across]
            blocks += block[..., 0].tobytes() + block[..., 1:].mean((0, 1)).astype(np.uint8).tobytes()
    return blocks


def chunk(name: bytes, content: bytes, damaged: bool = False) -> bytes:
    """A chunk of a PNG, perhaps with a wrong checksum."""
    checksum = zlib.crc32(name + content) ^ damaged
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_chunks(file: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = 8
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        yield file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        at += 12 + length


def png_with(file: bytes, *before: bytes, after: tuple[bytes, ...] = (), palette: bytes | None = None) -> bytes:
    """A PNG with more chunks before and after its image data, or with another palette."""
    parts = [file[:8]]
    for name, content in png_chunks(file):
        if name == b"IDAT":
            parts += before
            before = ()
        if name == b"IEND":
            parts += after
        parts.append(chunk(name, palette if name == b"PLTE" and palette is not None else content))
    return b"".join(parts)


def exif(orientation: int, kind: int = 3) -> bytes:
    """EXIF metadata with nothing but an orientation, as SHORT (3) or LONG (4)."""
    value = struct.pack("<H" if kind == 3 else "<I", orientation).ljust(4, b"\0")
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", ORIENTATION, kind, 1) + value + b"\0\0\0\0"


def webp_chunks(file: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(file):
        (length,) = struct.unpack("<I", file[at + 4 : at + 8])
        yield file[at : at + 4], file[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def webp(flags: int, size: tuple[int, int], *chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP with an extended header."""
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in size)
    body = b"WEBP"
    for name, content in [(b"VP8X", bytes([flags, 0, 0, 0]) + sides), *chunks]:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(size: tuple[int, int], bits: int, palette: bytes, data: bytes, header: int = 40, **more: object) -> bytes:
    """A BMP with a header of so many bytes. `more`: the `compression`, and the `masks` of the channels."""
    masks = struct.pack(f"<{len(more.get('masks', ()))}I", *more.get("masks", ()))
    if header == 12:
        fields = struct.pack("<IHHHH", 12, *size, 1, bits)
    else:
        fields = struct.pack("<IiiHHI", header, *size, 1, bits, more.get("compression", 0)) + b"\0" * 20
        fields = (fields + masks).ljust(header, b"\0") if header > 40 else fields + masks
    place = 14 + len(fields) + len(palette)
    return b"BM" + struct.pack("<IHHI", place + len(data), 0, 0, place) + fields + palette + data
