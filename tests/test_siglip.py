"""What a SigLIP says of one image and one text: the logistic function of the scaled cosine plus a bias, as docs/tags.md has it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from conftest import copy_model
from helpers.models import new_model_dir
from helpers.pictures import encode, picture
from helpers.reference import ReferenceModel
from helpers.session import array, cosine

pytestmark = pytest.mark.same_everywhere

TRAINED = (117.33, -12.93)
STATED = (112.5, -16.5)
PICTURES = [picture(seed, (64, 64)) for seed in range(4)]
CATEGORIES = ["cat", "dog", "red lamp"]
# docs/tags.md
PROBABILITIES = """
    SELECT k.category, 1 / (1 + exp(-(m.logit_scale * (1 - (p.embedding <=> k.embedding)) + m.logit_bias))) AS probability
    FROM photos p, kinds k, susx.models() m
    WHERE p.id = %s AND k.kind = 'prompt' AND m.name = %s ORDER BY k.category"""


@pytest.fixture(scope="module")
def own_cluster(new_cluster, model_dir):
    folder = new_model_dir()
    for name in ("trained", "overridden"):
        copy_model(model_dir / "tiny_fused", folder / name)
        add_constants(next((folder / name).rglob("*.onnx")))
    for name in ("stated", "silent"):
        copy_model(model_dir / "tiny_siglip", folder / name)
    (folder / "stated" / "susx.json").write_text(json.dumps(dict(zip(("logit_scale", "logit_bias"), STATED))))
    (folder / "overridden" / "susx.json").write_text(json.dumps({"logit_bias": STATED[1]}))
    with new_cluster(**{"susx.model_dir": folder, "susx.model": "trained"}) as cluster:
        cluster.models = folder
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def add_constants(path: Path) -> None:
    """The trained numbers as the exporters of transformers leave them in a graph of both encoders."""
    graph = onnx.load(path)
    constants = {"model.logit_scale": np.log(TRAINED[0]), "model.logit_bias": TRAINED[1]}
    for name, value in constants.items():
        graph.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, [1], [value]))
    onnx.save(graph, path)


def test_models_shows_what_the_files_say(sql):
    query = "SELECT name, logit_scale, logit_bias FROM susx.models() ORDER BY name"
    before = {name: (scale, bias) for name, scale, bias in sql.rows(query)}
    close = lambda pair: pytest.approx(pair, rel=1e-6)  # noqa: E731
    assert before["trained"] == close(TRAINED)
    assert before["overridden"] == close((TRAINED[0], STATED[1]))
    assert before["stated"] == close(STATED)
    # No bias is guessed.
    assert before["silent"] == (115.0, None)
    for name in before:
        sql.one("SELECT susx.embed_text('a cat', %s)", name)
    assert {name: (scale, bias) for name, scale, bias in sql.rows(query)} == before


@pytest.mark.parametrize("model", ["trained", "stated"])
def test_probabilities(sql, cluster, model):
    reference = ReferenceModel(cluster.models / model)
    sql.run("SELECT susx.create_classifier('kinds', %s, model => %s)", CATEGORIES, model)
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    scale, bias = TRAINED if model == "trained" else STATED
    assert sql.one("SELECT logit_scale FROM susx.classifier") == pytest.approx(scale, rel=1e-6)
    for place, image in enumerate(PICTURES):
        file = encode(image)
        sql.run("INSERT INTO photos VALUES (%s, %s, susx.embed_image(%s, %s))", place, file, file, model)
        found = sql.rows(PROBABILITIES, place, model)
        assert [category for category, _ in found] == CATEGORIES
        probabilities = np.array([probability for _, probability in found])
        names = sql.column("SELECT embedding::text FROM kinds WHERE kind = 'prompt' ORDER BY category")
        of_image = array(sql.one("SELECT embedding::text FROM photos WHERE id = %s", place))
        cosines = np.array([cosine(of_image, array(of_name)) for of_name in names])
        assert probabilities == pytest.approx(1 / (1 + np.exp(-(scale * cosines + bias))), rel=1e-4)
        # And of the model's own pipeline in Python, whose cosines differ a little.
        cosines = np.array([reference.image(image) @ reference.text(f"a photo of a {name}.") for name in CATEGORIES])
        assert probabilities == pytest.approx(1 / (1 + np.exp(-(scale * cosines + bias))), rel=0.05)


@pytest.mark.parametrize("bias", ["1e999", '"low"'])
def test_a_bias_that_is_no_number(sql, cluster, bias):
    copy_model(cluster.models / "silent", cluster.models / "wrong")
    try:
        (cluster.models / "wrong" / "susx.json").write_text(f'{{"logit_bias": {bias}}}')
        refusal = sql.fails("SELECT susx.embed_text('a cat', 'wrong')")
        assert refusal.sqlstate == "F0000" and "susx.json" in refusal.message
    finally:
        shutil.rmtree(cluster.models / "wrong")
