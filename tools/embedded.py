"""`make up`, `down`, `url` and `psql`: embedded clusters, one per PostgreSQL version, for trials and not production."""

from __future__ import annotations

import os
import sys
from typing import Callable

from . import install, model, onnxruntime, postgres, toolchain
from .cluster import Cluster
from .console import Failure, main, say
from .paths import MODELS, ONNXRUNTIME, PG_VERSIONS, cluster_home, pg_bin, pg_home

DATABASE = "susx"


def cluster(pg: str) -> Cluster:
    if pg not in PG_VERSIONS:
        raise Failure(f"there is no embedded PostgreSQL {pg}, only {', '.join(PG_VERSIONS)}")
    # Set at every start, because the checkout may have moved.
    settings = {
        "susx.model_dir": MODELS,
        "susx.model": "demo",
        "susx.onnxruntime_library": ONNXRUNTIME,
        "log_line_prefix": "%m [%p] ",
    }
    return Cluster(pg, cluster_home(pg), settings)


Step = tuple[str, Callable[[], None]]


def steps(pg: str) -> list[Step]:
    """What makes a cluster that runs, in order."""
    cluster(pg)
    return [
        (f"PostgreSQL {pg} with pgvector", lambda: postgres.ensure(pg)),
        ("ONNX Runtime", onnxruntime.ensure),
        ("the default models", model.ensure),
        ("susx", lambda: install.install(pg_bin(pg, "pg_config"))),
        ("the cluster", lambda: _start(pg)),
    ]


def in_steps(all_steps: list[Step]) -> None:
    """Runs the steps, and says which one of how many it is."""
    for number, (what, make) in enumerate(all_steps, 1):
        say(f"step {number} of {len(all_steps)}: {what}")
        make()


def up(pg: str) -> None:
    all_steps = steps(pg)
    # Before anything is fetched.
    toolchain.prerequisites()
    in_steps(all_steps)


def _start(pg: str) -> None:
    server = cluster(pg)
    server.init()
    if server.is_running() and (server.configure() or _has_older_build(server)):
        say(f"restarting PostgreSQL {pg} with the new build")
        server.stop()
    if not server.is_running():
        server.start()
    server.create_database(DATABASE)
    server.update_extension("susx")
    say(f"PostgreSQL {pg} is up: {server.url(DATABASE)}")


def _has_older_build(server: Cluster) -> bool:
    started = (server.data_dir / "postmaster.pid").stat().st_mtime
    built = [*(pg_home(server.pg) / "lib" / "postgresql").glob("susx*"), pg_bin(server.pg, "susx-server")]
    return any(path.stat().st_mtime > started for path in built)


def down(pg: str) -> None:
    server = cluster(pg)
    if server.is_running():
        server.stop()
        say(f"PostgreSQL {pg} is down")


def url(pg: str) -> None:
    print(cluster(pg).url(DATABASE))


def psql(pg: str) -> None:
    server = cluster(pg)
    if not server.is_running():
        raise Failure(f"PostgreSQL {pg} is not running: run `make up PG={pg}`")
    # The wheel's terminal library does not look where Debian keeps the descriptions of common terminals.
    os.environ.setdefault("TERMINFO_DIRS", "/etc/terminfo:/lib/terminfo:/usr/share/terminfo")
    os.execv(server.psql, [str(server.psql), server.url(DATABASE)])


def run() -> None:
    commands = {"up": up, "down": down, "url": url, "psql": psql}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        raise Failure(f"usage: python3 -m tools.embedded {'|'.join(commands)} {'|'.join(PG_VERSIONS)}")
    commands[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    main(run)
