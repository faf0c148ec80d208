#!/usr/bin/env python3
"""Made the AVIF, HEIC and JPEG XL images of this folder, and the folder `modern`, with Pillow 13, pillow-heif 1.8,
pillow-jxl-plugin 1.3 and imagecodecs 2026.3: python make_modern.py

Those of this folder show the rectangles that `make.py` describes. Those of `modern` show a picture with soft and hard
edges; beside each is a PNG with what these libraries decode from it, upright and on white."""

import io
import pathlib
import struct

import imagecodecs
import numpy as np
import pillow_heif
import pillow_jxl  # Registers the format.
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 24, 16
COLORS = np.array([[[200, 30, 30], [30, 160, 40]], [[40, 60, 210], [220, 210, 50]]], np.uint8)
pixels = COLORS.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)
rgb = Image.fromarray(pixels)
opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
opaque[:, WIDTH // 2 :] = 0
rgba = Image.fromarray(np.concatenate([pixels * (opaque > 0), opaque], 2))
grey = rgb.convert("L")
sideways = Image.Exif()
sideways[0x112] = 6  # to be turned by 90 degrees clockwise
turned = rgb.transpose(Image.Transpose.ROTATE_90)
pillow_heif.register_heif_opener()


def save(image, name, **options):
    image.save(HERE / name, **options)


for name, subsampling in (("420", "4:2:0"), ("422", "4:2:2"), ("444", "4:4:4")):
    save(rgb, f"{name}.avif", quality=95, subsampling=subsampling, speed=4)
save(grey, "grey.avif", quality=95)
save(rgb, "limited.avif", quality=95, range="limited")
save(rgba, "transparent.avif", quality=95, subsampling="4:4:4")
save(rgba, "premultiplied.avif", quality=95, subsampling="4:4:4", alpha_premultiplied=True)
# Pillow writes the orientation as `irot` and `imir`.
save(turned, "sideways.avif", quality=95, subsampling="4:4:4", exif=sideways)
save(rgb, "animated.avif", quality=95, subsampling="4:4:4", save_all=True, append_images=[rgb.rotate(180)])

save(rgb, "rgb.heic", quality=95, chroma=444)
save(rgba, "transparent.heic", quality=95, chroma=444)
save(grey, "grey.heic", quality=95)
save(turned, "sideways.heic", quality=95, chroma=444, exif=sideways)

save(rgb, "lossless.jxl", lossless=True)
save(rgb, "lossy.jxl", quality=95)
save(grey, "grey.jxl", lossless=True)
save(rgba, "transparent.jxl", lossless=True)
save(rgb, "container.jxl", lossless=True, exif=b"Exif\0\0" + sideways.tobytes()[6:])
Image.open(HERE / "baseline.jpg").save(HERE / "from_jpeg.jxl", lossless_jpeg=True)
Image.open(HERE / "sideways.jpg").save(HERE / "sideways.jxl", lossless_jpeg=True)
frames = np.stack([np.asarray(rgb), np.asarray(rgb.rotate(180))])
(HERE / "animated.jxl").write_bytes(imagecodecs.jpegxl_encode(frames, lossless=True))

MODERN = HERE / "modern"
MODERN.mkdir(exist_ok=True)


def scene(width, height):
    y, x = np.mgrid[:height, :width]
    red = 128 + 100 * np.sin(x / 9) * np.cos(y / 7)
    green = 255 * x / width
    blue = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2, 220, 40)
    return Image.fromarray(np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8))


def on_white(image):
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def keep(name, file, expected=None):
    (MODERN / name).write_bytes(file)
    on_white(expected or Image.open(io.BytesIO(file))).save(MODERN / f"{name}.png")


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def box(kind, content, version=None, flags=0):
    head = b"" if version is None else struct.pack(">I", version << 24 | flags)
    return struct.pack(">I4s", 8 + len(head) + len(content), kind) + head + content


def coded(file, codec):
    """The configuration and the data of a file's only image: the encoders write one extent in `mdat`."""
    place = file.index(codec) - 4
    (size,) = struct.unpack(">I", file[place : place + 4])
    place_of_data = file.index(b"mdat") + 4
    (length,) = struct.unpack(">I", file[place_of_data - 8 : place_of_data - 4])
    return file[place : place + size], file[place_of_data : place_of_data + length - 8]


def grid(tiles, kind, codec, columns, size, tile_size, properties=b"", order=()):
    """A file whose primary image is a grid of these tiles."""
    rows = len(tiles) // columns
    parts = [data for _, data in tiles]
    description = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    parts.append(description)
    ids = range(1, len(parts) + 1)
    kinds = [kind] * len(tiles) + [b"grid"]
    entries = b"".join(box(b"infe", struct.pack(">HH4sx", id, 0, kind), 2) for id, kind in zip(ids, kinds))
    extents = [box(b"ispe", struct.pack(">II", *it), 0) for it in (tile_size, size)]
    container = box(b"ipco", tiles[0][0] + extents[0] + extents[1] + properties)
    of_tile, of_grid = bytes([2, 0x81, 2]), bytes([1 + len(order), 3, *order])
    links = b"".join(struct.pack(">H", id) + (of_grid if id == len(parts) else of_tile) for id in ids)
    links = box(b"ipma", struct.pack(">I", len(parts)) + links, 0)
    to_tiles = b"".join(struct.pack(">H", id) for id in ids[:-1])
    reference = box(b"dimg", struct.pack(">HH", len(parts), len(tiles)) + to_tiles)
    brand = b"avif" if kind == b"av01" else b"heic"
    head = box(b"ftyp", brand + bytes(4) + brand + b"mif1" + b"miaf")

    def meta(start):
        places, at = b"", start
        for id, part in zip(ids, parts):
            places += struct.pack(">HHHII", id, 0, 1, at, len(part))
            at += len(part)
        return box(
            b"meta",
            box(b"hdlr", bytes(4) + b"pict" + bytes(13), 0)
            + box(b"pitm", struct.pack(">H", len(parts)), 0)
            + box(b"iloc", struct.pack(">HH", 0x4400, len(parts)) + places, 0)
            + box(b"iinf", struct.pack(">H", len(parts)) + entries, 0)
            + box(b"iref", reference, 0)
            + box(b"iprp", container + links),
            0,
        )

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(parts))


small, exif = scene(61, 43), Image.Exif()
for name, subsampling in (("420", "4:2:0"), ("422", "4:2:2"), ("444", "4:4:4"), ("400", "4:0:0")):
    keep(f"{name}.avif", encoded(small, "AVIF", quality=80, subsampling=subsampling))
keep("limited.avif", encoded(small, "AVIF", quality=80, range="limited"))
translucent = small.copy()
translucent.putalpha(Image.linear_gradient("L").resize(small.size))
keep("alpha.avif", encoded(translucent, "AVIF", quality=80))
keep("premultiplied.avif", encoded(translucent, "AVIF", quality=90, alpha_premultiplied=True))
for orientation in range(1, 9):
    exif[0x112] = orientation
    keep(f"orientation_{orientation}.avif", encoded(small, "AVIF", quality=80, exif=exif))
for bits in (10, 12):
    deep = np.asarray(small).astype(np.uint16) << (bits - 8)
    keep(f"{bits}_bits.avif", imagecodecs.avif_encode(deep, level=80, bitspersample=bits, pixelformat="420"))
keep("lossless.avif", imagecodecs.avif_encode(np.asarray(small), level=100))
large = scene(120, 120)
tiles = [large.crop((x, y, x + 64, y + 64)) for y in (0, 64) for x in (0, 64)]
avif_tiles = [coded(encoded(tile, "AVIF", quality=80, subsampling="4:4:4"), b"av1C") for tile in tiles]
keep("grid.avif", grid(avif_tiles, b"av01", b"av1C", 2, (120, 120), (64, 64)))
turn = box(b"irot", b"\1")
keep("turned_grid.avif", grid(avif_tiles[:2], b"av01", b"av1C", 2, (120, 64), (64, 64), turn, (0x84,)))

for chroma in (420, 422, 444):
    keep(f"{chroma}.heic", encoded(small, "HEIF", quality=80, chroma=chroma))
keep("alpha.heic", encoded(translucent, "HEIF", quality=80))
keep("grey.heic", encoded(small.convert("L"), "HEIF", quality=80))
keep("collection.heic", encoded(small, "HEIF", quality=80, save_all=True, append_images=[small.rotate(180)]))
# The orientation in EXIF is not that of the image.
exif[0x112] = 6
keep("exif.heic", encoded(small, "HEIF", quality=80, exif=exif))
deep = np.asarray(small).astype(np.uint16) << 8
ten = pillow_heif.from_bytes("RGB;16", small.size, deep.tobytes())
file = io.BytesIO()
ten.save(file, quality=80)
keep("10_bits.heic", file.getvalue())
heic_tiles = [coded(encoded(tile, "HEIF", quality=80), b"hvcC") for tile in tiles]
keep("grid.heic", grid(heic_tiles, b"hvc1", b"hvcC", 2, (120, 120), (64, 64)))
for orientation, property in ((8, b"irot\1"), (3, b"irot\2"), (6, b"irot\3"), (4, b"imir\0"), (2, b"imir\1")):
    property = box(property[:4], property[4:])
    turned_tiles = grid(heic_tiles[:2], b"hvc1", b"hvcC", 2, (120, 64), (64, 64), property, (0x84,))
    keep(f"orientation_{orientation}.heic", turned_tiles)

keep("lossless.jxl", encoded(small, "JXL", lossless=True))
keep("lossy.jxl", encoded(small, "JXL", quality=80))
keep("large_lossy.jxl", encoded(scene(300, 270), "JXL", quality=50))
keep("alpha.jxl", encoded(translucent, "JXL", quality=80))
keep("grey.jxl", encoded(small.convert("L"), "JXL", quality=80))
deep = np.asarray(small).astype(np.uint16) * 257
keep("16_bits.jxl", imagecodecs.jpegxl_encode(deep, lossless=True), small)
for name, options in (("jpeg", {}), ("progressive_jpeg", {"progressive": True})):
    jpeg = encoded(small, "JPEG", quality=85, **options)
    file = io.BytesIO()
    path = MODERN / "from.jpg"
    path.write_bytes(jpeg)
    Image.open(path).save(file, "JXL", lossless_jpeg=True)
    path.unlink()
    keep(f"{name}.jxl", file.getvalue())
for orientation in (3, 5, 6, 8):
    exif[0x112] = orientation
    path.write_bytes(encoded(small, "JPEG", quality=85, exif=exif))
    file = io.BytesIO()
    Image.open(path).save(file, "JXL", lossless_jpeg=True)
    keep(f"orientation_{orientation}.jxl", file.getvalue(), Image.open(path))
    path.unlink()
