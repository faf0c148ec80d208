#!/usr/bin/env python3
"""Made the images of this folder, with Pillow 13 and, for one, jpegtran: python make.py

Each shows the same four rectangles: red, green, blue and yellow, read from the top left. Where a file is
called after a transparency, green and yellow are transparent, with black stored below."""

import pathlib
import subprocess

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
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
