"""`susx-server fetch`, from a hub on this machine that answers like Hugging Face's."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import huggingface_hub
import pytest

from conftest import DATABASE, PG, copy_model
from helpers.hub import COMMIT, Hub, serving, sha256
from helpers.session import Session
from tools import test_models
from tools.paths import TEST_GENERATORS, TEST_MODELS, pg_bin

pytestmark = pytest.mark.same_everywhere

MODEL = "somebody/clip-small"
GRAPHS = {"onnx/text_model.onnx", "onnx/vision_model.onnx"}
CONFIGURATION = {"config.json", "preprocessor_config.json", "tokenizer.json"}
VISION = "onnx/vision_model.onnx"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A CLIP in two precisions with other files, a DINOv2, weights beside graphs, and a Stable Diffusion."""
    test_models.ensure()
    folder = tmp_path_factory.mktemp("hub")
    clip = folder / "clip"
    copy_model(TEST_MODELS / "split", clip)
    for tower in ("text", "vision"):
        (clip / f"onnx/{tower}_model_fp16.onnx").write_bytes(
            (TEST_MODELS / f"fp16/onnx/{tower}_model_fp16.onnx").read_bytes()
        )
    (clip / "onnx/vision_model_q4.onnx").write_bytes(b"x" * 30_000)
    (clip / "pytorch_model.bin").write_bytes(b"x" * 30_000)
    (clip / "README.md").write_text("A model.")
    copy_model(TEST_MODELS / "dinov2", folder / "dinov2")
    copy_model(TEST_MODELS / "external", folder / "external")
    copy_model(TEST_GENERATORS / "velocity", folder / "sd")
    (folder / "torch").mkdir()
    (folder / "torch/model.safetensors").write_bytes(b"x")
    # A graph whose weights were left out.
    copy_model(TEST_MODELS / "external", folder / "halved")
    next((folder / "halved").rglob("vision*_data")).unlink()
    return {
        MODEL: clip,
        "somebody/dinov2": folder / "dinov2",
        "somebody/external": folder / "external",
        "somebody/sd": folder / "sd",
        "somebody/halved": folder / "halved",
        "openai/clip-vit-base-patch32": folder / "torch",
        "somebody/torch": folder / "torch",
        "Xenova/dinov2-small": folder / "dinov2",
    }


@pytest.fixture
def hub(models):
    with serving(Hub(models)) as hub:
        yield hub


@pytest.fixture
def tmp_path():
    """A directory of models that PostgreSQL can read, even as another account."""
    with tempfile.TemporaryDirectory(prefix="susx-fetched-", dir="/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def fetch(hub, tmp_path):
    """Runs the program; `tmp_path` is the directory of models."""

    def run(*arguments: str, token: str | None = None, endpoint: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {"HF_ENDPOINT": endpoint or hub.endpoint, **({"HF_TOKEN": token} if token else {})}
        command = [pg_bin(PG, "susx-server"), "fetch", *arguments, "--into", tmp_path]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def succeeds(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def fails(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result.stdout
    assert result.stderr.startswith("error: ")
    return result.stderr


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def test_the_hub_is_like_the_real_one(hub, models, tmp_path):
    """The client of Hugging Face gets the same files from it, by the same requests."""
    folder = huggingface_hub.snapshot_download(
        MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", local_dir=tmp_path / "clip", token=False
    )
    found = {name: digest for name, digest in contents(Path(folder)).items() if not name.startswith(".cache")}
    assert found == contents(models[MODEL])
    info = huggingface_hub.HfApi(hub.endpoint, token=False).model_info(MODEL, revision="main", files_metadata=True)
    sibling = next(sibling for sibling in info.siblings if sibling.rfilename == VISION)
    assert sibling.lfs.sha256 == sha256(models[MODEL] / VISION)


def test_only_what_is_needed(hub, fetch, models, tmp_path):
    output = succeeds(fetch(MODEL))
    folder = tmp_path / "clip-small"
    assert f"at {COMMIT} into {folder}" in output
    record = json.loads((folder / ".susx-fetch.json").read_text())
    found = contents(folder)
    del found[".susx-fetch.json"]
    assert set(found) >= GRAPHS | CONFIGURATION
    assert not set(found) & {"README.md", "pytorch_model.bin", "onnx/vision_model_q4.onnx", "onnx/text_model_fp16.onnx"}
    assert found == {name: sha256(models[MODEL] / name) for name in found}
    assert (record["repo"], record["revision"], record["endpoint"]) == (MODEL, COMMIT, hub.endpoint)
    assert {file["path"]: file["sha256"] for file in record["files"]} == found
    assert leftovers(tmp_path) == set()
    # Each file once.
    assert len(hub.of(VISION)) == 2, "the hub and the host of large files"


def test_its_vectors_are_those_of_the_original(fetch, new_cluster, tmp_path, reference):
    succeeds(fetch(MODEL))
    succeeds(fetch(MODEL, "--dtype", "fp16", "--rename", "clip-half"))
    text = "a photo of a dog"
    with new_cluster(**{"susx.model_dir": tmp_path, "susx.model": "clip-small"}) as cluster:
        with closing(Session(cluster.url(DATABASE))) as session:
            found = session.one("SELECT susx.embed_text(%s)::real[]", text)
            half = session.one("SELECT susx.embed_text(%s, 'clip-half')::real[]", text)
            names = session.one("SELECT array_agg(name ORDER BY name) FROM susx.models()")
    assert names == ["clip-half", "clip-small"]
    expected = reference("tiny_split").text(text)
    assert sum(a * b for a, b in zip(found, expected)) > 0.99999
    assert 0.999 < sum(a * b for a, b in zip(half, expected)) < 1


def test_precisions(fetch, tmp_path):
    succeeds(fetch(MODEL, "--dtype", "fp16"))
    assert {path.name for path in (tmp_path / "clip-small/onnx").iterdir()} == {
        "text_model_fp16.onnx",
        "vision_model_fp16.onnx",
    }
    error = fails(fetch(MODEL, "--dtype", "q4", "--rename", "other"))
    assert "no weights in q4; it has fp32, fp16" in error and "hint: Choose one of them with --dtype." in error
    assert "expected one of fp32, fp16" in fails(fetch(MODEL, "--dtype", "half", "--rename", "other"))
    assert not (tmp_path / "other").exists() and leftovers(tmp_path) == set()


@pytest.mark.parametrize("model, graphs", [("dinov2", 1), ("external", 2), ("sd", 3)])
def test_layouts(fetch, models, tmp_path, model, graphs):
    succeeds(fetch(f"somebody/{model}"))
    folder = tmp_path / model
    original = contents(models[f"somebody/{model}"])
    found = contents(folder)
    del found[".susx-fetch.json"]
    assert found.items() <= original.items()
    assert sum(name.endswith(".onnx") for name in found) == graphs
    # All weights beside the graphs.
    assert {name for name in found if "_data" in name} == {name for name in original if "_data" in name}


def test_a_name_of_the_list(hub, fetch, tmp_path):
    table = succeeds(fetch("--list"))
    assert "Xenova/clip-vit-base-patch32" in table and "we have not loaded these exports" in table
    assert hub.requests == [], "the list needs no network"
    succeeds(fetch("dinov2-small"))
    assert json.loads((tmp_path / "dinov2-small/.susx-fetch.json").read_text())["repo"] == "Xenova/dinov2-small"


def test_the_token_goes_to_the_hub_alone(hub, fetch, tmp_path):
    hub.token = "secret"
    without = fails(fetch(MODEL))
    assert "the hub denies access to somebody/clip-small at main" in without
    assert "Access to this model is restricted." in without and "set HF_TOKEN" in without
    wrong = fails(fetch(MODEL, token="other"))
    assert "The token in HF_TOKEN does not give access" in wrong
    hub.requests.clear()
    succeeds(fetch(MODEL, token="secret"))
    tokens = {host: {request.token for request in hub.requests if request.host == host} for host in ("hub", "cdn")}
    assert tokens == {"hub": {"Bearer secret"}, "cdn": {None}}
    assert "secret" not in (tmp_path / "clip-small/.susx-fetch.json").read_text()


def test_a_renamed_model(hub, fetch, tmp_path):
    hub.renamed = {"/formerly/clip-old": f"/{MODEL}"}
    hub.token = "secret"
    succeeds(fetch("formerly/clip-old", token="secret"))
    assert (tmp_path / "clip-old" / VISION).is_file()


def test_revisions(hub, fetch, tmp_path):
    succeeds(fetch(MODEL, "--revision", "refs/pr/1"))
    assert hub.requests[0].path.endswith("/revision/refs/pr/1")
    # Files come from the commit, which cannot change while they are downloaded.
    assert {
        request.path.split("/resolve/")[1].split("/")[0] for request in hub.requests if "/resolve/" in request.path
    } == {COMMIT}
    assert "is not a revision" in fails(fetch(MODEL, "--revision", "main?x", "--rename", "other"))
    assert "the hub has no somebody/clip-small at gone (status 404)" in fails(
        fetch(MODEL, "--revision", "gone", "--rename", "other")
    )


def test_it_continues_within_a_run(hub, fetch, models, tmp_path):
    size = (models[MODEL] / VISION).stat().st_size
    hub.breaks = {VISION: [size // 3, size // 4], "tokenizer.json": [10]}
    hub.statuses = {VISION: [503], "config.json": [500, 429]}
    succeeds(fetch(MODEL))
    assert sha256(tmp_path / "clip-small" / VISION) == sha256(models[MODEL] / VISION)
    starts = [request.start for request in hub.of(VISION) if request.host == "cdn"]
    assert starts == [None, None, size // 3, size // 3 + size // 4]


def test_it_continues_after_a_failure(hub, fetch, models, tmp_path):
    size = (models[MODEL] / VISION).stat().st_size
    hub.breaks = {VISION: [size // 2] + [0] * 20}
    error = fails(fetch(MODEL))
    assert "cannot reach" in error and "it continues where this one stopped" in error
    # Nothing that the server would list.
    assert not (tmp_path / "clip-small").exists()
    assert leftovers(tmp_path) == {".clip-small.susx-fetch", ".clip-small.susx-fetch.lock"}
    hub.breaks, hub.requests = {}, []
    succeeds(fetch(MODEL))
    assert sha256(tmp_path / "clip-small" / VISION) == sha256(models[MODEL] / VISION)
    assert [request.start for request in hub.of(VISION) if request.host == "cdn"] == [size // 2]
    # What was complete is not downloaded again.
    assert hub.of("config.json") == []
    assert leftovers(tmp_path) == set()


def test_a_server_without_parts(hub, fetch, models, tmp_path):
    hub.serves_parts = False
    hub.breaks = {VISION: [1000]}
    succeeds(fetch(MODEL))
    assert sha256(tmp_path / "clip-small" / VISION) == sha256(models[MODEL] / VISION)


def test_a_part_that_was_damaged_meanwhile(hub, fetch, models, tmp_path):
    size = (models[MODEL] / VISION).stat().st_size
    hub.breaks = {VISION: [size // 2] + [0] * 20}
    fails(fetch(MODEL))
    hub.breaks = {}
    part = tmp_path / f".clip-small.susx-fetch/{VISION}.part"
    part.write_bytes(b"x" * part.stat().st_size)
    (tmp_path / ".clip-small.susx-fetch/config.json").write_text("{}")
    succeeds(fetch(MODEL))
    for name in (VISION, "config.json"):
        assert sha256(tmp_path / "clip-small" / name) == sha256(models[MODEL] / name)


def test_damaged_content(hub, fetch, models, tmp_path):
    hub.damaged = {VISION}
    error = fails(fetch(MODEL))
    assert f"{VISION} has the SHA-256" in error and sha256(models[MODEL] / VISION) in error
    assert not (tmp_path / "clip-small").exists()
    hub.damaged = set()
    succeeds(fetch(MODEL))


def test_what_is_there_stays(hub, fetch, tmp_path):
    succeeds(fetch(MODEL))
    hub.requests.clear()
    assert "is already there, complete and unchanged" in succeeds(fetch(MODEL))
    assert len(hub.requests) == 1, "the commit"
    folder = tmp_path / "clip-small"
    assert "exists, but is not the requested model" in fails(fetch(MODEL, "--dtype", "fp16"))
    (folder / "config.json").write_text("{}")
    assert "exists, but is not the requested model" in fails(fetch(MODEL))
    assert (folder / "config.json").read_text() == "{}"
    (tmp_path / "mine").mkdir()
    assert "--rename" in fails(fetch(MODEL, "--rename", "mine"))


def test_models_that_do_not_fit(fetch, tmp_path):
    error = fails(fetch("openai/clip-vit-base-patch32"))
    assert "has no ONNX files" in error and "Xenova/clip-vit-base-patch32 is an export of it." in error
    assert "optimum-cli export onnx --model somebody/torch" in fails(fetch("somebody/torch"))
    halved = fails(fetch("somebody/halved"))
    assert "are incomplete" in halved and "vision_model.onnx_data" in halved
    assert "one precision: omit it" in fails(fetch("somebody/sd", "--dtype", "fp16"))
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("name", ["clip", "a/b/c", "../x", "a/..", "a b/c", "/x", "x/"])
def test_names(hub, fetch, name):
    assert "is not a model: expected owner/name" in fails(fetch(name))
    assert hub.requests == []


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", ""])
def test_names_of_directories(hub, fetch, name):
    fails(fetch(MODEL, f"--rename={name}"))
    assert hub.requests == []


def test_hubs_that_are_none(fetch):
    assert 'HF_ENDPOINT is "nonsense"' in fails(fetch(MODEL, endpoint="nonsense"))
    assert "cannot reach http://127.0.0.1:9/" in fails(fetch(MODEL, endpoint="http://127.0.0.1:9"))


def test_no_way_leads_from_sql(hub, sql):
    """A model's name that looks like one of the hub is an error without any network."""
    assert sql.fails("SELECT susx.embed_text('x', %s)", MODEL).sqlstate in ("22023", "42704")
    assert hub.requests == []
