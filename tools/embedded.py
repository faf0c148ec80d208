"""`make up`, `down`, `url` and `psql`: embedded clusters, one per PostgreSQL version, for trials and not production."""

from __future__ import annotations

import os
import sys

from . import install, model, onnxruntime, postgres
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


def up(pg: str) -> None:
    server = cluster(pg)
    postgres.ensure(pg)
    onnxruntime.ensure()
    model.ensure()
    install.install(pg_bin(pg, "pg_config"))
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
