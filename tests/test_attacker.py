"""Attacks by an ordinary role, on settings, on other roles' classifiers and images, and on code that runs as another
role. Each is refused with the SQLSTATE that says why, and changes nothing."""

from __future__ import annotations

import contextlib

import pytest

from conftest import DATABASE
from helpers.pictures import encode, picture
from helpers.processes import resident, servers
from helpers.session import Session
from helpers.toy import create_compass
from tools.paths import ROOT

DENIED = "42501"
READ_ONLY = "25006"
NOT_NOW = "55P02"  # This setting cannot be changed by SET.

# {oid} is that of alice's classifier; mallory may use her schema, but nothing in it.
ATTEMPTS: dict[str, tuple[str, str]] = {
    # Settings that name paths, programs, libraries, devices and limits.
    "SET a path": ("SET susx.model_dir = '/tmp'", NOT_NOW),
    "SET LOCAL a library": ("SET LOCAL susx.onnxruntime_library = '/tmp/evil.so'", NOT_NOW),
    "set_config of a program": ("SELECT set_config('susx.server_program', '/tmp/evil', false)", NOT_NOW),
    "UPDATE pg_settings": ("UPDATE pg_settings SET setting = '/tmp' WHERE name = 'susx.model_dir'", NOT_NOW),
    "a limit": ("SET susx.max_image_pixels = 2147483647", NOT_NOW),
    "a device": ("SET susx.gpu_device = 1", NOT_NOW),
    "a timeout": ("SET susx.startup_timeout = '1ms'", DENIED),
    "ALTER SYSTEM": ("ALTER SYSTEM SET susx.server_program = '/tmp/evil'", DENIED),
    "ALTER ROLE": ("ALTER ROLE mallory SET susx.model_dir = '/tmp'", NOT_NOW),
    "ALTER DATABASE": (f"ALTER DATABASE {DATABASE} SET susx.max_image_bytes = 1", DENIED),
    "a function's setting": (
        "CREATE FUNCTION mallorys.f() RETURNS int LANGUAGE sql SET susx.model_dir = '/tmp' AS 'SELECT 1'",
        NOT_NOW,
    ),
    "a made-up setting": ("SET susx.model_directory = '/tmp'", "42602"),
    "LOAD": ("LOAD 'susx'", DENIED),
    "reload": ("SELECT pg_reload_conf()", DENIED),
    # A model is a name, never a path.
    "a model by a path": ("SELECT susx.embed_text('x', '/etc')", "42704"),
    "a model above the directory": ("SELECT susx.embed_text('x', '../susx')", "42704"),
    "a model through a model": ("SELECT susx.embed_image('\\x00', 'demo/../../etc')", "42704"),
    "the directory itself": ("SELECT susx.embed_texts('{x}', '.')", "42704"),
    "a model's name with a NUL": (r"SELECT susx.embed_text('x', E'demo\u0000')", "42601"),
    "susx.model as a path": ("SELECT set_config('susx.model', '../../etc', true), susx.embed_text('x')", "42704"),
    "a classifier's model as a path": (
        "SELECT susx.create_classifier('mallorys.c', '{a}', model => '../../../etc')",
        "42704",
    ),
    "a likeness model as a path": (
        "SELECT susx.create_classifier('mallorys.c', '{a}', model => 'demo', likeness_model => '../../../etc')",
        "42704",
    ),
    "another likeness model as a path": (
        "SELECT susx.alter_classifier('mallorys.own', likeness_model => '..')",
        "42704",
    ),
    "another model as a path": ("SELECT susx.alter_classifier('mallorys.own', model => '..')", "42704"),
    # Another role's classifier, in every function that takes one.
    "label": ("SELECT susx.label('alices.compass', '[1,0]'::vector)", DENIED),
    "label an image": ("SELECT susx.label('alices.compass', '\\x00'::bytea)", DENIED),
    "classify": ("SELECT * FROM susx.classify('alices.compass', '[1,0]'::vector)", DENIED),
    "classify an image": ("SELECT * FROM susx.classify('alices.compass', '\\x00'::bytea)", DENIED),
    "classify by the number": ("SELECT * FROM susx.classify({oid}::oid::regclass, '[1,0]'::vector)", DENIED),
    "classify_rows": ("SELECT * FROM susx.classify_rows('alices.compass', 'SELECT 1::int8, ''[1,0]''::vector')", DENIED),
    "explain": ("SELECT * FROM susx.explain('alices.compass', '[1,0]'::vector)", DENIED),
    "explain an image": ("SELECT * FROM susx.explain('alices.compass', '\\x00'::bytea)", DENIED),
    "report": ("SELECT susx.report('alices.compass', 'SELECT 1, ''[1,0]''::vector AS embedding')", DENIED),
    "evaluate": ("SELECT * FROM susx.evaluate('alices.compass', 'SELECT ''[1,0]''::vector, ''east''')", DENIED),
    "confusion_matrix": (
        "SELECT * FROM susx.confusion_matrix('alices.compass', 'SELECT ''[1,0]''::vector, ''east''')",
        DENIED,
    ),
    "tune": ("SELECT * FROM susx.tune('alices.compass')", DENIED),
    "alter_classifier": ("SELECT susx.alter_classifier('alices.compass', alpha => 9)", DENIED),
    "adopt_classifier": ("SELECT susx.adopt_classifier('alices.compass')", DENIED),
    "distribute_classifier": ("SELECT susx.distribute_classifier('alices.compass')", DENIED),
    "alter the likeness model": ("SELECT susx.alter_classifier('alices.compass', likeness_model => 'none')", DENIED),
    "known": ("SELECT susx.known('alices.compass', '[1,0]'::vector)", DENIED),
    "tags": ("SELECT susx.tags('alices.compass', '[1,0]'::vector)", DENIED),
    "tag_probabilities": ("SELECT * FROM susx.tag_probabilities('alices.compass', '[1,0]'::vector)", DENIED),
    "add_negatives": ("SELECT susx.add_negatives('alices.compass', '{x}', ARRAY['[-1,0]']::vector[])", DENIED),
    "suggest_reject": ("SELECT susx.suggest_reject('alices.compass', 'mallorys.pool')", DENIED),
    "somebody else's images": ("SELECT susx.suggest_reject('mallorys.own', 'alices.photos')", DENIED),
    "review_queue": ("SELECT * FROM susx.review_queue('alices.compass', 'SELECT 1::int8, ''[1,0]''::vector')", DENIED),
    "duplicates of her images": ("SELECT * FROM susx.duplicates('alices.photos')", DENIED),
    "add_prompts": ("SELECT susx.add_prompts('alices.compass', '{{\"east\": [\"x\"]}}')", DENIED),
    "add_support": ("SELECT susx.add_support('alices.compass', 'east', ARRAY['[1,0]']::vector[])", DENIED),
    "add_support with likenesses": (
        "SELECT susx.add_support('alices.compass', 'east', ARRAY['[1,0]']::vector[], ARRAY['[1,0]']::vector[])",
        DENIED,
    ),
    "add_support of images": ("SELECT susx.add_support('alices.compass', 'east', ARRAY['\\x00'::bytea])", DENIED),
    "build_support_set": ("SELECT * FROM susx.build_support_set('alices.compass', 'mallorys.pool')", DENIED),
    "somebody else's likeness": (
        "SELECT * FROM susx.build_support_set('mallorys.own', 'alices.photos', likeness_column => 'embedding')",
        DENIED,
    ),
    "somebody else's pool": ("SELECT * FROM susx.build_support_set('mallorys.own', 'alices.photos')", DENIED),
    "in her place": ("SELECT susx.create_classifier('alices.new', '{a}', text_embeddings => '{\"[1]\"}')", DENIED),
    "among the extension's tables": (
        "SELECT susx.create_classifier('susx.new', '{a}', text_embeddings => '{\"[1]\"}')",
        DENIED,
    ),
    "her table": ("INSERT INTO alices.compass (category, embedding) VALUES ('east', '[1,0]')", DENIED),
    "a foreign key to it": ("CREATE TABLE mallorys.r (c regclass REFERENCES susx.classifier)", DENIED),
    # The settings of classifiers.
    "settings for her plain table": (
        "INSERT INTO susx.classifier VALUES ('alices.photos', NULL, NULL, 'zero-shot', 1, 1, 1, 1, 1)",
        DENIED,
    ),
    "her settings by a conflict": (
        "INSERT INTO susx.classifier VALUES ('alices.compass', NULL, NULL, 'zero-shot', 1, 1, 1, 1, 1) "
        "ON CONFLICT (classifier) DO UPDATE SET alpha = 7",
        DENIED,
    ),
    "one's own settings for her table": (
        "UPDATE susx.classifier SET classifier = 'alices.photos' WHERE classifier = 'mallorys.own'::regclass",
        DENIED,
    ),
    "DELETE settings": ("DELETE FROM susx.classifier", DENIED),
    "TRUNCATE settings": ("TRUNCATE susx.classifier", DENIED),
    "LOCK settings": ("LOCK TABLE susx.classifier", DENIED),
    "LOCK settings against writing": ("LOCK TABLE susx.classifier IN ROW EXCLUSIVE MODE", DENIED),
    "a trigger on settings": (
        "CREATE TRIGGER t BEFORE INSERT ON susx.classifier FOR EACH ROW EXECUTE FUNCTION mallorys.evil()",
        DENIED,
    ),
    "a policy on settings": ("CREATE POLICY p ON susx.classifier USING (true)", DENIED),
    "settings without their policies": ("ALTER TABLE susx.classifier DISABLE ROW LEVEL SECURITY", DENIED),
    "reading them all": ("SET LOCAL row_security = off; SELECT * FROM susx.classifier", DENIED),
    "a setting that is no number": (
        "UPDATE susx.classifier SET alpha = 'NaN' WHERE classifier = 'mallorys.own'::regclass",
        "23514",
    ),
    # The records of images that failed.
    "an error for her table": (
        "INSERT INTO susx.errors VALUES ('alices.photos', 'embedding', '1', 'x', 'XX000', '1')",
        DENIED,
    ),
    "one's own error for her table": ("UPDATE susx.errors SET relation = 'alices.photos'", DENIED),
    "TRUNCATE errors": ("TRUNCATE susx.errors", DENIED),
    "DELETE errors": ("DELETE FROM susx.errors", DENIED),
    "LOCK errors": ("LOCK TABLE susx.errors", DENIED),
    "LOCK errors against writing": ("LOCK TABLE susx.errors IN ROW EXCLUSIVE MODE", DENIED),
    "her table's errors": ("SELECT susx.forget_errors('alices.photos')", DENIED),
    "her table's errors by the number": ("SELECT susx.forget_errors({photos}::oid::regclass)", DENIED),
    # A table of which row-level security shows mallory one row.
    "an error for her shared table": (
        "INSERT INTO susx.errors VALUES ('alices.shared', 'embedding', '1', 'x', 'XX000', '1')",
        DENIED,
    ),
    "her shared table's error by a conflict": (
        "INSERT INTO susx.errors VALUES ('alices.shared', 'embedding', '2', 'x', 'XX000', '1') "
        "ON CONFLICT (relation, embedding_column, key) DO UPDATE SET message = 'forged'",
        DENIED,
    ),
    "one's own error for her shared table": (
        "UPDATE susx.errors SET relation = 'alices.shared' WHERE relation = 'mallorys.pool'::regclass",
        DENIED,
    ),
    "another model for her shared table": (
        "INSERT INTO susx.embedding_column VALUES ('alices.shared', 'other', 'evil', NULL)",
        DENIED,
    ),
    "reading her shared table's errors": (
        "SELECT 1 / count(*) FROM susx.errors WHERE relation = 'alices.shared'::regclass",
        "22012",
    ),
    "reading her shared table's model": (
        "SELECT 1 / count(*) FROM susx.embedding_column WHERE relation = 'alices.shared'::regclass",
        "22012",
    ),
    "her shared table's hidden error": (
        "SELECT 1 / susx.forget_errors('alices.shared', 'embedding', '2')",
        "22012",
    ),
    "all of her shared table's errors": ("SELECT 1 / susx.forget_errors('alices.shared')", "22012"),
    "her shared classifier's settings": ("SELECT susx.alter_classifier('alices.few', alpha => 9)", DENIED),
    "her shared classifier tuned": ("SELECT * FROM susx.tune('alices.few')", DENIED),
    "her shared classifier's settings by a conflict": (
        "INSERT INTO susx.classifier SELECT * FROM susx.classifier WHERE classifier = 'alices.few'::regclass "
        "ON CONFLICT (classifier) DO UPDATE SET alpha = 7",
        DENIED,
    ),
    # The records of which model made a table's embeddings.
    "another model for her images": (
        "INSERT INTO susx.embedding_column VALUES ('alices.photos', 'embedding', 'evil', NULL)",
        DENIED,
    ),
    "another model by a conflict": (
        "INSERT INTO susx.embedding_column VALUES ('alices.photos', 'embedding', 'evil', NULL) "
        "ON CONFLICT (relation, embedding_column) DO UPDATE SET model = 'evil'",
        DENIED,
    ),
    "her images by one's own": ("UPDATE susx.embedding_column SET relation = 'alices.photos'", DENIED),
    "DELETE models": ("DELETE FROM susx.embedding_column", DENIED),
    "LOCK models": ("LOCK TABLE susx.embedding_column", DENIED),
    # Her images.
    "embed_table": ("CALL susx.embed_table('alices.photos')", DENIED),
    "embed_table with refresh": ("CALL susx.embed_table('alices.photos', refresh => true)", DENIED),
    "a column for her images": ("SELECT susx.add_embedding_column('alices.photos', 'new')", DENIED),
    "reading up to where images were compared": (
        "SELECT 1 / count(*) FROM susx.refreshed_column WHERE relation = 'alices.photos'::regclass",
        "22012",
    ),
    "writing up to where images were compared": (
        "INSERT INTO susx.refreshed_column VALUES ('alices.photos', 2, 3, '999999999')",
        DENIED,
    ),
    # The labels of her table, and the records about them.
    "label_table": ("CALL susx.label_table('alices.photos', 'mallorys.own')", DENIED),
    "counting her labels": ("SELECT * FROM susx.label_counts('alices.photos')", DENIED),
    "correcting her label": ("SELECT susx.correct('mallorys.own', 'alices.photos', '1', 'a')", DENIED),
    "teaching her classifier": ("SELECT susx.correct('alices.compass', 'mallorys.pool', '1', 'east')", DENIED),
    "a labelling": (
        "INSERT INTO susx.labelling (relation, label_column, classifier, state, embedding_column) "
        "VALUES ('mallorys.pool', 'label', 'mallorys.own', '', 'embedding')",
        DENIED,
    ),
    "a record of a label": ("INSERT INTO susx.row_label (labelling, key) VALUES (1, '1')", DENIED),
    "UPDATE records of labels": ("UPDATE susx.row_label SET is_corrected = true", DENIED),
    "DELETE records of labels": ("DELETE FROM susx.row_label", DENIED),
    "LOCK records of labels": ("LOCK TABLE susx.row_label IN ROW EXCLUSIVE MODE", DENIED),
    "LOCK labellings": ("LOCK TABLE susx.labelling", DENIED),
    "the sequence of labellings": ("SELECT nextval('susx.labelling_id_seq')", DENIED),
    "embed_table by the number": ("CALL susx.embed_table({photos}::oid::regclass)", DENIED),
    "embed_table of a catalogue": ("CALL susx.embed_table('pg_class', 'relname', 'relname')", "42809"),
    "a trigger on her images": (
        "CREATE TRIGGER t AFTER INSERT ON alices.photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
        "EXECUTE FUNCTION susx.embed_on_write('image', 'embedding')",
        DENIED,
    ),
    # Queries that do more than read.
    "a query that reads her images": (
        "SELECT * FROM susx.classify_rows('mallorys.own', 'SELECT id, embedding FROM alices.photos')",
        DENIED,
    ),
    "a query that writes": (
        "SELECT * FROM susx.classify_rows('mallorys.own', 'DELETE FROM mallorys.pool RETURNING id, embedding')",
        "0A000",
    ),
    "a query that calls nextval": (
        "SELECT * FROM susx.classify_rows('mallorys.own', 'SELECT nextval(''mallorys.s''), embedding FROM mallorys.pool')",
        READ_ONLY,
    ),
    "a query that calls a function that writes": (
        "SELECT * FROM susx.evaluate('mallorys.own', 'SELECT embedding, mallorys.writes() FROM mallorys.pool')",
        READ_ONLY,
    ),
    "a query that creates": (
        "SELECT * FROM susx.tune('mallorys.own', 'SELECT embedding, mallorys.creates() FROM mallorys.pool')",
        READ_ONLY,
    ),
    "a query that changes the classifier": (
        "SELECT * FROM susx.confusion_matrix('mallorys.own', "
        "'SELECT embedding, susx.alter_classifier(''mallorys.own'', alpha => 9)::text || ''a'' FROM mallorys.pool')",
        READ_ONLY,
    ),
    "a query that writes again": (
        "SELECT * FROM susx.evaluate('mallorys.own', "
        "'SELECT embedding, set_config(''transaction_read_only'', ''off'', false) FROM mallorys.pool')",
        "25001",
    ),
    "a report that writes": (
        "SELECT susx.report('mallorys.own', 'SELECT mallorys.writes(), embedding FROM mallorys.pool')",
        "25006",
    ),
    "a contact sheet of somebody else's images": ("SELECT susx.contact_sheet('SELECT image FROM alices.photos')", DENIED),
    "a contact sheet that writes": (
        "SELECT susx.contact_sheet('SELECT NULL::bytea, mallorys.writes() FROM mallorys.pool')",
        READ_ONLY,
    ),
    "two statements": ("SELECT * FROM susx.evaluate('mallorys.own', 'TABLE mallorys.pool; DROP TABLE mallorys.pool')", "22023"),
    "COMMIT as a query": ("SELECT * FROM susx.evaluate('mallorys.own', 'COMMIT')", "42P11"),
    # Names that try to inject SQL.
    "a classifier's name with SQL": (
        "SELECT susx.create_classifier('mallorys.x\"; DROP TABLE alices.compass; --', '{a}', text_embeddings => '{\"[1]\"}')",
        "22023",
    ),
    "a column's name with SQL": (
        "SELECT * FROM susx.build_support_set('mallorys.own', 'mallorys.pool', "
        "embedding_column => 'embedding FROM alices.photos --')",
        "42703",
    ),
    "a key's name with SQL": (
        "SELECT * FROM susx.build_support_set('mallorys.own', 'mallorys.pool', "
        "key_column => '(SELECT id FROM alices.photos)')",
        "42703",
    ),
    "a picture's name with SQL": (
        "SELECT * FROM susx.build_support_set('mallorys.own', 'mallorys.pool', image_column => 'id\" FROM x; --')",
        "42703",
    ),
    "a column of images with SQL": ("CALL susx.embed_table('mallorys.pool', 'id\"::bytea, (SELECT image FROM alices.photos)')", "42703"),
    "a trigger's argument with SQL": (
        "CREATE TRIGGER t AFTER INSERT ON mallorys.pool REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
        "EXECUTE FUNCTION susx.embed_on_write('image\"; DROP TABLE alices.compass; --', 'embedding'); "
        "INSERT INTO mallorys.pool (id) VALUES (9)",
        "42703",
    ),
    # Internals of the extension.
    "a trigger function called": ("SELECT susx.classifier_changed()", "39P01"),
    "a row's trigger called": ("SELECT susx.embed_row()", "39P01"),
    "the event's function called": ("SELECT susx.forget_dropped()", DENIED),
    "the settings' trigger on one's own table": (
        "CREATE TRIGGER t AFTER INSERT ON mallorys.pool FOR EACH ROW EXECUTE FUNCTION susx.settings_changed()",
        DENIED,
    ),
    "a row's trigger on a plain table": (
        "CREATE TRIGGER t BEFORE INSERT ON mallorys.pool FOR EACH ROW EXECUTE FUNCTION susx.embed_row(); "
        "INSERT INTO mallorys.pool (id) VALUES (9)",
        "42704",
    ),
    "a row's trigger afterwards": (
        "CREATE TRIGGER t AFTER INSERT ON mallorys.pool FOR EACH ROW EXECUTE FUNCTION susx.embed_row(); "
        "INSERT INTO mallorys.pool (id) VALUES (9)",
        "39P01",
    ),
    "a function of one's own in the schema": ("CREATE FUNCTION susx.label(text, text) RETURNS text LANGUAGE sql AS 'SELECT 1'", DENIED),
    "another function in its place": (
        "CREATE OR REPLACE FUNCTION susx.library_version() RETURNS text LANGUAGE sql AS 'SELECT 1'",
        DENIED,
    ),
    "a C function of the library": (
        "CREATE FUNCTION mallorys.f() RETURNS text LANGUAGE c AS '$libdir/susx', 'library_version_wrapper'",
        DENIED,
    ),
    "DROP EXTENSION": ("DROP EXTENSION susx CASCADE", DENIED),
    "ALTER EXTENSION": ("ALTER EXTENSION susx UPDATE", DENIED),
    "a member taken out": ("ALTER EXTENSION susx DROP TABLE susx.classifier", DENIED),
    "the event trigger": ("DROP EVENT TRIGGER susx_forget_dropped", DENIED),
}


def test_enough_attempts():
    assert len(ATTEMPTS) >= 25


@pytest.fixture(scope="module")
def victims(cluster):
    """alice, who has a classifier and images, and mallory, who has her own and may look into alice's schema."""
    with contextlib.closing(Session(cluster.url(DATABASE))) as admin:
        admin.run(
            """
            CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN;
            CREATE SCHEMA alices AUTHORIZATION alice; CREATE SCHEMA mallorys AUTHORIZATION mallory"""
        )
        with contextlib.closing(Session(cluster.url(DATABASE), "alice")) as alice:
            create_compass(alice, "alices.compass")
            alice.run(
                """
                SELECT susx.add_support('alices.compass', 'north', ARRAY['[1,0.2]']::vector[]);
                CREATE TABLE alices.photos (id bigint PRIMARY KEY, image bytea, embedding vector);
                GRANT USAGE ON SCHEMA alices TO mallory"""
            )
            alice.connection.execute(
                "INSERT INTO alices.photos VALUES (1, %s, NULL), (2, '\\x00', '[1,0]')", (encode(picture(1)),)
            )
            alice.run(
                """
                INSERT INTO susx.errors VALUES ('alices.photos', 'embedding', '7', 'broken', '22P03', '1');
                INSERT INTO susx.embedding_column VALUES ('alices.photos', 'embedding', 'demo', NULL);
                CREATE TABLE alices.shared (id bigint PRIMARY KEY, image bytea, embedding vector, other vector);
                INSERT INTO alices.shared VALUES (1, '\\x00'), (2, '\\x00');
                INSERT INTO susx.errors VALUES ('alices.shared', 'embedding', '2', 'broken', '22P03', '1');
                INSERT INTO susx.embedding_column VALUES ('alices.shared', 'embedding', 'demo', NULL)"""
            )
            create_compass(alice, "alices.few")
            for table, condition in (("shared", "id = 1"), ("few", "category = 'east'")):
                alice.run(
                    f"""
                    GRANT SELECT, INSERT, UPDATE, DELETE ON alices.{table} TO mallory;
                    ALTER TABLE alices.{table} ENABLE ROW LEVEL SECURITY;
                    CREATE POLICY some_rows ON alices.{table} TO mallory USING ({condition})"""
                )
        with contextlib.closing(Session(cluster.url(DATABASE), "mallory")) as mallory:
            mallory.run(
                """
                SELECT susx.create_classifier('mallorys.own', '{a,b}', text_embeddings => '{"[1,0]","[0,1]"}'::vector[]);
                SELECT susx.add_support('mallorys.own', 'a', '{"[1,0.1]"}'::vector[]);
                CREATE TABLE mallorys.pool (id bigint PRIMARY KEY, image bytea, embedding vector);
                INSERT INTO mallorys.pool VALUES (1, NULL, '[1,0]'), (2, NULL, '[0,1]');
                INSERT INTO susx.errors VALUES ('mallorys.pool', 'embedding', '7', 'broken', '22P03', '1');
                INSERT INTO susx.embedding_column VALUES ('mallorys.pool', 'embedding', 'demo', NULL);
                CREATE SEQUENCE mallorys.s;
                CREATE FUNCTION mallorys.writes() RETURNS text LANGUAGE plpgsql AS $$
                    BEGIN INSERT INTO mallorys.pool (id) VALUES (99) ON CONFLICT DO NOTHING; RETURN 'a'; END $$;
                CREATE FUNCTION mallorys.creates() RETURNS text LANGUAGE plpgsql AS $$
                    BEGIN CREATE TABLE mallorys.created (i int); RETURN 'a'; END $$;
                CREATE FUNCTION mallorys.evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"""
            )
        yield admin
        admin.run(
            "SET client_min_messages = warning; DROP SCHEMA alices, mallorys CASCADE; "
            "DROP OWNED BY alice, mallory; DROP ROLE alice, mallory"
        )


# State that must not change.
STATE = """
    SELECT array_agg(x ORDER BY x) FROM (
        SELECT c::text AS x FROM susx.classifier c UNION ALL SELECT e::text FROM susx.errors e
        UNION ALL SELECT e::text FROM susx.embedding_column e
        UNION ALL SELECT c::text FROM alices.compass c UNION ALL SELECT p::text FROM alices.photos p
        UNION ALL SELECT c::text FROM mallorys.own c UNION ALL SELECT p::text FROM mallorys.pool p
        UNION ALL SELECT format('%s %s', last_value, is_called) FROM mallorys.s
        UNION ALL SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace::regnamespace::text LIKE '%s'
        UNION ALL SELECT d::text FROM pg_depend d JOIN pg_extension e ON refobjid = e.oid WHERE extname = 'susx'
        UNION ALL SELECT s::text FROM pg_file_settings s UNION ALL SELECT s::text FROM pg_db_role_setting s) t"""


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_refused(victims, connect, attempt):
    query, sqlstate = ATTEMPTS[attempt]
    oid, photos = victims.rows("SELECT 'alices.compass'::regclass::oid::int8, 'alices.photos'::regclass::oid::int8")[0]
    before = victims.one(STATE)
    mallory = connect(user="mallory")
    # The library must be loaded, because it defines the settings.
    mallory.run("SELECT susx.library_version()")
    query = query.replace("{oid}", str(oid)).replace("{photos}", str(photos)).replace("{{", "{").replace("}}", "}")
    in_a_block = not query.startswith(("CALL", "ALTER SYSTEM"))
    if in_a_block:
        mallory.run("BEGIN")
    refusal = mallory.fails(query)
    assert refusal.sqlstate == sqlstate, refusal
    if in_a_block:
        mallory.run("ROLLBACK")
    assert victims.one(STATE) == before


def test_a_query_that_changes_settings(victims, connect):
    """The settings keep their values, whatever the query has set."""
    mallory = connect(user="mallory")
    mallory.run("SET search_path = mallorys, public; SET work_mem = '5MB'")
    sets = "SELECT id, embedding FROM pool, set_config('work_mem', '7MB', {0}) a, set_config('search_path', 'alices', {0}) b"
    for is_local in ("true", "false"):
        query = sets.format(is_local)
        mallory.run("BEGIN")
        assert len(mallory.rows("SELECT * FROM susx.classify_rows('own', %s)", query)) == 2
        # Also while the rows are taken one by one.
        assert len(mallory.rows("SELECT (susx.classify_rows('own', %s)).key", query)) == 2
        assert mallory.rows("SELECT current_setting('work_mem'), current_setting('search_path')") == [
            ("5MB", "mallorys, public")
        ]
        mallory.run("INSERT INTO pool (id) VALUES (50); ROLLBACK")
    # A caught error does not leave the transaction read-only.
    mallory.run(
        """
        CREATE FUNCTION caught() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM susx.evaluate('own', 'SELECT embedding, writes() FROM pool');
        EXCEPTION WHEN read_only_sql_transaction THEN
            INSERT INTO pool (id) VALUES (51);
        END $$"""
    )
    mallory.run("BEGIN; SELECT caught()")
    assert mallory.one("SELECT count(*) FROM pool WHERE id = 51") == 1
    mallory.run("ROLLBACK; DROP FUNCTION caught()")


def test_the_only_function_with_its_owners_rights(victims):
    """It deletes the records of relations that PostgreSQL reports as dropped, and only the event can call it."""
    rows = victims.rows(
        "SELECT proname, prosecdef, proconfig FROM pg_proc WHERE pronamespace = 'susx'::regnamespace AND prosecdef"
    )
    assert rows == [("forget_dropped", True, ["search_path=pg_catalog, pg_temp"])]
    script = (ROOT / "sql" / "finalize.sql").read_text()
    assert script.count("SECURITY DEFINER SET") == 1
    assert "-- SECURITY DEFINER, for" in script


def test_nobody_else_s_settings_wait_for_mallory(victims, connect):
    """An open change of one's own settings holds up nobody, and does not take other classifiers out of memory."""
    mallory, alice = connect(user="mallory"), connect(user="alice")
    label = "SELECT susx.label('alices.compass', '[1,0]'::vector)"
    mallory.run("BEGIN; UPDATE susx.classifier SET alpha = 2; SELECT 1 FROM susx.classifier FOR UPDATE")
    alice.run("SET lock_timeout = '1s'")
    assert alice.one(label) == "east"
    alice.run("SELECT susx.alter_classifier('alices.compass', alpha => 1)")
    mallory.run("ROLLBACK")


def test_names_of_models_that_are_not_there(cluster, victims, connect):
    """The inference process keeps nothing of them, however many and long they are."""
    mallory = connect(user="mallory")
    mallory.run("SELECT susx.embed_text('x', 'tiny_split')")
    (server,) = servers(cluster.data_dir)

    def growth() -> int:
        before = resident(server)
        for i in range(10):
            refusal = mallory.fails("SELECT susx.embed_text('x', repeat(%s::text, 15000000))", str(i))
            assert refusal.sqlstate == "42704"
        return resident(server) - before

    # The allocator keeps a name or two per thread at first; what stayed would be 150 MB each time.
    assert any(growth() < 50 << 20 for _ in range(5))
