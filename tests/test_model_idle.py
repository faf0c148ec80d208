"""susx.model_idle_timeout: a model that nobody uses is unloaded, with its threads and its memory, and loaded again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers

pytestmark = pytest.mark.same_everywhere

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


def is_steady(pid: int) -> bool:
    before = status(pid, "VmRSS")
    time.sleep(1)
    return abs(status(pid, "VmRSS") - before) < 1000


@pytest.fixture
def server(sql, cluster):
    """The process id once nothing but ONNX Runtime is loaded."""
    sql.one("SELECT susx.embed_text('x', 'tiny_split')")
    (pid,) = servers(cluster.data_dir)
    assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
    # A model is no longer listed a moment before its memory is free.
    assert eventually(lambda: is_steady(pid))
    return pid


def test_unloaded_and_loaded_again(sql, cluster, server):
    assert sql.one("SELECT models FROM susx.stat_server") == []
    threads = status(server, "Threads")
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512
    assert "demo" in sql.column(LOADED) and status(server, "Threads") > threads
    assert sql.rows("SELECT error FROM susx.generate_images('{x}', steps => 2)") == [(None,)]
    assert GENERATOR in sql.column(LOADED)
    # Reading susx.stat_server does not count as use.
    assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
    assert eventually(lambda: status(server, "Threads") <= threads)
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512
    assert servers(cluster.data_dir) == [server]


def test_memory_is_given_back(sql, server):
    before = status(server, "VmRSS")
    size = sql.one("SELECT bytes FROM susx.models() WHERE name = 'demo'") / 1024
    # A batch, for which ONNX Runtime takes memory, too.
    query = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, '{40}'), 'demo')"
    for _ in range(4):
        assert sql.one(query, IMAGE) == 40
        loaded = status(server, "VmRSS")
        assert loaded > before + 2 * size
        assert eventually(lambda: sql.rows(LOADED) == [], 10 * TIMEOUT)
        # What the first use of threads and decoders took stays, and no more with every round.
        assert eventually(lambda: status(server, "VmRSS") < before + (loaded - before) / 8), (before, loaded)


def test_what_is_used_stays(sql, connect, cluster):
    """A model in use is not unloaded, even if one image takes longer than both timeouts."""
    other = connect()
    (pid,) = servers(cluster.data_dir)
    query = "SELECT error FROM susx.generate_images('{x}', steps => %s, width => 256, height => 256)"
    steps, took = 100, 0.0
    # The machine may be faster in the next round.
    while took <= HANG_TIMEOUT:
        assert steps <= 900, "the machine is too fast for this test"
        started = time.monotonic()
        assert sql.rows(query, steps) == [(None,)]
        took = time.monotonic() - started
        steps += max(100, int(steps * (1.5 * HANG_TIMEOUT / took - 1)))
    # Used again and again, it is not unloaded in between.
    until = time.monotonic() + 2 * TIMEOUT
    while time.monotonic() < until:
        used = time.monotonic()
        sql.one("SELECT susx.embed_text('x', 'tiny_split')")
        is_loaded = "tiny_split" in other.column(LOADED)
        # On a busy machine, the check itself may come late.
        assert is_loaded or time.monotonic() - used > TIMEOUT
        time.sleep(TIMEOUT / 8)
    assert servers(cluster.data_dir) == [pid]
