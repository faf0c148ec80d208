"""Fixtures: one throwaway cluster for most tests; those that change settings or kill processes start their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Callable, ContextManager, Iterator

import pytest

from helpers.models import new_model_dir
from helpers.reference import ReferenceModel
from helpers.session import Session
from helpers.shared import folder
from tools import test_models
from tools.cluster import Cluster
from tools.paths import MODELS, ONNXRUNTIME, PG_VERSIONS, TEST_GENERATORS, TEST_MODELS

PG = os.environ.get("SUSX_TEST_PG", "18")
DATABASE = "susx"

# The layouts of CLIP exports: see models/tiny_clip.py.
TINY_VARIANTS = ("split", "fused", "no_mask", "siglip", "fp16", "external")
MODEL_NAMES = ("demo", *(f"tiny_{variant}" for variant in TINY_VARIANTS))
# Embeds images alone.
LIKENESS_MODEL = "efficientnet-lite2"
# The generator's name, as in docs/generated.md: see models/tiny_diffusion.py.
GENERATOR = "stable-diffusion"


def pytest_report_header() -> str:
    return f"PostgreSQL {PG}"


def copy_model(source: Path, target: Path) -> None:
    """Copies a model so that PostgreSQL can read it, even as another account."""
    shutil.copytree(source, target)
    # Newer versions of `onnx` let only their own account read the weights beside a graph.
    for weights in target.rglob("*_data"):
        weights.chmod(0o644)


@pytest.fixture(scope="session")
def model_dir() -> Iterator[Path]:
    """A susx.model_dir with the demo's models, a tiny CLIP in every layout, and a tiny Stable Diffusion."""
    test_models.ensure()
    folder = new_model_dir()
    for model in ("demo", LIKENESS_MODEL):
        assert (MODELS / model).is_dir(), f"the model {model} is not built: run `make model`"
        shutil.copytree(MODELS / model, folder / model)
    for variant in TINY_VARIANTS:
        copy_model(TEST_MODELS / variant, folder / f"tiny_{variant}")
    copy_model(TEST_GENERATORS / "pndm", folder / GENERATOR)
    yield folder
    shutil.rmtree(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A cluster of its own makes a test slow: it is started for it, or its processes are killed."""
    for item in items:
        if "own_cluster" in item.fixturenames or "new_cluster" in item._fixtureinfo.argnames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def settings(model_dir: Path) -> dict[str, object]:
    """The settings that susx needs, and those that make test clusters fast."""
    return {
        "susx.model_dir": model_dir,
        "susx.model": "demo",
        # The same tests can run with another build, such as the one for NVIDIA GPUs.
        "susx.onnxruntime_library": os.environ.get("SUSX_TEST_ONNXRUNTIME", ONNXRUNTIME),
        "synchronous_commit": "off",
        "autovacuum": "off",
    }


@pytest.fixture(scope="session")
def new_cluster(settings: dict[str, object]) -> Callable[..., ContextManager[Cluster]]:
    """Starts a cluster of the tested version: `with new_cluster(**{"susx.model_dir": None}) as cluster`.

    None leaves a setting out.
    """

    @contextlib.contextmanager
    def start(**changes: object) -> Iterator[Cluster]:
        wanted = {name: value for name, value in {**settings, **changes}.items() if value is not None}
        with Cluster.throwaway(PG, wanted) as cluster:
            cluster.create_database(DATABASE)
            with contextlib.closing(Session(cluster.url(DATABASE))) as session:
                session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
            yield cluster

    return start


@pytest.fixture(scope="session")
def cluster(new_cluster) -> Iterator[Cluster]:
    assert PG in PG_VERSIONS, f"SUSX_TEST_PG is {PG}: expected one of {PG_VERSIONS}"
    with new_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def own_cluster(new_cluster) -> Iterator[Cluster]:
    """A cluster for one file, whose tests kill processes or change settings; it overrides `cluster` with this."""
    with new_cluster() as cluster:
        yield cluster


@pytest.fixture
def connect(cluster: Cluster) -> Iterator[Callable[..., Session]]:
    """Opens sessions: connect(), connect("database"), connect(user="role")."""
    sessions = []

    def open_session(database: str = DATABASE, user: str | None = None) -> Session:
        sessions.append(Session(cluster.url(database), user))
        return sessions[-1]

    yield open_session
    for session in sessions:
        session.close()


@pytest.fixture
def sql(connect) -> Iterator[Session]:
    """A session in a schema of its own, which is first in the search_path and dropped after the test."""
    session = connect()
    schema = f"t_{uuid.uuid4().hex[:12]}"
    session.run(f"CREATE SCHEMA {schema}; SET search_path = {schema}, public; SET client_min_messages = warning")
    yield session
    cleaner = connect()
    session.close()
    cleaner.run(f"SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def schema(sql: Session) -> str:
    """The name of the schema of `sql`."""
    return sql.one("SELECT current_schema()")


@pytest.fixture
def open_session(connect, schema) -> Iterator[Callable[..., Session]]:
    """Opens sessions in the schema of the test, for a role if one is given, that get messages of level debug1."""
    sessions = []

    def open_one(user: str | None = None) -> Session:
        sessions.append(connect(user=user))
        sessions[-1].run(f"SET search_path = {schema}, public; SET client_min_messages = debug1")
        return sessions[-1]

    yield open_one
    # Some have a transaction open.
    for session in sessions:
        session.close()


@pytest.fixture
def script(cluster: Cluster) -> Callable[[str], Path]:
    """Writes a shell script that PostgreSQL's account can run."""

    def make(text: str) -> Path:
        path = cluster.directory / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def fresh_database(cluster: Cluster, connect) -> Iterator[str]:
    """An empty database without the extension."""
    name = f"d_{uuid.uuid4().hex[:12]}"
    cluster.create_database(name)
    yield name
    connect("postgres").run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def reference(model_dir: Path) -> Callable[[str], ReferenceModel]:
    """Python's reference for a model, by name."""
    loaded: dict[str, ReferenceModel] = {}

    def get(name: str) -> ReferenceModel:
        if name not in loaded:
            loaded[name] = ReferenceModel(model_dir / name)
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def photos(cluster: Cluster) -> str:
    """The name of a table of 1,200 photographs of 30 categories, embedded by the demo model in SQL."""
    source = folder("photos")
    with contextlib.closing(Session(cluster.url(DATABASE))) as session:
        session.run("CREATE SCHEMA photographs; SET search_path = photographs, public")
        session.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, truth text, embedding vector(512))")
        paths = sorted(source.glob("*/*.jpg"))
        rows = ((i, path.read_bytes(), path.parent.name.replace("_", " ")) for i, path in enumerate(paths))
        session.copy("photos", ["id", "image", "truth"], rows)
        session.run(
            """
            UPDATE photos p SET embedding = e.embedding
            FROM (SELECT array_agg(id ORDER BY id) AS ids, array_agg(image ORDER BY id) AS images
                  FROM photos GROUP BY id / 256) batch, susx.embed_images(batch.images) e
            WHERE p.id = batch.ids[e.ord]"""
        )
        assert session.rows("SELECT count(*), count(embedding) FROM photos") == [(1200, 1200)]
    return "photographs.photos"
