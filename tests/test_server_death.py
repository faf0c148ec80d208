"""The inference process is killed: calls are repeated or fail cleanly, the next ones work, nobody else notices."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, is_alive, servers, supervisors
from helpers.session import in_background, session_of

EMBED = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, '{100}'), 'tiny_split')"


@pytest.fixture
def cluster(own_cluster):
    """Takes the place of the cluster that the other tests share."""
    return own_cluster


@pytest.fixture(scope="module")
def image():
    return encode(picture(1))


def kill_server(cluster):
    assert eventually(lambda: servers(cluster.data_dir))
    for server in servers(cluster.data_dir):
        os.kill(server, signal.SIGKILL)


def test_killed_while_five_sessions_embed(sql, connect, cluster, image):
    sessions = [connect() for _ in range(5)]
    bystander = connect()
    bystander.run("BEGIN; CREATE TEMP TABLE mine AS SELECT 1 AS x")
    started = sql.one("SELECT pg_postmaster_start_time()")
    written = cluster.log_file.stat().st_size
    until = time.monotonic() + 8

    def work(session):
        """What became of every call."""
        outcomes = []
        while time.monotonic() < until:
            try:
                outcomes.append(session.one(EMBED, image))
            except psycopg.Error as error:
                outcomes.append(error.sqlstate)
        return outcomes

    with in_background(*(lambda session=session: work(session) for session in sessions)) as results:
        for _ in range(3):
            time.sleep(1.5)
            kill_server(cluster)
    for outcomes in results:
        # 08006: the connection was lost twice in one call. 57P03: it was not started again in time.
        assert set(outcomes) <= {100, "08006", "57P03"}, outcomes
        assert outcomes.count(100) >= 3
        assert outcomes[-1] == 100
    for session in sessions:
        assert is_alive(session.pid)
        assert session.one(EMBED, image) == 100
    assert bystander.one("SELECT x FROM mine") == 1
    assert sql.one("SELECT pg_postmaster_start_time()") == started
    log = cluster.log_file.read_bytes()[written:].decode()
    assert "the inference process ended" in log and "signal: 9" in log
    assert "terminating any other active server processes" not in log


def test_killed_between_two_calls(sql, cluster, image):
    """Nobody notices at all: the call finds the connection closed, and is repeated with the new process."""
    assert sql.one(EMBED, image) == 100
    (before,) = servers(cluster.data_dir)
    kill_server(cluster)
    assert sql.one(EMBED, image) == 100
    (after,) = servers(cluster.data_dir)
    assert after != before


def test_a_process_that_ends_when_asked_is_started_again(sql, cluster, image):
    assert sql.one(EMBED, image) == 100
    (before,) = servers(cluster.data_dir)
    os.kill(before, signal.SIGTERM)
    assert eventually(lambda: before not in servers(cluster.data_dir))
    assert sql.one(EMBED, image) == 100
    assert len(servers(cluster.data_dir)) == 1


def test_databases_and_sessions_share_one_process(sql, connect, cluster, fresh_database, image):
    other = connect(fresh_database)
    other.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    sessions = [sql, other, connect(), connect(fresh_database)]
    with in_background(*(lambda session=session: session.one(EMBED, image) for session in sessions)) as results:
        pass
    assert results == [100] * 4
    assert len(servers(cluster.data_dir)) == 1


@pytest.mark.parametrize("sessions", [8, 30])
def test_first_use_by_many_sessions_at_once(new_cluster, image, sessions):
    """All of them ask for a supervisor, more than there may be background workers; one takes charge."""
    with new_cluster() as cluster, contextlib.ExitStack() as stack:
        assert servers(cluster.data_dir) == []
        clients = [stack.enter_context(session_of(cluster)) for _ in range(sessions)]
        with in_background(*(lambda client=client: client.one(EMBED, image) for client in clients)) as results:
            pass
        assert results == [100] * sessions
        assert len(servers(cluster.data_dir)) == 1
        assert eventually(lambda: len(supervisors(cluster.data_dir)) == 1)


def test_a_crash_of_postgresql_itself(connect, cluster, image):
    """A killed backend makes the postmaster restart everything; one inference process is there afterwards."""
    victim = connect()
    assert victim.one(EMBED, image) == 100
    before = servers(cluster.data_dir)
    os.kill(victim.pid, signal.SIGKILL)
    assert eventually(lambda: not set(before) & set(servers(cluster.data_dir)))

    def answer():
        try:
            return connect().one(EMBED, image)
        except psycopg.OperationalError:
            return None

    assert eventually(lambda: answer() == 100, 30)
    assert len(servers(cluster.data_dir)) == 1
