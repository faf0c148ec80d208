"""The work of the sessions. Each compares every answer with the one that a single session got before the soak."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import psycopg

from tests.helpers.pictures import encode, picture

from .worker import Worker

PICTURES = 300
NAMES = ["bird", "flower", "fruit", "tool"]
TEXTS = [f"a photo of {number} {name}s." for number in range(10) for name in NAMES]
BULK_ROWS = 400
TUNE = "SELECT * FROM susx.tune('kinds')"
# The categories that each of two tenants sees of one classifier.
TENANTS = {"bird,flower": ("bird", "flower"), "fruit,tool": ("fruit", "tool")}
TENANT = "SELECT susx.label('shared', embedding) FROM pictures ORDER BY id"
# A model that never finishes loading.
ENDLESS = "endless"
ROWS = """SELECT key, category, error
    FROM susx.classify_rows('kinds', 'SELECT id, image FROM pictures ORDER BY id', key => NULL::int)"""


class Wrong(Exception):
    """An answer that differs from the single session's."""


@dataclass
class Right:
    """The answers that a single session got."""

    embeddings: list[np.ndarray]
    texts: dict[str, np.ndarray]
    labels: list[str]
    rows: list[tuple]
    tuned: list[tuple]
    tenants: dict[str, list[str]]


@dataclass
class Storm:
    """The state that all sessions share."""

    right: Right
    over: threading.Event = field(default_factory=threading.Event)
    done: Counter = field(default_factory=Counter)
    # Ids of rows whose INSERT has succeeded.
    written: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.done[what] += number


def vector(text: str) -> np.ndarray:
    return np.array(text[1:-1].split(","), np.float64)


def check(what: str, found: str, expected: np.ndarray) -> None:
    if np.abs(vector(found) - expected).max() >= 1e-4:
        raise Wrong(f"{what} has another embedding than in a single session")


def prepare(sql: psycopg.Connection) -> Right:
    """Creates the tables and classifiers, and collects the answers of a single session."""
    images = [encode(picture(i, (100 + 5 * (i % 40), 90)), "JPEG") for i in range(PICTURES)]
    sql.execute("CREATE TABLE pictures (id int PRIMARY KEY, image bytea, embedding vector)")
    sql.execute("CREATE TABLE written (id bigint PRIMARY KEY, image bytea, embedding vector)")
    sql.execute(
        "CREATE TRIGGER embed AFTER INSERT ON written REFERENCING NEW TABLE AS new "
        "FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding')"
    )
    with sql.cursor() as cursor:
        rows = [(i, image, image) for i, image in enumerate(images)]
        cursor.executemany("INSERT INTO pictures VALUES (%s, %s, susx.embed_image(%s))", rows)
    for number in range(3):
        sql.execute(f"CREATE TABLE bulk_{number} (id int PRIMARY KEY, image bytea, embedding vector)")
        sql.execute(
            f"INSERT INTO bulk_{number} SELECT n, image FROM generate_series(1, {BULK_ROWS}) n "
            f"JOIN pictures ON id = mod(n, {PICTURES})"
        )
    sql.execute("SELECT susx.create_classifier('kinds', %s)", [NAMES])
    sql.execute("SELECT count(*) FROM susx.build_support_set('kinds', 'pictures')")
    sql.execute("CREATE TABLE log (i int)")
    tenants = {tenant: label_as(sql, tenant) for tenant in share(sql)}
    embeddings = [vector(text) for (text,) in sql.execute("SELECT embedding::text FROM pictures ORDER BY id")]
    texts = {text: vector(sql.execute("SELECT susx.embed_text(%s)::text", [text]).fetchone()[0]) for text in TEXTS}
    labels = [label for (label,) in sql.execute("SELECT susx.label('kinds', image) FROM pictures ORDER BY id")]
    return Right(embeddings, texts, labels, sql.execute(ROWS).fetchall(), sql.execute(TUNE).fetchall(), tenants)


def share(sql: psycopg.Connection) -> list[str]:
    """Creates a classifier that shows its tenants different categories."""
    sql.execute("SELECT susx.create_classifier('shared', %s)", [NAMES])
    sql.execute("SELECT count(*) FROM susx.build_support_set('shared', 'pictures')")
    sql.execute(
        """
        ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenants ON shared USING (category = ANY (string_to_array(current_setting('app.tenant'), ',')));
        CREATE ROLE tenant;
        GRANT SELECT ON shared, pictures TO tenant"""
    )
    return list(TENANTS)


def label_as(connection: psycopg.Connection, tenant: str) -> list[str]:
    """All labels as a tenant sees them, over a connection that tenants share."""
    connection.execute("SET ROLE tenant")
    connection.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
    labels = [label for (label,) in connection.execute(TENANT)]
    connection.execute("RESET ROLE")
    return labels


def bulk(storm: Storm, number: int):
    """An ETL job: embeds its table, removes half of the embeddings, and starts over."""

    def work(worker: Worker) -> None:
        choice = random.Random(number)
        while not storm.over.is_set():
            worker.run(f"CALL susx.embed_table('bulk_{number}', batch_size => 32)")
            missing = worker.one(f"SELECT count(*) FROM bulk_{number} WHERE embedding IS NULL")
            if missing:
                raise Wrong(f"embed_table left {missing} rows without an embedding")
            storm.count("images embedded in bulk", BULK_ROWS // 2)
            worker.run(f"UPDATE bulk_{number} SET embedding = NULL WHERE mod(id, 2) = {choice.randrange(2)}")
        worker.run(f"CALL susx.embed_table('bulk_{number}')")

    return work


def single(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        choice = random.Random(100 + number)
        while not storm.over.is_set():
            i = choice.randrange(PICTURES)
            found = worker.one("SELECT susx.embed_image(image)::text FROM pictures WHERE id = %s", i)
            check(f"picture {i}", found, storm.right.embeddings[i])
            storm.count("single images")

    return work


def label(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        choice = random.Random(200 + number)
        while not storm.over.is_set():
            i = choice.randrange(PICTURES)
            found = worker.one("SELECT susx.label('kinds', image) FROM pictures WHERE id = %s", i)
            if found != storm.right.labels[i]:
                raise Wrong(f"picture {i} is {found}, and was {storm.right.labels[i]} in a single session")
            storm.count("labels")

    return work


def rows(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        while not storm.over.is_set():
            if worker.rows(ROWS) != storm.right.rows:
                raise Wrong("classify_rows has other labels than in a single session")
            storm.count("rows of classify_rows", PICTURES)

    return work


def writer(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        first = 1_000_000 * number
        while not storm.over.is_set():
            ids = list(range(first, first + 5))
            # The answer may be lost after the commit, and then the repeated INSERT finds the rows.
            worker.run(
                "INSERT INTO written (id, image) SELECT n, image FROM unnest(%s::bigint[]) n "
                f"JOIN pictures p ON p.id = mod(n, {PICTURES}) ON CONFLICT DO NOTHING",
                ids,
            )
            with storm.lock:
                storm.written += ids
            storm.count("rows written through the trigger", len(ids))
            first += 5

    return work


def tuner(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        while not storm.over.is_set():
            if worker.rows(TUNE) != storm.right.tuned:
                raise Wrong("tune found something else than in a single session")
            storm.count("searches of tune")

    return work


def editor(storm: Storm, number: int):
    """Creates, changes and drops a classifier of its own."""

    def work(worker: Worker) -> None:
        name, round = f"own_{number}", 0
        while not storm.over.is_set():
            round += 1
            i = round % PICTURES
            worker.run(f"DROP TABLE IF EXISTS {name}, {name}_renamed")
            worker.rows("SELECT susx.create_classifier(%s, %s) WHERE to_regclass(%s) IS NULL", name, NAMES, name)
            worker.rows(
                "SELECT susx.add_support(%s, %s, array_agg(embedding)) FROM pictures WHERE id = %s "
                "AND NOT EXISTS (SELECT FROM " + name + " WHERE kind = 'image')",
                *(name, storm.right.labels[i], i),
            )
            worker.rows("SELECT susx.alter_classifier(%s, alpha => %s)", name, 1 + round % 9)
            worker.run(f"ALTER TABLE IF EXISTS {name} RENAME TO {name}_renamed")
            found = worker.one(
                f"SELECT susx.label('{name}_renamed', embedding, method => 'zero-shot') FROM pictures WHERE id = %s", i
            )
            expected = worker.one(
                "SELECT susx.label('kinds', embedding, method => 'zero-shot') FROM pictures WHERE id = %s", i
            )
            if found != expected:
                raise Wrong(f"picture {i} is {found} in a new classifier, and {expected} in the old one")
            storm.count("classifiers made, changed and dropped")

    return work


def text(storm: Storm, number: int):
    def work(worker: Worker) -> None:
        choice = random.Random(300 + number)
        while not storm.over.is_set():
            chosen = choice.sample(TEXTS, 8)
            found = worker.rows("SELECT embedding::text FROM susx.embed_texts(%s) ORDER BY ord", chosen)
            for one, (embedding,) in zip(chosen, found):
                check(repr(one), embedding, storm.right.texts[one])
            storm.count("texts", len(chosen))

    return work


def tenant(storm: Storm, number: int):
    """Two tenants who take turns on one connection."""

    def work(worker: Worker) -> None:
        while not storm.over.is_set():
            for name, categories in TENANTS.items():
                labels = worker.until_done(lambda connection: label_as(connection, name))
                if not set(labels) <= set(categories):
                    raise Wrong(f"a tenant who sees {name} got {sorted(set(labels))}")
                if labels != storm.right.tenants[name]:
                    raise Wrong(f"a tenant who sees {name} has other labels than in a single session")
                storm.count("labels of tenants", len(labels))

    return work


def committer(storm: Storm, number: int):
    """Commits that have nothing to do with any classifier."""

    def work(worker: Worker) -> None:
        while not storm.over.wait(0.03):
            worker.run("INSERT INTO log VALUES (1)")
            storm.count("commits of others")

    return work


def flood(storm: Storm, number: int):
    """Calls of many long texts, which are cancelled before they finish, and texts that are too long."""

    def work(worker: Worker) -> None:
        many = "SELECT count(*) FROM susx.embed_texts(array_fill(repeat('many words ', 9000), '{200}'))"
        while not storm.over.is_set():
            worker.run("SET statement_timeout = '300ms'")
            try:
                worker.run(many)
            except psycopg.errors.QueryCanceled:
                pass
            worker.run("SET statement_timeout = 0")
            storm.count("floods of long texts")
            try:
                worker.run("SELECT susx.embed_text(repeat('word ', 4000000))")
                raise Wrong("a text of 20 MB was embedded")
            except psycopg.errors.ProgramLimitExceeded:
                storm.count("texts that are too long")

    return work


def hopeless(storm: Storm, number: int):
    """Asks for a model that never finishes loading, and reads the list of models."""

    def work(worker: Worker) -> None:
        while not storm.over.is_set():
            worker.run("SET statement_timeout = '2s'")
            try:
                worker.run("SELECT susx.embed_text('x', %s)", ENDLESS)
                raise Wrong("a model that cannot be loaded has embedded a text")
            except (psycopg.errors.QueryCanceled, psycopg.errors.ConfigFileError):
                storm.count("requests for a model that never loads")
            worker.run("SET statement_timeout = 0")
            storm.over.wait(0.2)
            names = [name for (name,) in worker.rows("SELECT name FROM susx.models() ORDER BY name")]
            if ENDLESS not in names:
                raise Wrong(f"models() shows {names}")

    return work


# Thirty-six.
SESSIONS = [
    *[(bulk, 3), (single, 10), (label, 5), (rows, 3), (writer, 3), (tuner, 2), (editor, 2), (text, 2)],
    *[(tenant, 2), (committer, 1), (flood, 2), (hopeless, 1)],
]
