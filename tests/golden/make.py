#!/usr/bin/env python3
"""Makes the other files of this folder: python tests/golden/make.py. It needs NumPy and Pillow, and no part of susx.

images/ has small images in the forms that users have them. `levels_96.png` and `levels_224.png` have, one below the
other, what CLIP's preprocessing makes of each before normalisation, in the order of images/order.txt.

tip_x/ has random unit vectors and, for each row of parameters.npy, the three terms of TIP-X in float64.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

HERE = Path(__file__).parent
IMAGES = HERE / "images"
ORIENTATION = 0x0112


def drawing(seed: int, width: int, height: int) -> Image.Image:
    """A smooth background with shapes that look different turned or mirrored."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [128 + 100 * np.sin(random.uniform(-5, 5) * x + random.uniform(-5, 5) * y) for _ in "RGB"]
    image = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 8, height // 8, width // 3, height // 2), fill=(200, 30, 60))
    draw.ellipse((width // 2, height // 3, width - width // 9, height - height // 7), fill=(20, 140, 220))
    draw.line((0, height - 1, width // 2, height // 3), fill=(250, 240, 20), width=3)
    return image


def with_alpha(image: Image.Image) -> Image.Image:
    """Opaque on the left, and more and more transparent to the right."""
    alpha = np.linspace(255, 0, image.width).astype(np.uint8)[None].repeat(image.height, 0)
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


def make_images() -> list[str]:
    IMAGES.mkdir(exist_ok=True)
    names = []

    def save(name: str, image: Image.Image, **options: object) -> None:
        image.save(IMAGES / name, **options)
        names.append(name)

    save("landscape.png", drawing(1, 123, 77))
    save("portrait.png", drawing(2, 61, 187))
    save("small.png", drawing(3, 31, 19))
    save("strip.png", drawing(4, 211, 17))
    save("grey.png", drawing(5, 90, 111).convert("L"))
    save("grey_alpha.png", with_alpha(drawing(6, 71, 67).convert("L")))
    save("alpha.png", with_alpha(drawing(7, 85, 64)))
    save("bilevel.png", drawing(8, 101, 99).convert("1"))
    save("palette.png", drawing(9, 99, 70).quantize(37))
    transparent = drawing(10, 83, 97).quantize(16)
    save("transparent.gif", transparent, transparency=int(np.asarray(transparent)[0, 0]))
    save("odd.bmp", drawing(11, 59, 43))
    save("lossless.webp", with_alpha(drawing(12, 77, 81)), lossless=True, exact=True)
    save("lzw.tif", drawing(13, 67, 103), compression="tiff_lzw")
    save("subsampled.jpg", drawing(14, 151, 101), quality=90)
    save("progressive.jpg", drawing(15, 97, 119), quality=90, progressive=True)
    save("grey.jpg", drawing(16, 109, 73).convert("L"), quality=90)
    save("cmyk.jpg", drawing(17, 89, 113).convert("CMYK"), quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        save(f"orientation_{orientation}.jpg", drawing(18, 73, 49), quality=95, subsampling=0, exif=exif)
    (IMAGES / "order.txt").write_text("\n".join(names) + "\n")
    return names


def shown(path: Path) -> Image.Image:
    """The image as a viewer shows it: upright, on white, in RGB."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def levels(image: Image.Image, side: int) -> np.ndarray:
    """CLIP's resize of the shorter side and centre crop: side x side x 3 levels of 0 to 255."""
    short, long = sorted(image.size)
    long = int(side * long / short)
    size = (side, long) if image.width <= image.height else (long, side)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def make_levels(names: list[str]) -> None:
    for side, some in ((96, names), (224, names[:2])):
        column = np.concatenate([levels(shown(IMAGES / name), side) for name in some])
        Image.fromarray(column).save(HERE / f"levels_{side}.png", optimize=True)


# The equations of SuS-X (Udandarao et al., 2023) for one query f: w_c are the text vectors of the categories, and F_j
# the vectors of the support images.


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q)."""
    return float((p * np.log(p / q)).sum())


def make_tip_x() -> None:
    folder = HERE / "tip_x"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(20261128)
    categories, dimensions, queries = 5, 24, 12
    # Unequal on purpose: a category counts by its mean.
    counts = [3, 1, 6, 4, 2]
    labels = np.repeat(np.arange(categories), counts)
    # Text vectors are near each other, and images near their text, as CLIP's are.
    common = random.normal(size=dimensions)
    prompts = unit(common + 0.8 * random.normal(size=(categories, dimensions))).astype(np.float32)
    centres = prompts + 0.25 * random.normal(size=(categories, dimensions))
    support = unit(centres[labels] + 0.1 * random.normal(size=(len(labels), dimensions))).astype(np.float32)
    truth = np.arange(queries) % categories
    images = unit(centres[truth] + 0.12 * random.normal(size=(queries, dimensions))).astype(np.float32)
    # alpha, beta, gamma, temperature, logit scale.
    parameters = np.array([[1, 5.5, 1, 0.5, 100], [10, 20, 0.125, 0.5, 100], [3, 1, 8, 0.25, 20]], np.float64)

    terms = np.zeros((3, len(parameters), queries, categories))
    w, F = prompts.astype(np.float64), support.astype(np.float64)
    for place, (alpha, beta, gamma, temperature, logit_scale) in enumerate(parameters):
        signatures = [softmax(w @ image / temperature) for image in F]
        # psi maps the divergences to the range of the affinities. Both ranges are those of different support images, so
        # that a query's logits do not depend on the other queries.
        pairs = [(i, j) for i in range(len(F)) for j in range(len(F)) if i != j]
        affinities = [F[i] @ F[j] for i, j in pairs]
        divergences = [divergence(signatures[i], signatures[j]) for i, j in pairs]
        stretch = (max(affinities) - min(affinities)) / (max(divergences) - min(divergences))
        for n, f in enumerate(images.astype(np.float64)):
            signature = softmax(w @ f / temperature)
            for c in range(categories):
                # Every category counts like one of the mean size.
                weight = np.mean(counts) / counts[c]
                terms[0, place, n, c] = logit_scale * (f @ w[c])
                for j in np.flatnonzero(labels == c):
                    psi = min(affinities) + stretch * (divergence(signature, signatures[j]) - min(divergences))
                    terms[1, place, n, c] += weight * alpha * np.exp(-beta * (1 - f @ F[j]))
                    terms[2, place, n, c] -= weight * gamma * psi
    arrays = {"prompts": prompts, "support": support, "labels": labels.astype(np.int64), "queries": images}
    arrays |= {"parameters": parameters, "zero_shot": terms[0], "cache": terms[1], "kl": terms[2]}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    make_levels(make_images())
    make_tip_x()
