"""susx.model_memory: models are unloaded before another is loaded, and every session gets the right vectors."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import GENERATOR, LIKENESS_MODEL, copy_model
from helpers.logs import log_of
from helpers.models import make_tiny_clip, new_model_dir
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.session import array, cosine, in_background, session_of
from helpers.settings import restarted

pytestmark = pytest.mark.same_everywhere

# Room for two of the small models, which have 1.8 MB each.
LIMIT = 4
LOADED = "SELECT name FROM susx.models() WHERE loaded ORDER BY name"
STATES = "SELECT models FROM susx.stat_server"
IMAGE = encode(picture(1, (64, 64)))
GENERATE = "SELECT md5(image) FROM susx.generate_images('{x}', steps => %s, width => 256, height => 256)"


@pytest.fixture(scope="module")
def own_cluster(new_cluster, model_dir):
    folder = new_model_dir()
    for seed, name in enumerate("abcd"):
        make_tiny_clip(folder / name, seed)
    for name in ("demo", LIKENESS_MODEL, GENERATOR):
        copy_model(model_dir / name, folder / name)
    settings = {"susx.model_dir": folder, "susx.model": "a", "susx.model_memory": f"{LIMIT}MB"}
    with new_cluster(**settings) as cluster:
        cluster.models = folder
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def expected(folder: Path) -> tuple[list[str], np.ndarray]:
    """Texts and their vectors, computed in numpy when the model was made."""
    found = json.loads((folder / "expected.json").read_text())
    return found["texts"], np.array(found["text_embeds"])


def embed(sql, model: str) -> None:
    assert sql.one("SELECT vector_dims(susx.embed_text('x', %s))", model) in (32, 512)


def test_the_least_recently_used_goes_first(sql):
    for model in ("a", "b", "a"):
        embed(sql, model)
    assert sql.column(LOADED) == ["a", "b"]
    embed(sql, "c")
    assert sql.column(LOADED) == ["a", "c"]
    embed(sql, "d")
    assert sql.column(LOADED) == ["c", "d"]
    assert sql.one("SELECT sum(bytes) FROM susx.models() WHERE loaded") <= LIMIT << 20
    # A generator counts like the others.
    assert sql.rows("SELECT error FROM susx.generate_images('{x}', steps => 2)") == [(None,)]
    assert sql.column(LOADED) == ["d", GENERATOR]
    embed(sql, "a")
    assert sql.column(LOADED) == ["a", GENERATOR]


def test_a_model_larger_than_the_limit_is_loaded_alone(sql):
    embed(sql, "a")
    embed(sql, "b")
    embed(sql, "demo")
    assert sql.one("SELECT bytes FROM susx.models() WHERE name = 'demo'") > LIMIT << 20
    assert sql.column(LOADED) == ["demo"]
    embed(sql, "a")
    assert sql.column(LOADED) == ["a"]


def test_two_models_of_one_call_stay_together(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'demo', likeness_model => %s)", LIKENESS_MODEL)
    embed(sql, "a")
    for image in (IMAGE, encode(picture(2, (64, 64)))):
        sql.run("SELECT susx.add_support('pets', 'cat', ARRAY[%s::bytea])", image)
    assert sql.column(LOADED) == sorted(["demo", LIKENESS_MODEL])
    kept = sql.column("SELECT susx.embed_image(image, 'demo')::text = embedding::text FROM pets WHERE kind = 'image'")
    assert kept == [True, True]


def test_what_cannot_be_loaded_displaces_nothing(sql, cluster):
    embed(sql, "a")
    embed(sql, "b")
    broken = cluster.models / "broken"
    make_tiny_clip(broken, 0)
    for graph in broken.rglob("*.onnx"):
        graph.write_bytes(b"no graph")
    try:
        assert sql.fails("SELECT susx.embed_text('x', 'broken')").sqlstate == "F0000"
    finally:
        shutil.rmtree(broken)
    assert sql.column(LOADED) == ["a", "b"]


def test_sessions_with_more_models_than_fit(connect, sql, cluster):
    """Four sessions work with a model each, of which two fit. All get the vectors of their models."""
    rounds, copies = 6, 40
    most = []

    def work(model: str) -> float:
        texts, vectors = expected(cluster.models / model)
        query = "SELECT embedding::text FROM susx.embed_texts(%s, %s) ORDER BY ord"
        session, worst = connect(), 1.0
        for _ in range(rounds):
            found = session.column(query, texts * copies, model)
            assert len(found) == copies * len(texts)
            worst = min(worst, *(cosine(array(one), two) for one, two in zip(found, list(vectors) * copies, strict=True)))
            one = array(session.one("SELECT susx.embed_text(%s, %s)::text", texts[0], model))
            worst = min(worst, cosine(one, vectors[0]))
        return worst

    done = threading.Event()

    def watch() -> None:
        session = connect()
        while not done.is_set():
            models = session.one(STATES) or []
            # Those that are loading wait for room.
            most.append(sum("loading" not in model or "unloading" in model for model in models))
            time.sleep(0.01)

    with in_background(watch) as watched:
        with in_background(*(lambda model=model: work(model) for model in "abcd")) as results:
            pass
        done.set()
    assert watched == [None]
    assert all(isinstance(worst, float) and worst > 0.99999 for worst in results), results
    assert max(most) == 2
    assert len(sql.column(LOADED)) <= 2


def test_a_model_in_use_finishes_its_work(sql, connect, cluster):
    """A model that is too large for the rest waits until an image is generated, which comes out as without it."""
    other, watcher = connect(), connect()
    # So many steps that the image takes longer than the model's turn, however fast the machine is.
    for steps in (100, 250, 500, 1000):
        image = sql.one(GENERATE, steps)
        states = set()
        with in_background(lambda: sql.one(GENERATE, steps)) as generated:
            assert eventually(lambda: watcher.one("SELECT queue_inputs FROM susx.stat_server") == 1)
            with in_background(lambda: embed(other, "demo")):
                # It is in use, and goes after its turn.
                while not generated[0]:
                    states.update(watcher.one(STATES))
                    time.sleep(0.05)
        assert generated == [image]
        assert not any(state.startswith("demo (CPU") for state in states), states
        assert sql.column(LOADED) == ["demo"]
        if f"{GENERATOR} (unloading)" in states:
            break
    assert f"{GENERATOR} (unloading)" in states and "demo (loading)" in states


def test_the_old_copy_of_a_model_goes_first(sql, connect, cluster):
    """A model whose broken half was repaired is loaded again once its old copy is free."""
    half = cluster.models / "half"
    make_tiny_clip(half, seed=7)
    graph = half / "onnx" / "text_model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(b"no graph")
    try:
        with restarted(cluster, model_memory="1MB"), log_of(cluster) as log:
            assert sql.fails("SELECT susx.embed_text('x', 'half')").sqlstate == "F0000"
            before = sql.one("SELECT susx.embed_image(%s, 'half')::text", IMAGE)
            assert sql.column(LOADED) == ["half"]
            busy, watcher = connect(), connect()
            bulk = "SELECT DISTINCT embedding::text FROM susx.embed_images(array_fill(%s::bytea, '{20000}'), 'half')"
            texts, vectors = expected(half)
            states = []
            with in_background(lambda: busy.column(bulk, IMAGE)) as embedded:
                assert eventually(lambda: watcher.one("SELECT queue_inputs FROM susx.stat_server") > 0)
                graph.write_bytes(whole)
                with in_background(lambda: sql.one("SELECT susx.embed_text(%s, 'half')::text", texts[0])) as found:
                    while found[0] is None:
                        states.append(sorted(watcher.one(STATES)))
                        time.sleep(0.001)
            assert embedded == [[before]]
            assert cosine(array(found[0]), vectors[0]) > 0.99999
            assert all(sum("CPU" in model or "unloading" in model for model in state) <= 1 for state in states), states
            assert "beyond susx.model_memory" not in log()
            assert sql.column(LOADED) == ["half"]
    finally:
        shutil.rmtree(half)


def test_other_files_after_a_model_made_room(sql, cluster):
    """In one session: what was unloaded is read anew, and is not mixed with what a classifier has."""
    model = cluster.models / "mine"
    make_tiny_clip(model, seed=8)
    try:
        sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'mine')")
        assert sql.one("SELECT susx.label('pets', %s::bytea)", IMAGE) in ("cat", "dog")
        shutil.rmtree(model)
        make_tiny_clip(model, seed=9)
        embed(sql, "demo")
        refusal = sql.fails("SELECT susx.label('pets', %s::bytea)", encode(picture(3, (64, 64))))
        assert refusal.sqlstate == "55000"
        assert refusal.message == 'classifier "pets" was made with other files of model "mine"'
    finally:
        shutil.rmtree(model)


def peak(pid: int) -> int:
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def test_the_peak_is_that_of_one_model(sql, cluster):
    copy = cluster.models / "demo2"
    shutil.copytree(cluster.models / "demo", copy)
    size = sql.one("SELECT bytes FROM susx.models() WHERE name = 'demo'")

    def second(limit: str) -> int:
        """By how much the second model's peak exceeds the first one's."""
        with restarted(cluster, model_memory=limit):
            embed(sql, "a")
            (server,) = servers(cluster.data_dir)
            embed(sql, "demo")
            first = peak(server)
            with contextlib.suppress(PermissionError):
                Path(f"/proc/{server}/clear_refs").write_text("5")
            embed(sql, "demo2")
            return peak(server) - first

    try:
        # The first one's pages may not all be given back before the second one's are taken.
        assert second("80MB") < 0.8 * size
        # Without the limit, the test would see it.
        assert second("0") > size
    finally:
        shutil.rmtree(copy)
