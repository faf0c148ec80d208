"""The trigger susx.embed_on_write: after a statement, the rows that it wrote have the embeddings of their images."""

from __future__ import annotations

import base64

import pytest

from conftest import PG
from helpers.pictures import encode, picture
from helpers.work import images_embedded

BAD = b"this is no image"

INSERT = """
    CREATE TRIGGER embed_insert AFTER INSERT ON {0} REFERENCING NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split'{1})"""
UPDATE = """
    CREATE TRIGGER embed_update AFTER UPDATE ON {0} REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split'{1})"""

# Rows and whether their embedding is that of their image.
RIGHT = """
    SELECT id, (embedding <=> susx.embed_image(image, 'tiny_split')) < 1e-5 FROM photos ORDER BY id"""

GIVEN = "array_fill(1, '{32}')::vector"


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, (40, 30))) for seed in range(40)]


def declare(sql, table="photos", on_error: str = ""):
    more = f", '{on_error}'" if on_error else ""
    sql.run(INSERT.format(table, more))
    sql.run(UPDATE.format(table, more))


@pytest.fixture
def photos(sql):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), note text)")
    declare(sql)
    return sql


def all_right(sql) -> bool:
    return {right for _, right in sql.rows(RIGHT)} == {True}


def test_inserts(photos, images):
    photos.run("INSERT INTO photos VALUES (1, %s), (2, %s)", *images[:2])
    photos.run(f"INSERT INTO photos VALUES (3, NULL, NULL), (4, %s, {GIVEN})", images[3])
    assert photos.rows(RIGHT) == [(1, True), (2, True), (3, None), (4, False)]
    assert photos.one(f"SELECT embedding = {GIVEN} FROM photos WHERE id = 4")


def test_copy_and_insert_select(photos, images):
    """More than one batch of them."""
    photos.copy("photos", ["id", "image"], ((i, images[i % 40]) for i in range(600)))
    assert all_right(photos)
    photos.run("INSERT INTO photos SELECT id + 1000, image FROM photos WHERE id < 300")
    assert all_right(photos)
    assert photos.one("SELECT count(*) FROM photos") == 900


def test_updates(photos, images):
    photos.copy("photos", ["id", "image"], ((i, images[i]) for i in range(10)))
    before = dict(photos.rows("SELECT id, embedding::text FROM photos"))
    # Other columns: only the statement itself writes.
    photos.run("UPDATE photos SET note = 'x'")
    assert photos.one("SELECT count(DISTINCT xmin::text || cmin::text) FROM photos") == 1
    photos.run("UPDATE photos SET image = %s WHERE id = 3", images[30])
    photos.run(f"UPDATE photos SET image = %s, embedding = {GIVEN} WHERE id = 4", images[31])
    photos.run("UPDATE photos SET image = NULL WHERE id = 5")
    photos.run("UPDATE photos SET embedding = NULL WHERE id = 6")
    photos.run("UPDATE photos SET image = %s, embedding = NULL WHERE id = 7", images[32])
    assert photos.rows(RIGHT) == [
        (i, {4: False, 5: None}.get(i, True)) for i in range(10)
    ]
    assert photos.one("SELECT embedding IS NULL FROM photos WHERE id = 5")
    assert photos.one(f"SELECT embedding = {GIVEN} FROM photos WHERE id = 4")
    assert photos.one("SELECT embedding::text FROM photos WHERE id = 6") == before[6]


def test_keys_that_change(photos, images):
    photos.copy("photos", ["id", "image"], ((i, images[i]) for i in range(6)))
    photos.run("UPDATE photos SET id = id + 100")
    assert all_right(photos)
    photos.run("UPDATE photos SET id = id + 100, image = %s WHERE id = 102", images[20])
    assert all_right(photos)
    # Two rows exchange their keys, and one gets another image, so its embedding is outdated.
    photos.run("ALTER TABLE photos DROP CONSTRAINT photos_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
    photos.run("UPDATE photos SET id = 201 - id, image = CASE id WHEN 100 THEN %s ELSE image END WHERE id IN (100, 101)", images[21])
    assert all_right(photos)
    # An embedding stays if its image cannot be read.
    photos.run(f"INSERT INTO photos VALUES (1, NULL, {GIVEN}); UPDATE photos SET id = 2 WHERE id = 1")
    assert photos.one(f"SELECT embedding = {GIVEN} FROM photos WHERE id = 2")


def test_upsert_and_merge(photos, images):
    photos.run("INSERT INTO photos VALUES (1, %s)", images[0])
    photos.run(
        "INSERT INTO photos (id, image) VALUES (1, %s), (2, %s) ON CONFLICT (id) DO UPDATE SET image = excluded.image",
        images[1],
        images[2],
    )
    assert photos.rows(RIGHT) == [(1, True), (2, True)]
    photos.run(
        "MERGE INTO photos p USING (VALUES (2, %s::bytea), (3, %s)) v (id, image) ON p.id = v.id "
        "WHEN MATCHED THEN UPDATE SET image = v.image WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.image)",
        images[4],
        images[5],
    )
    assert photos.rows(RIGHT) == [(1, True), (2, True), (3, True)]


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_in_a_transaction(photos, images, level):
    """Rows that are written several times in it, and parts of it that are rolled back."""
    photos.run(f"BEGIN ISOLATION LEVEL {level}")
    photos.run("INSERT INTO photos VALUES (1, %s)", images[0])
    photos.run("UPDATE photos SET image = %s", images[1])
    photos.run("SAVEPOINT s")
    photos.run("UPDATE photos SET image = %s", images[2])
    photos.run("ROLLBACK TO s")
    photos.run("INSERT INTO photos VALUES (2, %s)", images[3])
    photos.run("COMMIT")
    assert photos.rows(RIGHT) == [(1, True), (2, True)]


def test_partitions_and_odd_names(sql, images):
    sql.run(
        'CREATE TABLE "we ird.Ta""ble" ("a b" text, "Day" date, image bytea, embedding vector, '
        'PRIMARY KEY ("a b", "Day")) PARTITION BY RANGE ("Day"); '
        'CREATE TABLE early PARTITION OF "we ird.Ta""ble" FOR VALUES FROM (MINVALUE) TO (\'2024-01-01\'); '
        'CREATE TABLE late PARTITION OF "we ird.Ta""ble" FOR VALUES FROM (\'2024-01-01\') TO (MAXVALUE)'
    )
    sql.run(INSERT.format('"we ird.Ta""ble"', "").replace("new", '"ne w"'))
    sql.run(UPDATE.format('"we ird.Ta""ble"', "").replace("new", '"ne w"').replace("old", '"Old"'))
    sql.run("SET DateStyle = 'SQL, DMY'")
    rows = ((f"k'{i}", f"0{i % 9 + 1}/02/202{3 + i % 2}", images[i]) for i in range(20))
    sql.copy('we ird.Ta"ble', ["a b", "Day", "image"], rows)
    wrong = (
        "SELECT count(*) FROM \"we ird.Ta\"\"ble\" WHERE "
        "(embedding <=> susx.embed_image(image, 'tiny_split')) < 1e-5"
    )
    assert sql.one(wrong) == 20
    # Rows that move to another partition, with another image.
    sql.run('UPDATE "we ird.Ta""ble" SET "Day" = "Day" + 400, image = %s WHERE "Day" < \'2024-01-01\'', images[30])
    assert sql.one("SELECT count(*) FROM early") == 0
    assert sql.one(wrong) == 20


def test_an_image_that_cannot_be_embedded(photos, images):
    refusal = photos.fails("INSERT INTO photos VALUES (1, %s), (2, %s)", images[0], BAD)
    assert refusal.sqlstate == "22P03" and refusal.message.startswith('row 2 of relation "photos": ')
    assert photos.rows(RIGHT) == []


def test_failures_that_are_recorded(sql, images):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), note text)")
    declare(sql, on_error="record")
    errors = "SELECT key FROM susx.errors WHERE relation = 'photos'::regclass ORDER BY key"
    sql.run("INSERT INTO photos VALUES (1, %s), (2, %s), (3, %s)", images[0], BAD, images[2])
    assert any("1 of 3 images" in notice for notice in sql.notices)
    assert sql.column(errors) == ["2"]
    # The old image's embedding is removed, and embed_table agrees with the trigger.
    sql.run("UPDATE photos SET image = %s WHERE id = 3", BAD)
    assert sql.column("SELECT id FROM photos WHERE embedding IS NULL ORDER BY id") == [2, 3]
    times = sql.column('SELECT "time" FROM susx.errors ORDER BY key')
    sql.run("CALL susx.embed_table('photos', model => 'tiny_split')")
    assert sql.column('SELECT "time" FROM susx.errors ORDER BY key') == times
    # Another column of a row without an embedding is no reason to try it again.
    sql.run("UPDATE photos SET note = 'x' WHERE id = 2")
    assert sql.column('SELECT "time" FROM susx.errors ORDER BY key') == times
    sql.run("UPDATE photos SET image = %s WHERE id < 9", images[5])
    assert sql.column(errors) == []
    assert all_right(sql)


def test_beside_other_triggers(photos, images):
    """One that changes the row before this trigger, and one that changes the image after the statement."""
    photos.run("CREATE TABLE later (image bytea)")
    photos.run("INSERT INTO later VALUES (%s)", images[33])
    photos.run(
        "CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE photos SET image = (SELECT image FROM later) WHERE id = 2; RETURN NULL; END $$; "
        "CREATE TRIGGER a_first AFTER INSERT ON photos FOR EACH STATEMENT EXECUTE FUNCTION another(); "
        "CREATE TRIGGER z_last AFTER INSERT ON photos FOR EACH STATEMENT EXECUTE FUNCTION another()"
    )
    photos.run("INSERT INTO photos VALUES (1, %s), (2, %s)", *images[:2])
    assert all_right(photos)
    assert photos.one("SELECT image FROM photos WHERE id = 2") == images[33]


def test_beside_embed_table(photos, images):
    photos.run("ALTER TABLE photos DISABLE TRIGGER ALL")
    photos.copy("photos", ["id", "image"], ((i, images[i % 40]) for i in range(100)))
    photos.run("ALTER TABLE photos ENABLE TRIGGER ALL; UPDATE photos SET note = 'rows without one stay as they are'")
    assert photos.one("SELECT count(embedding) FROM photos") == 0
    photos.run("CALL susx.embed_table('photos', model => 'tiny_split')")
    assert all_right(photos)


WRONG = {
    "row": "AFTER INSERT ON photos FOR EACH ROW",
    "before": "BEFORE INSERT ON photos FOR EACH STATEMENT",
    "no table": "AFTER INSERT ON photos FOR EACH STATEMENT",
    "no old table": "AFTER UPDATE ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT",
    "delete": "AFTER DELETE ON photos REFERENCING OLD TABLE AS old FOR EACH STATEMENT",
    "truncate": "AFTER TRUNCATE ON photos FOR EACH STATEMENT",
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_declarations(sql, images, how):
    """The hint works as it stands."""
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
    sql.run("INSERT INTO photos VALUES (7, NULL)")
    sql.run(f"CREATE TRIGGER embed {WRONG[how]} EXECUTE FUNCTION susx.embed_on_write('image', 'embedding')")
    event = next(word for word in ("UPDATE", "DELETE", "TRUNCATE", "INSERT") if word in WRONG[how])
    statement = {
        "INSERT": "INSERT INTO photos VALUES (1, NULL)",
        "UPDATE": "UPDATE photos SET id = 8",
        "DELETE": "DELETE FROM photos",
        "TRUNCATE": "TRUNCATE photos",
    }[event]
    refusal = sql.fails(statement)
    assert refusal.sqlstate == "39P01" and "susx.embed_on_write" in refusal.message
    sql.run("DROP TRIGGER embed ON photos")
    sql.run(refusal.hint)
    sql.run("SET susx.model = 'tiny_split'")
    sql.run("INSERT INTO photos VALUES (1, %s)", images[0])
    sql.run("UPDATE photos SET image = %s WHERE id = 1", images[1])
    expected = event == "UPDATE"
    right = dict(sql.rows(RIGHT))
    assert right[1] is (True if expected else False)


@pytest.mark.parametrize("arguments", ["", "'image'", "'image', 'embedding', '', 'record', 'more'"])
def test_wrong_numbers_of_arguments(sql, arguments):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
    sql.run(
        f"CREATE TRIGGER embed AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
        f"EXECUTE FUNCTION susx.embed_on_write({arguments})"
    )
    refusal = sql.fails("INSERT INTO photos VALUES (1, NULL)")
    assert refusal.sqlstate == "39P01" and "'image', 'embedding'" in refusal.hint


def test_other_wrong_arguments(sql):
    sql.run("CREATE TABLE photos (id int, image bytea, embedding vector(33))")
    trigger = (
        "CREATE OR REPLACE TRIGGER embed AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
        "EXECUTE FUNCTION susx.embed_on_write({})"
    )
    insert = "INSERT INTO photos VALUES (1, %s)"
    sql.run(trigger.format("'image', 'embedding', 'tiny_split'"))
    refusal = sql.fails(insert, BAD)
    assert refusal.sqlstate == "55000" and "ADD PRIMARY KEY" in refusal.hint
    sql.run("ALTER TABLE photos ADD PRIMARY KEY (id)")
    refusal = sql.fails(insert, encode(picture(1)))
    assert refusal.sqlstate == "22000" and "33 dimensions" in refusal.message
    for arguments, sqlstate in {
        "'picture', 'embedding'": "42703",
        "'image', 'image'": "22023",
        "'image', 'embedding', 'none of these'": "42704",
        "'image', 'embedding', '', 'retry'": "22023",
    }.items():
        sql.run(trigger.format(arguments))
        assert sql.fails(insert, encode(picture(1))).sqlstate == sqlstate, arguments


def test_rights(photos, connect, schema, images):
    """The writing role needs the right to read the table and to write the embedding."""
    photos.run("CREATE ROLE guest LOGIN")
    try:
        guest = connect(user="guest")
        guest.run(f"SET search_path = {schema}, public")
        photos.run(f"GRANT USAGE ON SCHEMA {schema} TO guest; GRANT SELECT, INSERT ON photos TO guest")
        assert guest.fails("INSERT INTO photos VALUES (1, %s)", images[0]).sqlstate == "42501"
        photos.run("GRANT UPDATE (embedding) ON photos TO guest")
        guest.run("INSERT INTO photos VALUES (1, %s)", images[0])
        assert all_right(photos)
        guest.close()
    finally:
        photos.run("DROP OWNED BY guest; DROP ROLE guest")


@pytest.mark.skipif(int(PG) < 18, reason="PostgreSQL 18 is the first with virtual generated columns")
def test_images_that_are_computed_when_they_are_read(sql, images):
    """Files that came as base64, say."""
    sql.run(
        "CREATE TABLE photos (id int PRIMARY KEY, file text, note text, embedding vector(32), "
        "image bytea GENERATED ALWAYS AS (decode(file, 'base64')) VIRTUAL)"
    )
    declare(sql)
    one, two = (base64.b64encode(image).decode() for image in images[:2])
    sql.run("INSERT INTO photos (id, file) VALUES (1, %s), (2, NULL)", one)
    assert sql.rows(RIGHT) == [(1, True), (2, None)]
    before = sql.one("SELECT xmin::text FROM photos WHERE id = 1")
    sql.run("UPDATE photos SET file = %s WHERE id = 2", two)
    assert sql.rows(RIGHT) == [(1, True), (2, True)]
    sql.run("UPDATE photos SET file = %s WHERE id = 1", two)
    assert sql.rows(RIGHT) == [(1, True), (2, True)]
    assert sql.one("SELECT xmin::text FROM photos WHERE id = 1") != before
    # What is not the image embeds nothing.
    embedded = images_embedded(sql)
    sql.run("UPDATE photos SET note = 'x'")
    assert images_embedded(sql) == embedded
    sql.run("CALL susx.embed_table('photos', model => 'tiny_split', refresh => true)")
    assert sql.rows(RIGHT) == [(1, True), (2, True)]
