"""susx.model_idle_timeout: a model that nobody uses is unloaded, with its threads and its memory, and loaded again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers

TIMEOUT = 2
# Less than what the test below takes.
HANG_TIMEOUT = 3
LOADED = "SELECT name FROM susx.models() WHERE loaded"
IMAGE = encode(picture(1, (64, 64)))


@pytest.fixture(scope="module")
def cluster(new_cluster):
    with new_cluster(
        **{"susx.model_idle_timeout": f"{TIMEOUT}s", "susx.hang_timeout": f"{HANG_TIMEOUT}s"}
    ) as cluster:
        yield cluster


def status(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


@pytest.fixture
def server(sql, cluster):
    """The process, when it has nothing loaded but ONNX Runtime."""
    sql.one("SELECT susx.embed_text('x', 'tiny_split')")
    (pid,) = servers(cluster.data_dir)
    assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
    return pid


def test_unloaded_and_loaded_again(sql, cluster, server):
    assert sql.one("SELECT models FROM susx.stat_server") == []
    threads = status(server, "Threads")
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512
    assert "demo" in sql.column(LOADED) and status(server, "Threads") > threads
    assert sql.rows("SELECT error FROM susx.generate_images('{x}', steps => 2)") == [(None,)]
    assert GENERATOR in sql.column(LOADED)
    # Looking is no use.
    assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
    assert eventually(lambda: status(server, "Threads") <= threads)
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512
    assert servers(cluster.data_dir) == [server]


def test_memory_is_given_back(sql, server):
    before = status(server, "VmRSS")
    size = sql.one("SELECT bytes FROM susx.models() WHERE name = 'demo'") / 1024
    # A batch, for which ONNX Runtime takes memory, too.
    query = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, '{40}'), 'demo')"
    assert sql.one(query, IMAGE) == 40
    assert status(server, "VmRSS") > before + size / 2
    assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
    assert eventually(lambda: status(server, "VmRSS") < before + size / 2), (before, size, status(server, "VmRSS"))


def test_what_is_used_stays(sql, connect, cluster):
    """However long it works: at one image, longer than both timeouts."""
    other = connect()
    (pid,) = servers(cluster.data_dir)
    started, steps = time.monotonic(), 100
    sql.rows("SELECT error FROM susx.generate_images('{x}', steps => %s, width => 128, height => 128)", steps)
    rate = steps / (time.monotonic() - started)
    started, steps = time.monotonic(), min(900, int(1.5 * rate * HANG_TIMEOUT))
    query = "SELECT error FROM susx.generate_images('{x}', steps => %s, width => 128, height => 128)"
    assert sql.rows(query, steps) == [(None,)]
    assert time.monotonic() - started > HANG_TIMEOUT, "the machine has become faster"
    # Used again and again, it is not unloaded in between.
    until = time.monotonic() + 2 * TIMEOUT
    while time.monotonic() < until:
        sql.one("SELECT susx.embed_text('x', 'tiny_split')")
        assert "tiny_split" in other.column(LOADED)
        time.sleep(TIMEOUT / 8)
    assert servers(cluster.data_dir) == [pid]
