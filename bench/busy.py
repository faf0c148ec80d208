"""Labelling row by row while another session commits all the time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

from tools.cluster import Cluster
from tools.harness import DATABASE, create_extension, session

from .data import clip_like
from .report import Disagreement, Row, Section, duration, times
from .sql import create, fill
from .timing import alternate, seconds

TEXT = """\
A new session labels rows one by one, each with a separate statement. The first call fits the classifier, and each further
call has to check whether the fit is still valid. On the busy cluster, another session inserts a row into its own table
every 30 ms at the same time. Both sides return the same labels."""

LIMIT = 1.1
# Seconds.
PAUSE = 0.03
COMMIT = """
import sys, time, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
while True:
    time.sleep(float(sys.argv[2]))
    connection.execute("INSERT INTO log VALUES (1)")
"""


def measure(folder: Path, quick: bool, pg: str) -> Section:
    categories, per_class, calls, dimensions = (8, 4, 50, 64) if quick else (100, 32, 1000, 256)
    data = clip_like(6, categories, categories * per_class, min(calls, 500), dimensions)
    section = Section("A busy cluster", TEXT)
    settings = {"autovacuum": "off", "synchronous_commit": "off", "jit": "off"}
    with Cluster.throwaway(pg, settings) as cluster:
        create_extension(cluster)
        with session(cluster) as sql:
            sql.execute("SET client_min_messages = warning")
            fill(sql, "t", data.queries)
            create(sql, "c", data)
            sql.execute("CREATE TABLE log (i int)")
        labels: dict[str, list[str]] = {}

        def label(side: str) -> float:
            with session(cluster) as sql:
                found = labels[side] = []

                def ask() -> None:
                    for i in range(calls):
                        query = f"SELECT susx.label('c', embedding) FROM t WHERE id = {i % len(data.queries)}"
                        found.append(sql.execute(query).fetchone()[0])

                return seconds(ask)

        def label_beside_a_committer() -> float:
            before = commits(cluster)
            with committer(cluster):
                while commits(cluster) == before:
                    time.sleep(PAUSE)
                before = commits(cluster)
                spent = label("busy")
                found = commits(cluster) - before
            # A quick run may end within the first pause.
            if found < spent // PAUSE // 4:
                raise Disagreement(f"only {found} commits in {duration(spent)}: the cluster was not busy")
            return spent

        least = alternate(1 if quick else 5, quiet=lambda: label("quiet"), busy=label_beside_a_committer)
    if labels["quiet"] != labels["busy"]:
        raise Disagreement("the labels beside a committer are others")
    ratio = least["busy"] / least["quiet"]
    section.rows.append(
        Row(
            "one-row calls beside a committer: on a quiet cluster",
            f"{calls:,} calls, C = {categories}, M = {len(data.support):,}, d = {dimensions}",
            duration(least["quiet"]),
            duration(least["busy"]),
            f"{times(ratio)} as long",
            f"≤ {LIMIT} ×",
            ratio <= LIMIT,
            agreement="labels equal",
        )
    )
    return section


@contextlib.contextmanager
def committer(cluster: Cluster) -> Iterator[None]:
    """Commits all the time, in another process, so that it does not share Python's lock with this one."""
    process = subprocess.Popen([sys.executable, "-c", COMMIT, cluster.url(DATABASE), str(PAUSE)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def commits(cluster: Cluster) -> int:
    with session(cluster) as sql:
        return sql.execute("SELECT count(*) FROM log").fetchone()[0]
