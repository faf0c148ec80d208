"""susx.stat_server counts what the inference process did, and reading it starts nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, one_of_each, servers, supervisors
from helpers.session import in_background, session_of

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
MODEL = "tiny_split"
EMBED = f"SELECT count(embedding), count(error) FROM susx.embed_images(%s, '{MODEL}')"
LOOK = "SELECT {} FROM susx.stat_server"


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def stats(session, *columns):
    """Of the only row."""
    (row,) = session.rows(LOOK.format(", ".join(columns)))
    return row[0] if len(columns) == 1 else row


def total(batch_sizes):
    """How many batches a histogram holds, and the fewest and the most inputs that those can have."""
    bounds = {size: [int(bound) for bound in size.split("-")] for size in batch_sizes}
    return (
        sum(batch_sizes.values()),
        sum(bounds[size][0] * batches for size, batches in batch_sizes.items()),
        sum(bounds[size][-1] * batches for size, batches in batch_sizes.items()),
    )


def test_looking_starts_nothing(new_cluster):
    with new_cluster() as cluster, session_of(cluster) as session:
        for _ in range(3):
            assert session.rows("SELECT * FROM susx.stat_server") == []
        time.sleep(0.5)
        assert servers(cluster.data_dir) == supervisors(cluster.data_dir) == []


def test_it_counts_what_was_sent(new_cluster):
    """Forty images and three that are none, by four sessions at once."""
    with new_cluster() as cluster, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(session_of(cluster)) for _ in range(4)]
        watcher = stack.enter_context(session_of(cluster))
        batches = [[IMAGE] * 10, [b"none", *[IMAGE] * 10], [*[IMAGE] * 5, b"none", *[IMAGE] * 5], [*[IMAGE] * 10, b""]]
        started = time.monotonic()
        pairs = zip(clients, batches)
        with in_background(*(lambda pair=pair: pair[0].rows(EMBED, pair[1]) for pair in pairs)) as results:
            pass
        took = 1000 * (time.monotonic() - started)
        assert results == [[(10, 0)], [(10, 1)], [(10, 1)], [(10, 1)]]

        assert stats(watcher, "images", "texts", "failed", "connections", "restarts") == (40, 0, 3, 4, 0)
        assert stats(watcher, "models") == [f"{MODEL} (CPUExecutionProvider)"]
        assert eventually(lambda: stats(watcher, "queue_inputs", "queue_bytes") == (0, 0))
        count, sizes = stats(watcher, "batches", "batch_sizes")
        histogram, fewest, most = total(sizes)
        assert histogram == count and fewest <= 43 <= most
        p50, p95 = stats(watcher, "p50_ms", "p95_ms")
        # The histogram's values are within 1 %.
        assert 0 < p50 <= p95 <= took * 1.02
        assert 0 < stats(watcher, "images_per_second") <= 40

        (pid,) = servers(cluster.data_dir)
        shown, status, version = stats(watcher, "pid", "status", "version")
        assert (shown, status) == (pid, "answering")
        assert version == watcher.one("SELECT extversion FROM pg_extension WHERE extname = 'susx'")
        age = stats(watcher, "uptime")
        assert 0 < age.total_seconds() < 600
        assert watcher.one("SELECT started BETWEEN pg_postmaster_start_time() AND now() FROM susx.stat_server")

        # One by one, texts, and a model that does not exist: nothing of that is a batch.
        for _ in range(5):
            watcher.run(f"SELECT susx.embed_image(%s, '{MODEL}')", IMAGE)
        assert watcher.one(f"SELECT count(embedding) FROM susx.embed_texts('{{a,b,c}}', '{MODEL}')") == 3
        for size in (1, 2):
            assert watcher.fails("SELECT * FROM susx.embed_images(%s, 'nobody')", [IMAGE] * size).sqlstate == "42704"
        assert stats(watcher, "images", "texts", "failed", "connections") == (45, 3, 6, 5)
        more, sizes = stats(watcher, "batches", "batch_sizes")
        assert more >= count + 6 and total(sizes)[0] == more
        assert sizes["1"] >= 5
        message, since = stats(watcher, "last_error", "clock_timestamp() - last_error_at")
        assert "nobody" in message and since.total_seconds() < 60
        clients.pop().close()
        assert eventually(lambda: stats(watcher, "connections") == 4)
        # What was done once is forgotten by the rate, and by nothing else.
        assert eventually(lambda: stats(watcher, "images_per_second", "texts_per_second", "images") == (0, 0, 45))


def test_every_database_sees_the_same_process(sql, connect, cluster, fresh_database):
    other = connect(fresh_database)
    other.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    for session in (sql, other):
        assert session.rows(EMBED, [IMAGE]) == [(1, 0)]
    assert stats(sql, "pid", "images") == stats(other, "pid", "images")
    assert one_of_each(cluster.data_dir)


def test_restarts_are_counted(sql, cluster):
    sql.rows(EMBED, [IMAGE])
    before = stats(sql, "restarts")
    for kill in (1, 2):
        (pid,) = servers(cluster.data_dir)
        os.kill(pid, signal.SIGKILL)
        # It is repeated with the next one.
        assert sql.rows(EMBED, [IMAGE]) == [(1, 0)]
        restarts, images, shown = stats(sql, "restarts", "images", "pid")
        assert (restarts, images) == (before + kill, 1)
        assert shown == servers(cluster.data_dir)[0] != pid


def test_what_waits(sql, connect, cluster):
    """During a long call there is a queue, and when it is cancelled there is none."""
    sql.rows("SELECT susx.embed_image(%s)", IMAGE)
    worker = connect()

    def work():
        try:
            worker.run("SELECT count(*) FROM susx.embed_images(array_fill(%s::bytea, '{6000}'))", IMAGE)
        except psycopg.errors.QueryCanceled:
            return "cancelled"

    with in_background(work) as results:
        assert eventually(lambda: all(count > 0 for count in stats(sql, "queue_inputs", "queue_bytes", "batches")))
        assert stats(sql, "queue_bytes") >= len(IMAGE)
        assert eventually(lambda: stats(sql, "images_per_second") > 0)
        worker_pid = worker.pid
        sql.run("SELECT pg_cancel_backend(%s)", worker_pid)
    assert results == ["cancelled"]
    assert eventually(lambda: stats(sql, "queue_inputs", "queue_bytes") == (0, 0))


def test_who_sees_the_last_error(sql, connect):
    """It may hold paths: as with other sessions' queries, it is for members of pg_read_all_stats."""
    assert sql.fails("SELECT susx.embed_image('no image')").sqlstate == "22P03"
    sql.run("CREATE ROLE stat_reader LOGIN")
    reader = connect(user="stat_reader")
    for view in ("susx.stat_server", "susx.stat_get_server()"):
        query = f"SELECT last_error, last_error_at IS NULL, pid IS NULL FROM {view}"
        assert "image" in sql.rows(query)[0][0]
        assert reader.rows(query) == [(None, False, False)]
        sql.run("GRANT pg_read_all_stats TO stat_reader")
        assert "image" in reader.rows(query)[0][0]
        sql.run("REVOKE pg_read_all_stats FROM stat_reader")
    reader.close()
    sql.run("DROP ROLE stat_reader")
