"""Generates images: each is different, and looks different when turned or mirrored."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw


def picture(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth background with a few shapes on it. Smooth, so that JPEG's losses are small."""
    random = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    channels = [128 + 100 * np.sin(6 * (random.normal() * x + random.normal() * y) + random.normal()) for _ in "RGB"]
    image = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        left, top = random.integers(0, width), random.integers(0, height)
        box = (left, top, left + random.integers(2, width // 2 + 3), top + random.integers(2, height // 2 + 3))
        colour = tuple(int(level) for level in random.integers(0, 256, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)([int(side) for side in box], fill=colour)
    return image


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def on_white(image: Image.Image) -> Image.Image:
    """What a viewer shows of a picture with transparency."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def png_of_16_bits(levels: np.ndarray) -> bytes:
    """A PNG of 16-bit RGB, which Pillow cannot write. `levels` is height x width x 3."""
    height, width, _ = levels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in levels)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
