"""Every function that takes a relation, with every kind of relation: it works, or an error says what is wrong. No user
mistake leads to an internal error."""

from __future__ import annotations

import psycopg
import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.toy import create_compass

INTERNAL = "XX000"
UNDEFINED_OBJECT, UNDEFINED_TABLE, UNDEFINED_COLUMN, AMBIGUOUS = "42704", "42P01", "42703", "42702"
WRONG_OBJECT, WRONG_TYPE, INVALID, NOT_READY = "42809", "42804", "22023", "55000"
NOT_SUPPORTED, NULL, DATA = "0A000", "22004", "22000"

COLUMNS = "id, category, kind, origin, prompt, source_key, image, similarity, embedding"

# What makes a relation of that kind out of the classifier "compass", and its name.
KINDS = {
    "view": (f"CREATE VIEW r AS SELECT {COLUMNS} FROM compass", "r"),
    "security_invoker view": (f"CREATE VIEW r WITH (security_invoker) AS SELECT {COLUMNS} FROM compass", "r"),
    "security_barrier view": (f"CREATE VIEW r WITH (security_barrier) AS SELECT {COLUMNS} FROM compass", "r"),
    "materialized view": (f"CREATE MATERIALIZED VIEW r AS SELECT {COLUMNS} FROM compass", "r"),
    "empty materialized view": (f"CREATE MATERIALIZED VIEW r AS SELECT {COLUMNS} FROM compass WITH NO DATA", "r"),
    "foreign table": (
        "CREATE FOREIGN DATA WRAPPER susx_nothing; CREATE SERVER susx_nowhere FOREIGN DATA WRAPPER susx_nothing; "
        "CREATE FOREIGN TABLE r (id bigint, category text, kind text, origin text, prompt text, source_key text, "
        "image bytea, similarity real, embedding vector(2)) SERVER susx_nowhere",
        "r",
    ),
    "sequence": ("CREATE SEQUENCE r", "r"),
    "index": ("CREATE INDEX r ON compass (category)", "r"),
    "composite type": (
        "CREATE TYPE r AS (id bigint, category text, kind text, origin text, prompt text, source_key text, "
        "image bytea, similarity real, embedding vector(2))",
        "r",
    ),
    "partitioned table": (
        "CREATE TABLE r (LIKE compass, PRIMARY KEY (id)) PARTITION BY RANGE (id); "
        f"CREATE TABLE p PARTITION OF r DEFAULT; INSERT INTO r ({COLUMNS}) SELECT {COLUMNS} FROM compass",
        "r",
    ),
    "partition": (
        "CREATE TABLE w (LIKE compass, PRIMARY KEY (id)) PARTITION BY RANGE (id); "
        f"CREATE TABLE r PARTITION OF w DEFAULT; INSERT INTO r ({COLUMNS}) SELECT {COLUMNS} FROM compass",
        "r",
    ),
    "partitioned index": (
        "CREATE TABLE w (LIKE compass, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "w_pkey",
    ),
    "child": (f"CREATE TABLE r () INHERITS (compass); INSERT INTO r ({COLUMNS}) SELECT {COLUMNS} FROM ONLY compass "
              "WHERE kind <> 'settings'", "r"),
    "toast table": ("", "{toast}"),
    "toast index": ("", "{toast}_index"),
    "system catalog": ("", "pg_catalog.pg_class"),
    "shared catalog": ("", "pg_catalog.pg_database"),
    "system view": ("", "pg_catalog.pg_stat_activity"),
    "information schema": ("", "information_schema.tables"),
    "susx's own table": ("", "susx.classifier"),
    "susx's own view": ("", "susx.stat_progress"),
    "temporary table": (f"CREATE TEMPORARY TABLE r AS SELECT {COLUMNS} FROM compass", "r"),
    "unlogged table": (f"CREATE UNLOGGED TABLE r AS SELECT {COLUMNS} FROM compass", "r"),
    "table without columns": ("CREATE TABLE r ()", "r"),
    "nothing": ("", "{nothing}"),
    "zero": ("", "0"),
}

# Every call that takes a relation; {r} is it, as an argument of type regclass.
CALLS = {
    "label": "SELECT susx.label({r}, '[1,0]'::vector)",
    "label an image": "SELECT susx.label({r}, '\\x00'::bytea)",
    "tags": "SELECT susx.tags({r}, '[1,0]'::vector)",
    "tag_probabilities": "SELECT * FROM susx.tag_probabilities({r}, '[1,0]'::vector)",
    "known": "SELECT susx.known({r}, '[1,0]'::vector)",
    "classify": "SELECT * FROM susx.classify({r}, '[1,0]'::vector)",
    "classify an image": "SELECT * FROM susx.classify({r}, '\\x00'::bytea)",
    "classify by gda": "SELECT * FROM susx.classify({r}, '[1,0]'::vector, 2, 'gda')",
    "classify_rows": "SELECT * FROM susx.classify_rows({r}, 'SELECT 1::bigint, ''[1,0]''::vector')",
    "explain": "SELECT * FROM susx.explain({r}, '[1,0]'::vector)",
    "explain an image": "SELECT * FROM susx.explain({r}, '\\x00'::bytea)",
    "evaluate": "SELECT * FROM susx.evaluate({r}, 'SELECT ''[1,0]''::vector, ''east''')",
    "confusion_matrix": "SELECT * FROM susx.confusion_matrix({r}, 'SELECT ''[1,0]''::vector, ''east''')",
    "calibration": "SELECT * FROM susx.calibration({r}, 'SELECT ''[1,0]''::vector, ''east''')",
    "report": "SELECT susx.report({r}, 'SELECT 1, ''[1,0]''::vector AS embedding')",
    "tune": "SELECT * FROM susx.tune({r})",
    "tune on a query": "SELECT * FROM susx.tune({r}, 'SELECT ''[1,0]''::vector, ''east''')",
    "alter_classifier": "SELECT susx.alter_classifier({r}, alpha => 2)",
    "adopt_classifier": "SELECT susx.adopt_classifier({r})",
    "distribute_classifier": "SELECT susx.distribute_classifier({r})",
    "alter the model": "SELECT susx.alter_classifier({r}, model => 'tiny_split')",
    "alter the likeness model": "SELECT susx.alter_classifier({r}, likeness_model => 'tiny_split')",
    "add_prompts": "SELECT susx.add_prompts({r}, '{{\"east\": [\"x\"]}}')",
    "add_negatives": "SELECT susx.add_negatives({r}, '{{x}}')",
    "add_negatives of vectors": "SELECT susx.add_negatives({r}, '{{x}}', ARRAY['[-1,0]']::vector[])",
    "duplicates": "SELECT * FROM susx.duplicates({r}, 0.9)",
    "review_queue": "SELECT * FROM susx.review_queue({r}, 'SELECT 1::bigint, ''[1,0]''::vector')",
    "suggest_reject": "SELECT susx.suggest_reject({r}, 'pool')",
    "add_support": "SELECT susx.add_support({r}, 'east', ARRAY['[1,0.5]']::vector[])",
    "add_support with likenesses": "SELECT susx.add_support({r}, 'east', ARRAY['[1,0.5]']::vector[], ARRAY['[1]']::vector[])",
    "add_support of images": "SELECT susx.add_support({r}, 'east', ARRAY['\\x00'::bytea])",
    "build_support_set": "SELECT * FROM susx.build_support_set({r}, 'pool')",
    "build_support_set with likeness": "SELECT * FROM susx.build_support_set({r}, 'pool', likeness_column => 'embedding')",
    "build_support_set by cupl": "SELECT * FROM susx.build_support_set({r}, 'pool', prompting => 'cupl')",
    "pool": "SELECT * FROM susx.build_support_set('compass', {r}, key_column => 'id')",
    "pool with likeness": "SELECT * FROM susx.build_support_set('compass', {r}, key_column => 'id', likeness_column => 'embedding')",
    "pool with its own key": "SELECT * FROM susx.build_support_set('compass', {r}, image_column => 'image')",
    "generate_support_set": "CALL susx.generate_support_set({r}, %s, 1, steps => 1)",
    "embed_table": "CALL susx.embed_table({r}, model => 'tiny_split')",
    "embed_table with refresh": "CALL susx.embed_table({r}, model => 'tiny_split', refresh => true)",
    "add_embedding_column": "SELECT susx.add_embedding_column({r}, 'new', model => 'tiny_split')",
    "label_table": "CALL susx.label_table({r}, 'compass')",
    "label_table by": "CALL susx.label_table('pool', {r})",
    "correct by": "SELECT susx.correct({r}, 'pool', '1', 'east')",
    "forget_errors": "SELECT susx.forget_errors({r})",
    "forget_errors of a row": "SELECT susx.forget_errors({r}, 'embedding', '1')",
}
NOT_OF_CLASSIFIERS = ("pool", "pool with likeness", "pool with its own key", "embed_table", "embed_table with refresh",
                      "add_embedding_column", "duplicates", "label_table", "adopt_classifier")
IS_CLASSIFIER = [name for name in CALLS if name not in NOT_OF_CLASSIFIERS
                 and not name.startswith("forget_errors")]  # fmt: skip


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]', '[1,0.3]']::vector[])")
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[0.1,1]']::vector[])")
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector(2), label text); INSERT INTO pool VALUES (1, '[1,0]'), (2, '[0,1]')")
    yield sql
    sql.run("DROP FOREIGN DATA WRAPPER IF EXISTS susx_nothing CASCADE")


def make(sql, kind):
    """A relation of that kind, as an argument."""
    statements, name = KINDS[kind]
    if statements:
        sql.run(statements)
    toast = sql.one("SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'compass'::regclass")
    nothing = sql.one("SELECT (max(oid::int8) + 1000)::text FROM pg_class")
    name = name.format(toast=toast, nothing=nothing)
    return f"{sql.one('SELECT to_regclass(%s)::oid::text', name) or name}::oid::regclass"


def code(sql, call):
    """The SQLSTATE that a call ends with; None where it works. In a session that goes on."""
    try:
        sql.rows(call, GENERATOR) if "%s" in call and not call.startswith("CALL") else sql.run(
            call, *([GENERATOR] if "%s" in call else [])
        )
    except psycopg.Error as error:
        assert error.sqlstate, f"the session was lost: {call}: {error}"
        assert error.sqlstate != INTERNAL, f"{call}: {error}"
        assert error.diag.message_primary
        return error.sqlstate
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_relation_as_it_is(sql, kind):
    relation = make(sql, kind)
    expected = {UNDEFINED_TABLE} if kind in ("nothing", "zero") else {UNDEFINED_OBJECT}
    for name in IS_CLASSIFIER:
        assert code(sql, CALLS[name].format(r=relation)) in expected, name
    # A pool need only be read.
    columns = {"sequence", "index", "partitioned index", "toast table", "toast index", "system catalog", "shared catalog",
               "system view", "information schema", "susx's own table", "susx's own view", "table without columns"}  # fmt: skip
    for name in ("pool", "pool with its own key"):
        found = code(sql, CALLS[name].format(r=relation))
        if kind in ("nothing", "zero"):
            assert found == UNDEFINED_TABLE
        elif kind in columns:
            assert found == UNDEFINED_COLUMN, name
        elif kind == "foreign table":
            assert found in (NOT_READY, INVALID), name
        elif kind == "empty materialized view":
            assert found in (NOT_READY, INVALID), name
        elif kind == "composite type":
            assert found in (WRONG_OBJECT, INVALID), name
        else:
            # A key that is named is enough; there may be no primary key, and a classifier's rows may lack images.
            assert found in (None, INVALID), name
    found = code(sql, CALLS["embed_table"].format(r=relation))
    assert code(sql, CALLS["embed_table with refresh"].format(r=relation)) == found
    if kind in ("nothing", "zero"):
        assert found == UNDEFINED_TABLE
    elif kind in ("unlogged table", "child", "table without columns", "susx's own table"):
        assert found in (UNDEFINED_COLUMN, NOT_READY)
    elif kind in ("partitioned table", "partition"):
        # The model makes more dimensions than its column takes.
        assert found == DATA
    else:
        assert found == WRONG_OBJECT
    found = code(sql, CALLS["label_table"].format(r=relation))
    if kind in ("nothing", "zero"):
        assert found == UNDEFINED_TABLE
    elif kind in ("unlogged table", "child", "table without columns", "susx's own table", "partitioned table", "partition"):
        assert found == UNDEFINED_COLUMN
    else:
        assert found == WRONG_OBJECT
    # Nobody adds a column to susx's own tables, which all tests share.
    if kind != "susx's own table":
        found = code(sql, CALLS["add_embedding_column"].format(r=relation))
        if kind in ("nothing", "zero"):
            assert found == UNDEFINED_TABLE
        elif kind in ("partitioned table", "child", "temporary table", "unlogged table", "table without columns", "foreign table"):
            assert found is None
        else:
            assert found in (WRONG_OBJECT, "42501", "42P16")
    found = code(sql, CALLS["adopt_classifier"].format(r=relation))
    if kind in ("nothing", "zero"):
        assert found == UNDEFINED_TABLE
    elif kind in ("unlogged table", "child", "partition"):
        # A copy of a classifier may lack constraints, so any of its rows may be in the way.
        assert found in (None, "23514", WRONG_OBJECT)
    elif kind in ("table without columns", "susx's own table"):
        assert found == UNDEFINED_COLUMN
    else:
        assert found == WRONG_OBJECT
    for name in ("forget_errors", "forget_errors of a row"):
        assert code(sql, CALLS[name].format(r=relation)) is None, name


REGISTER = "INSERT INTO susx.classifier SELECT {}, {}, NULL, NULL, 1, 5.5, 3, 0.5, 100"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("nothing", "zero")])
@pytest.mark.parametrize("model", ["NULL", "'tiny_split'"])
def test_registered_by_hand(sql, kind, model):
    """A row in susx.classifier makes anything a classifier that has its columns. A view works."""
    relation = make(sql, kind)
    if code(sql, REGISTER.format(relation, model)) is not None:
        return
    codes = {name: code(sql, CALLS[name].format(r=relation)) for name in IS_CLASSIFIER}
    reads = [codes[name] for name in ("label", "classify", "classify by gda", "classify_rows", "explain", "evaluate")]
    if kind in ("view", "security_invoker view", "security_barrier view", "materialized view", "partitioned table",
                "partition", "temporary table", "unlogged table", "child"):  # fmt: skip
        assert reads == [None] * len(reads)
    elif kind == "foreign table":
        assert set(reads) == {NOT_READY}
    elif kind == "empty materialized view":
        assert set(reads) == {NOT_READY}
    elif kind in ("composite type",):
        assert set(reads) == {WRONG_OBJECT}
    elif kind in ("index", "partitioned index", "toast index"):
        assert set(reads) <= {WRONG_OBJECT, UNDEFINED_COLUMN}
    elif kind == "susx's own table":
        assert None not in reads
    else:
        assert set(reads) == {UNDEFINED_COLUMN}
    sql.run("DELETE FROM susx.classifier WHERE classifier = {}".format(relation))


def test_another_sessions_temporary_table(sql, connect):
    other = connect()
    schema = sql.one("SELECT current_schema()")
    other.run(f"CREATE TEMPORARY TABLE r AS SELECT {COLUMNS} FROM {schema}.compass")
    relation = f"{other.one('SELECT %s::regclass::oid::text', 'r')}::oid::regclass"
    for name in IS_CLASSIFIER:
        assert code(sql, CALLS[name].format(r=relation)) in (UNDEFINED_OBJECT, NOT_SUPPORTED), name
    for name in ("pool", "pool with its own key", "embed_table", "add_embedding_column", "duplicates", "label_table"):
        assert code(sql, CALLS[name].format(r=relation)) == NOT_SUPPORTED, name
    other.run(REGISTER.format("'r'", "NULL"))
    for name in IS_CLASSIFIER:
        assert code(sql, CALLS[name].format(r=relation)) == NOT_SUPPORTED, name


# What the owner of a classifier's table may do to it, and the codes of what reads it then.
DAMAGE = {
    "text ids": ("ALTER TABLE compass ALTER id DROP IDENTITY; ALTER TABLE compass ALTER id TYPE text", {WRONG_TYPE}),
    "int ids": ("ALTER TABLE compass ALTER id DROP IDENTITY; ALTER TABLE compass ALTER id TYPE int", {WRONG_TYPE, None}),
    "embedding real[]": (
        "ALTER TABLE compass DROP CONSTRAINT compass_embedding_check; DROP TRIGGER susx_embed ON compass; "
        "ALTER TABLE compass ALTER embedding TYPE real[] USING embedding::real[]",
        {WRONG_TYPE},
    ),
    "embedding text": (
        "ALTER TABLE compass DROP CONSTRAINT compass_embedding_check; DROP TRIGGER susx_embed ON compass; "
        "ALTER TABLE compass ALTER embedding TYPE text",
        {WRONG_TYPE},
    ),
    "embedding of a domain": (
        "CREATE DOMAIN unit AS vector(2); DROP TRIGGER susx_embed ON compass; "
        "ALTER TABLE compass ALTER embedding TYPE unit",
        {None},
    ),
    "category varchar": ("ALTER TABLE compass ALTER category TYPE varchar(20)", {None}),
    "category of a domain": ("CREATE DOMAIN word AS text; ALTER TABLE compass ALTER category TYPE word", {None}),
    "category char": ("ALTER TABLE compass ALTER category TYPE char(20)", {WRONG_TYPE}),
    "category of an enum": (
        "CREATE TYPE word AS ENUM ('east', 'north'); ALTER TABLE compass ALTER category TYPE word USING category::word",
        {WRONG_TYPE},
    ),
    "category int": (
        "ALTER TABLE compass ALTER category TYPE int USING length(category)",
        {WRONG_TYPE},
    ),
    "kind of an enum": (
        "CREATE TYPE kinds AS ENUM ('prompt', 'image'); ALTER TABLE compass ALTER kind DROP DEFAULT; "
        "ALTER TABLE compass DROP CONSTRAINT compass_kind_check, DROP CONSTRAINT susx_rows; "
        "DELETE FROM compass WHERE kind = 'settings'; ALTER TABLE compass ALTER kind TYPE kinds USING kind::kinds",
        {None, "42883"},
    ),
    "no ids": ("ALTER TABLE compass DROP id", {UNDEFINED_COLUMN}),
    "no category": ("ALTER TABLE compass DROP category", {UNDEFINED_COLUMN}),
    "no kind": ("ALTER TABLE compass DROP kind", {UNDEFINED_COLUMN}),
    "no origin": ("ALTER TABLE compass DROP origin", {UNDEFINED_COLUMN}),
    "no embedding": ("ALTER TABLE compass DROP embedding CASCADE", {UNDEFINED_COLUMN}),
    "a renamed embedding": ("ALTER TABLE compass RENAME embedding TO vector", {UNDEFINED_COLUMN}),
    "no prompt": ("ALTER TABLE compass DROP prompt", {None}),
    "no image": ("ALTER TABLE compass DROP image", {None}),
    "NULL id": (
        "ALTER TABLE compass ALTER id DROP IDENTITY, DROP CONSTRAINT compass_pkey; "
        "ALTER TABLE compass ALTER id DROP NOT NULL; UPDATE compass SET id = NULL WHERE category = 'east'",
        {NULL},
    ),
    "NULL category": (
        "ALTER TABLE compass DROP CONSTRAINT susx_rows; UPDATE compass SET category = NULL WHERE category = 'east'",
        {NULL},
    ),
    "NULL kind": ("ALTER TABLE compass ALTER kind DROP NOT NULL, DISABLE TRIGGER susx_embed; UPDATE compass SET kind = NULL "
                  "WHERE kind <> 'settings'", {NULL}),
    "NULL origin": ("ALTER TABLE compass ALTER origin DROP NOT NULL; UPDATE compass SET origin = NULL", {NULL}),
    "NULL embedding": (
        "DROP TRIGGER susx_embed ON compass; ALTER TABLE compass DROP CONSTRAINT susx_rows; "
        "UPDATE compass SET embedding = NULL WHERE category = 'east'",
        {NULL},
    ),
    "kind x": (
        "ALTER TABLE compass DROP CONSTRAINT compass_kind_check; UPDATE compass SET kind = 'x' WHERE kind = 'image'",
        {None},
    ),
    "all of kind x": ("ALTER TABLE compass DROP CONSTRAINT compass_kind_check; UPDATE compass SET kind = 'x' "
                      "WHERE kind <> 'settings'", {NOT_READY}),
    "no rows": ("TRUNCATE compass", {NOT_READY}),
    "no prompts": ("DELETE FROM compass WHERE kind = 'prompt'", {NOT_READY}),
    "a zero vector": (
        "ALTER TABLE compass DROP CONSTRAINT compass_embedding_check; "
        "UPDATE compass SET embedding = '[0,0]' WHERE category = 'east'",
        {DATA},
    ),
    "several dimensions": (
        "DROP TRIGGER susx_embed ON compass; ALTER TABLE compass ALTER embedding TYPE vector; "
        "UPDATE compass SET embedding = '[1,2,3]' WHERE category = 'north'",
        {DATA},
    ),
    "other dimensions": ("TRUNCATE compass; DROP TRIGGER susx_embed ON compass; "
                         "ALTER TABLE compass ALTER embedding TYPE vector(3); "
                         "INSERT INTO compass (category, kind, origin, embedding) VALUES "
                         "('east', 'prompt', 'given', '[1,0,0]')", {DATA, None}),  # fmt: skip
    "an empty category": ("UPDATE compass SET category = '' WHERE category = 'east'", {None}),
    "the largest ids": ("UPDATE compass SET id = 9223372036854775807 - id", {None}),
    "columns in another order": (
        "CREATE TABLE t AS SELECT embedding, origin, kind, category, id, image, prompt, source_key, similarity FROM compass; "
        "UPDATE susx.classifier SET classifier = 't' WHERE classifier = 'compass'::regclass; "
        "DROP TABLE compass; ALTER TABLE t RENAME TO compass",
        {None},
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("model", [None, "tiny_split"])
def test_a_damaged_classifier(sql, damage, model):
    if model:
        sql.run("UPDATE susx.classifier SET model = 'tiny_split' WHERE classifier = 'compass'::regclass")
    change, expected = DAMAGE[damage]
    sql.run(change)
    for name in ("label", "classify", "classify by gda", "classify_rows", "explain"):
        assert code(sql, CALLS[name].format(r="'compass'")) in expected, name
    for name in CALLS:
        code(sql, CALLS[name].format(r="'compass'"))
    # The trigger of the table, too.
    for values in ("(category, kind, prompt) VALUES ('east', 'prompt', 'x')", "(category, image) VALUES ('east', '\\x00')",
                   "(category, kind) VALUES ('east', NULL)", "DEFAULT VALUES"):  # fmt: skip
        code(sql, f"INSERT INTO compass {values}")


def test_triggers_on_other_tables(sql):
    """Who may call the function of a trigger may put it on any table of theirs."""
    sql.run("CREATE TABLE other (id int, kind int, embedding text, image text)")
    for when in ("BEFORE INSERT OR UPDATE", "AFTER INSERT", "BEFORE DELETE"):
        for each in ("ROW", "STATEMENT"):
            for function in ("embed_row", "embed_on_write", "label_on_write", "classifier_changed"):
                sql.run(f"CREATE TRIGGER t {when} ON other FOR EACH {each} EXECUTE FUNCTION susx.{function}()")
                for statement in ("INSERT INTO other DEFAULT VALUES", "UPDATE other SET id = 1", "DELETE FROM other"):
                    code(sql, statement)
                sql.run("DROP TRIGGER t ON other")
    # On a table that is said to be a classifier.
    sql.run(REGISTER.format("'other'", "'tiny_split'"))
    sql.run("CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION susx.embed_row()")
    assert code(sql, "INSERT INTO other (embedding) VALUES ('[1]')") == WRONG_TYPE
    assert code(sql, "INSERT INTO other (kind) VALUES (1)") == WRONG_TYPE
    sql.run("ALTER TABLE other DROP COLUMN embedding")
    assert code(sql, "INSERT INTO other DEFAULT VALUES") == UNDEFINED_COLUMN
    sql.run("ALTER TABLE other ADD embedding vector(32), DROP COLUMN kind")
    assert code(sql, "INSERT INTO other DEFAULT VALUES") == UNDEFINED_COLUMN
    sql.run("ALTER TABLE other ADD kind text")
    assert code(sql, "INSERT INTO other (image) VALUES ('x')") == WRONG_TYPE
    assert code(sql, "INSERT INTO other (kind) VALUES ('prompt')") == UNDEFINED_COLUMN


def test_tables_of_images(sql):
    """Columns of every type, for embed_table and for a pool."""
    sql.run("""CREATE DOMAIN file AS bytea; CREATE DOMAIN file2 AS file; CREATE DOMAIN unit AS vector(32);
        CREATE TABLE good (id int PRIMARY KEY, image file2, embedding unit);
        CREATE TABLE t1 (id int PRIMARY KEY, image text, embedding vector(32));
        CREATE TABLE t2 (id int PRIMARY KEY, image bytea, embedding real[]);
        CREATE TABLE t3 (id int PRIMARY KEY, image bytea, embedding vector(32) NOT NULL);
        CREATE TABLE t4 (id int PRIMARY KEY, image bytea, embedding vector(32) GENERATED ALWAYS AS (NULL) STORED);
        CREATE TABLE t5 (id int, image bytea, embedding vector(32));
        CREATE TABLE t6 (id int PRIMARY KEY, image bytea[], embedding vector(32)[])""")
    sql.run("INSERT INTO good VALUES (1, %s)", encode(picture(1, (64, 64))))
    call = "CALL susx.embed_table('{}', model => 'tiny_split')"
    assert code(sql, call.format("good")) is None
    assert sql.one("SELECT count(embedding) FROM good") == 1
    assert [code(sql, call.format(f"t{i}")) for i in (1, 2, 3, 4, 5, 6)] == [INVALID, INVALID, None, INVALID, NOT_READY, INVALID]
    for column in ("ctid", "xmin", "tableoid", "no such column", ""):
        for argument in ("image_column", "embedding_column"):
            found = code(sql, f"CALL susx.embed_table('good', model => 'tiny_split', {argument} => '{column}')")
            assert found == UNDEFINED_COLUMN
        for argument in ("image_column", "embedding_column", "key_column", "likeness_column"):
            found = code(sql, f"SELECT * FROM susx.build_support_set('compass', 'pool', {argument} => '{column}')")
            assert found == UNDEFINED_COLUMN
