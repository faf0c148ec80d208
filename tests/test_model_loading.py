"""Models that load slowly, badly or never delay only the sessions that ask for them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import onnx
import pytest

from helpers.endless import make_endless
from helpers.logs import log_of
from helpers.models import new_model_dir, remove_all_but
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, one_of_each, servers
from helpers.session import in_background
from helpers.settings import reloaded, restarted

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_text('a cat', %s))"
MODELS = "SELECT name, loaded, error FROM susx.models()"

# Seconds. Long enough for a tiny model on a busy machine.
LIMIT = 6


@pytest.fixture(scope="module")
def own_cluster(new_cluster, model_dir):
    folder = new_model_dir()
    shutil.copytree(model_dir / "tiny_split", folder / "good")
    settings = {"susx.model_dir": folder, "susx.model": None, "susx.load_timeout": f"{LIMIT}s"}
    with new_cluster(**settings) as cluster:
        cluster.models = folder
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def cluster(own_cluster):
    yield own_cluster
    remove_all_but("good", own_cluster.models)


@pytest.fixture
def add(cluster):
    """Adds a copy of the good model, and returns its folder."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(cluster.models / "good", cluster.models / name))

    return copy


def models(sql) -> dict[str, tuple[bool, str | None]]:
    return {name: (loaded, error) for name, loaded, error in sql.rows(MODELS)}


def test_a_model_that_never_ends(sql, connect, cluster, add):
    """The process is ended and restarted for all others. The model is not tried again until its files change."""
    make_endless(add("endless"))
    assert sql.one(EMBED, "good") == 32
    (server,) = servers(cluster.data_dir)
    waiting, other = connect(), connect()
    with log_of(cluster) as log:
        with in_background(lambda: waiting.fails(EMBED, "endless")) as results:
            assert eventually(lambda: "loading" in (models(sql)["endless"][1] or ""))
            assert models(sql)["endless"][0] is False and models(sql)["good"][0] is True
            assert other.one(EMBED, "good") == 32
            # None of this waited until the model was given up.
            assert "loading" in models(sql)["endless"][1]
        (refusal,) = results
        assert refusal.sqlstate == "F0000" and '"endless"' in refusal.message, refusal
        assert f"{LIMIT}s (susx.load_timeout)" in refusal.message and refusal.hint
        assert eventually(lambda: servers(cluster.data_dir) not in ([], [server]))
        (another,) = servers(cluster.data_dir)
        # The next process knows about it, since another try would end that process, too.
        for session in (waiting, other, sql):
            refusal = session.fails(EMBED, "endless")
            assert '"endless"' in refusal.message and "susx.load_timeout" in refusal.message
            assert session.one(EMBED, "good") == 32
        assert "susx.load_timeout" in models(sql)["endless"][1]
        assert servers(cluster.data_dir) == [another] and one_of_each(cluster.data_dir)
        assert 'the model "endless" has not been loaded' in log()
    # Repaired files make it work.
    shutil.rmtree(cluster.models / "endless")
    add("endless")
    assert sql.one(EMBED, "endless") == 32
    assert servers(cluster.data_dir) == [another]


def test_a_model_that_ends_only_when_it_is_tried(sql, connect, cluster, add):
    """It loads, and hangs at the texts of a call."""
    make_endless(add("treacherous"), probe_ends=True)
    many = "SELECT count(embedding) FROM susx.embed_texts(array_fill('a cat'::text, ARRAY[64]), %s)"
    assert sql.one(EMBED, "treacherous") == 32
    with in_background(lambda: sql.fails(many, "treacherous")) as results:
        assert connect().one(many, "good") == 64
    assert '"treacherous"' in results[0].message and "susx.load_timeout" in results[0].message, results
    assert sql.one(many, "good") == 64


def test_a_reload_gives_it_another_try(sql, cluster, add):
    make_endless(add("stubborn"))
    assert "susx.load_timeout" in sql.fails(EMBED, "stubborn").message
    assert eventually(lambda: "susx.load_timeout" in (models(sql)["stubborn"][1] or ""))
    sql.run("SELECT pg_reload_conf()")
    assert eventually(lambda: models(sql)["stubborn"][1] is None)
    started = time.monotonic()
    assert "susx.load_timeout" in sql.fails(EMBED, "stubborn").message
    assert time.monotonic() - started > LIMIT / 2


def test_waiting_for_a_model_can_be_cancelled(sql, connect, cluster, add):
    make_endless(add("slow"))
    with restarted(cluster, load_timeout="1h"):
        sessions = [connect() for _ in range(3)]
        calls = ((EMBED, "slow"), ("SELECT susx.create_classifier('c', '{a,b}', model => %s)", "slow"))
        for session, (call, argument) in zip(sessions, calls):
            session.run("SET statement_timeout = '1s'")
            started = time.monotonic()
            assert session.fails(call, argument).sqlstate == "57014"
            assert time.monotonic() - started < 1 + PROMPTLY
        assert sql.one(EMBED, "good") == 32
        assert "loading" in models(sql)["slow"][1]
        # The process keeps nothing of the cancelled calls.
        assert eventually(lambda: sql.one("SELECT queue_bytes FROM susx.stat_server") == 0)
    assert sql.one(EMBED, "good") == 32


def test_a_call_goes_on_when_the_process_ends_for_another_model(sql, connect, cluster, add):
    make_endless(add("guilty"))
    assert sql.one(EMBED, "good") == 32
    (server,) = servers(cluster.data_dir)
    session, innocent = connect(), connect()
    until = time.monotonic() + LIMIT + 6

    def work() -> int:
        calls = 0
        while time.monotonic() < until:
            assert innocent.one("SELECT count(embedding) FROM susx.embed_texts(array_fill('a cat'::text, ARRAY[300]), 'good')") == 300
            calls += 1
        return calls

    with in_background(work, lambda: session.fails(EMBED, "guilty")) as results:
        pass
    assert isinstance(results[0], int) and results[0] > 0, results
    assert '"guilty"' in results[1].message
    assert servers(cluster.data_dir) != [server]


def sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


def test_files_that_are_larger_than_any_memory(sql, cluster, add):
    """Sparse files of two hundred gigabytes, in place of every file that is read."""
    size = 200 << 30
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "susx.json"):
        sparse(add(f"sparse_{name}") / name, size)
    sparse(add("sparse_graph") / "onnx" / "text_model.onnx", size)
    weights = add("sparse_weights")
    graph = weights / "onnx" / "text_model.onnx"
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="weights", size_threshold=0)
    for path in (weights / "onnx").iterdir():
        path.chmod(0o644)
    with open(weights / "onnx" / "weights", "r+b") as file:
        file.truncate(size)
    names = sorted(folder.name for folder in cluster.models.iterdir() if folder.name.startswith("sparse"))
    started = time.monotonic()
    assert set(names) < set(models(sql))
    for name in names:
        if name == "sparse_preprocessor_config.json":
            # Texts do not need it.
            assert sql.one(EMBED, name) == 32 and str(size) in models(sql)[name][1]
            continue
        refusal = sql.fails(EMBED, name)
        assert refusal.sqlstate == "F0000" and name in refusal.message, refusal
        # For weights, the message has the sum of all files.
        assert str(size) in refusal.message or "bytes of memory" in refusal.message, refusal
    assert time.monotonic() - started < PROMPTLY
    assert sql.one(EMBED, "good") == 32


def test_files_that_are_none(sql, cluster, add):
    """A pipe without a writer, an endless device, and folders in place of files."""
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "onnx/text_model.onnx"):
        kinds = {
            "pipe": lambda path: os.mkfifo(path, 0o644),
            "device": lambda path: path.symlink_to("/dev/zero"),
            "folder": lambda path: path.mkdir(),
        }
        for kind, make in kinds.items():
            path = add(f"{kind}_{name.replace('/', '_')}") / name
            path.unlink()
            make(path)
    started = time.monotonic()
    names = [name for name in models(sql) if name != "good"]
    assert len(names) == 12
    for name in names:
        assert models(sql)[name][1], name
        if name.endswith("preprocessor_config.json"):
            # Texts do not need it.
            assert sql.one(EMBED, name) == 32, name
        else:
            assert sql.fails(EMBED, name).sqlstate == "F0000", name
    assert time.monotonic() - started < PROMPTLY
    assert sql.one(EMBED, "good") == 32


def test_fifty_sessions_want_a_broken_model(sql, connect, cluster, add):
    """One try fails for all of them. After a repair, it is tried again at once."""
    folder = add("broken")
    graph = folder / "onnx" / "text_model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    sessions = [connect() for _ in range(20)]
    with reloaded(cluster, model_idle_timeout=0), log_of(cluster) as log:
        sql.run("ALTER SYSTEM SET log_min_messages = debug1")
        sql.run("SELECT pg_reload_conf()")
        try:
            time.sleep(1)
            with in_background(*(lambda session=s: session.fails(EMBED, "broken") for s in sessions)) as results:
                pass
            assert len({(refusal.sqlstate, refusal.message) for refusal in results}) == 1, results
            assert sql.fails(EMBED, "broken").message == results[0].message
            assert eventually(lambda: 'loading model "broken"' in log())
            assert log().count('loading model "broken"') == 1
            assert models(sql)["broken"][1]
            graph.write_bytes(whole)
            assert sql.one(EMBED, "broken") == 32
        finally:
            sql.run("ALTER SYSTEM RESET log_min_messages")
            sql.run("SELECT pg_reload_conf()")


def test_models_that_come_and_go(sql, cluster, add):
    """Without susx.model, the only model is used, whichever that is at the time."""
    embed = "SELECT vector_dims(susx.embed_text('a cat'))"
    assert sql.one(embed) == 32
    for name in ("second", "third"):
        add(name)
        assert sql.fails(embed).sqlstate == "F0000"
        assert name in sql.fails(embed).hint
        shutil.rmtree(cluster.models / name)
        assert sql.one(embed) == 32
    # Moved away and back, within the same moment.
    hidden = cluster.models.with_name(f"{cluster.models.name}-hidden")
    for _ in range(3):
        (cluster.models / "good").rename(hidden)
        assert "no model" in sql.fails(embed).message
        hidden.rename(cluster.models / "good")
        assert sql.one(embed) == 32
    # A folder becomes a generator's by a file in it.
    add("other")
    assert sql.fails(embed).sqlstate == "F0000"
    (cluster.models / "other" / "model_index.json").write_text("{}")
    assert sql.one(embed) == 32
    (cluster.models / "other" / "model_index.json").unlink()
    assert sql.fails(embed).sqlstate == "F0000"
