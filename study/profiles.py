"""What ignoring colour profiles changes: photographs as Display P3 and Adobe RGB, read as if they were sRGB.

usage: build/venv/bin/python -m study.profiles [FOLDER] [--count N]

FOLDER has a folder of JPEGs or PNGs for each category; by default ../shared/photos, or build/pictures where there is none.
Each picture is an sRGB one. Its colours are expressed in the other space, and those numbers are read as sRGB, which is what
happens to a file with a profile. susx embeds both, and a zero-shot classifier labels both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

from tests.helpers.pictures import encode, on_white
from tests.helpers.session import array
from tools.harness import LIKENESS_MODEL, MODEL, cluster_with_models, public_folder, session
from tools.paths import PICTURES, ROOT

PHOTOS = ROOT.parent / "shared" / "photos"
BATCH = 50

# From linear RGB to XYZ under D65, by the primaries and the white point of each standard.
WHITE = (0.3127, 0.3290)
PRIMARIES = {
    "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
ADOBE_GAMMA = 563 / 256


def to_xyz(space: str) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[space]]).T
    x, y = WHITE
    return columns * np.linalg.solve(columns, (x / y, 1, (1 - x - y) / y))


def linear(levels: np.ndarray) -> np.ndarray:
    """From sRGB, 0 to 1."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def curved(light: np.ndarray, space: str) -> np.ndarray:
    if space == "Adobe RGB":
        return light ** (1 / ADOBE_GAMMA)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def in_space(image: Image.Image, space: str) -> Image.Image:
    """The numbers that the picture's colours have in the space. All colours of sRGB are in it."""
    light = linear(np.asarray(image) / 255) @ np.linalg.solve(to_xyz(space), to_xyz("sRGB")).T
    return Image.fromarray(np.round(curved(light.clip(0, 1), space) * 255).astype(np.uint8))


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "sRGB": lambda image: encode(image, "PNG"),
    "Display P3": lambda image: encode(in_space(image, "Display P3"), "PNG"),
    "Adobe RGB": lambda image: encode(in_space(image, "Adobe RGB"), "PNG"),
    # For comparison.
    "JPEG of quality 75": lambda image: encode(image, "JPEG", quality=75),
}


def pictures(folder: Path, count: int) -> list[tuple[str, Image.Image]]:
    """Pictures with their categories, taken evenly from the folder."""
    paths = sorted(path for path in folder.glob("*/**/*") if path.suffix in (".jpg", ".png"))
    step = max(1, len(paths) // count)
    taken = paths[::step][:count]
    return [(path.relative_to(folder).parts[0], on_white(Image.open(path).convert("RGBA"))) for path in taken]


def embed(sql, files: list[bytes], model: str) -> np.ndarray:
    query = "SELECT embedding::text FROM susx.embed_images(%s, %s) ORDER BY ord"
    batches = (files[first : first + BATCH] for first in range(0, len(files), BATCH))
    return np.array([array(text) for batch in batches for (text,) in sql.execute(query, [batch, model])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=PHOTOS if PHOTOS.is_dir() else PICTURES)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--pg", default="18")
    arguments = parser.parse_args()
    found = pictures(arguments.folder, arguments.count)
    categories = sorted({category for category, _ in found})
    print(f"{len(found)} pictures of {arguments.folder}, {len(categories)} categories")
    with public_folder("profiles") as folder, cluster_with_models(arguments.pg, folder) as cluster:
        with session(cluster) as sql:
            sql.execute("SELECT susx.create_classifier('kinds', %s, model => %s)", [categories, MODEL.name])
            of_srgb = {}
            for kind, make in KINDS.items():
                files = [make(image) for _, image in found]
                for model in (MODEL.name, LIKENESS_MODEL.name):
                    vectors = embed(sql, files, model)
                    cosines = np.sort((vectors * of_srgb.setdefault(model, vectors)).sum(1))
                    low = cosines[len(cosines) // 20]
                    text = f"mean {cosines.mean():.4f}, 5 % below {low:.4f}, least {cosines[0]:.4f}"
                    if model == MODEL.name:
                        text += f"; right zero-shot labels {right(sql, vectors, found):.1%}"
                    print(f"{kind:20} {model:20} {text}", flush=True)


def right(sql, vectors: np.ndarray, found: list[tuple[str, Image.Image]]) -> float:
    query = "SELECT susx.label('kinds', vector) FROM unnest(%s::vector[]) WITH ORDINALITY AS _ (vector, ord) ORDER BY ord"
    labels = sql.execute(query, ["{" + ",".join(f'"{list(map(float, one))}"' for one in vectors) + "}"])
    return float(np.mean([label == category for (label,), (category, _) in zip(labels, found)]))


if __name__ == "__main__":
    main()
