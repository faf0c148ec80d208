"""A cancel or a timeout takes effect whatever the inference process is doing, and the session stays usable."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, servers
from helpers.session import in_background

# Slow statements: thousands of images or texts through the larger model, in one call or row by row.
SLOW = {
    "embed_images": "SELECT count(*) FROM susx.embed_images(array_fill(%s::bytea, '{6000}'))",
    "embed_image": "SELECT count(susx.embed_image(%s::bytea || int4send(i))) FROM generate_series(1, 6000) i",
    "embed_texts": "SELECT count(*) FROM susx.embed_texts(array_fill(left(encode(%s::bytea, 'hex'), 400), '{90000}'))",
    "label": "SELECT count(susx.label('kinds', %s::bytea || int4send(i))) FROM generate_series(1, 6000) i",
}


@pytest.fixture(scope="module")
def image():
    return encode(picture(1, (64, 64)))


@pytest.fixture
def kinds(sql):
    """Creates a classifier, which also loads the model."""
    sql.run("SELECT susx.create_classifier('kinds', ARRAY['cat', 'dog'])")


def interrupted(session, statement, image):
    """How the statement ended, and when."""
    try:
        session.rows(statement, image)
    except psycopg.errors.QueryCanceled as error:
        return time.monotonic(), error
    raise AssertionError("the statement came to its end")


@pytest.mark.parametrize("what", SLOW)
def test_cancel(sql, connect, kinds, image, what):
    other = connect()
    with in_background(lambda: interrupted(sql, SLOW[what], image)) as results:
        time.sleep(1.5)
        asked = time.monotonic()
        assert other.one("SELECT pg_cancel_backend(%s)", sql.pid)
    ended, error = results[0]
    assert ended - asked < PROMPTLY
    assert "user request" in str(error)
    # The session and the inference process still work, and nothing of the cancelled call delays them.
    started = time.monotonic()
    assert sql.one("SELECT vector_dims(susx.embed_image(%s))", image) == 512
    assert time.monotonic() - started < PROMPTLY


@pytest.mark.parametrize("what", SLOW)
def test_statement_timeout(sql, kinds, image, what):
    sql.run("SET statement_timeout = '1s'")
    started = time.monotonic()
    ended, error = interrupted(sql, SLOW[what], image)
    assert 0.9 < ended - started < 1 + PROMPTLY
    assert "statement timeout" in str(error)
    sql.run("RESET statement_timeout")
    assert sql.one("SELECT vector_dims(susx.embed_image(%s))", image) == 512


def test_a_cancelled_request_does_not_answer_the_next(sql, kinds, image):
    """The next call on the same connection gets its own answer."""
    expected = sql.one("SELECT susx.embed_text('a cat')::text")
    for milliseconds in (20, 60, 150, 400):
        sql.run(f"SET statement_timeout = {milliseconds}")
        interrupted(sql, SLOW["embed_images"], image)
        sql.run("RESET statement_timeout")
        assert sql.one("SELECT susx.embed_text('a cat')::text") == expected


def test_others_are_served_meanwhile(sql, connect, kinds, image):
    """A session with thousands of images waiting does not make another one wait for all of them."""
    other = connect()
    with in_background(lambda: interrupted(sql, SLOW["embed_images"], image)):
        time.sleep(1)
        started = time.monotonic()
        assert other.one("SELECT vector_dims(susx.embed_image(%s))", image) == 512
        waited = time.monotonic() - started
        other.run("SELECT pg_cancel_backend(%s)", sql.pid)
    assert waited < PROMPTLY


@pytest.fixture
def stopped_server(cluster, sql, kinds):
    """The inference process hangs."""
    (server,) = servers(cluster.data_dir)
    os.kill(server, signal.SIGSTOP)
    yield
    os.kill(server, signal.SIGCONT)


def test_cancel_while_the_server_hangs(sql, connect, stopped_server, image):
    other, new = connect(), connect()
    for session in (sql, new):
        with in_background(lambda: interrupted(session, "SELECT susx.embed_image(%s)", image)) as results:
            time.sleep(0.5)
            asked = time.monotonic()
            other.run("SELECT pg_cancel_backend(%s)", session.pid)
        assert results[0][0] - asked < PROMPTLY


def test_cancel_while_more_is_sent_than_the_server_reads(sql, connect, stopped_server):
    """The socket is full: the backend waits to write."""
    other = connect()
    query = "SELECT count(*) FROM susx.embed_images(array_fill(%s::bytea, '{40}'))"
    with in_background(lambda: interrupted(sql, query, os.urandom(1 << 20))) as results:
        time.sleep(1)
        asked = time.monotonic()
        other.run("SELECT pg_cancel_backend(%s)", sql.pid)
    assert results[0][0] - asked < PROMPTLY


def test_terminate_while_the_server_hangs(sql, connect, stopped_server, image):
    victim = connect()
    with in_background(lambda: victim.rows("SELECT susx.embed_image(%s)", image)) as results:
        time.sleep(0.5)
        asked = time.monotonic()
        assert sql.one("SELECT pg_terminate_backend(%s, 5000)", victim.pid)
        assert time.monotonic() - asked < PROMPTLY
    assert isinstance(results[0], psycopg.OperationalError)
