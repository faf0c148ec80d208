"""Nothing that susx does depends on what the caller's search_path puts before PostgreSQL's own operators, functions,
types and tables: neither when it is installed nor when it is used."""

from __future__ import annotations

import contextlib

import pytest

from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_compass, create_random

# In a schema of these names everything below is a trap: it fails when it is used.
SHADOWS = """
    CREATE SCHEMA {schema};
    DO $do$
    DECLARE
        o record;
        serial int := 0;
    BEGIN
        FOR o IN
            SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
            FROM pg_catalog.pg_operator
            WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
              AND oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '*', '/', '~', '&&', '@>')
        LOOP
            serial := serial + 1;
            BEGIN
                EXECUTE pg_catalog.format(
                    'CREATE FUNCTION {schema}.shadow%s(a %s, b %s) RETURNS %s LANGUAGE plpgsql AS %L',
                    serial, o.l, o.r, o.result, 'BEGIN RAISE ''captured: ' || o.oprname || '''; END');
                EXECUTE pg_catalog.format(
                    'CREATE OPERATOR {schema}.%s (FUNCTION = {schema}.shadow%s, LEFTARG = %s, RIGHTARG = %s)',
                    o.oprname, serial, o.l, o.r);
            EXCEPTION WHEN OTHERS THEN
                NULL;  -- Pseudo-types, with which users have no functions.
            END;
        END LOOP;
        FOR o IN
            SELECT proname, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments, proretset,
                   prorettype::regtype AS result
            FROM pg_catalog.pg_proc p
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (
                'unnest', 'concat_ws', 'quote_ident', 'to_regclass', 'generate_series', 'has_table_privilege',
                'has_any_column_privilege', 'has_column_privilege', 'clock_timestamp', 'current_schema', 'parse_ident',
                'format_type', 'array_to_string', 'text', 'now', 'pg_event_trigger_dropped_objects', 'set_config')
        LOOP
            BEGIN
                EXECUTE pg_catalog.format(
                    'CREATE FUNCTION {schema}.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L', o.proname, o.arguments,
                    CASE WHEN o.proretset THEN 'SETOF' ELSE '' END, o.result,
                    'BEGIN RAISE ''captured: ' || o.proname || '''; END');
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END LOOP;
    END $do$;
"""
HIDDEN = """
    CREATE DOMAIN {schema}.text AS pg_catalog.int4; CREATE DOMAIN {schema}.name AS pg_catalog.int4;
    CREATE DOMAIN {schema}.bytea AS pg_catalog.int4; CREATE DOMAIN {schema}.vector AS pg_catalog.int4;
    CREATE DOMAIN {schema}.regclass AS pg_catalog.int4; CREATE DOMAIN {schema}.timestamptz AS pg_catalog.int4;
    CREATE TABLE {schema}.pg_class (oid int); CREATE TABLE {schema}.pg_extension (oid int);
    CREATE TABLE {schema}.pg_attribute (attname int); CREATE TABLE {schema}.pg_type (oid int);
    CREATE TABLE {schema}.pg_index (indrelid int); CREATE TABLE {schema}.pg_namespace (oid int);
    CREATE TABLE {schema}.classifier (classifier int); CREATE TABLE {schema}.errors (relation int)
"""


@pytest.fixture
def evil(sql, schema):
    """The name of a schema full of traps."""
    name = f"{schema}_evil"
    sql.run(SHADOWS.format(schema=name) + HIDDEN.format(schema=name))
    assert sql.one(f"SELECT count(*) > 300 FROM pg_operator WHERE oprnamespace = '{name}'::regnamespace")
    yield name
    sql.run(f"RESET search_path; SET client_min_messages = warning; DROP SCHEMA {name} CASCADE")


IMAGE = encode(picture(3, (40, 40)))


def work(sql, table):
    """Everything that has SQL inside, on tables whose names are qualified; what it answers."""
    results = []

    def rows(query, *arguments):
        results.append((query, sql.rows(query.replace("@", table), *arguments)))

    points = "SELECT embedding, truth FROM @points".replace("@", table)
    rows("SELECT susx.create_classifier(%s, '{up,down}', text_embeddings => %s::public.vector[]) IS NULL", f"{table}c", UP_DOWN)
    rows("SELECT susx.create_classifier(%s, '{cat,dog}', model => 'tiny_split') IS NULL", f"{table}pets")
    rows("SELECT susx.add_support('@c', 'up', %s::public.vector[])", UP_DOWN[:1])
    rows("SELECT susx.add_prompts('@pets', '{\"cat\": [\"a cat asleep\"]}')")
    rows("SELECT susx.add_support('@pets', 'dog', ARRAY[%s::pg_catalog.bytea])", IMAGE)
    rows("SELECT susx.alter_classifier('@c', alpha => 2)::pg_catalog.text")
    for key in ("id", "word"):
        rows("SELECT * FROM susx.build_support_set('@c', '@pool', key_column => %s)", key)
    rows("SELECT source_key FROM @c ORDER BY id")
    rows("SELECT * FROM susx.classify('@c', %s::public.vector, 2)", UP_DOWN[0])
    rows("SELECT * FROM susx.explain('@c', %s::public.vector)", UP_DOWN[0])
    rows("SELECT susx.label('@pets', %s::pg_catalog.bytea)", IMAGE)
    rows("SELECT * FROM susx.classify_rows('@c', 'SELECT id, embedding FROM @pool')")
    rows("SELECT * FROM susx.evaluate('@c', %s)", points)
    rows("SELECT * FROM susx.confusion_matrix('@c', %s)", points)
    rows("SELECT susx.suggest_reject('@c', '@pool')")
    rows("SELECT susx.known('@c', embedding) FROM @pool ORDER BY id")
    rows("SELECT susx.tags('@c', embedding) FROM @pool ORDER BY id")
    rows("SELECT * FROM susx.tune('@c')")
    rows("SELECT susx.add_negatives('@pets', '{spoon}')")
    rows("SELECT susx.add_negatives('@c', '{left}', %s::public.vector[])", [vector([0, -1])])
    sql.run(f"CALL susx.embed_table('{table}photos', model => 'tiny_split')")
    rows("SELECT id, word, embedding IS NULL FROM @photos ORDER BY id")
    rows("SELECT key, sqlstate FROM susx.errors e WHERE relation OPERATOR(pg_catalog.=) '@photos'::pg_catalog.regclass")
    sql.run(
        f"CREATE TRIGGER w AFTER UPDATE ON {table}photos REFERENCING OLD TABLE AS old NEW TABLE AS new "
        "FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split')"
    )
    sql.connection.execute(f"UPDATE {table}photos SET image = %s", (IMAGE,))
    rows("SELECT id, embedding::pg_catalog.text FROM @photos ORDER BY id")
    rows("SELECT name, error FROM susx.models() ORDER BY name")
    rows("SELECT count(*) FROM susx.stat_progress")
    rows("SELECT status FROM susx.stat_server")
    sql.run(f"DROP TABLE {table}c")
    rows("SELECT count(*) FROM susx.classifier WHERE classifier::pg_catalog.text LIKE '%%c'")
    refusal = sql.fails(f"SELECT susx.label('{table}pool', '[1,0]'::public.vector)")
    results.append((refusal.sqlstate, "captured" in refusal.message))
    return results


UP_DOWN = [vector([1, 0.1]), vector([-1, 0.1])]


def prepare(sql, table):
    sql.run(
        f"""
        CREATE TABLE {table}pool (id bigint PRIMARY KEY, word varchar(9) UNIQUE, embedding vector(2));
        INSERT INTO {table}pool SELECT i, 'w' || i, ('[' || 5 - i || ',1]')::vector FROM generate_series(1, 9) i;
        CREATE TABLE {table}points (id int PRIMARY KEY, embedding vector(2), truth text);
        INSERT INTO {table}points VALUES (1, '[1,0]', 'up'), (2, '[-1,0]', 'down'), (3, '[-1,0.2]', 'up');
        CREATE TABLE {table}photos (id int, word text, image bytea, embedding vector(32), PRIMARY KEY (id, word))"""
    )
    rows = [(1, "a", IMAGE), (2, "b", b"no picture"), (3, "c", None)]
    with sql.connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table}photos VALUES (%s, %s, %s)", rows)


def test_everything_with_a_hostile_search_path(sql, schema, evil):
    prepare(sql, f"{schema}.")
    expected = work(sql, f"{schema}.")
    sql.run(f"DROP TABLE {schema}.pool, {schema}.points, {schema}.photos, {schema}.pets")
    prepare(sql, f"{schema}.")
    sql.run(f"SET search_path = {evil}, pg_catalog, {schema}, public")
    # The traps are open.
    assert "captured" in sql.fails("SELECT 1 WHERE 1::bigint = 1::int").message
    found = work(sql, f"{schema}.")
    # Tables with a schema that is not in the path are named differently, and nothing else.
    assert found == expected
    assert ("42704", False) in found


def test_installed_with_traps_in_public(connect, fresh_database):
    """A superuser's CREATE EXTENSION and ALTER EXTENSION use none of the operators that anybody may have left there."""
    session = connect(fresh_database)
    session.run("CREATE EXTENSION vector")
    session.run(SHADOWS.format(schema="traps").replace("CREATE SCHEMA traps", "").replace("traps.", "public."))
    # Those that fit better than any of pg_catalog.
    for left, right in (("real", "integer"), ("regclass", "oid"), ("oid", "regclass")):
        for name in ("=", "<", ">", "<=", ">=", "<>"):
            session.run(
                f"""
                CREATE OR REPLACE FUNCTION public.trap({left}, {right}) RETURNS boolean LANGUAGE plpgsql
                    AS $$ BEGIN RAISE 'captured'; END $$;
                CREATE OPERATOR public.{name} (FUNCTION = public.trap, LEFTARG = {left}, RIGHTARG = {right})"""
            )
    session.run("CREATE EXTENSION susx")
    session.run("SET search_path = pg_catalog")
    captured = session.column(
        """
        SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' uses '
                        || pg_describe_object(d.refclassid, d.refobjid, 0)
        FROM pg_depend d
        JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND d.refobjid = o.oid
        WHERE o.oprnamespace = 'public'::regnamespace AND d.deptype = 'n'
          AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
                          AND e.objid = o.oid)
          AND d.classid <> 'pg_operator'::regclass"""
    )
    assert captured == []
    session.run("RESET search_path")
    create_compass(session, "public.compass")
    assert session.one("SELECT susx.label('public.compass', '[1,0]'::vector)") == "east"
    session.run("UPDATE susx.classifier SET alpha = 1")
    session.run("DROP TABLE compass")
    assert session.rows("SELECT * FROM susx.classifier") == []


@pytest.mark.parametrize("how", ["owner", "create"])
def test_a_schema_that_is_there_already(connect, fresh_database, how):
    """Its owner could add functions that fit better than ours."""
    session = connect(fresh_database)
    session.run("CREATE EXTENSION vector; CREATE ROLE early")
    try:
        wanted = {
            "owner": "CREATE SCHEMA susx AUTHORIZATION early",
            "create": "CREATE SCHEMA susx; GRANT CREATE ON SCHEMA susx TO PUBLIC",
        }
        session.run(wanted[how])
        refusal = session.fails("CREATE EXTENSION susx")
        assert refusal.sqlstate == "42501" and 'schema "susx"' in refusal.message and "ALTER SCHEMA" in refusal.hint
        session.run("ALTER SCHEMA susx OWNER TO postgres; REVOKE CREATE ON SCHEMA susx FROM PUBLIC")
        session.run("CREATE EXTENSION susx")
    finally:
        with contextlib.suppress(Exception):
            session.run("DROP EXTENSION IF EXISTS susx; DROP SCHEMA IF EXISTS susx CASCADE")
        session.run("DROP OWNED BY early; DROP ROLE early")


# Names that need quoting, and some that try to end it.
NAMES = ["with space", "dot.ted", 'quo"ted', "Größe", "目录", "a'b", "x; DROP TABLE y; --", "$1", "%s", "SELECT", "{}"]


def quote(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", NAMES)
def test_names_that_need_quotes(sql, schema, name):
    """A schema, table, columns, a type and a category of that name are as good as any."""
    quoted = quote(name)
    place = f"{schema}_q"
    sql.run(f"CREATE SCHEMA {place}; ALTER SCHEMA {place} RENAME TO {quoted}")
    try:
        table, photos = (f"{quoted}.{quote(prefix + name)}" for prefix in ("c ", "i "))
        sql.connection.execute(
            "SELECT susx.create_classifier(%s, ARRAY[%s, 'other'], model => 'tiny_split')", (table, name)
        )
        sql.run(f"CREATE TYPE {quoted}.{quoted} AS ENUM ('k1', 'k2', 'k3')")
        sql.run(
            f"CREATE TABLE {photos} "
            f"({quoted} {quoted}.{quoted} PRIMARY KEY, {quote('b ' + name)} bytea, {quote('e ' + name)} vector(32))"
        )
        rows = [("k1", IMAGE), ("k2", encode(picture(5))), ("k3", b"broken")]
        with sql.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {photos.replace('%', '%%')} VALUES (%s, %s)", rows)
        image, embedding = "b " + name, "e " + name
        sql.connection.execute(
            "CALL susx.embed_table(%s::text::regclass, %s::name, %s::name, model => 'tiny_split')",
            (photos, image, embedding),
        )
        assert sql.one("SELECT key FROM susx.errors WHERE relation = %s::text::regclass", photos) == "k3"
        built = sql.rows(
            "SELECT sum(images) FROM susx.build_support_set(%s::text::regclass, %s::text::regclass, "
            "embedding_column => %s, image_column => %s)",
            table,
            photos,
            embedding,
            image,
        )
        assert built == [(2,)]
        assert sql.one("SELECT susx.add_support(%s::text::regclass, %s, ARRAY[%s])", table, name, IMAGE) == 1
        assert sql.one("SELECT susx.label(%s::text::regclass, %s::bytea)", table, IMAGE) in (name, "other")
        sql.connection.execute("SELECT susx.alter_classifier(%s::text::regclass, alpha => 3)", (table,))
        assert sql.one("SELECT alpha FROM susx.classifier WHERE classifier = %s::text::regclass", table) == 3
    finally:
        sql.run(f"DROP SCHEMA {quoted} CASCADE")


def test_random_names_in_messages(sql):
    """What is in a message is the name, not a format of it."""
    create_random(sql, '"100%s %d"', categories=2, dimensions=3)
    refusal = sql.fails("SELECT susx.label('\"100%s %d\"', '[1,2]'::vector)")
    assert refusal.sqlstate == "22000"
    assert refusal.message == 'classifier "100%s %d" expects 3 dimensions, not 2'
