"""`susx-server check` on models in every layout, and on broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import PG, copy_model
from tools import test_models
from tools.paths import ONNXRUNTIME, TEST_GENERATORS, TEST_MODELS, pg_bin

pytestmark = pytest.mark.same_everywhere

LIBRARY = os.environ.get("SUSX_TEST_ONNXRUNTIME", str(ONNXRUNTIME))


@pytest.fixture(scope="module", autouse=True)
def built():
    test_models.ensure()


def run(folder: Path, *arguments: str, library: str = LIBRARY) -> subprocess.CompletedProcess[str]:
    command = [pg_bin(PG, "susx-server"), "check", folder, "--onnxruntime", library, "--provider", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def check(folder: Path) -> tuple[int, dict]:
    result = run(folder, "--json")
    return result.returncode, json.loads(result.stdout)


def verdicts(report: dict) -> dict[str, str]:
    return {test["name"]: test["verdict"] for test in report["tests"]}


@pytest.mark.parametrize("variant", test_models.VARIANTS)
def test_clips(variant, model_dir):
    status, report = check(TEST_MODELS / variant)
    if variant == "sees_padding":
        assert (status, report["ok"]) == (1, False)
        assert "pad_token" in report["error"]
        return
    assert (status, report["ok"], report["error"]) == (0, True, None)
    facts = report["facts"]
    assert (facts["kind"], facts["dimensions"], facts["provider"]) == ("clip", 32, "CPUExecutionProvider")
    assert set(verdicts(report).values()) == {"passed", "information"}
    assert len(verdicts(report)) == 5


@pytest.mark.parametrize("variant", ["dinov2", "vit", "convnext"])
def test_models_of_images_alone(variant):
    status, report = check(TEST_MODELS / variant)
    assert (status, report["facts"]["kind"]) == (0, "vision")
    assert verdicts(report) == {"an image alone and in a batch": "passed", "a mirror image differs": "passed"}


@pytest.mark.parametrize("variant", test_models.GENERATORS)
def test_generators(variant):
    status, report = check(TEST_GENERATORS / variant)
    assert (status, report["facts"]["kind"]) == (0, "diffusion"), report
    scheduler = json.loads((TEST_GENERATORS / variant / "scheduler/scheduler_config.json").read_text())
    assert report["facts"]["scheduler"] == scheduler["_class_name"]
    if variant == "checked":
        assert report["facts"]["safety_checker"] is True
    else:
        assert verdicts(report) == {
            "an image alone and in a batch": "passed",
            "another seed gives another image": "passed",
        }


def test_it_says_what_the_server_sees(sql, model_dir):
    sql.one("SELECT susx.embed_text('x', 'tiny_split')")
    _, report = check(model_dir / "tiny_split")
    facts = report["facts"]
    found = sql.rows("SELECT kind, dimensions, provider, bytes FROM susx.models() WHERE name = 'tiny_split'")
    assert found == [(facts["kind"], facts["dimensions"], facts["provider"], facts["bytes"])]
    columns = "vision_file, vision_precision, vision_opset, text_file, text_precision, text_opset"
    keys = "image_encoder image_precision image_opset text_encoder text_precision text_opset".split()
    assert sql.rows(f"SELECT {columns} FROM susx.models() WHERE name = 'tiny_split'") == [tuple(facts[key] for key in keys)]
    sql.run("SELECT susx.create_classifier('c', '{a,b}', model => 'tiny_split')")
    sha256 = sql.one("SELECT encode(model_sha256, 'hex') FROM susx.classifier WHERE classifier = 'c'::regclass")
    assert sha256 == facts["sha256"]


@pytest.mark.parametrize("variant", ["fp16", "fused", "split"])
def test_precision_and_operator_set(variant):
    """As `onnx` reads them."""
    _, report = check(TEST_MODELS / variant)
    facts = report["facts"]
    prefixes = {"encoder": ""} if variant == "fused" else {"image_encoder": "image_", "text_encoder": "text_"}
    for encoder, prefix in prefixes.items():
        model = onnx.load(TEST_MODELS / variant / facts[encoder], load_external_data=False)
        (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        weights = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 2}
        precision = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}[weights.pop()]
        assert (facts[f"{prefix}precision"], facts[f"{prefix}opset"], weights) == (precision, opset, set())


def test_text_for_people():
    result = run(TEST_MODELS / "split")
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and lines[-1] == "The model works."
    assert any(line.split() == ["image", "encoder", "onnx/vision_model.onnx"] for line in lines)
    assert sum(line.startswith("passed  ") for line in lines) == 4
    assert result.stderr == ""


def changed(tmp_path: Path, graph: str, change) -> Path:
    """A copy of a CLIP with one graph changed."""
    folder = tmp_path / "changed"
    copy_model(TEST_MODELS / "split", folder)
    path = folder / "onnx" / graph
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return folder


def test_a_blind_encoder_fails(tmp_path):
    """All its images look the same: their pixels are multiplied by 0."""

    def blind(graph):
        pixels = graph.input[0].name
        for node in graph.node:
            node.input[:] = ["dark" if name == pixels else name for name in node.input]
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nought"))
        graph.node.insert(0, onnx.helper.make_node("Mul", [pixels, "nought"], ["dark"]))

    status, report = check(changed(tmp_path, "vision_model.onnx", blind))
    assert (status, report["ok"], report["error"]) == (1, False, None)
    assert verdicts(report)["a mirror image differs"] == "failed"
    assert "The model loads, but failed a test." in run(tmp_path / "changed").stdout


def test_a_vector_that_depends_on_its_batch_fails(tmp_path):
    """As with 8-bit dynamic quantisation: something is computed over the whole batch."""

    def mix(graph):
        pixels = graph.input[0].name
        for node in graph.node:
            node.input[:] = ["mixed" if name == pixels else name for name in node.input]
        graph.node.insert(0, onnx.helper.make_node("ReduceMean", [pixels], ["mean"], axes=[0], keepdims=1))
        graph.node.insert(1, onnx.helper.make_node("Sub", [pixels, "mean"], ["rest"]))
        graph.node.insert(2, onnx.helper.make_node("Add", ["rest", pixels], ["mixed"]))

    status, report = check(changed(tmp_path, "vision_model.onnx", mix))
    assert status == 1
    assert verdicts(report)["an image alone and in a batch"] == "failed"
    assert verdicts(report)["a text alone and in a batch"] == "passed"


def test_what_cannot_be_loaded(tmp_path):
    def error(folder: Path, **options) -> str:
        result = run(folder, "--json", **options)
        assert result.returncode == 1
        return json.loads(result.stdout)["error"]

    assert "No such file or directory" in error(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is no onnx/vision_model.onnx" in error(tmp_path / "empty")
    copy_model(TEST_MODELS / "split", tmp_path / "broken")
    (tmp_path / "broken/onnx/text_model.onnx").write_bytes(b"no graph")
    assert "text_model.onnx" in error(tmp_path / "broken")
    copy_model(TEST_GENERATORS / "pndm", tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd/vae_decoder")
    assert "there is no vae_decoder/model.onnx" in error(tmp_path / "sd")
    missing = error(TEST_MODELS / "split", library="/nowhere/libonnxruntime.so")
    assert "/nowhere/libonnxruntime.so" in missing and "--onnxruntime" in missing


def test_a_relative_path_and_a_link(tmp_path):
    command = [pg_bin(PG, "susx-server"), "check", ".", "--onnxruntime", LIBRARY, "--provider", "cpu"]
    result = subprocess.run(command, cwd=TEST_MODELS / "dinov2", capture_output=True, text=True)
    assert result.returncode == 0
    (tmp_path / "link").symlink_to(TEST_MODELS / "dinov2")
    assert run(tmp_path / "link").returncode == 0
