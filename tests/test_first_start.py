"""Files that a new user has put where they belong, but under another name or without the rights."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from conftest import DATABASE, PG
from helpers.installation import copied
from helpers.session import Session, session_of
from tools.cluster import Cluster
from tools.paths import ONNXRUNTIME


@pytest.fixture(scope="module")
def models(model_dir) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="susx-first-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("open", "closed"):
        shutil.copytree(model_dir / "tiny_split", folder / name)
    # PostgreSQL never runs as root, which could read it all the same.
    for path in (folder / "closed").rglob("*"):
        path.chmod(0o000 if path.is_file() and os.geteuid() else 0o700)
    yield folder
    shutil.rmtree(folder)


def test_the_library_under_its_full_name(models):
    """The Python package onnxruntime carries libonnxruntime.so.1.32.0, and an older one may lie beside it."""
    with copied(PG) as installation:
        folder = installation.library.parent
        shutil.copy(os.path.realpath(ONNXRUNTIME), folder / "libonnxruntime.so.1.32.0")
        (folder / "libonnxruntime.so.1.9.1").write_bytes(b"an older one")
        (folder / "libonnxruntime.so.debug").write_bytes(b"no library")
        settings = {"susx.model_dir": models, "susx.model": "open"}
        with Cluster.throwaway(PG, settings, home=installation.home) as cluster:
            cluster.create_database(DATABASE)
            with contextlib.closing(Session(cluster.url(DATABASE))) as sql:
                sql.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
                assert sql.one("SELECT vector_dims(susx.embed_text('a cat'))") == 32


def test_a_model_that_may_not_be_read(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "open"}) as cluster, session_of(cluster) as sql:
        assert sql.one("SELECT vector_dims(susx.embed_text('a cat'))") == 32
        refusal = sql.fails("SELECT susx.embed_text('a cat', 'closed')")
        assert refusal.sqlstate == "F0000"
        assert str(models / "closed") in refusal.message and "Permission denied" in refusal.message
        assert "chmod a+rX" in refusal.hint and "PostgreSQL's operating system user" in refusal.hint
