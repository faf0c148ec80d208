"""Images are resized to the pixels of Pillow, to the bit.

The models of these tests hand the pixels on as their embedding, so that a single grey level is seen.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from helpers.pictures import encode
from helpers.reference import resized
from helpers.session import array

pytestmark = pytest.mark.same_everywhere

SIDE = 40
WIDE = (56, 24)
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
# Larger and smaller than the result, odd, strips, and of the result's width or height.
SIZES = [(97, 61), (61, 97), (40, 40), (40, 55), (33, 40), (7, 5), (1, 1), (301, 3), (3, 301), (211, 197), (83, 640)]


@pytest.fixture(scope="module")
def models() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="susx-resize-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        for name, resample in FILTERS.items():
            crop = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
            crop["image_processor_type"] = "CLIPImageProcessor"
            write(Path(folder) / name, (SIDE, SIDE), resample, **crop)
            exact = {"size": {"height": WIDE[1], "width": WIDE[0]}, "image_processor_type": "SiglipImageProcessor"}
            write(Path(folder) / f"{name}_exact", WIDE, resample, **exact)
        yield Path(folder)


def write(folder: Path, shape: tuple[int, int], resample: int, **preprocessor: object) -> None:
    width, height = shape
    batch = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, height, width])
    levels = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 3 * height * width])
    # An embedding must not be zero, as that of a black image would be.
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Add", ["pixel_values", "one"], ["levels"]),
        helper.make_node("Flatten", ["levels"], ["image_embeds"], axis=1),
    ]
    graph = helper.make_graph(nodes, "pixels", [batch], [levels], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    steps = {"resample": resample, "do_rescale": False, "do_normalize": False, **preprocessor}
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "projection_dim": 3 * height * width}))


@pytest.fixture(scope="module")
def cluster(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "bicubic"}) as cluster:
        yield cluster


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """Black and white squares with noise on them: the filters overshoot at the edges."""
    random = np.random.default_rng(seed)
    width, height = size
    squares = (np.add.outer(np.arange(height) // 5, np.arange(width) // 7) % 2 * 255)[..., None].repeat(3, 2)
    levels = np.where(random.random(squares.shape) < 0.3, random.integers(0, 256, squares.shape), squares)
    return Image.fromarray(levels.astype(np.uint8))


def cropped(image: Image.Image, resample: int) -> Image.Image:
    """torchvision's `Resize` and `CenterCrop`."""
    short, long = sorted(image.size)
    long = int(SIDE * long / short)
    image = resized(image, (SIDE, long) if image.width <= image.height else (long, SIDE), resample)
    left, top = round((image.width - SIDE) / 2), round((image.height - SIDE) / 2)
    return image.crop((left, top, left + SIDE, top + SIDE))


def same(embedding: str, expected: Image.Image) -> bool:
    """Whether the embedding has these levels: each is increased by 1, and all are divided by their length."""
    levels = np.asarray(expected).transpose(2, 0, 1).ravel() + 1.0
    found = array(embedding)
    return np.array_equal(np.rint(found * np.linalg.norm(levels)), levels)


@pytest.mark.parametrize("name", FILTERS)
def test_pixels_are_pillows(sql, name):
    images = [noise(seed, size) for seed, size in enumerate(SIZES)]
    files = [encode(image) for image in images]
    for model, expected in (
        (name, [cropped(image, FILTERS[name]) for image in images]),
        (f"{name}_exact", [resized(image, WIDE, FILTERS[name]) for image in images]),
    ):
        rows = sql.rows("SELECT embedding::text, error FROM susx.embed_images(%s, %s) ORDER BY ord", files, model)
        for size, (embedding, error), image in zip(SIZES, rows, expected, strict=True):
            assert error is None
            assert same(embedding, image), (model, size)


def test_one_level_is_seen(sql):
    """Otherwise, the comparisons above would prove nothing."""
    image = noise(1, (SIDE, SIDE))
    embedding = sql.one("SELECT susx.embed_image(%s)::text", encode(image))
    assert same(embedding, image)
    x, y = 17, 23
    red, green, blue = image.getpixel((x, y))
    image.putpixel((x, y), (red, green + (1 if green < 255 else -1), blue))
    assert not same(embedding, image)
