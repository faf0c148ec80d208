"""What a client sees where the inference process cannot be started."""

from __future__ import annotations

import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.session import in_background, session_of
from helpers.settings import reloaded

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


@pytest.fixture
def script(cluster):
    """Makes a program out of a shell script, which PostgreSQL's account can run."""

    def make(text):
        path = cluster.directory / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


def works_in_the_end(session):
    def works():
        try:
            return session.one(EMBED, IMAGE) == 512
        except psycopg.Error as error:
            assert error.sqlstate == "57P03", error
            return False

    assert eventually(works, 60)


def test_there_is_no_such_program(sql, cluster):
    for wrong in ("/nowhere/susx-server", str(cluster.directory)):
        with reloaded(cluster, server_program=wrong):
            # A process that runs already is not asked any more.
            assert eventually(lambda: servers(cluster.data_dir) == [])
            refusal = sql.fails(EMBED, IMAGE)
            assert refusal.sqlstate == "57P03"
            assert wrong in refusal.message
            assert "susx.server_program" in refusal.hint
    works_in_the_end(sql)


@pytest.mark.parametrize(
    "text, mode", [("exit 1", 0o755), ("kill -9 $$", 0o755), ("exec sleep 1000", 0o755), ("", 0o644)]
)
def test_a_program_that_does_not_serve(sql, cluster, script, text, mode):
    program = script(text)
    program.chmod(mode)
    sql.run("SET susx.startup_timeout = '1500ms'")
    with reloaded(cluster, server_program=program):
        assert eventually(lambda: servers(cluster.data_dir) == [])
        started = time.monotonic()
        refusal = sql.fails(EMBED, IMAGE)
        assert time.monotonic() - started < 5
        assert refusal.sqlstate == "57P03"
        assert "did not start" in refusal.message
        assert "log" in refusal.hint and "susx.startup_timeout" in refusal.hint
    sql.run("RESET susx.startup_timeout")
    works_in_the_end(sql)


def test_cancel_while_the_program_does_not_start(sql, connect, cluster, script):
    sql.run("SET susx.startup_timeout = '1min'")
    other = connect()
    with reloaded(cluster, server_program=script("exec sleep 1000")):
        assert eventually(lambda: servers(cluster.data_dir) == [])
        with in_background(lambda: (sql.fails(EMBED, IMAGE), time.monotonic())) as results:
            time.sleep(1)
            asked = time.monotonic()
            other.run("SELECT pg_cancel_backend(%s)", sql.pid)
        refusal, ended = results[0]
        assert refusal.sqlstate == "57014"
        assert ended - asked < 2
    works_in_the_end(sql)


def test_no_background_worker_is_free(new_cluster):
    with new_cluster(max_worker_processes=0) as cluster, session_of(cluster) as session:
        session.run("SET susx.startup_timeout = '1s'")
        refusal = session.fails(EMBED, IMAGE)
        assert refusal.sqlstate == "57P03"
        assert "background worker" in refusal.message
        assert "max_worker_processes" in refusal.hint and "shared_preload_libraries" in refusal.hint
        # What needs no model goes on.
        session.run("SELECT susx.create_classifier('c', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])")
        assert session.one("SELECT susx.label('c', '[1,2]'::vector)") == "b"
