"""Two dozen sessions at once while processes are killed: afterwards, every embedding and label is right."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import Iterator

import numpy as np
import pytest

from conftest import DATABASE
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers, supervisors
from helpers.session import array, session_of
from soak.worker import Worker

MODEL = "tiny_split"
PICTURES = 1200
ROUNDS = 8
NAMES = ["bird", "flower", "fruit", "tool"]


@pytest.fixture(scope="module")
def cluster(new_cluster):
    """A cluster of its own, in which commits survive a crash."""
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
        worker.run(call)
        while not over.is_set():
            worker.run("UPDATE pictures SET embedding = NULL WHERE id % 2 = 0")
            worker.run(call)

    def analyst(first):
        def work(worker):
            for i in again_until(over, range(first, PICTURES, 14)):
                singles[i] = worker.one(
                    "SELECT susx.embed_image(image, %s)::text FROM pictures WHERE id = %s", MODEL, i
                )

        return work

    def writer(first):
        def work(worker):
            for start in range(first, PICTURES, 4 * 5):
                rows = [(i, images[i]) for i in range(start, start + 5)]
                values = ", ".join(["(%s, %s)"] * len(rows))
                # The answer may be lost after the commit, and then the repeated statement changes nothing.
                statement = f"INSERT INTO written (id, image) VALUES {values} ON CONFLICT DO NOTHING"
                worker.run(statement, *(value for row in rows for value in row))

        return work

    def labeller(worker):
        query = "SELECT id, image FROM storm.pictures WHERE id < 120 ORDER BY id"
        for _ in again_until(over, range(3)):
            labels.append(
                worker.rows("SELECT key, category, error FROM susx.classify_rows('kinds', %s, key => NULL::int)", query)
            )

    def writer_of_texts(first):
        def work(worker):
            for i in again_until(over, range(first, 120, 3)):
                text = f"a photo of {i} {NAMES[i % 4]}s."
                texts[text] = worker.one("SELECT susx.embed_text(%s, %s)::text", text, MODEL)

        return work

    work = [etl, *map(analyst, range(14)), *map(writer, range(0, 20, 5)), labeller, labeller, labeller]
    setup = "SET search_path = storm, public; SET client_min_messages = warning"
    workers = [Worker(cluster, DATABASE, setup, each) for each in [*work, *map(writer_of_texts, range(3))]]
    assert len(workers) >= 20
    for worker in workers:
        worker.thread.start()
    kill(cluster, workers)
    over.set()
    for worker in workers:
        worker.thread.join(timeout=600)
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
        sessions = [pid for worker in workers if (pid := worker.pid)]
        victim = choice.choice(sessions) if sessions else None
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
