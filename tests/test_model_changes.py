"""The files of a model are replaced on disk: nobody gets vectors of the new ones compared with those of the old."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually
from helpers.session import session_of
from tools.paths import ROOT

IMAGE = encode(picture(1, (64, 64)))
LABEL = "SELECT susx.label('pets', %s::bytea)"
REMARK = "SELECT error FROM susx.models() WHERE name = 'mine'"

NOT_NOW = "55000"


@pytest.fixture
def models():
    # Where PostgreSQL's account can read it.
    folder = Path(tempfile.mkdtemp(prefix="susx-models-", dir="/tmp"))
    folder.chmod(0o755)
    make(folder / "mine", seed=0)
    yield folder
    shutil.rmtree(folder)


def make(folder: Path, seed: int) -> None:
    program = ROOT / "tests" / "models" / "tiny_clip.py"
    subprocess.run([sys.executable, program, folder, "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)


def test_other_files_of_the_same_name(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster:
        with session_of(cluster) as sql:
            sql.run("SELECT susx.create_classifier('pets', '{cat,dog}')")
            sql.run("SELECT susx.create_classifier('vectors', '{up,down}', text_embeddings => '{\"[1]\",\"[-1]\"}')")
            sql.connection.execute("SELECT susx.add_support('pets', 'cat', ARRAY[%s])", (IMAGE,))
            before = sql.one(LABEL, IMAGE)
            embedding = sql.one("SELECT susx.embed_image(%s)::text", IMAGE)
            assert sql.one(REMARK) is None
            # What is loaded goes on, and models() says that there is something else now.
            shutil.rmtree(models / "mine")
            make(models / "mine", seed=1)
            assert sql.one(LABEL, IMAGE) == before
            assert "changed since they were loaded" in sql.one(REMARK)
        cluster.restart()
        with session_of(cluster) as sql:
            assert sql.one("SELECT susx.embed_image(%s)::text", IMAGE) is not None
            for query, *arguments in (
                (LABEL, IMAGE),
                ("SELECT * FROM susx.classify('pets', %s::bytea)", IMAGE),
                ("SELECT * FROM susx.explain('pets', %s::bytea)", IMAGE),
                ("SELECT * FROM susx.classify_rows('pets', 'SELECT 1::bigint, ''\\x00''::bytea')",),
                ("SELECT * FROM susx.evaluate('pets', 'SELECT ''\\x00''::bytea, ''cat''')",),
                ("SELECT susx.add_prompts('pets', '{\"cat\": [\"a cat\"]}')",),
                ("SELECT susx.add_support('pets', 'cat', ARRAY[%s])", IMAGE),
                ("INSERT INTO pets (category, image) VALUES ('cat', %s)", IMAGE),
                ("UPDATE pets SET embedding = NULL",),
            ):
                refusal = sql.fails(query, *arguments)
                assert refusal.sqlstate == NOT_NOW, query
                assert 'the files of model "mine" are not those that classifier "pets" was made with' in refusal.message
                assert "alter_classifier('pets', model => 'mine')" in refusal.hint
                assert "UPDATE pets SET embedding = NULL" in refusal.hint
            # Vectors are whose they are, and other classifiers have no part in it.
            assert sql.one("SELECT susx.label('pets', %s::vector)", embedding) in ("cat", "dog")
            assert sql.one("SELECT susx.label('vectors', '[2]'::vector)") == "up"
            assert sql.one(REMARK) == "these classifiers were made with other files of it: pets"
            # What the hint says.
            sql.run("SELECT susx.alter_classifier('pets', model => 'mine'); UPDATE pets SET embedding = NULL")
            assert sql.one(LABEL, IMAGE) in ("cat", "dog")
            assert sql.one(REMARK) is None
            fresh = "SELECT susx.embed_image(image)::text = embedding::text FROM pets WHERE kind = 'image'"
            assert sql.column(fresh) == [True]
            assert sql.column(
                "SELECT susx.embed_text(prompt)::text = embedding::text FROM pets WHERE kind = 'prompt'"
            ) == [True, True]


def test_other_files_after_the_model_was_unloaded(new_cluster, models):
    """In one session, and without a restart: what susx.model_idle_timeout has unloaded is read anew."""
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine", "susx.model_idle_timeout": "1s"}) as cluster:
        with session_of(cluster) as sql:
            sql.run("SELECT susx.create_classifier('pets', '{cat,dog}')")
            assert sql.one(LABEL, IMAGE) in ("cat", "dog")
            shutil.rmtree(models / "mine")
            make(models / "mine", seed=1)
            assert eventually(lambda: not sql.one("SELECT loaded FROM susx.models() WHERE name = 'mine'"), 30)
            refusal = sql.fails(LABEL, IMAGE)
            assert refusal.sqlstate == NOT_NOW
            assert 'the files of model "mine" are not those that classifier "pets" was made with' in refusal.message
