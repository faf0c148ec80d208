"""Bad arguments: the SQLSTATE tells the kind of mistake, the message what is wrong, and the hint how to correct it."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

UNDEFINED_OBJECT, UNDEFINED_TABLE, UNDEFINED_COLUMN = "42704", "42P01", "42703"
INVALID_PARAMETER, OUT_OF_RANGE, DATA = "22023", "22003", "22000"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run(
        "CREATE TABLE pool (id int PRIMARY KEY, title text, image bytea, embedding vector(2)); "
        "INSERT INTO pool VALUES (1, 'one', 'x', '[1,0]')"
    )
    return sql


def check(refusal, sqlstate, *words, hint=()):
    assert refusal.sqlstate == sqlstate, refusal
    for word in words:
        assert word in refusal.message, refusal
    for word in hint:
        assert word in refusal.hint, refusal


def test_unknown_method(sql):
    for query in (
        "SELECT susx.label('compass', '[1,0]'::vector, %s)",
        "SELECT * FROM susx.classify('compass', '[1,0]'::vector, 1, %s)",
        "SELECT susx.alter_classifier('compass', method => %s)",
    ):
        for method in ("tipx", "", "TIP-X"):
            check(sql.fails(query, method), UNDEFINED_OBJECT, f'"{method}"', hint=("zero-shot", "tip-adapter", "tip-x", "gated-tip-x", "gda", "likeness"))


@pytest.mark.parametrize(
    "call",
    [
        "susx.label('{}', '[1,0]'::vector)",
        "susx.classify('{}', '[1,0]'::vector)",
        "susx.alter_classifier('{}', alpha => 1)",
        "susx.add_support('{}', 'east', ARRAY['[1,0]']::vector[])",
        "susx.build_support_set('{}', 'pool')",
    ],
)
def test_a_table_that_is_no_classifier(sql, call):
    for name in ("pool", "pg_class", "pool_pkey"):
        check(
            sql.fails(f"SELECT {call.format(name)}"),
            UNDEFINED_OBJECT,
            f'"{name}"',
            "not a classifier",
            hint=("compass",),
        )
    check(sql.fails(f"SELECT {call.format('nothing')}"), UNDEFINED_TABLE, "nothing")
    check(sql.fails(f"SELECT {call.format(4000000000)}"), UNDEFINED_TABLE, "4000000000")


def test_unknown_category(sql):
    for category in ("west", "East", "east ", ""):
        check(
            sql.fails("SELECT susx.add_support('compass', %s, ARRAY['[1,0]']::vector[])", category),
            UNDEFINED_OBJECT,
            f'"{category}"',
            "compass",
            hint=("east", "north"),
        )


@pytest.mark.parametrize(
    "call",
    [
        "susx.label('compass', '[1,2,3]'::vector)",
        "susx.classify('compass', '[1,2,3]'::vector)",
        "susx.add_support('compass', 'east', ARRAY['[1,2,3]']::vector[])",
        "susx.alter_classifier('compass', model => 'demo')",
    ],
)
def test_other_dimensions(sql, call):
    expected, found = ("2", "512") if "demo" in call else ("2", "3")
    check(sql.fails(f"SELECT {call}"), DATA, f"{expected} dimensions, not {found}")


def test_a_pool_of_other_dimensions(sql):
    sql.run(
        "CREATE TABLE pool3 AS SELECT 7 AS id, '[1,2,3]'::vector AS embedding; ALTER TABLE pool3 ADD PRIMARY KEY (id)"
    )
    check(sql.fails("SELECT susx.build_support_set('compass', 'pool3')"), DATA, "2 dimensions, not 3")
    sql.run(
        "ALTER TABLE pool3 ALTER embedding TYPE vector(3); "
        "CREATE INDEX ON pool3 USING hnsw (embedding vector_cosine_ops)"
    )
    assert "3" in sql.fails("SELECT susx.build_support_set('compass', 'pool3')").message


@pytest.mark.parametrize("bad", ["'[0,0]'::vector", "'[1e-46,0]'::vector"])
def test_vectors_without_a_direction(sql, bad):
    for query in (
        f"SELECT susx.label('compass', {bad})",
        f"SELECT susx.add_support('compass', 'east', ARRAY[{bad}])",
        f"SELECT susx.create_classifier('new', '{{a,b}}', text_embeddings => ARRAY[{bad}, '[1,0]'])",
    ):
        check(sql.fails(query), DATA, "zeros")


def test_huge_and_tiny_vectors(sql):
    """Normalised without an overflow: a vector's length does not matter, however large or small."""
    for x in ("3e38", "1e-40", "1e-45"):
        assert sql.one(f"SELECT susx.label('compass', '[0,{x}]'::vector)") == "north"
        assert sql.rows(f"SELECT score::int FROM susx.classify('compass', '[{x},0]'::vector)") == [(100,)]


@pytest.mark.parametrize("k", [0, -1, -2147483648])
def test_k(sql, k):
    check(sql.fails("SELECT * FROM susx.classify('compass', '[1,0]'::vector, %s)", k), INVALID_PARAMETER, "k must be")
    check(
        sql.fails("SELECT * FROM susx.build_support_set('compass', 'pool', %s)", k),
        INVALID_PARAMETER,
        "per_class must be",
    )


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "temperature", "logit_scale", "lambda", "ridge"])
@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "-Infinity", "0"])
def test_numbers_that_the_formula_cannot_use(sql, name, value):
    before = sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'compass'::regclass")
    query = f"SELECT susx.alter_classifier('compass', {name} => '{value}'::real)"
    if value == "0" and name in ("alpha", "beta", "gamma", "lambda"):
        sql.run(query)
        assert sql.one(f"SELECT {name} FROM susx.classifier WHERE classifier = 'compass'::regclass") == 0
        return
    check(sql.fails(query), OUT_OF_RANGE, name)
    # Nor with a plain INSERT.
    assert sql.fails(f"UPDATE susx.classifier SET {name} = '{value}'").sqlstate == "23514"
    assert sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'compass'::regclass") == before


@pytest.mark.parametrize("name", ["alpha", "temperature", "ridge"])
def test_numbers_that_leave_the_range_of_floats(sql, name):
    """Sums of such terms are infinite, and their differences no numbers."""
    value = "1e30" if name == "alpha" else "1e-40"
    check(sql.fails(f"SELECT susx.alter_classifier('compass', {name} => '{value}'::real)"), OUT_OF_RANGE, "from 0")
    # Nor by hand.
    update = f"UPDATE susx.classifier SET {name} = '{value}' WHERE classifier = 'compass'::regclass"
    check(sql.fails(update), OUT_OF_RANGE, name)
    # For a table without a row of settings they get in, and nobody is told a probability that is none.
    sql.run(f"DELETE FROM compass WHERE kind = 'settings'; {update}")
    check(sql.fails("SELECT * FROM susx.classify('compass', '[1,0]'::vector)"), OUT_OF_RANGE, name)


@pytest.mark.parametrize(
    "categories, word",
    [
        ("'{}'", "empty"),
        ("'{a,NULL}'", "NULL"),
        ("'{a,b,a}'", '"a"'),
        ("ARRAY['']", "empty"),
        ("ARRAY['a', '  ']", "empty"),
        ("'{}'::text[]", "categories"),
    ],
)
def test_categories(sql, categories, word):
    check(sql.fails(f"SELECT susx.create_classifier('new', {categories})"), INVALID_PARAMETER, word)
    embeddings = f"(SELECT array_agg('[1,0]'::vector) FROM unnest({categories}::text[]))"
    check(
        sql.fails(
            f"SELECT susx.create_classifier('new', {categories}, text_embeddings => coalesce({embeddings}, '{{}}'))"
        ),
        INVALID_PARAMETER,
        word,
    )
    assert sql.one("SELECT to_regclass('new')") is None


def test_names_that_differ_by_case_or_spaces_are_different(sql):
    sql.run("SELECT susx.create_classifier('new', ARRAY['a', 'A', ' a'])")
    assert sql.column("SELECT category FROM new WHERE kind = 'prompt' ORDER BY id") == ["a", "A", " a"]


@pytest.mark.parametrize(
    "templates, word",
    [
        ("ARRAY['a photo']", "{}"),
        ("ARRAY['a {}', 'a photo']", '"a photo"'),
        ("'{}'", "templates"),
        ("ARRAY[NULL, 'a {}']", "NULL"),
        ("ARRAY['a { }']", "{}"),
    ],
)
def test_templates(sql, templates, word):
    check(sql.fails(f"SELECT susx.create_classifier('new', '{{a,b}}', {templates}::text[])"), INVALID_PARAMETER, word)


def test_as_many_text_embeddings_as_categories(sql):
    refusal = sql.fails(
        "SELECT susx.create_classifier('new', '{a,b,c}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    )
    check(refusal, INVALID_PARAMETER, "3 categories", "2 text embeddings")
    refusal = sql.fails(
        "SELECT susx.create_classifier('new', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1,2]']::vector[])"
    )
    check(refusal, DATA, "2 dimensions, not 3")


@pytest.mark.parametrize("name", ["", ".", "a.b.c", "a..b", "a b", '"', '"a', "1x", "nothing.at_all", "compass"])
def test_names_of_classifiers(sql, name):
    """PostgreSQL's own error refuses it, and nothing is left behind."""
    before = sql.one("SELECT count(*) FROM susx.classifier")
    refusal = sql.fails(
        "SELECT susx.create_classifier(%s, '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])", name
    )
    assert refusal.sqlstate in {"nothing.at_all": ("3F000",), "compass": ("42P07",)}.get(
        name, ("22023", "42602", "42601")
    )
    assert sql.one("SELECT count(*) FROM susx.classifier") == before


def test_images_for_a_classifier_without_a_model(sql):
    image = encode(picture(1))
    for query in ("SELECT susx.label('compass', %s::bytea)", "SELECT * FROM susx.classify('compass', %s::bytea)"):
        check(sql.fails(query, image), "55000", "compass", "model", hint=("alter_classifier",))


@pytest.mark.parametrize(
    "image, word",
    [
        (b"", "no bytes"),
        (b"hello", "found text"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\0", "TIFF"),
    ],
)
def test_broken_images(sql, image, word):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}')")
    for query in (
        "SELECT susx.embed_image(%s)",
        "SELECT susx.label('kinds', %s::bytea)",
        "SELECT * FROM susx.classify('kinds', %s::bytea)",
    ):
        check(sql.fails(query, image), "22P03", word)


def test_pools(sql):
    build = "SELECT susx.build_support_set('compass', 'pool', {})"
    check(sql.fails(build.format("embedding_column => 'vec'")), UNDEFINED_COLUMN, '"vec"', '"pool"')
    check(sql.fails(build.format("embedding_column => 'title'")), INVALID_PARAMETER, '"title"', "text", "vector")
    check(sql.fails(build.format("image_column => 'picture'")), UNDEFINED_COLUMN, '"picture"')
    check(sql.fails(build.format("image_column => 'title'")), INVALID_PARAMETER, "title", "text", "bytea")
    check(sql.fails(build.format("key_column => 'key'")), UNDEFINED_COLUMN, '"key"')
    check(sql.fails(build.format("prompting => 'poems'")), INVALID_PARAMETER, '"poems"', hint=("photo", "cupl"))
    check(sql.fails("SELECT susx.build_support_set('compass', 'nothing')"), UNDEFINED_TABLE, "nothing")
    for system in ("ctid", "xmin", "tableoid"):
        check(sql.fails(build.format(f"key_column => '{system}'")), UNDEFINED_COLUMN, system)


def test_a_pool_without_a_key(sql):
    sql.run(
        "CREATE TABLE keyless (a int, b int, embedding vector(2)); "
        "INSERT INTO keyless VALUES (1, 1, '[1,0]'), (1, 2, '[0,1]')"
    )
    refusal = sql.fails("SELECT susx.build_support_set('compass', 'keyless')")
    check(refusal, INVALID_PARAMETER, "keyless", "primary key", hint=("key_column",))
    check(
        sql.fails("SELECT susx.build_support_set('compass', 'keyless', key_column => 'a')"),
        INVALID_PARAMETER,
        "not unique",
    )
    sql.run("ALTER TABLE keyless ADD PRIMARY KEY (a, b)")
    check(
        sql.fails("SELECT susx.build_support_set('compass', 'keyless')"),
        INVALID_PARAMETER,
        "primary key of one column",
        hint=("key_column",),
    )
    sql.run("SELECT susx.build_support_set('compass', 'keyless', key_column => 'b')")
    assert sql.column("SELECT source_key FROM compass WHERE kind = 'image' ORDER BY id") == ["1", "2"]


@pytest.mark.parametrize("bad, sqlstate", [("[0,0]", "23514"), ("[NaN,1]", DATA), ("[1,2,3]", DATA)])
def test_vectors_that_a_classifier_does_not_take(sql, bad, sqlstate):
    """A plain INSERT of them is refused, too."""
    assert sql.fails("UPDATE compass SET embedding = %s WHERE category = 'east'", bad).sqlstate == sqlstate
    assert sql.fails("INSERT INTO compass (category, embedding) VALUES ('east', %s)", bad).sqlstate == sqlstate


def test_a_classifier_that_somebody_spoilt(sql):
    """Its table can be written with plain SQL, so invalid rows are reported when they are used."""
    label = "SELECT susx.label('compass', '[1,0]'::vector)"
    sql.run("BEGIN; INSERT INTO compass (category, embedding) VALUES ('west', '[-1,0]')")
    check(sql.fails(label), "55000", "compass", '"west"', "prompt", hint=("prompt",))
    sql.run("ROLLBACK; BEGIN; DELETE FROM compass")
    check(sql.fails(label), "55000", "compass", "no prompt")
    sql.run("ROLLBACK; BEGIN; INSERT INTO compass (category, kind, embedding) VALUES ('east', 'prompt', '[-1,0]')")
    check(sql.fails(label), DATA, "compass", '"east"')
    sql.run("ROLLBACK")
    assert sql.one(label) == "east"
