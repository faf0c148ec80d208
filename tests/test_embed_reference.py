"""susx's embeddings are those that Python's onnxruntime gives for the same model file and the same input."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import GENERATOR, LIKENESS_MODEL, MODEL_NAMES
from helpers.pictures import encode, picture
from helpers.session import array, cosine
from helpers.shared import needs, SHARED

pytestmark = pytest.mark.same_everywhere

# Landscape, portrait, a square of the model's size, smaller than the model's, a strip, odd numbers everywhere.
SIZES = [(320, 200), (200, 320), (224, 224), (30, 21), (400, 31), (123, 457)]

TEXTS = [
    "a photo of a cat.",
    "A Photo of the  HOUSE, isn't it?",
    "x",
    "naïve café in 東京 🙂",
    "what\tis\nthis",
    # Longer than any context: the tokenizer truncates it.
    "a very long text about trains and boats " * 60,
]


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_images(sql, reference, model):
    for seed, size in enumerate(SIZES):
        image = picture(seed, size)
        found = array(sql.one("SELECT susx.embed_image(%s, %s)::text", encode(image), model))
        # The pixels are the same, so this is as near as floating-point numbers allow.
        assert cosine(found, reference(model).image(image)) >= 0.99999, size
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_texts(sql, reference, model):
    for text in TEXTS:
        found = array(sql.one("SELECT susx.embed_text(%s, %s)::text", text, model))
        assert cosine(found, reference(model).text(text)) >= 0.99999, text
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_many_texts_in_one_call(sql, reference, model):
    """Short texts are padded to the longest of their batch, which must not change the result."""
    found = sql.rows("SELECT embedding::text FROM susx.embed_texts(%s, %s) ORDER BY ord", TEXTS, model)
    for text, (embedding,) in zip(TEXTS, found):
        assert cosine(array(embedding), reference(model).text(text)) >= 0.99999, text


def test_different_inputs_differ(sql, reference):
    """Otherwise, the comparisons above would prove nothing: inputs differ by far more than the tolerance."""
    for model in MODEL_NAMES:
        images = [reference(model).image(picture(seed, size)) for seed, size in enumerate(SIZES)]
        texts = [reference(model).text(text) for text in TEXTS]
        for vectors in (images, texts):
            pairs = [cosine(a, b) for i, a in enumerate(vectors) for b in vectors[:i]]
            assert max(pairs) < 0.999, model


@needs("clip-vectors/golden")
def test_what_clip_itself_makes_of_odd_sizes(sql, reference):
    """The tensors that OpenAI's own preprocessing makes of seven JPEGs, with the demo model's mean and spread."""
    golden = SHARED / "clip-vectors" / "golden"
    tensors = np.load(golden / "preprocessed_7x3x224x224.f32.npy")
    mean, std = (
        np.array(values)[:, None, None]
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    model = reference("demo")
    for name, tensor in zip((golden / "order.txt").read_text().split(), tensors):
        levels = np.rint((tensor * std + mean) * 255) / 255
        own_mean, own_std = (np.array(model.preprocessor[key])[:, None, None] for key in ("image_mean", "image_std"))
        expected = model.tensor(((levels - own_mean) / own_std).astype(np.float32))
        found = array(sql.one("SELECT susx.embed_image(%s)::text", (golden / name).read_bytes()))
        assert cosine(found, expected) >= 0.99999, name


def test_models(sql):
    """The rows of models() for models that have been used."""
    sql.run("SELECT susx.embed_image(%s, %s)", encode(picture(1, (300, 200))), LIKENESS_MODEL)
    for model in MODEL_NAMES:
        sql.run("SELECT susx.embed_text('a cat', %s)", model)
    found = {
        row[0]: row[1:]
        for row in sql.rows(
            "SELECT name, kind, dimensions, image_size, provider, loaded, bytes > 0, error FROM susx.models()"
        )
    }
    cpu = "CPUExecutionProvider"
    assert set(found) == {*MODEL_NAMES, LIKENESS_MODEL, GENERATOR}
    expected = {model: ("clip", 32, 96) for model in MODEL_NAMES}
    expected |= {"demo": ("clip", 512, 224), LIKENESS_MODEL: ("vision", 128, 224)}
    for model, (kind, dimensions, side) in expected.items():
        *rest, error = found[model]
        assert rest == [kind, dimensions, side, cpu, True, True], model
        # The CPU is right here: with execution_provider = auto, the error says why there is no GPU.
        assert error is None or "CUDA" in error
