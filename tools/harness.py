"""What bench/, soak/ and study/ share: their options, a throwaway cluster with models in it, and a page in docs/."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, Sequence

import psycopg

from . import test_models
from .cluster import Cluster
from .console import say
from .paths import MODELS, ONNXRUNTIME, ROOT, TEST_MODELS

DATABASE = "susx"
MODEL = MODELS / "demo"
# Embeds images alone.
LIKENESS_MODEL = MODELS / "efficientnet-lite2"
# A CLIP with random weights, whose runs cost next to nothing.
TINY = "split"
# The server has these, and so does every reference that a benchmark compares it with.
THREADS = os.cpu_count() or 1
BATCH = 32


def options(what: str, page: Path) -> argparse.ArgumentParser:
    """The command line of `make bench`, `make soak` or `make study`; each adds options of its own."""
    parser = argparse.ArgumentParser(prog=f"make {what}")
    parser.add_argument("--pg", default="18", help="the embedded PostgreSQL whose susx is used")
    parser.add_argument("--output", type=Path, help=f"where to write the page, such as {page.relative_to(ROOT)}")
    return parser


def chosen(parser: argparse.ArgumentParser, kind: str, names: str | None, known: Sequence[str]) -> list[str]:
    """The names of a comma-separated list, or all that are known; an unknown name ends the program."""
    wanted = [name for name in (names or "").split(",") if name] or list(known)
    if unknown := set(wanted) - set(known):
        parser.error(f"no {kind} {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return wanted


@contextlib.contextmanager
def public_folder(what: str) -> Iterator[Path]:
    """A temporary folder that PostgreSQL's account can read, whichever that is."""
    with tempfile.TemporaryDirectory(prefix=f"susx-{what}-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def cluster_with_models(pg: str, folder: Path, **settings: object) -> Iterator[Cluster]:
    """A throwaway cluster with the demo's models and a tiny one, which it copies to `folder`/models."""
    test_models.ensure()
    models = folder / "models"
    if not models.exists():
        models.mkdir()
        for model in (MODEL, LIKENESS_MODEL):
            shutil.copytree(model, models / model.name)
        shutil.copytree(TEST_MODELS / TINY, models / TINY)
    wanted = {
        "susx.model_dir": models,
        "susx.model": "demo",
        "susx.onnxruntime_library": ONNXRUNTIME,
        "susx.execution_provider": "cpu",
        "susx.threads": THREADS,
        "susx.batch_size": BATCH,
        "autovacuum": "off",
        "synchronous_commit": "off",
        "max_wal_size": "4GB",
        "max_connections": "150",
    }
    with Cluster.throwaway(pg, wanted | settings) as cluster:
        create_extension(cluster)
        with session(cluster) as sql:
            # Starts the server and loads the model.
            sql.execute("SELECT susx.embed_text('a photo')")
        yield cluster


def create_extension(cluster: Cluster) -> None:
    """Creates the database that `session` connects to, with susx in it."""
    cluster.create_database(DATABASE)
    with session(cluster) as sql:
        sql.execute("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")


@contextlib.contextmanager
def session(cluster: Cluster) -> Iterator[psycopg.Connection]:
    # A prepared statement would keep the plan of an earlier number of workers.
    with psycopg.connect(cluster.url(DATABASE), autocommit=True, prepare_threshold=None) as connection:
        yield connection


def publish(text: str, output: Path | None) -> None:
    """Writes the page to `output`, or prints it."""
    if output:
        output.write_text(text)
        say(f"wrote {output}")
    else:
        print(text)


def commit(page: Path) -> str:
    """The checkout's commit, and whether any file but this page and its images, which are being rewritten, has changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    written = [f":!{path.relative_to(ROOT)}" for path in (page, page.with_suffix(""))]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")
