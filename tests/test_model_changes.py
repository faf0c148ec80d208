"""A model's files are replaced on disk, or another model is set: vectors of one model are never compared with those of
the other."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from helpers.models import make_tiny_clip, new_model_dir
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.session import Session, in_background, session_of

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
LABEL = "SELECT susx.label('pets', %s::bytea)"
REMARK = "SELECT error FROM susx.models() WHERE name = 'mine'"

NOT_NOW = "55000"


@pytest.fixture
def models():
    folder = new_model_dir()
    make_tiny_clip(folder / "mine", seed=0)
    yield folder
    shutil.rmtree(folder)


def test_other_files_of_the_same_name(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster:
        with session_of(cluster) as sql:
            sql.run("SELECT susx.create_classifier('pets', '{cat,dog}')")
            sql.run(
            "SELECT susx.create_classifier('vectors', '{up,down}', text_embeddings => '{\"[1]\",\"[-1]\"}')")
            sql.connection.execute("SELECT susx.add_support('pets', 'cat', ARRAY[%s])", (IMAGE,))
            before = sql.one(LABEL, IMAGE)
            embedding = sql.one("SELECT susx.embed_image(%s)::text", IMAGE)
            assert sql.one(REMARK) is None
            # The loaded model stays in use, and models() says that its files have changed.
            shutil.rmtree(models / "mine")
            make_tiny_clip(models / "mine", seed=1)
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
                assert 'classifier "pets" was made with other files of model "mine"' in refusal.message
                assert "alter_classifier('pets', model => 'mine')" in refusal.hint
                assert "UPDATE pets SET embedding = NULL" in refusal.hint
            # Vectors are whose they are, and other classifiers have no part in it.
            assert sql.one("SELECT susx.label('pets', %s::vector)", embedding) in ("cat", "dog")
            assert sql.one("SELECT susx.label('vectors', '[2]'::vector)") == "up"
            assert sql.one(REMARK) == "these classifiers were made with other files of it: pets"
            # As the hint says.
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
            make_tiny_clip(models / "mine", seed=1)
            assert eventually(lambda: not sql.one("SELECT loaded FROM susx.models() WHERE name = 'mine'"))
            refusal = sql.fails(LABEL, IMAGE)
            assert refusal.sqlstate == NOT_NOW
            assert 'classifier "pets" was made with other files of model "mine"' in refusal.message


def create_photos(sql: Session, count: int = 8) -> None:
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    for i in range(count):
        sql.run("INSERT INTO photos (id, image) VALUES (%s, %s)", i, encode(picture(i, (64, 64))))


MADE_BY = "SELECT model, model_sha256 FROM susx.embedding_column WHERE relation = %s::regclass"
TRIGGER = """
    CREATE TRIGGER embed_new AFTER INSERT ON {0} REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding')"""


def test_other_files_than_those_of_a_table(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster:
        with session_of(cluster) as sql:
            create_photos(sql)
            sql.run("CALL susx.embed_table('photos')")
            name, old_files = sql.rows(MADE_BY, "photos")[0]
            assert name == "mine" and len(old_files) == 32
            sql.run("CREATE TABLE other (LIKE photos INCLUDING ALL)")
            sql.run(TRIGGER.format("other"))
            sql.run("INSERT INTO other SELECT id, image FROM photos")
            assert sql.rows(MADE_BY, "other") == [(name, old_files)]
            old = sql.rows("SELECT id, embedding::text FROM photos ORDER BY id")
        shutil.rmtree(models / "mine")
        make_tiny_clip(models / "mine", seed=1)
        cluster.restart()
        with session_of(cluster) as sql:
            sql.run("INSERT INTO photos (id, image) SELECT id + 100, image FROM photos")
            sql.run("SELECT susx.create_classifier('pets', '{cat,dog}')")
            of_the_table = 'column "embedding" of relation "{}" has embeddings of other files of model "mine"'
            for query, table, *arguments in (
                ("CALL susx.embed_table('photos')", "photos"),
                ("CALL susx.embed_table('photos', on_error => 'retry')", "photos"),
                ("INSERT INTO other (id, image) VALUES (100, %s)", "other", IMAGE),
                ("SELECT * FROM susx.build_support_set('pets', 'photos')", "photos"),
            ):
                refusal = sql.fails(query, *arguments)
                assert refusal.sqlstate == NOT_NOW, query
                assert refusal.message.startswith(of_the_table.format(table))
            assert 'than classifier "pets" was made with' in refusal.message
            assert "NULL" in refusal.hint and "susx.embed_table" in refusal.hint
            assert sql.rows("SELECT id, embedding::text FROM photos WHERE embedding IS NOT NULL ORDER BY id") == old
            remark = "these columns of embeddings were made with other files of it: "
            assert sql.one(REMARK) == remark + "other.embedding, photos.embedding"
            # Calls that need no embedding are not affected.
            sql.run("INSERT INTO other (id) VALUES (200); UPDATE other SET image = NULL WHERE id = 0")
            # As the hint says.
            hint = sql.fails("CALL susx.embed_table('photos')").hint
            update = "UPDATE public.photos SET embedding = NULL"
            assert update in hint
            sql.run(update)
            sql.run("CALL susx.embed_table('photos')")
            assert sql.rows(MADE_BY, "photos")[0] not in [(name, old_files), (name, None)]
            assert sql.one("SELECT bool_and(embedding::text = susx.embed_image(image)::text) FROM photos")
            assert [row[1] for row in sql.rows("SELECT * FROM susx.build_support_set('pets', 'photos')")] != [0, 0]
            assert sql.one(REMARK) == remark + "other.embedding"
            # A user who knows that the models match can say so.
            sql.run("UPDATE susx.embedding_column SET model_sha256 = NULL WHERE relation = 'other'::regclass")
            sql.run("INSERT INTO other (id, image) VALUES (100, %s)", IMAGE)
            assert sql.one(REMARK) is None
            sql.run("DROP TABLE other")
            assert sql.one("SELECT count(*) FROM susx.embedding_column") == 1


def test_another_model(new_cluster, models):
    make_tiny_clip(models / "new", seed=1)
    shutil.copytree(models / "mine", models / "same")
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster, session_of(cluster) as sql:
        create_photos(sql)
        sql.run("CALL susx.embed_table('photos')")
        sql.run("INSERT INTO photos (id, image) SELECT id + 100, image FROM photos")
        refusal = sql.fails("CALL susx.embed_table('photos', model => 'new')")
        assert refusal.sqlstate == NOT_NOW
        assert refusal.message == 'column "embedding" of relation "photos" has embeddings of model "mine", not "new"'
        assert "Name the old model." in refusal.hint
        # The same files by another name, and another column.
        sql.run("CALL susx.embed_table('photos', model => 'same')")
        sql.run("ALTER TABLE photos ADD newer vector")
        sql.run("CALL susx.embed_table('photos', embedding_column => 'newer', model => 'new')")
        assert sql.one("SELECT count(*) FROM photos WHERE embedding IS NULL OR newer IS NULL") == 0
        assert sorted(name for name, _ in sql.rows(MADE_BY, "photos")) == ["mine", "new"]

        # A support set is of the classifier's model.
        sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'new')")
        refusal = sql.fails("SELECT * FROM susx.build_support_set('pets', 'photos')")
        assert refusal.sqlstate == NOT_NOW
        assert refusal.message == (
            'column "embedding" of relation "photos" has embeddings of model "mine", '
            'and classifier "pets" is of model "new"'
        )
        sql.run("SELECT * FROM susx.build_support_set('pets', 'photos', embedding_column => 'newer')")
        sql.run(
            "SELECT susx.create_classifier('vectors', '{up,down}', text_embeddings => "
            "ARRAY(SELECT embedding FROM photos LIMIT 2))"
        )
        sql.run("SELECT * FROM susx.build_support_set('vectors', 'photos')")

        # Nothing is left of the old one.
        sql.run("TRUNCATE photos")
        sql.run("INSERT INTO photos (id, image) VALUES (1, %s)", IMAGE)
        sql.run("CALL susx.embed_table('photos', model => 'new')")
        assert [name for name, _ in sql.rows(MADE_BY, "photos")] == ["new", "new"]


def test_partitions_have_the_model_of_their_table(new_cluster, models):
    make_tiny_clip(models / "new", seed=1)
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster, session_of(cluster) as sql:
        sql.run(
            "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector) PARTITION BY RANGE (id); "
            "CREATE TABLE part PARTITION OF photos FOR VALUES FROM (0) TO (10)"
        )
        sql.run("INSERT INTO photos (id, image) VALUES (1, %s)", IMAGE)
        sql.run("CALL susx.embed_table('photos')")
        sql.run("INSERT INTO photos (id, image) VALUES (2, %s)", IMAGE)
        assert sql.fails("CALL susx.embed_table('part', model => 'new')").sqlstate == NOT_NOW
        sql.run("CALL susx.embed_table('part')")
        assert sql.column("SELECT relation::text FROM susx.embedding_column") == ["photos"]


def test_a_transaction_that_embeds_first_holds_up_nobody(new_cluster, models):
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster:
        with session_of(cluster) as first, session_of(cluster) as second:
            create_photos(first, 0)
            first.run(TRIGGER.format("photos"))
            first.run("BEGIN")
            first.run("INSERT INTO photos (id, image) VALUES (1, %s)", IMAGE)
            second.run("SET statement_timeout = '2min'")
            second.run("INSERT INTO photos (id, image) VALUES (2, %s)", IMAGE)
            second.run("CALL susx.embed_table('photos')")
            assert [name for name, _ in second.rows(MADE_BY, "photos")] == ["mine"]
            first.run("ROLLBACK")
            second.run("INSERT INTO photos (id, image) VALUES (3, %s)", IMAGE)
            assert [name for name, _ in second.rows(MADE_BY, "photos")] == ["mine"]


def test_other_files_in_the_middle_of_a_table(new_cluster, models):
    """The process dies, and the next one finds other files."""
    with new_cluster(**{"susx.model_dir": models, "susx.model": "mine"}) as cluster:
        with session_of(cluster) as sql, session_of(cluster) as other:
            create_photos(sql, 1)
            sql.run("INSERT INTO photos (id, image) SELECT i, image FROM photos, generate_series(1, 30000) i")
            done = "SELECT count(embedding) FROM photos"
            call = "CALL susx.embed_table('photos', batch_size => 20)"
            with in_background(lambda: sql.run(call)) as results:
                assert eventually(lambda: other.one(done) > 100)
                shutil.rmtree(models / "mine")
                make_tiny_clip(models / "mine", seed=1)
                for pid in servers(cluster.data_dir):
                    os.kill(pid, signal.SIGKILL)
            (refusal,) = results
            assert refusal.sqlstate == NOT_NOW
            assert refusal.diag.message_primary == (
                "the embeddings in column embedding of public.photos were made with other files of model \"mine\""
            )
            assert "UPDATE public.photos SET embedding = NULL" in refusal.diag.message_hint
            assert 100 < sql.one(done) < 30000
            assert len(sql.column("SELECT DISTINCT embedding::text FROM photos WHERE embedding IS NOT NULL")) == 1
