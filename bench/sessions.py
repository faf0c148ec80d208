"""Many sessions that embed row by row at the same time, against one that embeds in bulk."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import psycopg

from tests.helpers.processes import eventually, servers

from tools.harness import BATCH, THREADS, cluster_with_models, session

from .embed import rate
from .encoders import agreement, fill, photos
from .report import Row, Section, times
from .timing import alternate, seconds

TEXT = """\
Many sessions call `susx.embed_image(image)` row by row, each for a share of the rows (one `INSERT … SELECT` per session,
all at the same time). The reference is one session that calls `susx.embed_images` for all rows. Single calls are fast
because sessions share batches; with `susx.batch_size = 1` they share none. `ratio` is their rate divided by the bulk rate."""

SESSIONS = 32


def measure(folder: Path, quick: bool, pg: str) -> Section:
    sessions = 8 if quick else SESSIONS
    images = photos(sessions * (2 if quick else 20))
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(cluster_with_models(pg, folder))
        sql = stack.enter_context(session(cluster))
        fill(sql, "photos", images)
        for table in ("bulk", "shared", "alone"):
            sql.execute(f"CREATE UNLOGGED TABLE {table} (id int, embedding vector)")
        connections = [stack.enter_context(session(cluster)) for _ in range(sessions)]
        # Connects all of them to the server before the clock starts.
        together(connections, ["SELECT susx.embed_image(image) FROM photos LIMIT 1"] * sessions)

        def in_bulk() -> float:
            sql.execute("TRUNCATE bulk")
            return seconds(lambda: sql.execute(BULK))

        def row_by_row(table: str) -> float:
            sql.execute(f"TRUNCATE {table}")
            share = f"INSERT INTO {table} SELECT id, susx.embed_image(image) FROM photos WHERE id % {sessions} = {{}}"
            return seconds(lambda: together(connections, [share.format(place) for place in range(sessions)]))

        def without_batches() -> float:
            with batch_size(cluster, sql, connections, 1):
                return row_by_row("alone")

        least = alternate(
            1 if quick else 2,
            warm_up=False,
            bulk=in_bulk,
            shared=lambda: row_by_row("shared"),
            alone=without_batches,
        )
        agreements = {
            table: agreement(sql, "row by row and in bulk", "bulk", table, len(images)) for table in ("shared", "alone")
        }
    section = Section("Many sessions", TEXT)
    sizes = f"{sessions} sessions, {len(images):,} JPEGs, {THREADS} threads"
    for side, what, target in (
        ("shared", f"batches of up to {BATCH} across sessions", 0.9),
        ("alone", "`susx.batch_size = 1`", None),
    ):
        ratio = least["bulk"] / least[side]
        section.rows.append(
            Row(
                f"`embed_image` row by row, {what}: `embed_images` in bulk",
                sizes,
                rate(len(images), least["bulk"]),
                rate(len(images), least[side]),
                times(ratio),
                f"≥ {target:g} ×" if target else "",
                ratio >= target if target else None,
                agreements[side],
            )
        )
    return section


BULK = """
INSERT INTO bulk SELECT ids[ord], embedding
FROM (SELECT array_agg(id ORDER BY id) AS ids, array_agg(image ORDER BY id) AS images FROM photos) all_photos,
     susx.embed_images(images)
"""


def together(connections: list[psycopg.Connection], statements: list[str]) -> None:
    """Runs one statement in each session, all at the same time."""
    failures: list[Exception] = []

    def work(connection: psycopg.Connection, statement: str) -> None:
        try:
            connection.execute(statement)
        except Exception as error:  # The waiting thread raises it.
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(connections, statements)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def batch_size(cluster, sql: psycopg.Connection, connections: list[psycopg.Connection], size: int):
    """Runs the block with another susx.batch_size, which restarts the server."""

    def reload(statement: str) -> None:
        before = servers(cluster.data_dir)
        sql.execute(statement)
        sql.execute("SELECT pg_reload_conf()")
        if not eventually(lambda: servers(cluster.data_dir) not in ([], before), 60):
            raise RuntimeError("the server was not restarted with the new setting")
        warm_up(connections)

    reload(f"ALTER SYSTEM SET susx.batch_size = {size}")
    try:
        yield
    finally:
        reload("ALTER SYSTEM RESET susx.batch_size")


def warm_up(connections: list[psycopg.Connection]) -> None:
    """Loads the model in the new server, and connects every session to it."""
    end = time.monotonic() + 60
    while True:
        try:
            together(connections, ["SELECT susx.embed_image(image) FROM photos LIMIT 1"] * len(connections))
            return
        except psycopg.Error:
            # The call met the restart of the server.
            if time.monotonic() > end:
                raise
