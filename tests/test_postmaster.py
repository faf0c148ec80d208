"""The inference process lives as long as the postmaster, however that ends, and labels survive a restart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, is_alive, servers, sockets, supervisors
from helpers.session import in_background, session_of

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, ARRAY[%s::int]))"

# A little more than the time after which the supervisor kills a process that does not end by itself.
SOON = 8.0


@pytest.fixture
def cluster(own_cluster):
    own_cluster.start()
    with session_of(own_cluster) as session:
        assert session.one(EMBED, IMAGE, 1) == 1
    return own_cluster


def kill_postmaster(cluster):
    pid = cluster.postmaster()
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_alive(pid))


ENDS = {
    "smart": lambda cluster: cluster.stop("smart"),
    "fast": lambda cluster: cluster.stop("fast"),
    "immediate": lambda cluster: cluster.stop("immediate"),
    "kill -9": kill_postmaster,
}


def nothing_is_left(cluster):
    assert servers(cluster.data_dir) == []
    assert eventually(lambda: supervisors(cluster.data_dir) == [] and sockets(cluster.data_dir) == [], SOON)


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(cluster, end):
    (server,) = servers(cluster.data_dir)
    ENDS[end](cluster)
    assert eventually(lambda: not is_alive(server), SOON)
    nothing_is_left(cluster)


@pytest.mark.parametrize("end", ["fast", "immediate", "kill -9"])
def test_nothing_is_left_of_a_busy_server(cluster, end):
    def work():
        with session_of(cluster) as session:
            return session.one(EMBED, IMAGE, 5000)

    with in_background(work, work) as results:
        time.sleep(1)
        (server,) = servers(cluster.data_dir)
        ENDS[end](cluster)
        assert eventually(lambda: servers(cluster.data_dir) == [] and not is_alive(server), SOON)
    nothing_is_left(cluster)
    assert all(isinstance(result, psycopg.OperationalError) for result in results), results


@pytest.mark.parametrize("end", ["fast", "immediate", "kill -9"])
def test_nothing_is_left_of_a_server_that_hangs(cluster, end):
    (server,) = servers(cluster.data_dir)
    os.kill(server, signal.SIGSTOP)
    try:
        ENDS[end](cluster)
        assert eventually(lambda: not is_alive(server), SOON)
        nothing_is_left(cluster)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGCONT)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_changes_no_label(cluster, mode):
    image, other = encode(picture(2)), encode(picture(3))
    name = f"kinds_{mode}"
    ask = f"""
        SELECT c.category, c.score FROM susx.classify('{name}', %s::bytea, 3) c
        UNION ALL SELECT c.category, c.score FROM susx.classify('{name}', susx.embed_text('a green bird'), 3) c"""
    with session_of(cluster) as session:
        session.run(
            f"SET synchronous_commit = on; SELECT susx.create_classifier('{name}', ARRAY['cat', 'dog', 'bird'])"
        )
        session.run(f"SELECT susx.add_support('{name}', 'dog', ARRAY[susx.embed_image(%s)])", other)
        before = session.rows(ask, image)
    cluster.restart(mode)
    assert servers(cluster.data_dir) == [], "it was asked for by nobody yet"
    with session_of(cluster) as session:
        assert session.rows(ask, image) == before
        assert len(servers(cluster.data_dir)) == 1


def test_a_socket_that_leads_nowhere(cluster):
    """After a power failure, a socket is left over: the first call starts a process and gets its answer."""
    cluster.stop()
    path = cluster.data_dir / "susx" / "socket"
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(path))
    shutil.chown(path, (cluster.data_dir / "susx").stat().st_uid)
    cluster.start()
    assert path.is_socket()
    with session_of(cluster) as session:
        assert session.rows("SELECT * FROM susx.stat_server") == []
        assert session.one(EMBED, IMAGE, 1) == 1
    assert sockets(cluster.data_dir) == ["socket"]


def test_the_socket_is_for_nobody_else(cluster):
    """Only the account that PostgreSQL runs under may send images."""
    for path, mode in (("susx", 0o700), ("susx/socket", 0o600)):
        assert (cluster.data_dir / path).stat().st_mode & 0o777 == mode


def test_shared_preload_libraries(new_cluster):
    """The process starts with the postmaster, and again when it dies, before anybody asks."""
    with new_cluster(shared_preload_libraries="susx") as cluster:
        assert eventually(lambda: len(servers(cluster.data_dir)) == 1)
        (first,) = servers(cluster.data_dir)
        with session_of(cluster) as session:
            assert session.one(EMBED, IMAGE, 3) == 3
            os.kill(first, signal.SIGKILL)
            assert eventually(lambda: len(set(servers(cluster.data_dir)) - {first}) == 1)
            assert session.one(EMBED, IMAGE, 3) == 3
            assert len(servers(cluster.data_dir)) == 1
        cluster.restart()
        assert eventually(lambda: len(servers(cluster.data_dir)) == 1)
        cluster.stop()
        assert servers(cluster.data_dir) == []


LOADED = "SELECT m.name FROM susx.models() m WHERE m.loaded"


def test_the_model_is_loaded_at_the_start(new_cluster):
    """Before anybody asks, but only once: should it crash the process, the next one does not load it again."""
    with new_cluster(shared_preload_libraries="susx") as cluster:
        with session_of(cluster) as session:
            assert eventually(lambda: session.column(LOADED) == ["demo"])
            assert session.one("SELECT images + texts FROM susx.stat_server") == 0
            (first,) = servers(cluster.data_dir)
            os.kill(first, signal.SIGKILL)
            assert eventually(lambda: len(set(servers(cluster.data_dir)) - {first}) == 1)
            assert session.column(LOADED) == []
            assert session.one(EMBED, IMAGE, 3) == 3
            assert session.column(LOADED) == ["demo"]
        cluster.restart()
        with session_of(cluster) as session:
            assert eventually(lambda: session.column(LOADED) == ["demo"])


@pytest.mark.parametrize("model", ["nobody", None])
def test_a_model_that_cannot_be_loaded_at_the_start(new_cluster, model):
    """The process runs without it, and the first call says why. Without a name there would have to be only one."""
    with new_cluster(**{"shared_preload_libraries": "susx", "susx.model": model}) as cluster:
        with session_of(cluster) as session:
            session.run("SET susx.model = 'demo'")
            assert session.one(EMBED, IMAGE, 3) == 3
            assert session.column(LOADED) == ["demo"]
            assert session.one("SELECT restarts FROM susx.stat_server") == 0
