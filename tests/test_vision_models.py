"""Models that embed images and no texts, in the layouts that DINOv2, DINOv3, ViT, ConvNeXt and EfficientNet are exported
in. Their embeddings are those of numpy and Pillow: see models/tiny_vision.py."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from conftest import copy_model
from helpers.pictures import encode, picture
from helpers.session import array
from tools import test_models
from tools.paths import TEST_MODELS

pytestmark = pytest.mark.same_everywhere

# What the embedding of each is, without a word in susx.json.
POOLINGS = {
    "dinov2": "cls",
    "dinov3": "pooler_output",
    "vit": "cls",
    "convnext": "pooler_output",
    "efficientnet": "mean",
}
# Copies with a pooling of their own: the source, and what susx.json says.
STATED = {
    "dinov2_mean": ("dinov2", "mean"),
    "dinov3_patches": ("dinov3", "patch_mean"),
    "tokens_mean": ("tokens", "mean"),
    "tokens_cls": ("tokens", "cls"),
    "convnext_grid": ("convnext", "mean"),
}
# What is refused, and what its error must say.
REFUSED = {
    "classifier": ("logits", "--task feature-extraction"),
    "tokens": ('"mystery"', '"pooling": "cls"', "susx.json"),
    "convnext_cls": ('"cls"', "4 axes"),
    "typing_error": ("susx.json", "patch_mean"),
}
CONFIGURATION = "F0000"
INVALID_INPUT = "22P03"
WRONG_KIND = "42809"
NOT_NOW = "55000"
PNG = encode(picture(1, (64, 64)))


@pytest.fixture(scope="module")
def models(model_dir):
    """A model directory with every image encoder, and a CLIP beside them."""
    test_models.ensure()
    folder = Path(tempfile.mkdtemp(prefix="susx-vision-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copytree(model_dir / "tiny_split", folder / "tiny_split")

    def copy(source: str, name: str, pooling: str | None = None) -> None:
        copy_model(TEST_MODELS / source, folder / name)
        if pooling:
            (folder / name / "susx.json").write_text(json.dumps({"pooling": pooling}))

    for variant in test_models.VISION_VARIANTS:
        copy(variant, variant)
    for name, (source, pooling) in STATED.items():
        copy(source, name, pooling)
    copy("convnext", "convnext_cls", "cls")
    copy("dinov2", "typing_error", "clss")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(new_cluster, models):
    """A cluster of its own, whose models these are."""
    with new_cluster(**{"susx.model_dir": models, "susx.model": "tiny_split"}) as cluster:
        yield cluster


class Picture(NamedTuple):
    """An image beside a model, the embedding that it must have, and how far off the values may be."""

    image: bytes
    expected: np.ndarray
    tolerance: float

    def is_of(self, embedding: str) -> bool:
        found = array(embedding)
        return found.shape == self.expected.shape and bool(np.abs(found - self.expected).max() < self.tolerance)


def pictures(models: Path, name: str, pooling: str) -> list[Picture]:
    expected = json.loads((models / name / "expected.json").read_text())["pictures"]

    def tolerance(file: str) -> float:
        # Where it resizes for DINOv3, transformers rounds no grey levels.
        return 2e-3 if name.startswith("dinov3") and file != "as_it_is.png" else 1e-4

    folder = models / name
    return [
        Picture((folder / file).read_bytes(), np.array(found[pooling]), tolerance(file))
        for file, found in expected.items()
    ]


@pytest.mark.parametrize("name", [*POOLINGS, *STATED])
def test_embeddings(sql, models, name):
    pooling = POOLINGS.get(name) or STATED[name][1]
    cases = pictures(models, name, pooling)
    assert len(cases) >= 4
    for case in cases:
        found = sql.one("SELECT susx.embed_image(%s, %s)::text", case.image, name)
        assert case.is_of(found)
        assert np.linalg.norm(array(found)) == pytest.approx(1, abs=1e-5)
    # In one call, as a batch.
    images = [case.image for case in cases]
    rows = sql.column("SELECT embedding::text FROM susx.embed_images(%s, %s) ORDER BY ord", images, name)
    assert all(case.is_of(found) for case, found in zip(cases, rows, strict=True))


def test_poolings_differ(models):
    """Otherwise, the comparisons above would prove nothing."""
    for name, one, other in [
        ("dinov2", "cls", "mean"),
        ("dinov3", "cls", "patch_mean"),
        ("dinov3", "mean", "patch_mean"),
        ("vit", "cls", "pooler_output"),
        ("convnext", "mean", "pooler_output"),
    ]:
        for a, b in zip(pictures(models, name, one), pictures(models, name, other)):
            assert np.abs(a.expected - b.expected).max() > 0.01, name


def test_models_lists_them(sql):
    for name in POOLINGS:
        sql.run("SELECT susx.embed_image(%s, %s)", PNG, name)
    found = sql.rows(
        "SELECT name, kind, dimensions, image_size, loaded, error FROM susx.models() WHERE name = ANY (%s) ORDER BY name",
        list(POOLINGS),
    )
    assert found == [(name, "vision", 64, 96, True, None) for name in sorted(POOLINGS)]


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_known_features_is_refused(sql, name):
    refusal = sql.fails("SELECT susx.embed_image(%s, %s)", PNG, name)
    assert refusal.sqlstate == CONFIGURATION
    for part in (name, *REFUSED[name]):
        assert part in refusal.message
    assert "susx.model_dir" in refusal.hint
    # The others go on.
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'dinov2'))", PNG) == 64


def test_it_embeds_no_text(sql):
    refusal = sql.fails("SELECT susx.embed_text('a cat', 'dinov2')")
    assert refusal.sqlstate == INVALID_INPUT
    assert refusal.message == 'the model "dinov2" has no text encoder'
    assert "susx.models()" in refusal.hint and '"vision"' in refusal.hint
    assert sql.one("SELECT error FROM susx.embed_texts('{a cat}', 'dinov2')") == refusal.message


def test_a_classifier_needs_texts(sql):
    refusal = sql.fails("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'dinov2')")
    assert refusal.sqlstate == WRONG_KIND
    assert refusal.message == 'a classifier needs a model that embeds text, but "dinov2" embeds only images'
    assert "susx.models()" in refusal.hint and '"clip"' in refusal.hint
    sql.run("SET susx.model = 'convnext'")
    assert sql.fails("SELECT susx.create_classifier('pets', '{cat,dog}')").sqlstate == WRONG_KIND
    # Nothing was left behind.
    assert sql.one("SELECT to_regclass('pets')") is None
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")


MADE_BY = """
    SELECT embedding_column::text, model FROM susx.embedding_column
    WHERE relation = 'photos'::regclass ORDER BY 1"""


def test_a_second_column_for_likeness(sql, models):
    """A CLIP's column for names, and an image encoder's for likeness, each known by its own model."""
    cases = pictures(models, "dinov2", "cls")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), likeness vector(64))")
    sql.copy("photos", ["id", "image"], ((i, case.image) for i, case in enumerate(cases)))
    sql.run("CALL susx.embed_table('photos', model => 'tiny_split')")
    sql.run("CALL susx.embed_table('photos', embedding_column => 'likeness', model => 'dinov2')")
    rows = sql.column("SELECT likeness::text FROM photos ORDER BY id")
    assert all(case.is_of(found) for case, found in zip(cases, rows, strict=True))
    assert sql.rows(MADE_BY) == [("embedding", "tiny_split"), ("likeness", "dinov2")]

    # Neither column takes embeddings of another model, not even of the same files with another pooling.
    sql.run("INSERT INTO photos (id, image) VALUES (100, %s)", PNG)
    for model in ("vit", "dinov2_mean"):
        refusal = sql.fails(f"CALL susx.embed_table('photos', embedding_column => 'likeness', model => '{model}')")
        assert refusal.sqlstate == NOT_NOW and "likeness" in refusal.message
    assert sql.one("SELECT count(*) FROM photos WHERE likeness IS NULL") == 1
    # The nearest to an image is that image.
    nearest = "SELECT id FROM photos ORDER BY likeness <=> susx.embed_image(%s, 'dinov2') LIMIT 1"
    assert [sql.one(nearest, case.image) for case in cases] == list(range(len(cases)))


def test_it_embeds_on_write(sql, models):
    case = pictures(models, "vit", "cls")[0]
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, likeness vector(64))")
    sql.run("""
        CREATE TRIGGER embed_new AFTER INSERT ON photos REFERENCING NEW TABLE AS new
        FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'likeness', 'vit')""")
    sql.run("INSERT INTO photos (id, image) VALUES (1, %s)", case.image)
    assert case.is_of(sql.one("SELECT likeness::text FROM photos"))
    assert sql.rows(MADE_BY) == [("likeness", "vit")]
