"""JPEGs that no encoder here writes: each component is a grey JPEG of Pillow's, and has a scan of its own."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from .pictures import encode, picture

APP0, APP14 = 0xE0, 0xEE
_TABLES = (0xDB, 0xC4)
_FRAME, _SCAN = 0xC0, 0xDA
_END = b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


JFIF = segment(APP0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform: int) -> bytes:
    return segment(APP14, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def _parts(file: bytes) -> tuple[bytes, bytes]:
    """The segments with the tables of a JPEG of one scan, and the data of the scan."""
    tables, at = b"", 2
    while True:
        marker = file[at + 1]
        end = at + 2 + struct.unpack_from(">H", file, at + 2)[0]
        if marker in _TABLES:
            tables += file[at:end]
        at = end
        if marker == _SCAN:
            assert file.endswith(_END)
            return tables, file[at:-2]


def composed(
    sampling: list[tuple[int, int]],
    size: tuple[int, int] = (83, 61),
    ids: bytes = b"\1\2\3\4",
    markers: bytes = JFIF,
    scans: int | None = None,
    seed: int = 1,
) -> bytes:
    """A JPEG whose components have these horizontal and vertical sampling factors, with these markers before them, and
    the scans of the first components or of all."""
    most = [max(factors) for factors in zip(*sampling)]
    channels = [*picture(seed, size).split(), *picture(seed + 1, size).split()]
    frame, content = struct.pack(">BHHB", 8, size[1], size[0], len(sampling)), b""
    tables = b""
    for number, factors in enumerate(sampling):
        frame += bytes([ids[number], factors[0] << 4 | factors[1], 0])
        sides = [-(-side * factor // largest) for side, factor, largest in zip(size, factors, most)]
        tables, data = _parts(encode(channels[number].resize(sides, Image.Resampling.BILINEAR), "JPEG", quality=92))
        if scans is None or number < scans:
            content += segment(_SCAN, bytes([1, ids[number], 0, 0, 63, 0])) + data
    return b"\xff\xd8" + markers + tables + segment(_FRAME, frame) + content + _END


def damaged(file: bytes, random: np.random.Generator) -> bytes:
    """The file with some other bytes, or without some, or with more."""
    content = bytearray(file)
    for place in random.integers(2, len(file), random.integers(1, 4)):
        match random.integers(0, 4):
            case 0:
                del content[place : place + random.integers(1, 20)]
            case 1:
                content[place:place] = random.bytes(random.integers(1, 20))
            case _:
                content[place : place + 1] = random.bytes(1)
    return bytes(content)
