"""Models by name, and the errors for directories that are not a model."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import onnx
import psycopg
import pytest

from helpers.processes import eventually
from helpers.session import session_of
from helpers.settings import reloaded

pytestmark = pytest.mark.same_everywhere

UNKNOWN = "42704"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "",
        ".",
        "..",
        "../demo",
        "demo/",
        "demo/onnx",
        "/etc",
        "Demo",
        "demo\n",
        pytest.param("x" * 5000, id="very long"),
    ],
)
def test_no_such_model(sql, name):
    """A path out of susx.model_dir is not a model's name. The hint lists the models."""
    for query in (
        "SELECT susx.embed_text('a cat', %s)",
        "SELECT susx.embed_image('', %s)",
        "SELECT * FROM susx.embed_images('{x,y}', %s)",
        "SELECT susx.create_classifier('c', '{a,b}', model => %s)",
    ):
        refusal = sql.fails(query, name)
        assert refusal.sqlstate == UNKNOWN, query
        assert "demo" in refusal.hint and "tiny_siglip" in refusal.hint
        if len(name) < 100 and "\n" not in name:
            assert f'"{name}"' in refusal.message
    sql.run("SELECT set_config('susx.model', 'nothing', false)")
    assert sql.fails("SELECT susx.embed_text('a cat')").sqlstate == UNKNOWN


def test_the_setting_chooses(sql):
    sql.run("SET susx.model = 'tiny_fused'")
    assert sql.one("SELECT vector_dims(susx.embed_text('a cat'))") == 32
    assert sql.one("SELECT vector_dims(susx.embed_text('a cat', 'demo'))") == 512
    sql.run("RESET susx.model")
    assert sql.one("SELECT vector_dims(susx.embed_text('a cat'))") == 512


@pytest.fixture
def cluster(own_cluster):
    """A cluster of its own, because these tests change the settings."""
    return own_cluster


@pytest.fixture(scope="module")
def broken(model_dir):
    """A model directory with one good model and many that miss something."""
    folder = Path(tempfile.mkdtemp(prefix="susx-test-", dir="/tmp"))
    folder.chmod(0o755)

    def copy(name):
        return Path(shutil.copytree(model_dir / "tiny_split", folder / name))

    copy("good")
    (folder / "empty").mkdir()
    (folder / "a_file").write_text("not a directory")
    (copy("config_is_no_json") / "config.json").write_text("{")
    (copy("no_config") / "config.json").unlink()
    (copy("no_tokenizer") / "tokenizer.json").unlink()
    (copy("tokenizer_is_no_json") / "tokenizer.json").write_text("{}")
    (copy("no_preprocessor") / "preprocessor_config.json").unlink()
    (copy("unknown_filter") / "preprocessor_config.json").write_text(json.dumps({"resample": 77}))
    (copy("graph_is_no_graph") / "onnx" / "vision_model.onnx").write_bytes(b"this is no graph")
    half = copy("graph_ends_early") / "onnx" / "text_model.onnx"
    half.write_bytes(half.read_bytes()[:1000])
    no_text = copy("only_images") / "onnx" / "text_model.onnx"
    no_text.unlink()
    no_images = copy("only_texts") / "onnx" / "vision_model.onnx"
    no_images.unlink()
    external = Path(shutil.copytree(model_dir / "tiny_external", folder / "weights_are_missing"))
    (external / "onnx" / "vision_model.onnx_data").unlink()
    # Weights in somebody else's file, and an operator that only a library beside the model could have.
    leads_out = Path(shutil.copytree(model_dir / "tiny_external", folder / "weights_lead_out"))
    changed(leads_out / "onnx" / "vision_model.onnx", lead_out)
    changed(copy("custom_operator") / "onnx" / "vision_model.onnx", ask_for_a_library)
    yield folder
    shutil.rmtree(folder)


def changed(path: Path, change) -> None:
    graph = onnx.load(path, load_external_data=False)
    change(graph)
    path.write_bytes(graph.SerializeToString())


def lead_out(model: onnx.ModelProto) -> None:
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    (location, *_) = [entry for entry in entries if entry.key == "location"]
    location.value = "../../../../../../../../etc/passwd"


def ask_for_a_library(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "susx.custom"
    model.graph.node[0].op_type = "RunWhatYouLike"
    model.opset_import.append(onnx.helper.make_opsetid("susx.custom", 1))


# The model, and what its error must name.
BROKEN = {
    "empty": "onnx",
    "config_is_no_json": "config.json",
    "no_tokenizer": "tokenizer.json",
    "tokenizer_is_no_json": "tokenizer.json",
    "no_preprocessor": "preprocessor_config.json",
    "unknown_filter": "resample",
    "graph_is_no_graph": "vision_model.onnx",
    "graph_ends_early": "text_model.onnx",
    "weights_are_missing": "vision_model.onnx_data",
    "weights_lead_out": "etc/passwd",
    "custom_operator": "RunWhatYouLike",
}


@pytest.fixture(scope="module")
def cluster_of_broken_models(own_cluster, broken):
    with reloaded(own_cluster, model_dir=broken), session_of(own_cluster) as session:

        def is_restarted():
            try:
                return "empty" in session.column("SELECT name FROM susx.models()")
            except psycopg.OperationalError:
                # Two changes at once: the process was replaced while the call was repeated.
                return False

        assert eventually(is_restarted)
        yield


@pytest.fixture
def with_broken_models(cluster_of_broken_models, sql):
    sql.run("SET susx.model = 'good'")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models(sql, with_broken_models, name):
    """The error names the file, and the other models go on."""
    refusal = sql.fails("SELECT susx.create_classifier('c', '{a,b}', model => %s)", name)
    assert refusal.sqlstate == "F0000"
    assert BROKEN[name] in refusal.message
    assert name in refusal.message, "the path tells which model it is"
    assert "susx.model_dir" in refusal.hint
    assert sql.one("SELECT vector_dims(susx.embed_text('a cat', 'good'))") == 32


def test_models_lists_broken_ones_with_their_errors(sql, with_broken_models):
    found = dict(sql.rows("SELECT name, error FROM susx.models()"))
    assert "a_file" not in found
    assert found["good"] is None
    # Also what was not used yet: models() looks at the files. The operator shows when the model is loaded.
    for name in BROKEN.keys() - {"custom_operator"}:
        assert BROKEN[name] in found[name], name


def test_models_of_one_kind(sql, with_broken_models):
    """They embed what they can, and say what they cannot."""
    assert sql.one("SELECT vector_dims(susx.embed_text('a cat', 'only_texts'))") == 32
    refusal = sql.fails("SELECT susx.embed_image('', 'only_texts')")
    assert "only_texts" in refusal.message and "image" in refusal.message
    refusal = sql.fails("SELECT susx.embed_text('a cat', 'only_images')")
    assert "only_images" in refusal.message and "text" in refusal.message
    kinds = dict(sql.rows("SELECT name, kind FROM susx.models() WHERE name LIKE 'only%'"))
    assert kinds == {"only_texts": "text", "only_images": "vision"}
