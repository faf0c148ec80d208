"""Two dozen sessions at once, while processes are killed: afterwards every embedding and label is the right one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import Iterator

import numpy as np
import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, servers, supervisors
from helpers.session import Session, array, session_of

MODEL = "tiny_split"
PICTURES = 1200
ROUNDS = 8
# The server was lost again and again, or not there in time; the session was ended; the cluster recovers from a crash.
PASSING = {"08006", "57P03", "57P01", "57P02", None}
NAMES = ["bird", "flower", "fruit", "tool"]


@pytest.fixture(scope="module")
def cluster(new_cluster):
    """Its own, in which what was committed outlives a crash."""
    with new_cluster(synchronous_commit="on") as cluster:
        yield cluster


@pytest.fixture
def images(cluster) -> list[bytes]:
    """Of different sizes, so that a batch takes a while; row i of `pictures` is number i."""
    images = [encode(picture(i % 80, (100 + 5 * (i % 40), 90)), "JPEG") for i in range(PICTURES)]
    with session_of(cluster) as session:
        session.run(
            "SET client_min_messages = warning; CREATE SCHEMA storm; SET search_path = storm, public; "
            "CREATE TABLE pictures (id int PRIMARY KEY, image bytea, embedding vector); "
            "CREATE TABLE written (id int PRIMARY KEY, image bytea, embedding vector); "
            "CREATE TRIGGER embed AFTER INSERT ON written REFERENCING NEW TABLE AS new "
            f"FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', '{MODEL}')"
        )
        session.copy("pictures", ["id", "image"], enumerate(images))
        session.rows("SELECT susx.create_classifier('kinds', %s, model => %s)", NAMES, MODEL)
    yield images
    with session_of(cluster) as session:
        session.run("SET client_min_messages = warning; DROP SCHEMA storm CASCADE")


class Worker:
    """A session that does its work to the end, again from where it was when it or the server is killed."""

    def __init__(self, cluster, work):
        self.cluster, self.work = cluster, work
        self.session: Session | None = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            self.work(self)
        except Exception as error:  # Judged by the test.
            self.error = error
        finally:
            self._close()

    def _close(self):
        session, self.session = self.session, None
        if session:
            with contextlib.suppress(psycopg.Error):
                session.close()

    def until_done(self, statement):
        """What the statement returns, a call with the session, once it goes through."""
        end = time.monotonic() + 150
        while True:
            try:
                if self.session is None:
                    self.session = Session(self.cluster.url("susx"))
                    self.session.run("SET search_path = storm, public; SET client_min_messages = warning")
                return statement(self.session)
            except psycopg.Error as error:
                # Only what the kills explain.
                if error.sqlstate not in PASSING or time.monotonic() > end:
                    raise
                if self.session and self.session.connection.closed:
                    self._close()
                time.sleep(0.1)


def again_until(over: threading.Event, places: range) -> Iterator[int]:
    """The places at least once."""
    yield from places
    while not over.is_set():
        for place in places:
            if over.is_set():
                return
            yield place


def test_storm(cluster, images):
    singles: dict[int, str] = {}
    labels: list[list[tuple]] = []
    texts: dict[str, str] = {}

    over = threading.Event()

    def etl(worker):
        call = f"CALL susx.embed_table('pictures', batch_size => 16, model => '{MODEL}')"
        worker.until_done(lambda s: s.run(call))
        while not over.is_set():
            worker.until_done(lambda s: s.run("UPDATE pictures SET embedding = NULL WHERE id % 2 = 0"))
            worker.until_done(lambda s: s.run(call))

    def analyst(first):
        def work(worker):
            for i in again_until(over, range(first, PICTURES, 14)):
                singles[i] = worker.until_done(
                    lambda s: s.one("SELECT susx.embed_image(image, %s)::text FROM pictures WHERE id = %s", MODEL, i)
                )

        return work

    def writer(first):
        def work(worker):
            for start in range(first, PICTURES, 4 * 5):
                rows = [(i, images[i]) for i in range(start, start + 5)]
                values = ", ".join(["(%s, %s)"] * len(rows))
                # Once more only if it did not get through: an answer may be lost after the commit.
                statement = f"INSERT INTO written (id, image) VALUES {values} ON CONFLICT DO NOTHING"
                worker.until_done(lambda s: s.run(statement, *(value for row in rows for value in row)))

        return work

    def labeller(worker):
        query = "SELECT id, image FROM storm.pictures WHERE id < 120 ORDER BY id"
        for _ in again_until(over, range(3)):
            labels.append(
                worker.until_done(
                    lambda s: s.rows(
                        "SELECT key, category, error FROM susx.classify_rows('kinds', %s, key => NULL::int)", query
                    )
                )
            )

    def writer_of_texts(first):
        def work(worker):
            for i in again_until(over, range(first, 120, 3)):
                text = f"a photo of {i} {NAMES[i % 4]}s."
                texts[text] = worker.until_done(lambda s: s.one("SELECT susx.embed_text(%s, %s)::text", text, MODEL))

        return work

    work = [etl, *map(analyst, range(14)), *map(writer, range(0, 20, 5)), labeller, labeller, labeller]
    workers = [Worker(cluster, each) for each in [*work, *map(writer_of_texts, range(3))]]
    assert len(workers) >= 20
    for worker in workers:
        worker.thread.start()
    kill(cluster, workers)
    over.set()
    for worker in workers:
        worker.thread.join(timeout=200)
        assert not worker.thread.is_alive(), "a session did not come to its end"
        assert worker.error is None, repr(worker.error)

    assert eventually(lambda: len(servers(cluster.data_dir)) == 1)
    assert len(supervisors(cluster.data_dir)) == 1
    with session_of(cluster) as session:
        check(session, images, singles, labels, texts)


def kill(cluster, workers):
    """The inference process most times, a session now and then, and once a session so hard that the cluster recovers."""
    choice = random.Random(20261123)
    for number in range(ROUNDS):
        time.sleep(choice.uniform(0.3, 0.9))
        sessions = [worker.session for worker in workers if worker.session is not None]
        victim = choice.choice(sessions).pid if sessions else None
        if number == ROUNDS // 2 and victim:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        elif number % 3 == 1 and victim:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGTERM)
        else:
            for server in servers(cluster.data_dir):
                os.kill(server, signal.SIGKILL)


def check(session, images, singles, labels, texts):
    """Everything against one session that embeds image by image."""
    session.run("SET search_path = storm, public")
    right: dict[bytes, np.ndarray] = {}
    for image in images:
        if image not in right:
            right[image] = array(session.one("SELECT susx.embed_image(%s, %s)::text", image, MODEL))

    def same(found: str, image: bytes) -> bool:
        return np.abs(array(found) - right[image]).max() < 1e-4

    stored = dict(session.rows("SELECT id, embedding::text FROM pictures"))
    assert sorted(stored) == list(range(PICTURES))
    assert all(same(stored[i], images[i]) for i in stored)
    assert sorted(singles) == list(range(PICTURES))
    assert all(same(singles[i], images[i]) for i in singles)
    written = dict(session.rows("SELECT id, embedding::text FROM written"))
    assert sorted(written) == list(range(PICTURES))
    assert all(same(written[i], images[i]) for i in written)
    assert session.rows("SELECT * FROM susx.errors") == []

    expected = session.rows("SELECT id, susx.label('kinds', embedding), NULL FROM pictures WHERE id < 120 ORDER BY id")
    assert len(labels) >= 9
    assert all(found == expected for found in labels)
    for text, embedding in texts.items():
        alone = array(session.one("SELECT susx.embed_text(%s, %s)::text", text, MODEL))
        assert np.abs(array(embedding) - alone).max() < 1e-4
    assert len(texts) == 120
