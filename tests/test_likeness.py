"""Likeness vectors, by which images are compared with each other: who makes them, and how support images get them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import GENERATOR, copy_model
from helpers.models import new_model_dir
from helpers.pictures import encode, picture
from helpers.session import session_of, vector
from helpers.toy import create_compass
from tools.paths import TEST_MODELS

pytestmark = pytest.mark.same_everywhere

INVALID, DENIED, NOT_READY, DATA, WRONG_OBJECT = "22023", "42501", "55000", "22000", "42809"
UNDEFINED_OBJECT, UNDEFINED_COLUMN, CHECKED = "42704", "42703", "23514"
# Names are embedded by one model, and images compared by the other. Any model that embeds images will do.
MODEL, EYES = "tiny_split", "tiny_siglip"
CREATE = f"SELECT susx.create_classifier('kinds', '{{cat,dog}}', model => '{MODEL}', likeness_model => '{EYES}')"
MODELS = "SELECT model, likeness_model, length(likeness_sha256) FROM susx.classifier WHERE classifier = 'kinds'::regclass"
# Whether the vectors of a single image are those that the models make of it, to the last bit.
EXACT = f"""
    SELECT embedding = susx.embed_image(image, '{MODEL}'), likeness = susx.embed_image(image, '{EYES}')
    FROM kinds WHERE kind = 'image' ORDER BY id"""
# The same for many. In a batch, the same image may differ in the last bits.
CLOSE = f"""
    SELECT embedding <=> susx.embed_image(image, '{MODEL}') < 1e-5, likeness <=> susx.embed_image(image, '{EYES}') < 1e-5
    FROM kinds WHERE kind = 'image' ORDER BY id"""
BUILD = "SELECT sum(images) FROM susx.build_support_set('kinds', 'photos', image_column => 'image'{})"
VERSIONS = "SELECT id, xmin::text FROM kinds WHERE kind = 'image' ORDER BY id"
ALL = "SELECT array_agg(k ORDER BY id)::text FROM kinds k WHERE kind <> 'settings'"
# As it was before there were likeness vectors.
OLD = "ALTER TABLE {} DROP COLUMN likeness"
COLUMN = """
    SELECT format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_constraintdef(c.oid)
    FROM pg_attribute a LEFT JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.conkey = ARRAY[a.attnum]
    WHERE a.attrelid = '{}'::regclass AND a.attname = 'likeness'"""


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (64, 48))) for seed in range(6)]


@pytest.fixture
def half_models():
    """A model_dir with a model, and one that is the half of it that embeds texts."""
    folder = new_model_dir()
    copy_model(TEST_MODELS / "split", folder / "whole")
    copy_model(TEST_MODELS / "split", folder / "words")
    (folder / "words" / "onnx" / "vision_model.onnx").unlink()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def kinds(sql):
    sql.run(CREATE)
    return sql


@pytest.fixture
def photos(sql, images):
    """A pool with a column of either model, both empty."""
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), likeness vector)")
    sql.copy("photos", ["id", "image"], enumerate(images))
    return sql


def embed(sql, column: str = "embedding", model: str = MODEL) -> None:
    sql.run(f"CALL susx.embed_table('photos', embedding_column => '{column}', model => '{model}')")


def test_the_two_models_differ(sql, images):
    """Otherwise, the tests below could not fail."""
    assert sql.one(f"SELECT susx.embed_image(%s, '{MODEL}') <=> susx.embed_image(%s, '{EYES}')", images[0], images[0]) > 0.01


class TestModels:
    def test_create(self, kinds):
        assert kinds.rows(MODELS) == [(MODEL, EYES, 32)]
        assert kinds.one("SELECT count(likeness) FROM kinds") == 0
        # The names alone decide, as without such a model.
        kinds.run(f"SELECT susx.create_classifier('plain', '{{cat,dog}}', model => '{MODEL}')")
        image = encode(picture(9))
        answers = [kinds.rows("SELECT * FROM susx.classify(%s::text::regclass, %s::bytea, 2)", name, image) for name in ("kinds", "plain")]
        assert answers[0] == answers[1]

    @pytest.mark.parametrize(
        "model, sqlstate", [("nobody", UNDEFINED_OBJECT), ("../demo", UNDEFINED_OBJECT), (GENERATOR, WRONG_OBJECT)]
    )
    def test_what_is_no_such_model(self, kinds, model, sqlstate):
        create = f"SELECT susx.create_classifier('other', '{{a,b}}', model => '{MODEL}', likeness_model => %s)"
        for query in (create, "SELECT susx.alter_classifier('kinds', likeness_model => %s)"):
            refusal = kinds.fails(query, model)
            assert refusal.sqlstate == sqlstate and model in refusal.message, refusal
        assert kinds.one("SELECT to_regclass('other')") is None
        assert kinds.rows(MODELS) == [(MODEL, EYES, 32)]

    def test_alter(self, sql):
        sql.run(f"SELECT susx.create_classifier('kinds', '{{cat,dog}}', model => '{MODEL}')")
        assert sql.rows(MODELS) == [(MODEL, None, None)]
        sql.run(f"SELECT susx.alter_classifier('kinds', likeness_model => '{EYES}')")
        assert sql.rows(MODELS) == [(MODEL, EYES, 32)]
        sql.run("SELECT susx.alter_classifier('kinds', alpha => 2)")
        sql.run("SELECT susx.alter_classifier('kinds', likeness_model => NULL)")
        assert sql.rows(MODELS) == [(MODEL, EYES, 32)]
        sql.run("SELECT susx.alter_classifier('kinds', likeness_model => 'none')")
        assert sql.rows(MODELS) == [(MODEL, None, None)]

    def test_alter_to_other_dimensions(self, kinds, images):
        kinds.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", images[0])
        refusal = kinds.fails("SELECT susx.alter_classifier('kinds', likeness_model => 'demo')")
        assert refusal.sqlstate == DATA
        assert refusal.message == 'classifier "kinds" expects likeness vectors of 32 dimensions, not 512'
        assert "SET likeness = NULL" in refusal.hint
        assert kinds.rows(MODELS) == [(MODEL, EYES, 32)]
        kinds.run("UPDATE kinds SET likeness = NULL; SELECT susx.alter_classifier('kinds', likeness_model => 'demo')")
        kinds.run("UPDATE kinds SET embedding = NULL WHERE kind = 'image'")
        assert kinds.one("SELECT likeness = susx.embed_image(image, 'demo') FROM kinds WHERE kind = 'image'")

    def test_a_model_of_texts(self, new_cluster, half_models):
        """It cannot compare images."""
        with new_cluster(**{"susx.model_dir": half_models, "susx.model": "whole"}) as cluster:
            with session_of(cluster) as sql:
                sql.run("SELECT susx.embed_text('x', 'words')")
                assert sql.one("SELECT kind FROM susx.models() WHERE name = 'words'") == "text"
                refusal = sql.fails("SELECT susx.create_classifier('kinds', '{a,b}', likeness_model => 'words')")
                assert refusal.sqlstate == WRONG_OBJECT and '"words"' in refusal.message and "susx.models()" in refusal.hint
                sql.run("SELECT susx.create_classifier('kinds', '{a,b}', likeness_model => 'whole')")
                assert sql.fails("SELECT susx.alter_classifier('kinds', likeness_model => 'words')").sqlstate == WRONG_OBJECT

    def test_remarks(self, kinds):
        """models() names the classifiers whose likeness vectors were made with other files, once."""
        remark = "SELECT error FROM susx.models() WHERE name = %s"
        kinds.run("SELECT susx.embed_image(%s, %s)", encode(picture(1)), EYES)
        assert "kinds" not in (kinds.one(remark, EYES) or "")
        kinds.run("UPDATE susx.classifier SET likeness_sha256 = '\\x00' WHERE classifier = 'kinds'::regclass")
        assert "these classifiers were made with other files of it: kinds" in kinds.one(remark, EYES)
        assert "kinds" not in (kinds.one(remark, MODEL) or "")
        kinds.run(
            f"UPDATE susx.classifier SET model = '{EYES}', model_sha256 = '\\x00' WHERE classifier = 'kinds'::regclass"
        )
        assert kinds.one(remark, EYES).count("kinds") == 1


class TestRetrieved:
    def test_a_given_column(self, photos):
        """Of a classifier without a likeness model: vectors that exist already, made by nobody knows what."""
        sql = photos
        embed(sql)
        sql.run(f"SELECT susx.create_classifier('kinds', '{{cat,dog}}', model => '{MODEL}')")
        sql.run("UPDATE photos SET likeness = array_fill(id + 1, '{3}')::vector")
        plain = sql.one(BUILD.format(""))
        before = sql.rows("SELECT category, source_key, embedding, similarity, image FROM kinds WHERE kind = 'image' ORDER BY id")
        assert plain > 0 and sql.one("SELECT count(likeness) FROM kinds") == 0
        assert sql.one(BUILD.format(", likeness_column => 'likeness'")) == plain
        # The same images are retrieved.
        after = "SELECT category, source_key, embedding, similarity, image FROM kinds WHERE kind = 'image' ORDER BY id"
        assert sql.rows(after) == before
        wrong = "SELECT count(*) FROM kinds k JOIN photos p ON p.id::text = k.source_key WHERE k.likeness IS DISTINCT FROM p.likeness"
        assert sql.one(wrong) == 0
        assert sql.one("SELECT count(likeness) FROM kinds") == plain

    def test_the_column_of_the_model(self, photos):
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run(CREATE)
        images = sql.one(BUILD.format(""))
        assert images > 0
        assert sql.rows(CLOSE) == [(True, True)] * images
        # They are copies.
        copies = "SELECT count(*) FROM kinds k JOIN photos p ON p.id::text = k.source_key WHERE k.likeness = p.likeness"
        assert sql.one(copies) == images
        # A second call replaces them.
        assert sql.one(BUILD.format(", likeness_column => 'likeness'")) == images
        assert sql.one("SELECT count(likeness) FROM kinds") == images

    def test_found_by_its_files(self, photos):
        """The digests decide, where both are known: the same files may have another name."""
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run(CREATE)
        sql.run("UPDATE susx.embedding_column SET model = 'eyes' WHERE relation = 'photos'::regclass AND embedding_column = 'likeness'")
        assert sql.one(BUILD.format("")) > 0
        assert sql.one("SELECT count(likeness) > 0 FROM kinds")
        sql.run("UPDATE susx.embedding_column SET model_sha256 = NULL WHERE relation = 'photos'::regclass AND embedding_column = 'likeness'")
        assert sql.fails(BUILD.format("")).sqlstate == NOT_READY

    def test_no_column(self, photos):
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run(CREATE)
        sql.run(BUILD.format(""))
        before = sql.one(ALL)
        # Its record stays, but not its column.
        sql.run("ALTER TABLE photos RENAME likeness TO eyes")
        refusal = sql.fails(BUILD.format(""))
        assert refusal.sqlstate == NOT_READY
        assert f'relation "photos" has no column with embeddings of model "{EYES}"' in refusal.message
        assert f"CALL susx.embed_table('photos', embedding_column => 'likeness', model => '{EYES}')" in refusal.hint
        assert "likeness_column" in refusal.hint
        assert sql.one(ALL) == before
        assert sql.one(BUILD.format(", likeness_column => 'eyes'")) > 0
        # As it was, for a classifier without such a model.
        sql.run("SELECT susx.alter_classifier('kinds', likeness_model => 'none')")
        assert sql.one(BUILD.format("")) > 0
        assert sql.one("SELECT count(likeness) FROM kinds") == 0

    def test_several_columns(self, photos):
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run("ALTER TABLE photos ADD COLUMN again vector")
        embed(sql, "again", EYES)
        sql.run(CREATE)
        refusal = sql.fails(BUILD.format(""))
        assert refusal.sqlstate == NOT_READY and "2 columns" in refusal.message and "again, likeness" in refusal.message
        assert "likeness_column" in refusal.hint
        assert sql.one(BUILD.format(", likeness_column => 'again'")) > 0

    def test_images_without_likeness(self, photos):
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run(CREATE)
        images = sql.one(BUILD.format(""))
        before = sql.one(ALL)
        sql.run("UPDATE photos SET likeness = NULL WHERE id::text IN (SELECT source_key FROM kinds WHERE kind = 'image' ORDER BY id LIMIT 2)")
        for arguments in ("", ", likeness_column => 'likeness'"):
            refusal = sql.fails(BUILD.format(arguments))
            assert refusal.sqlstate == NOT_READY
            assert refusal.message == f"2 of {images} retrieved images of photos have no likeness vector"
            assert "CALL susx.embed_table('photos', embedding_column => 'likeness'" in refusal.hint
        assert sql.one(ALL) == before
        # Those that are not retrieved need none.
        sql.run("UPDATE photos SET embedding = NULL WHERE likeness IS NULL")
        assert sql.one(BUILD.format("")) == images - 2

    def test_of_another_model(self, photos):
        sql = photos
        embed(sql)
        sql.run(CREATE)
        before = sql.one(ALL)
        refusal = sql.fails(BUILD.format(", likeness_column => 'embedding'"))
        assert refusal.sqlstate == NOT_READY
        assert refusal.message == (
            f'column "embedding" of relation "photos" has embeddings of model "{MODEL}", and the likeness vectors of '
            f'classifier "kinds" are of model "{EYES}"'
        )
        assert "likeness_model" in refusal.hint and "susx.embed_table" in refusal.hint
        embed(sql, "likeness", EYES)
        sql.run("UPDATE susx.classifier SET likeness_sha256 = '\\x00' WHERE classifier = 'kinds'::regclass")
        refusal = sql.fails(BUILD.format(", likeness_column => 'likeness'"))
        assert refusal.sqlstate == NOT_READY
        assert refusal.message == (
            f'column "likeness" of relation "photos" has embeddings of other files of model "{EYES}" than the likeness '
            'vectors of classifier "kinds" were made with'
        )
        assert sql.one(ALL) == before

    def test_what_is_no_column_of_vectors(self, photos):
        sql = photos
        embed(sql)
        sql.run(CREATE)
        assert sql.fails(BUILD.format(", likeness_column => 'nothing'")).sqlstate == UNDEFINED_COLUMN
        refusal = sql.fails(BUILD.format(", likeness_column => 'image'"))
        assert refusal.sqlstate == INVALID and "bytea" in refusal.message

    def test_other_dimensions_than_labelled_images(self, photos, images):
        sql = photos
        embed(sql)
        sql.run(CREATE)
        sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", images[0])
        sql.run("UPDATE photos SET likeness = '[1,2,3]'")
        before = sql.one(ALL)
        refusal = sql.fails(BUILD.format(", likeness_column => 'likeness'"))
        assert refusal.sqlstate == DATA and "32 dimensions, not 3" in refusal.message
        assert sql.one(ALL) == before


class TestLabelled:
    ADD = "SELECT susx.add_support('compass', 'east', %s::vector[], %s::vector[])"

    def test_vectors(self, sql):
        create_compass(sql)
        assert sql.one(self.ADD, ["[1,0.2]", "[1,0.3]"], ["[1,2,3]", "[4,5,6]"]) == 2
        assert sql.one("SELECT susx.add_support('compass', 'north', ARRAY['[0,1]']::vector[])") == 1
        assert sql.one("SELECT susx.add_support('compass', 'north', ARRAY['[0,2]']::vector[], NULL)") == 1
        rows = sql.rows("SELECT category, embedding, likeness, origin FROM compass WHERE kind = 'image' ORDER BY id")
        assert rows == [
            ("east", "[1,0.2]", "[1,2,3]", "labelled"),
            ("east", "[1,0.3]", "[4,5,6]", "labelled"),
            ("north", "[0,1]", None, "labelled"),
            ("north", "[0,2]", None, "labelled"),
        ]

    def test_many_vectors(self, sql):
        """More than go into one statement."""
        create_compass(sql)
        embeddings = [vector([1, i / 1000]) for i in range(1, 3001)]
        likenesses = [vector([i, 1, 2]) for i in range(1, 3001)]
        assert sql.one(self.ADD, embeddings, likenesses) == 3000
        rows = sql.rows("SELECT embedding::real[], likeness::real[] FROM compass WHERE kind = 'image' ORDER BY id")
        assert [round(1000 * embedding[1]) for embedding, _ in rows] == [likeness[0] for _, likeness in rows] == list(range(1, 3001))

    @pytest.mark.parametrize(
        "likenesses, sqlstate, text",
        [
            ("ARRAY['[1,2]']", INVALID, "there are 2 embeddings but 1 likenesses"),
            ("ARRAY['[1,2]', '[1,2]', '[1,2]']", INVALID, "there are 2 embeddings but 3 likenesses"),
            ("ARRAY['[1,2,3]', '[1,2]']", DATA, "likenesses: element 2: expected 3 dimensions, not 2"),
            ("ARRAY['[1,2]', '[0,0]']", DATA, "likenesses: element 2"),
            ("ARRAY['[1,2]', NULL]", INVALID, "element 2 of likenesses is NULL"),
            ("'{}'", INVALID, "likenesses must not be empty"),
        ],
    )
    def test_what_cannot_be_likenesses(self, sql, likenesses, sqlstate, text):
        create_compass(sql)
        call = f"SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]', '[1,0.3]']::vector[], {likenesses}::vector[])"
        refusal = sql.fails(call)
        assert refusal.sqlstate == sqlstate and text in refusal.message, refusal
        assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 0

    def test_other_dimensions_than_in_the_table(self, sql):
        create_compass(sql)
        sql.run(self.ADD, ["[1,0.2]"], ["[1,2,3]"])
        refusal = sql.fails(self.ADD, ["[1,0.3]"], ["[1,2]"])
        assert refusal.sqlstate == DATA and "expected 3 dimensions, not 2" in refusal.message
        # Also where one statement has added both.
        sql.run("DELETE FROM compass WHERE kind = 'image'")
        refusal = sql.fails(
            "SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]']::vector[], ARRAY[v]::vector[]) "
            "FROM unnest(ARRAY['[1,2,3]', '[1,2]']) v"
        )
        assert refusal.sqlstate == DATA and "expected 3 dimensions, not 2" in refusal.message
        assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 0
        sql.run(self.ADD, ["[1,0.3]"], ["[1,2]"])

    def test_a_zero_vector_written_by_hand(self, sql):
        create_compass(sql)
        assert sql.fails("INSERT INTO compass (category, embedding, likeness) VALUES ('east', '[1,0]', '[0,0]')").sqlstate == CHECKED

    def test_an_image(self, kinds, images):
        for image in images[:3]:
            assert kinds.one("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", image) == 1
        assert kinds.rows(EXACT) == [(True, True)] * 3

    def test_images(self, kinds, images):
        """More than go together."""
        many = [images[i % 6] for i in range(300)]
        assert kinds.one("SELECT susx.add_support('kinds', 'dog', %s::bytea[])", many) == 300
        assert kinds.column("SELECT image FROM kinds WHERE kind = 'image' ORDER BY id") == many
        assert kinds.rows(CLOSE) == [(True, True)] * 300

    def test_an_image_that_cannot_be_read(self, kinds, images):
        refusal = kinds.fails("SELECT susx.add_support('kinds', 'dog', %s::bytea[])", [images[0], b"x"])
        assert "element 2" in refusal.message
        assert kinds.one("SELECT count(*) FROM kinds WHERE kind = 'image'") == 0

    def test_images_beside_vectors_of_other_dimensions(self, kinds, images):
        kinds.run(
            f"SELECT susx.add_support('kinds', 'cat', ARRAY[susx.embed_image(%s, '{MODEL}')], ARRAY['[1,2,3]']::vector[])", images[0]
        )
        refusal = kinds.fails("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", images[1])
        assert refusal.sqlstate == DATA
        assert refusal.message == 'classifier "kinds" expects likeness vectors of 3 dimensions, not 32'


class TestTrigger:
    def test_insert(self, kinds, images):
        for image in images[:3]:
            kinds.run("INSERT INTO kinds (category, image) VALUES ('cat', %s)", image)
        assert kinds.rows(EXACT) == [(True, True)] * 3
        kinds.run("INSERT INTO kinds (category, kind, prompt) VALUES ('cat', 'prompt', 'a cat asleep')")
        assert kinds.one("SELECT count(likeness) FROM kinds WHERE kind = 'prompt'") == 0

    def test_what_is_there_stays(self, kinds, images):
        kinds.run("INSERT INTO kinds (category, image, likeness) VALUES ('cat', %s, '[1,2]')", images[0])
        assert kinds.one("SELECT likeness FROM kinds WHERE kind = 'image'") == "[1,2]"
        kinds.run("UPDATE kinds SET embedding = NULL WHERE kind = 'image'")
        assert kinds.one("SELECT likeness FROM kinds WHERE kind = 'image'") == "[1,2]"
        kinds.run("UPDATE kinds SET image = %s, embedding = NULL, likeness = NULL WHERE kind = 'image'", images[1])
        assert kinds.rows(EXACT) == [(True, True)]

    def test_with_an_embedding_nothing_is_embedded(self, kinds, images):
        kinds.run(f"INSERT INTO kinds (category, image, embedding) SELECT 'cat', i, susx.embed_image(i, '{MODEL}') FROM (SELECT %s::bytea) v (i)", images[0])
        assert kinds.rows(EXACT) == [(True, None)]

    def test_without_a_model(self, kinds, images):
        kinds.run("SELECT susx.alter_classifier('kinds', likeness_model => 'none')")
        kinds.run("INSERT INTO kinds (category, image) VALUES ('cat', %s)", images[0])
        assert kinds.rows(EXACT) == [(True, None)]

    def test_without_the_column(self, kinds, images):
        kinds.run(OLD.format("kinds"))
        kinds.run("INSERT INTO kinds (category, image) VALUES ('cat', %s)", images[0])
        assert kinds.one(f"SELECT embedding = susx.embed_image(image, '{MODEL}') FROM kinds WHERE kind = 'image'")

    def test_a_column_of_another_type(self, kinds, images):
        kinds.run(f"{OLD.format('kinds')}; ALTER TABLE kinds ADD COLUMN likeness text")
        """It is its owner's, and stays as it is."""
        insert = "INSERT INTO kinds (category, image, likeness) VALUES ('cat', %s, %s) RETURNING embedding IS NOT NULL, likeness"
        assert kinds.rows(insert, images[0], "mine") == [(True, "mine")]
        assert kinds.rows(insert, images[0], None) == [(True, None)]


class TestGenerated:
    CALL = "CALL susx.generate_support_set('kinds', steps => 2, per_class => {}, keep_images => {})"

    def test_both_vectors(self, kinds):
        kinds.run(self.CALL.format(2, "true"))
        assert kinds.rows(CLOSE) == [(True, True)] * 4
        # All are there already.
        rows = kinds.rows(VERSIONS)
        kinds.run(self.CALL.format(2, "true"))
        assert kinds.rows(VERSIONS) == rows

    @pytest.mark.parametrize("keep_images", ["true", "false"])
    def test_images_of_before_are_made_again(self, kinds, keep_images):
        """Without their files, there is no other way to their likeness vectors."""
        kinds.run("SELECT susx.alter_classifier('kinds', likeness_model => 'none')")
        kinds.run(OLD.format("kinds"))
        kinds.run(self.CALL.format(2, keep_images))
        old = "SELECT source_key, prompt, similarity FROM kinds WHERE kind = 'image' ORDER BY category, source_key"
        before = kinds.rows(old)
        assert len(before) == 4
        kinds.run(f"SELECT susx.alter_classifier('kinds', likeness_model => '{EYES}')")
        kinds.run(self.CALL.format(2, keep_images))
        assert [row[:2] for row in kinds.rows(old)] == [row[:2] for row in before]
        assert kinds.one("SELECT count(likeness) FROM kinds WHERE kind = 'image'") == 4
        if keep_images == "true":
            assert kinds.rows(CLOSE) == [(True, True)] * 4
        # Without the model, what they have is no reason to make them again.
        rows = kinds.rows(VERSIONS)
        kinds.run("SELECT susx.alter_classifier('kinds', likeness_model => 'none')")
        kinds.run(self.CALL.format(2, keep_images))
        assert kinds.rows(VERSIONS) == rows


class TestOldTables:
    def test_a_column_when_it_is_first_needed(self, photos, images):
        sql = photos
        embed(sql)
        embed(sql, "likeness", EYES)
        sql.run(CREATE)
        fresh = sql.rows(COLUMN.format("kinds"))
        assert len(fresh) == 1 and fresh[0][:2] == ("vector", False) and "vector_norm" in fresh[0][2]
        for call in (
            BUILD.format(""),
            f"SELECT susx.add_support('kinds', 'cat', ARRAY['\\x{images[0].hex()}'::bytea])",
            "SELECT susx.add_support('kinds', 'cat', (SELECT ARRAY[embedding] FROM photos LIMIT 1), (SELECT ARRAY[likeness] FROM photos LIMIT 1))",
            "CALL susx.generate_support_set('kinds', steps => 1, per_class => 1)",
        ):
            sql.run(f"DELETE FROM kinds WHERE kind = 'image'; {OLD.format('kinds')}")
            sql.run(call)
            assert sql.rows(COLUMN.format("kinds")) == fresh, call
            assert sql.one("SELECT count(*) > 0 AND count(*) = count(likeness) FROM kinds WHERE kind = 'image'"), call

    def test_no_column_when_it_is_not_needed(self, photos, images):
        sql = photos
        embed(sql)
        sql.run(f"SELECT susx.create_classifier('kinds', '{{cat,dog}}', model => '{MODEL}')")
        sql.run(OLD.format("kinds"))
        sql.run(BUILD.format(""))
        sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", images[0])
        sql.run("SELECT susx.add_support('kinds', 'cat', (SELECT ARRAY[embedding] FROM photos LIMIT 1))")
        sql.run("INSERT INTO kinds (category, image) VALUES ('cat', %s)", images[1])
        sql.run(f"SELECT susx.alter_classifier('kinds', likeness_model => '{EYES}')")
        assert sql.rows(COLUMN.format("kinds")) == []
        # Those that were there have none yet.
        sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", images[2])
        assert sql.one("SELECT count(likeness) FROM kinds") == 1

    def test_only_by_the_owner(self, sql, connect, schema):
        create_compass(sql)
        add = "SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]']::vector[], ARRAY['[1,2]']::vector[])"
        sql.run(OLD.format("compass"))
        sql.run(f"CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA {schema} TO writer; GRANT SELECT, INSERT ON compass TO writer")
        try:
            writer = connect(user="writer")
            writer.run(f"SET search_path = {schema}, public")
            refusal = writer.fails(add)
            owner = sql.one("SELECT current_user")
            assert refusal.sqlstate == DENIED and f"only its owner may do: {owner}" in refusal.hint
            assert "likeness vectors" in refusal.message
            assert writer.one("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]']::vector[])") == 1
            # Once the owner has added some, others who may insert can.
            assert sql.one(add) == 1
            assert writer.one(add) == 1
            writer.close()
        finally:
            sql.run("DROP OWNED BY writer; DROP ROLE writer")
