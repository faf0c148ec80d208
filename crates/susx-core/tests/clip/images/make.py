#!/usr/bin/env python3
"""Made the images of this folder, with Pillow 13 and, for some, jpegtran: python make.py

Each shows the same four rectangles: red, green, blue and yellow, read from the top left. Where a file is
called after a transparency, green and yellow are transparent, with black stored below. Those called after a
compression of faxes are black at the top left and white elsewhere."""

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[4] / "tests"))

from helpers import files  # noqa: E402

WIDTH, HEIGHT = 24, 16
COLORS = np.array([[[200, 30, 30], [30, 160, 40]], [[40, 60, 210], [220, 210, 50]]], np.uint8)
pixels = COLORS.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)
rgb = Image.fromarray(pixels)
opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
opaque[:, WIDTH // 2:] = 0
rgba = Image.fromarray(np.concatenate([pixels * (opaque > 0), opaque], 2))
grey = rgb.convert("L")
palette = rgb.quantize(4)
sideways = Image.Exif()
sideways[0x112] = 6  # to be turned by 90 degrees clockwise
turned = rgb.transpose(Image.Transpose.ROTATE_90)


def save(image, name, **options):
    image.save(HERE / name, **options)


save(rgb, "baseline.jpg", quality=95)
save(rgb, "progressive.jpg", quality=95, progressive=True)
save(grey, "grey.jpg", quality=95)
save(rgb.convert("CMYK"), "cmyk.jpg", quality=95)
save(turned, "sideways.jpg", quality=95, subsampling=0, exif=sideways)
scans = HERE / "scans.txt"
scans.write_text("0;\n1 2;\n")
with open(HERE / "split_scans.jpg", "wb") as file:
    subprocess.run(["jpegtran", "-scans", scans, HERE / "baseline.jpg"], stdout=file, check=True)
scans.unlink()
for name, options in [("arithmetic", ["-arithmetic"]), ("arithmetic_progressive", ["-arithmetic", "-progressive"])]:
    with open(HERE / f"{name}.jpg", "wb") as file:
        subprocess.run(["jpegtran", *options, HERE / "baseline.jpg"], stdout=file, check=True)

save(rgb, "rgb.png")
save(palette, "palette.png")
save(grey.convert("LA"), "grey_alpha.png")
save(rgba, "transparent.png")
save(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "grey16.png")
save(turned, "sideways.png", exif=sideways)
transparent = Image.fromarray(np.where(opaque[..., 0] > 0, np.asarray(palette), 4).astype(np.uint8), "P")
transparent.putpalette(palette.getpalette()[:12] + [0, 0, 0])
save(transparent, "transparent_palette.png", transparency=4)
save(transparent, "transparent.gif", transparency=4)
save(palette, "animated.gif", save_all=True, append_images=[palette.rotate(180)])

save(rgb, "lossy.webp", quality=95)
save(rgba, "transparent.webp", lossless=True, exact=True)
save(rgb, "animated.webp", lossless=True, save_all=True, append_images=[rgb.rotate(180)])
save(turned, "sideways.webp", lossless=True, exif=sideways)

save(rgb, "rgb.bmp")
save(palette, "palette.bmp")

save(rgb, "lzw.tif", compression="tiff_lzw")
save(palette, "palette.tif", compression="tiff_adobe_deflate")
save(rgba, "transparent.tif")
save(grey.convert("LA"), "grey_alpha.tif")
save(rgb.convert("CMYK"), "cmyk.tif")
save(rgb, "jpeg.tif", compression="jpeg", quality=95)
save(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "grey16.tif")
save(Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "float.tif")
save(turned, "sideways.tif", exif=sideways)
save(rgb, "pages.tif", save_all=True, append_images=[rgb.rotate(180)])

fax = np.full((HEIGHT, WIDTH), 255, np.uint8)
fax[: HEIGHT // 2, : WIDTH // 2] = 0
fax = Image.fromarray(fax).convert("1")
save(fax, "fax_raw.tif", tiffinfo={files.FILL_ORDER: 2})
save(fax, "fax_huffman.tif", compression="tiff_ccitt", tiffinfo={files.FILL_ORDER: 2})
save(fax, "fax_group3.tif", compression="group3", tiffinfo={292: 1})
save(fax, "fax_group4.tif", compression="group4", tiffinfo={files.FILL_ORDER: 2})


def write(name, file):
    (HERE / name).write_bytes(file)


planes = [tile for channel in range(3) for tile in files.tiles(pixels[..., channel], 16, 16)]
write("planes.tif", files.tiff((WIDTH, HEIGHT), planes, _284=2, _322=16, _323=16))
blocks = files.subsampled(np.asarray(rgb.convert("YCbCr")), 2, 2)
write("subsampled.tif", files.tiff((WIDTH, HEIGHT), [blocks], _262=6, _530=(2, 2)))
levels = np.zeros((3, 256), int)
levels[:, :4] = np.array(palette.getpalette()[:12]).reshape(4, 3).T * 257
indexed = {"_258": 8, "_262": 3, "_277": 1, "_320": levels.ravel().tolist()}
write("palette_big.tif", files.tiff((WIDTH, HEIGHT), [np.asarray(palette).tobytes()], big=True, **indexed))
save(rgb.convert("LAB"), "lab.tif")
write("profile.png", files.png_with((HERE / "rgb.png").read_bytes(), after=(files.chunk(b"eXIf", files.exif(1, 4)),)))
screen = (HERE / "transparent.gif").read_bytes()
write("no_screen.gif", screen[:6] + bytes(4) + screen[10:])
colors = np.zeros((4, 4), np.uint8)
colors[:, :3] = np.array(palette.getpalette()[:12]).reshape(4, 3)[:, ::-1]
runs = b"".join(bytes([WIDTH // 2, row[0], WIDTH // 2, row[-1], 0, 0]) for row in np.asarray(palette)[::-1])
# The palette has all 256 colours that a file of 8 bits may have.
table = colors.tobytes().ljust(1024, b"\0")
write("runs.bmp", files.bmp((WIDTH, HEIGHT), 8, table, runs[:-2] + b"\0\1", 64, compression=1))
lossy = [chunk for chunk in files.webp_chunks((HERE / "lossy.webp").read_bytes()) if chunk[0] == b"VP8 "]
write("promises.webp", files.webp(0x3C, (WIDTH, HEIGHT), *lossy))
