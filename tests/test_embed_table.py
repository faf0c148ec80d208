"""CALL susx.embed_table: every image gets its own embedding, whatever happens meanwhile, and failures are recorded."""

from __future__ import annotations

import re

import pytest

from helpers.pictures import encode, picture
from helpers.session import Session

BAD = b"this is no image"

# Rows whose embedding is not that of their image, made one by one: none may be there.
WRONG = """
    SELECT count(*) FROM {0} WHERE embedding IS NOT NULL
    AND (image IS NULL OR (embedding <=> susx.embed_image(image, 'tiny_split')) > 1e-5)"""


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, (40, 30))) for seed in range(40)]


def create(sql: Session, images: list[bytes], rows: int, table: str = "photos", dimensions: str = "(32)") -> None:
    """photos(id, image, embedding), whose images differ from row to row."""
    sql.run(f"CREATE TABLE {table} (id int PRIMARY KEY, image bytea, embedding vector{dimensions})")
    sql.copy(table, ["id", "image"], ((i, images[i % len(images)]) for i in range(rows)))


def call(sql: Session, table: str = "photos", **options: object) -> None:
    named = "".join(f", {name} => {value!r}" for name, value in {"model": "tiny_split", **options}.items())
    sql.run(f"CALL susx.embed_table('{table}'{named})")


def state(sql: Session, table: str = "photos") -> tuple[int, int]:
    """The rows with an image but no embedding, and the rows with a wrong one."""
    (missing,) = sql.column(f"SELECT count(*) FROM {table} WHERE embedding IS NULL AND image IS NOT NULL")
    return missing, sql.one(WRONG.format(table))


def test_every_image_gets_its_own(sql, images):
    create(sql, images, 700)
    sql.run("UPDATE photos SET image = NULL WHERE id % 50 = 7")
    sql.run("UPDATE photos SET embedding = array_fill(1, '{32}')::vector WHERE id IN (0, 300)")
    call(sql)
    assert sql.one("SELECT count(*) FROM photos WHERE embedding = array_fill(1, '{32}')::vector") == 2
    sql.run("DELETE FROM photos WHERE id IN (0, 300)")
    assert state(sql) == (0, 0)
    assert sql.one("SELECT count(*) FROM photos WHERE image IS NULL AND embedding IS NULL") == 14
    assert sql.notices == []


def test_names_of_columns_and_an_empty_table(sql, images):
    sql.run('CREATE TABLE "we ird.Ta""ble" ("the Key" int PRIMARY KEY, "a picture" bytea, "Vec" vector)')
    call(sql, '"we ird.Ta""ble"', image_column="a picture", embedding_column="Vec")
    sql.run('INSERT INTO "we ird.Ta""ble" VALUES (1, %s), (2, %s)', images[0], images[1])
    call(sql, '"we ird.Ta""ble"', image_column="a picture", embedding_column="Vec", batch_size=1)
    wrong = 'SELECT count(*) FROM "we ird.Ta""ble" WHERE ("Vec" <=> susx.embed_image("a picture", \'tiny_split\')) < 1e-5'
    assert sql.one(wrong) == 2


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_batches_in_the_order_of_keys(sql, images, batch_size):
    """A COMMIT per batch: rows of one batch have one transaction, and the transactions follow the keys."""
    create(sql, images, 150)
    call(sql, batch_size=batch_size)
    writers = sql.column("SELECT xmin::text::bigint FROM photos ORDER BY id")
    assert writers == sorted(writers)
    assert len(set(writers)) == -(-150 // batch_size)
    assert state(sql) == (0, 0)


KEYS = {
    "text": ("k text", "'k ' || i || ' é''\"'"),
    "collated": ('k text COLLATE "C"', "chr(64 + i % 60) || i"),
    "bpchar": ("k char(8)", "'k' || i"),
    "varchar": ("k varchar(20)", "'k' || i"),
    "uuid": ("k uuid", "md5(i::text)::uuid"),
    "numeric": ("k numeric", "(i - 50) / 7.0"),
    "double": ("k double precision", "sin(i) / 3"),
    "timestamptz": ("k timestamptz", "'2024-03-31 00:00+00'::timestamptz + i * '7 min 0.000001 s'::interval"),
    "date": ("k date", "'2024-01-28'::date - i"),
    "interval": ("k interval", "make_interval(months => i % 5 - 2, days => -i, secs => i * 1.5)"),
    "bytea": ("k bytea", "sha256(i::text::bytea)"),
    "enum and int": ("k mood, k2 int", "(ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, i"),
    "domain": ("k positive", "i + 1"),
    "array": ("k int[]", "ARRAY[i % 7, i]"),
    "name": ("k name", "'n' || i"),
    "range": ("k int4range", "int4range(i, i + 3)"),
    "three": ("k text, k2 date, k3 uuid", "'a' || i % 2, '2024-01-01'::date + i % 3, md5(i::text)::uuid"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_types_of_keys(sql, images, kind):
    """Whatever format the session uses for dates and numbers."""
    columns, values = KEYS[kind]
    sql.run("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    sql.run(f"CREATE TABLE photos ({columns}, image bytea, embedding vector(32), PRIMARY KEY ({names}))")
    sql.run("CREATE TABLE files (i int, image bytea)")
    sql.copy("files", ["i", "image"], enumerate(images))
    sql.run(f"INSERT INTO photos SELECT {values}, (SELECT image FROM files f WHERE f.i = s.i % 40) FROM generate_series(0, 99) s (i)")
    sql.run("SET DateStyle = 'SQL, DMY'; SET IntervalStyle = sql_standard; SET TimeZone = 'Europe/Berlin'")
    sql.run("SET extra_float_digits = -3")
    call(sql, batch_size=9)
    assert state(sql) == (0, 0)
    assert sql.one("SHOW DateStyle") == "SQL, DMY"
    assert sql.one("SHOW enable_seqscan") == "on"


@pytest.mark.parametrize("by", ["LIST (tenant)", "RANGE (tenant)", "HASH (tenant)"])
def test_partitioned_tables(sql, images, by):
    bounds = {
        "LIST (tenant)": ["FOR VALUES IN (0, 3)", "FOR VALUES IN (1, 2)"],
        "RANGE (tenant)": ["FOR VALUES FROM (0) TO (2)", "FOR VALUES FROM (2) TO (9)"],
        "HASH (tenant)": ["FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"],
    }[by]
    sql.run(
        f"CREATE TABLE photos (tenant int, id int, image bytea, embedding vector(32), PRIMARY KEY (tenant, id)) "
        f"PARTITION BY {by}"
    )
    # One of them with its columns in another order.
    sql.run(f"CREATE TABLE first PARTITION OF photos {bounds[0]}")
    sql.run(
        "CREATE TABLE second (embedding vector(32), gone int, image bytea, id int NOT NULL, tenant int NOT NULL); "
        f"ALTER TABLE second DROP gone; ALTER TABLE photos ATTACH PARTITION second {bounds[1]}"
    )
    sql.copy("photos", ["tenant", "id", "image"], ((i % 4, i, images[i % 40]) for i in range(200)))
    call(sql, "first", batch_size=16)
    assert sql.one("SELECT count(*) FROM first WHERE embedding IS NULL") == 0
    assert sql.one("SELECT count(embedding) FROM second") == 0
    call(sql, batch_size=16)
    assert state(sql) == (0, 0)
    assert sql.one("SELECT count(DISTINCT tableoid) FROM photos") == 2


def test_inheritance(sql, images):
    """The children's rows, too, even where a key is there twice, written by one transaction."""
    create(sql, images, 30)
    sql.run("CREATE TABLE child () INHERITS (photos); CREATE TABLE other () INHERITS (photos)")
    sql.run(
        "INSERT INTO child SELECT id, image FROM ONLY photos; "
        "INSERT INTO other SELECT 29 - id, image FROM ONLY photos; INSERT INTO other TABLE child"
    )
    for _ in range(3):
        call(sql, batch_size=100)
    assert state(sql) == (0, 0)
    assert sql.one("SELECT count(embedding) FROM photos") == 120


REFUSED = {
    "view": ("CREATE VIEW it AS TABLE photos", "42809", "a view"),
    "matview": ("CREATE MATERIALIZED VIEW it AS TABLE photos", "42809", "a materialized view"),
    "temp": ("CREATE TEMP TABLE it (LIKE photos INCLUDING ALL)", "42809", "a temporary table"),
    "no key": ("CREATE TABLE it (LIKE photos)", "55000", "has no primary key"),
    "no image": ("CREATE TABLE it (id int PRIMARY KEY, embedding vector)", "42703", '"image"'),
    "no embedding": ("CREATE TABLE it (id int PRIMARY KEY, image bytea)", "42703", '"embedding"'),
    "type of image": ("CREATE TABLE it (id int PRIMARY KEY, image text, embedding vector)", "22023", "text, not bytea"),
    "type of embedding": ("CREATE TABLE it (id int PRIMARY KEY, image bytea, embedding real[])", "22023", "not vector"),
    "dimensions": (
        "CREATE TABLE it (id int PRIMARY KEY, image bytea, embedding vector(33))",
        "22000",
        "has 33 dimensions, but the model makes 32",
    ),
    "generated": (
        "CREATE TABLE it (id int PRIMARY KEY, image bytea, e vector, embedding vector GENERATED ALWAYS AS (e) STORED)",
        "22023",
        "is a generated column",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_table_of_images(sql, images, what):
    create(sql, images, 0)
    statement, sqlstate, message = REFUSED[what]
    sql.run(statement)
    refusal = sql.fails("CALL susx.embed_table('it', model => 'tiny_split')")
    assert refusal.sqlstate == sqlstate and message in refusal.message
    assert refusal.hint or sqlstate in ("42703", "22023")


def test_other_wrong_arguments(sql, images):
    create(sql, images, 1)
    for arguments, sqlstate in {
        "'pg_class'": "42809",
        "'photos', batch_size => 0": "22023",
        "'photos', on_error => 'ignore'": "22023",
        "'photos', on_error => NULL": "22004",
        "NULL": "22004",
        "'photos', NULL": "22004",
        "'photos', embedding_column => NULL": "22004",
        "'photos', model => 'there is none'": "42704",
    }.items():
        assert sql.fails(f"CALL susx.embed_table({arguments})").sqlstate == sqlstate, arguments
    assert state(sql) == (1, 0)


def test_where_no_transaction_can_end(sql, images):
    create(sql, images, 3)
    statement = "CALL susx.embed_table('photos', model => 'tiny_split')"
    sql.run("BEGIN")
    assert sql.fails(statement).sqlstate == "2D000"
    sql.run("ROLLBACK")
    sql.run(f"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {statement}; END $$")
    refusal = sql.fails("SELECT f()")
    assert refusal.sqlstate == "2D000" and "Call it with autocommit" in refusal.hint
    assert sql.fails(f"SELECT 1; {statement}").sqlstate == "2D000"
    sql.run("SET default_transaction_read_only = on")
    assert sql.fails(statement).sqlstate == "25006"
    sql.run("RESET default_transaction_read_only")
    assert state(sql) == (3, 0)


def test_from_other_procedures(sql, images):
    """That commit themselves, before and after."""
    create(sql, images, 20)
    sql.run(
        "CREATE PROCEDURE all_of_it() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO photos VALUES (100); COMMIT; "
        "CALL susx.embed_table('photos', model => 'tiny_split', batch_size => 6); "
        "INSERT INTO photos VALUES (101); COMMIT; END $$"
    )
    sql.run("CALL all_of_it()")
    assert state(sql) == (0, 0)
    sql.run("UPDATE photos SET embedding = NULL")
    sql.run("DO $$ BEGIN CALL susx.embed_table('photos', model => 'tiny_split'); END $$")
    assert state(sql) == (0, 0)
    assert sql.one("SELECT count(*) FROM photos") == 22


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_isolation_levels_of_the_session(sql, images, level):
    create(sql, images, 50)
    sql.run(f"SET default_transaction_isolation = '{level}'")
    call(sql, batch_size=8)
    assert state(sql) == (0, 0)


ERRORS = "SELECT key, message, sqlstate FROM susx.errors WHERE relation = 'photos'::regclass ORDER BY key"


def test_images_that_cannot_be_embedded(sql, images):
    create(sql, images, 100)
    sql.run("UPDATE photos SET image = %s WHERE id IN (3, 77)", BAD)
    sql.run("SET client_min_messages = notice")
    call(sql, batch_size=10)
    assert state(sql) == (2, 0)
    assert [(key, code) for key, _, code in sql.rows(ERRORS)] == [("3", "22P03"), ("77", "22P03")]
    assert any("98 of 100 images" in notice and "2 could not be embedded: see susx.errors" in notice for notice in sql.notices)

    # Not tried again, unless asked.
    times = sql.column('SELECT "time" FROM susx.errors ORDER BY key')
    sql.notices.clear()
    call(sql)
    assert sql.column('SELECT "time" FROM susx.errors ORDER BY key') == times
    assert len(sql.notices) == 1 and "2 failed in earlier calls" in sql.notices[0] and "retry" in sql.notices[0]
    call(sql, on_error="retry")
    assert all(new > old for new, old in zip(sql.column('SELECT "time" FROM susx.errors ORDER BY key'), times))

    # Asked by deleting the record, or by changing the row.
    assert sql.one("SELECT susx.forget_errors('photos', 'embedding', '3')") == 1
    assert [key for key, *_ in sql.rows(ERRORS)] == ["77"]
    sql.run("UPDATE photos SET image = %s WHERE id = 77", images[0])
    call(sql)
    assert state(sql) == (1, 0)
    assert [key for key, *_ in sql.rows(ERRORS)] == ["3"]

    # The image is the same, but can be embedded now, which the record alone would not show.
    refusal = sql.fails("CALL susx.embed_table('photos', model => 'tiny_split', on_error => 'stop')")
    assert refusal.sqlstate == "22P03" and refusal.message.startswith('row 3 of relation "photos": ')
    sql.run("UPDATE photos SET image = %s WHERE id = 3", images[1])
    call(sql, on_error="retry")
    assert state(sql) == (0, 0) and sql.rows(ERRORS) == []


def test_forget_errors(sql, images):
    create(sql, images, 20)
    sql.run("ALTER TABLE photos ADD other vector; UPDATE photos SET image = 'bad' WHERE id % 5 = 1")
    call(sql)
    sql.run("CALL susx.embed_table('photos', embedding_column => 'other', model => 'tiny_split')")
    left = "SELECT count(*) FROM susx.errors WHERE relation = 'photos'::regclass"
    assert sql.one(left) == 8
    assert sql.one("SELECT susx.forget_errors('photos', embedding_column => 'other', key => '1')") == 1
    assert sql.one("SELECT susx.forget_errors('photos', key => '1')") == 1
    assert sql.one("SELECT susx.forget_errors('photos', key => 'none')") == 0
    assert sql.one("SELECT susx.forget_errors('photos', 'other')") == 3
    assert sql.one("SELECT susx.forget_errors('photos')") == 3
    assert sql.one(left) == 0
    assert sql.fails("SELECT susx.forget_errors(NULL)").sqlstate == "22004"
    # The caller's role stays the same, also after an error.
    assert sql.one("SELECT current_user::text") == "postgres"


def test_stop_keeps_the_batches_before(sql, images):
    create(sql, images, 60)
    sql.run("UPDATE photos SET image = %s WHERE id = 35", BAD)
    refusal = sql.fails("CALL susx.embed_table('photos', model => 'tiny_split', batch_size => 10, on_error => 'stop')")
    assert "row 35" in refusal.message
    assert sql.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == list(range(30))
    assert sql.rows(ERRORS) == []


def test_errors_of_composite_keys_and_dropped_tables(sql, images):
    sql.run("CREATE TABLE photos (a text, b date, image bytea, embedding vector, PRIMARY KEY (a, b))")
    sql.run("INSERT INTO photos VALUES ('x, y', '2024-02-01', 'bad'), ('x', '2024-02-02', %s)", images[0])
    sql.run("SET DateStyle = 'SQL, DMY'")
    call(sql)
    assert [key for key, *_ in sql.rows(ERRORS)] == ['("x, y",2024-02-01)']
    assert state(sql) == (1, 0)
    oid = sql.one("SELECT 'photos'::regclass::oid")
    sql.run("DROP TABLE photos")
    assert sql.one("SELECT count(*) FROM susx.errors WHERE relation::oid = %s", oid) == 0


def test_triggers_and_generated_columns_of_the_table(sql, images):
    """They see plain UPDATEs, with the caller's settings."""
    create(sql, images, 20)
    sql.run(
        "ALTER TABLE photos ADD size int GENERATED ALWAYS AS (octet_length(image)) STORED, ADD note text; "
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.note = current_setting('TimeZone') || current_setting('enable_seqscan'); RETURN NEW; END $$; "
        "CREATE TRIGGER note BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION note(); "
        "SET TimeZone = 'Asia/Tokyo'"
    )
    call(sql)
    assert state(sql) == (0, 0)
    assert sql.column("SELECT DISTINCT note FROM photos") == ["Asia/Tokyoon"]
    # A trigger that refuses the row does not make the call run forever, and is not taken for somebody else's change.
    sql.run(
        "UPDATE photos SET embedding = NULL; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN CASE WHEN NEW.id <> 5 THEN NEW END; END'; "
        "CREATE TRIGGER no BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION no(); SET client_min_messages = notice"
    )
    call(sql)
    assert sql.column("SELECT id FROM photos WHERE embedding IS NULL") == [5]
    assert sql.notices[-1].startswith('"photos": 19 of 20 images embedded in ')
    assert "1 were skipped: a trigger or a policy" in sql.notices[-1] and "call again" not in sql.notices[-1]
    # Nor is one that takes the embedding away again.
    sql.run(
        "DROP TRIGGER no ON photos; CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN NEW.embedding = OLD.embedding; RETURN NEW; END'; "
        "CREATE TRIGGER undo BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION undo()"
    )
    call(sql)
    assert sql.notices[-1].startswith('"photos": 0 of 1 images embedded in ') and "1 were skipped" in sql.notices[-1]


def test_what_it_says_at_the_end(sql, images):
    create(sql, images, 20)
    sql.run("SET client_min_messages = notice; UPDATE photos SET image = 'bad' WHERE id = 4")
    said = re.compile(r'"photos": (\d+) of (\d+) images embedded in \d+\.\d s(; .*)$')
    for expected in (("19", "20", "; 1 could not be embedded: see susx.errors"),
                     ("0", "1", "; 1 failed in earlier calls and were not tried again: use on_error => 'retry'")):
        call(sql)
        assert said.match(sql.notices[-1]).groups() == expected
    sql.run("UPDATE photos SET image = %s WHERE id = 4", images[0])
    for embedded in ("1", "0"):
        call(sql)
        assert said.match(sql.notices[-1]).groups() == (embedded, embedded, "; none is left")


def test_a_hostile_search_path(sql, schema, images):
    create(sql, images, 30)
    sql.run("UPDATE photos SET image = 'bad' WHERE id = 9")
    sql.run(
        f"""
        CREATE FUNCTION {schema}.never(int, int) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 > 0';
        CREATE OPERATOR {schema}.= (FUNCTION = {schema}.never, LEFTARG = int, RIGHTARG = int);
        CREATE OPERATOR {schema}.> (FUNCTION = {schema}.never, LEFTARG = int, RIGHTARG = int);
        CREATE OPERATOR {schema}.= (FUNCTION = pg_catalog.textne, LEFTARG = text, RIGHTARG = text);
        CREATE FUNCTION {schema}.concat(VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_concat';
        CREATE DOMAIN {schema}.vector AS text; CREATE DOMAIN {schema}.int4 AS text; CREATE DOMAIN {schema}.text AS int;
        CREATE DOMAIN {schema}.timestamptz AS int; CREATE DOMAIN {schema}.name AS int;
        SET search_path = {schema}, pg_catalog, public"""
    )
    call(sql, batch_size=7)
    call(sql, batch_size=7, on_error="retry")
    sql.run(f"SET search_path = pg_catalog, {schema}, public")
    assert state(sql) == (1, 0)


def test_privileges(sql, connect, schema, images):
    create(sql, images, 10)
    sql.run("UPDATE photos SET image = 'bad' WHERE id = 4; CREATE ROLE guest LOGIN")
    try:
        guest = connect(user="guest")
        guest.run(f"SET search_path = {schema}, public; SET client_min_messages = warning")
        statement = "CALL susx.embed_table('photos', model => 'tiny_split')"
        sql.run(f"GRANT USAGE ON SCHEMA {schema} TO guest; GRANT UPDATE ON photos TO guest")
        assert guest.fails(statement).sqlstate == "42501"
        sql.run("REVOKE UPDATE ON photos FROM guest; GRANT SELECT, UPDATE (image) ON photos TO guest")
        assert guest.fails(statement).sqlstate == "42501"
        sql.run("REVOKE UPDATE ON photos FROM guest; GRANT UPDATE (embedding) ON photos TO guest")
        guest.run(statement)
        assert state(sql) == (1, 0)
        assert [row[0] for row in guest.rows(ERRORS)] == ["4"]
        # The columns that it reads are enough; those that tell whether a row was changed are among them.
        sql.run("UPDATE photos SET embedding = NULL WHERE id = 1; REVOKE SELECT ON photos FROM guest")
        sql.run("GRANT SELECT (id, image, embedding) ON photos TO guest")
        refusal = guest.fails(statement)
        assert refusal.sqlstate == "42501" and "GRANT SELECT (ctid, xmin, tableoid) ON" in refusal.hint
        sql.run("GRANT SELECT (ctid, xmin, tableoid) ON photos TO guest")
        guest.run(statement)
        assert state(sql) == (1, 0)
        sql.run("GRANT SELECT ON photos TO guest")
        # Readers of the table see the errors, and others see none.
        sql.run("REVOKE UPDATE (embedding) ON photos FROM guest")
        assert len(guest.rows(ERRORS)) == 1
        for deletion in ("DELETE FROM susx.errors", "SELECT susx.forget_errors('photos')"):
            assert guest.fails(deletion).sqlstate == "42501"
        assert len(sql.rows(ERRORS)) == 1
        row = "INSERT INTO susx.errors VALUES ('photos', 'embedding', '1', 'm', 's', '1')"
        assert guest.fails(row).sqlstate == "42501"
        sql.run("REVOKE ALL ON photos FROM guest")
        assert guest.rows(ERRORS) == []
        # Row level security: what the caller may not see is left alone.
        sql.run(
            "UPDATE photos SET embedding = NULL, image = (SELECT image FROM photos WHERE id = 1); "
            "GRANT SELECT, UPDATE ON photos TO guest; ALTER TABLE photos ENABLE ROW LEVEL SECURITY; "
            "CREATE POLICY own ON photos FOR SELECT TO guest USING (id < 6); "
            "CREATE POLICY change ON photos FOR UPDATE TO guest USING (id <> 2)"
        )
        guest.run(statement)
        assert sql.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == [0, 1, 3, 4, 5]
        # The row that a policy keeps from being written is no change by others.
        guest.run("SET client_min_messages = notice")
        guest.run(statement)
        assert "0 of 1 images" in guest.notices[-1] and "1 were skipped: a trigger or a policy" in guest.notices[-1]
        sql.run("BEGIN; SELECT FROM photos WHERE id = 3 FOR UPDATE; UPDATE photos SET embedding = NULL WHERE id = 3")
        guest.run(statement)
        assert "1 were skipped" in guest.notices[-1] and "changed by other sessions" not in guest.notices[-1]
        sql.run("COMMIT; BEGIN; SELECT FROM photos WHERE id = 3 FOR UPDATE")
        guest.run(statement)
        assert "1 were skipped" in guest.notices[-1] and "1 were changed by other sessions" in guest.notices[-1]
        sql.run("ROLLBACK")
        guest.run(statement)
        assert "1 of 2 images" in guest.notices[-1] and "changed by other sessions" not in guest.notices[-1]
        guest.close()
    finally:
        sql.run("DROP OWNED BY guest; DROP ROLE guest")


def pages_read(sql: Session, table: str) -> int:
    """Blocks of the table that have been looked at."""
    sql.run("SELECT pg_stat_force_next_flush()")
    return sql.one(
        "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relid = %s::regclass", table
    )


def test_a_large_table_is_not_read_again_for_each_batch(sql, images):
    """Also where PostgreSQL believes that hardly a row is left: with each row looked at a few times."""
    sql.run("CREATE TABLE photos (a int, id int, image bytea, embedding vector(32), PRIMARY KEY (a, id))")
    sql.run(
        "INSERT INTO photos SELECT 1, i, CASE WHEN mod(i, 10) = 0 THEN %s::bytea END, array_fill(0.5, '{32}')::vector "
        "FROM generate_series(1, 20000) i",
        images[0],
    )
    sql.run("ANALYZE photos")
    sql.run("UPDATE photos SET embedding = NULL WHERE id % 10 = 0")
    before = pages_read(sql, "photos")
    call(sql, batch_size=20)
    read = pages_read(sql, "photos") - before
    assert sql.one("SELECT count(*) FROM photos WHERE embedding IS NULL") == 0
    # 100 batches. The whole table each time would be 2,000,000 rows, on more than 40,000 pages.
    assert read < 6 * 22000, read


def test_an_index_for_few_new_images_in_a_large_table(sql, schema, images):
    """The HINT is a statement that can be run as it is, and then it comes no more."""
    hints = []
    sql.connection.add_notice_handler(lambda notice: notice.message_hint and hints.append(notice.message_hint))
    sql.run('CREATE TABLE "Large ones" (a int, "B" int, image bytea, "its vector" vector(32), PRIMARY KEY (a, "B"))')
    embed = """CALL susx.embed_table('"Large ones"', embedding_column => 'its vector', model => 'tiny_split')"""
    sql.run("SET client_min_messages = notice")
    sql.run(
        "INSERT INTO \"Large ones\" SELECT i, 1, ''::bytea, array_fill(1, '{32}')::vector FROM generate_series(1, 100000) i"
    )
    sql.copy("Large ones", ["a", "B", "image"], ((i, 2, images[i]) for i in range(3)))
    # Nobody knows yet that it is large.
    sql.run(embed)
    assert hints == []
    sql.run('ANALYZE "Large ones"; UPDATE "Large ones" SET "its vector" = NULL WHERE "B" = 2')
    sql.run(embed)
    assert len(hints) == 1 and "all of it was read" in sql.notices[-1]
    create = hints[0].split(": ", 1)[1]
    assert create == f"""CREATE INDEX ON {schema}."Large ones" (a, "B") WHERE "its vector" IS NULL;"""
    # Not where many are missing.
    sql.run('BEGIN; UPDATE "Large ones" SET "its vector" = NULL WHERE a > 98000')
    sql.run("COMMIT")
    sql.run(embed.replace(")", ", on_error => 'record')"))
    assert len(hints) == 1
    sql.run('DELETE FROM "Large ones" WHERE a > 98000; UPDATE "Large ones" SET "its vector" = NULL WHERE "B" = 2')
    sql.run(f"{create} ANALYZE \"Large ones\"")
    sql.run("SET enable_seqscan = off")
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'Large ones_a_B_idx'"
    sql.run(embed)
    assert len(hints) == 1
    sql.run("SELECT pg_stat_force_next_flush()")
    assert sql.one(scans) > 0
