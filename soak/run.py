"""Runs the soak and writes docs/reliability.md. `make soak` prepares and runs it.

usage: python -m soak.run [--pg 18] [--minutes 30] [--output FILE]
"""

from __future__ import annotations

import shutil
import sys
from datetime import date
from pathlib import Path

import psycopg

from tests.helpers.endless import make_endless
from tests.helpers.processes import eventually, one_of_each, servers, sockets, supervisors
from tools.console import Failure, main, say
from tools.harness import DATABASE, TINY, cluster_with_models, commit, options, public_folder, publish, session
from tools.paths import ROOT, TEST_MODELS

from .chaos import Chaos
from .sessions import ENDLESS, PICTURES, SESSIONS, Storm, check, prepare
from .worker import Worker

PAGE = ROOT / "docs" / "reliability.md"
INTRODUCTION = Path(__file__).parent / "introduction.md"
SETUP = "SET client_min_messages = error"
# Allowed growth of the last server's resident and the mean session's private memory, over the second half of the time.
GROWTH = 0.1


def soak(pg: str, minutes: float, output: Path | None) -> None:
    with public_folder("soak") as folder:
        # Commits must survive a crash.
        settings = {
            "susx.model": "split",
            "susx.load_timeout": "30s",
            "synchronous_commit": "on",
            "susx.progress_interval": 0,
        }
        with cluster_with_models(pg, folder, **settings) as cluster:
            make_endless(shutil.copytree(TEST_MODELS / TINY, folder / "models" / ENDLESS))
            with session(cluster) as sql:
                sql.execute(SETUP)
                storm = Storm(prepare(sql))
            works = [work(storm, number) for work, count in SESSIONS for number in range(count)]
            workers = [Worker(cluster, DATABASE, SETUP, work) for work in works]
            chaos = Chaos(cluster, workers)
            say(f"{len(workers)} sessions for {minutes:g} minutes")
            for worker in workers:
                worker.thread.start()
            chaos.rage(60 * minutes)
            storm.over.set()
            for worker in workers:
                worker.thread.join(timeout=300)
            wrong = [repr(worker.error) for worker in workers if worker.error is not None]
            wrong += ["a session did not end" for worker in workers if worker.thread.is_alive()]
            wrong += afterwards(cluster, storm)
            data_dir = cluster.data_dir
            cluster.stop()
            wrong += left_behind(data_dir)
    wrong += leaks(chaos)
    text = page(storm, chaos, workers, minutes, wrong)
    publish(text, output)
    if wrong:
        raise Failure(f"{len(wrong)} things went wrong: {wrong[0]}")


def afterwards(cluster, storm: Storm) -> list[str]:
    """Compares every row with the answers of the single session."""
    wrong = []
    if not eventually(lambda: one_of_each(cluster.data_dir), 60):
        found = len(servers(cluster.data_dir)), len(supervisors(cluster.data_dir))
        wrong.append("%s servers and %s supervisors at the end" % found)
    with session(cluster) as sql:
        tables = [f"bulk_{number}" for number in range(3)] + ["written"]
        for table in tables:
            for key, embedding in sql.execute(f"SELECT id, embedding::text FROM {table}").fetchall():
                try:
                    check(f"row {key} of {table}", embedding, storm.right.embeddings[key % PICTURES])
                except Exception as error:  # Any error means a wrong row.
                    wrong.append(f"row {key} of {table}: {error!r}")
        kept = {key for (key,) in sql.execute("SELECT id FROM written").fetchall()}
        wrong += [f"row {key} was written and is lost" for key in storm.written if key not in kept]
        wrong += [f"susx.errors has {row}" for row in sql.execute("SELECT * FROM susx.errors").fetchall()]
    return wrong


def left_behind(data_dir: Path) -> list[str]:
    gone = lambda: not (servers(data_dir) or supervisors(data_dir) or sockets(data_dir))  # noqa: E731
    return [] if eventually(gone, 30) else ["a process or a socket is left after PostgreSQL stopped"]


def leaks(chaos: Chaos) -> list[str]:
    wrong = []
    for what, curve in (("the last server", last_server(chaos)), ("the mean session", sessions(chaos))):
        if len(curve) >= 20:
            middle, end = mean(curve[len(curve) // 2 :][:5]), mean(curve[-5:])
            if end > middle * (1 + GROWTH):
                wrong.append(f"{what} grew from {middle / 2**20:.1f} to {end / 2**20:.1f} MB")
    return wrong


def last_server(chaos: Chaos) -> list[float]:
    """The last server's resident memory, at every reading."""
    seen = [look.server for look in chaos.memory if look.server]
    return [size for pid, size in seen if pid == seen[-1][0]]


def sessions(chaos: Chaos) -> list[float]:
    return [look.session for look in chaos.memory if look.session]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def steps(curve: list[float]) -> str:
    """Ten values of the curve, in MB."""
    return ", ".join(f"{curve[place * (len(curve) - 1) // 9] / 2**20:.0f}" for place in range(10)) if curve else "none"


def page(storm: Storm, chaos: Chaos, workers: list[Worker], minutes: float, wrong: list[str]) -> str:
    retries = sum(worker.retries for worker in workers)
    lines = [
        INTRODUCTION.read_text().rstrip(),
        "",
        f"- measured: {date.today()}, commit {commit(PAGE)}, {minutes:g} minutes, {len(workers)} sessions",
        f"- statements that failed because of a kill, and succeeded when repeated: {retries:,}",
        f"- wrong answers, lost rows, processes or sockets left behind, leaks: {len(wrong) or 'none'}",
        *(f"  - {what}" for what in wrong[:20]),
        "",
        "| answered, and compared | |",
        "|---|---|",
        *(f"| {what} | {count:,} |" for what, count in sorted(storm.done.items())),
        "",
        "| killed | times |",
        "|---|---|",
        *(f"| {what} | {count} |" for what, count in sorted(chaos.kills.items())),
        "",
        "Memory in MB, at ten moments from start to end: the resident memory of the last server, which was not killed",
        f"in the last third of the time, {steps(last_server(chaos))}; the private memory of the mean session,",
        f"{steps(sessions(chaos))}.",
    ]
    return "\n".join(lines) + "\n"


def run() -> None:
    parser = options("soak", PAGE)
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    try:
        soak(arguments.pg, arguments.minutes, arguments.output)
    except psycopg.Error as error:
        raise Failure(str(error))


if __name__ == "__main__":
    sys.exit(main(run))
