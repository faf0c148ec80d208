"""An inference process that does not answer is replaced; one that is only busy is left alone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time

import pytest

from helpers.logs import log_of
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, is_alive, limit, one_of_each, servers, sockets
from helpers.session import in_background
from helpers.settings import reloaded

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, ARRAY[%s::int]), %s)"
LOOK = "SELECT pid, status, images IS NULL, uptime IS NULL FROM susx.stat_server"

# The machine may also be busy with other work.
LIMIT = 4


@pytest.fixture(scope="module")
def own_cluster(new_cluster):
    with new_cluster(**{"susx.hang_timeout": f"{LIMIT}s"}) as cluster:
        yield cluster


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


@pytest.fixture
def server(sql, cluster):
    """The process that runs, with a model loaded."""
    assert sql.one(EMBED, IMAGE, 1, "demo") == 1
    (pid,) = servers(cluster.data_dir)
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_stopped_while_sessions_embed(sql, connect, cluster, server):
    """Their calls are repeated with the next process, and nobody has an error."""
    restarts = sql.one("SELECT restarts FROM susx.stat_server")
    sessions = [connect() for _ in range(3)]
    with log_of(cluster) as log:
        calls = (lambda session=session: session.one(EMBED, IMAGE, 200, "demo") for session in sessions)
        with in_background(*calls) as results:
            time.sleep(0.5)
            os.kill(server, signal.SIGSTOP)
        assert results == [200] * 3
        assert not is_alive(server)
        assert f"the inference process {server} has not answered for {LIMIT}.0s (susx.hang_timeout)" in log()
        assert log().count("killing it") == 1
    assert sql.one("SELECT restarts FROM susx.stat_server") == restarts + 1
    assert one_of_each(cluster.data_dir) and sockets(cluster.data_dir) == ["socket"]


def test_stopped_while_nobody_asks(cluster, server):
    os.kill(server, signal.SIGSTOP)
    assert eventually(lambda: not is_alive(server), 5 * LIMIT)
    assert eventually(lambda: one_of_each(cluster.data_dir))


def test_a_process_that_accepts_nobody_any_more(sql, connect, cluster, server):
    """It runs and computes, but has no file descriptor left for a connection."""
    limit(server, resource.RLIMIT_NOFILE, 5)
    assert sql.one(EMBED, IMAGE, 1, "demo") == 1
    assert eventually(lambda: not is_alive(server), 5 * LIMIT)
    assert connect().one(EMBED, IMAGE, 1, "demo") == 1
    assert one_of_each(cluster.data_dir)


def test_busy_is_not_hanging(sql, connect, cluster, server):
    """Every core computes for several times the limit, and models are loaded meanwhile."""
    sessions = [connect() for _ in range(4)]
    until = time.monotonic() + 3 * LIMIT

    def work(session, models):
        calls = 0
        while time.monotonic() < until:
            for model in models:
                assert session.one(EMBED, IMAGE, 64, model) == 64
            calls += 1
        return calls

    models = (["demo"], ["demo"], ["demo"], ["tiny_split", "tiny_fused", "tiny_no_mask", "tiny_siglip"])
    with log_of(cluster) as log:
        with in_background(*(lambda s=s, m=m: work(s, m) for s, m in zip(sessions, models))) as results:
            pass
        assert all(isinstance(calls, int) and calls > 0 for calls in results), results
        assert "susx.hang_timeout" not in log()
    assert servers(cluster.data_dir) == [server]


def test_left_alone(sql, connect, cluster, server):
    """With 0 it may hang forever: calls and views can be cancelled, and views end by themselves."""
    with reloaded(cluster, hang_timeout=0):
        # Gives the supervisor time to read it.
        time.sleep(1)
        os.kill(server, signal.SIGSTOP)
        started = time.monotonic()
        assert sql.rows(LOOK) == [(server, "not answering", True, True)]
        assert time.monotonic() - started < PROMPTLY
        for query, arguments in ((LOOK, ()), (EMBED, (IMAGE, 1, "demo"))):
            session = connect()
            session.run("SET statement_timeout = '500ms'")
            started = time.monotonic()
            assert session.fails(query, *arguments).sqlstate == "57014"
            assert time.monotonic() - started < 0.5 + PROMPTLY
        time.sleep(1.5 * LIMIT)
        assert servers(cluster.data_dir) == [server]
    # A reload is enough to replace it.
    assert eventually(lambda: not is_alive(server), 5 * LIMIT)
    assert sql.one(EMBED, IMAGE, 1, "demo") == 1
    assert one_of_each(cluster.data_dir)
