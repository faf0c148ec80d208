"""Embeddings and logits against tests/golden, whose expected results come from Pillow and NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.session import array, cosine, vector

pytestmark = pytest.mark.same_everywhere

GOLDEN = Path(__file__).parent / "golden"
# One that reads images of 96 x 96 pixels.
MODEL = "tiny_split"
SIDE = 96
MEAN, STD = (
    np.array(values)[:, None, None]
    for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


def test_embeddings_of_the_images(sql, reference):
    """Each is what the model makes of Pillow's pixels, and not of another image's."""
    names = (GOLDEN / "images" / "order.txt").read_text().split()
    levels = np.asarray(Image.open(GOLDEN / f"levels_{SIDE}.png")).reshape(len(names), SIDE, SIDE, 3)
    pixel_values = ((levels.transpose(0, 3, 1, 2) / 255 - MEAN) / STD).astype(np.float32)
    expected = np.array([reference(MODEL).tensor(one) for one in pixel_values])
    files = [(GOLDEN / "images" / name).read_bytes() for name in names]
    rows = sql.rows("SELECT error, embedding::text FROM susx.embed_images(%s, %s) ORDER BY ord", files, MODEL)
    assert len(rows) == len(names)
    for place, (name, (error, embedding)) in enumerate(zip(names, rows)):
        assert error is None, (name, error)
        cosines = [cosine(array(embedding), one) for one in expected]
        assert cosines[place] >= 0.999 and int(np.argmax(cosines)) == place, name


def test_logits_of_every_method(sql):
    data = {path.stem: np.load(path) for path in (GOLDEN / "tip_x").glob("*.npy")}
    names = [f"category {place}" for place in range(len(data["prompts"]))]
    sql.run(
        "SELECT susx.create_classifier('golden', %s, text_embeddings => %s::vector[])",
        names,
        [vector(prompt) for prompt in data["prompts"]],
    )
    for place, name in enumerate(names):
        own = [vector(row) for row in data["support"][data["labels"] == place]]
        assert sql.one("SELECT susx.add_support('golden', %s, %s::vector[])", name, own) == len(own)
    zero_shot, cache, kl = data["zero_shot"], data["cache"], data["kl"]
    logits = {"zero-shot": zero_shot, "tip-adapter": zero_shot + cache, "tip-x": zero_shot + cache + kl}
    for place, parameters in enumerate(data["parameters"].tolist()):
        # alpha, beta, gamma, temperature, logit_scale
        sql.run("SELECT susx.alter_classifier('golden', %s, %s, %s, %s, %s)", *parameters)
        for method, expected in logits.items():
            for query, scores in zip(data["queries"], expected[place]):
                rows = sql.rows(
                    "SELECT category, score FROM susx.classify('golden', %s::vector, %s, %s)",
                    *(vector(query), len(names), method),
                )
                found = dict(rows)
                assert [found[name] for name in names] == pytest.approx(scores, abs=1e-3), method
