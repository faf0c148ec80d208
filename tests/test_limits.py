"""Every size that a caller or a row chooses has a limit, which an error names beside the value; and everything slow can
be cancelled."""

from __future__ import annotations

import json
import re
import time

import psycopg
import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY
from helpers.session import in_background, vector
from helpers.settings import reloaded
from helpers.toy import create_compass
from tools.paths import ROOT

pytestmark = [pytest.mark.same_everywhere, pytest.mark.slow]

INVALID, LIMIT = "22023", "54000"
LARGEST = 2**31 - 1

REFERENCE = (ROOT / "docs" / "reference.md").read_text()


@pytest.fixture
def sql(sql):
    """With a classifier of vectors, one of a model, a pool and a table of images."""
    create_compass(sql)
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector(2)); INSERT INTO pool VALUES (1, '[1,0]')")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
    return sql


def refused(refusal, sqlstate, *numbers):
    assert refusal.sqlstate == sqlstate, refusal
    for number in numbers:
        assert re.search(rf"(?<!\d){number}(?!\d)", refusal.message), refusal


# A number that a caller gives: where it goes, and the most that it may be.
NUMBERS = {
    "classify": ("SELECT * FROM susx.classify('compass', '[1,0]'::vector, {})", "k", 100_000),
    "classify_rows": ("SELECT * FROM susx.classify_rows('compass', 'SELECT 1::bigint, ''[1,0]''::vector', k => {})", "k", 100_000),
    "explain k": ("SELECT * FROM susx.explain('compass', '[1,0]'::vector, {})", "k", 100_000),
    "explain rows": ("SELECT * FROM susx.explain('compass', '[1,0]'::vector, support_rows => {})", "support_rows", 100_000),
    "build_support_set": ("SELECT * FROM susx.build_support_set('compass', 'pool', {})", "per_class", 10_000),
    "embed_table": ("CALL susx.embed_table('photos', batch_size => {}, model => 'tiny_split')", "batch_size", 10_000),
}
# Those of generators: at the limit the work would take long, so only what is above it is tried.
GENERATED = {
    "per_class": ("CALL susx.generate_support_set('pets', per_class => {}, steps => 1)", "per_class", 10_000),
    "steps": ("CALL susx.generate_support_set('pets', per_class => 1, steps => {})", "steps", 1_000),
    "steps of images": ("SELECT * FROM susx.generate_images('{{x}}', steps => {})", "steps", 1_000),
    "width": ("SELECT * FROM susx.generate_images('{{x}}', steps => 1, width => {})", "width", 4_096),
    "height": ("SELECT * FROM susx.generate_images('{{x}}', steps => 1, height => {})", "height", 4_096),
}


@pytest.mark.parametrize("what", [*NUMBERS, *GENERATED])
def test_a_number(sql, what):
    call, name, most = {**NUMBERS, **GENERATED}[what]
    started = time.monotonic()
    for number in (most + 1, 1_000_000_000, LARGEST):
        refusal = sql.fails(call.format(number))
        refused(refusal, INVALID, most, number)
        assert refusal.message.startswith(name)
    for number in (0, -1, -LARGEST - 1):
        refusal = sql.fails(call.format(f"({number})"))
        refused(refusal, INVALID, 1)
        assert refusal.message.startswith(name)
    # The work was refused before it began.
    assert time.monotonic() - started < PROMPTLY
    if what in NUMBERS:
        sql.run(call.format(most))
    assert f"| {most:,} |" in REFERENCE


def test_the_case_of_the_issue(sql):
    """This once took 189 GB, or with fewer images half a minute that no timeout ended."""
    for number in (1_000_000, 100_000_000, LARGEST):
        refusal = sql.fails(f"CALL susx.generate_support_set('pets', %s, per_class => {number}, steps => 1)", GENERATOR)
        refused(refusal, INVALID, 10_000, number)
    assert sql.one("SELECT 1") == 1


# An array that a caller gives, of {n} elements that are NULL or all the same.
ARRAYS = {
    "images": "SELECT count(*) FROM susx.embed_images(array_fill(NULL::bytea, ARRAY[{n}]))",
    "texts": "SELECT count(*) FROM susx.embed_texts(array_fill(NULL::text, ARRAY[{n}]))",
    "prompts": "SELECT count(*) FROM susx.generate_images(array_fill(NULL::text, ARRAY[{n}]), steps => 1)",
    "categories": "SELECT susx.create_classifier('new', array_fill('x'::text, ARRAY[{n}]))",
    "templates": "SELECT susx.create_classifier('new', '{{a}}', array_fill('{{}}'::text, ARRAY[{n}]))",
    "text_embeddings": "SELECT susx.create_classifier('new', '{{a}}', text_embeddings => array_fill('[1]'::vector, ARRAY[{n}]))",
    "embeddings": "SELECT susx.add_support('compass', 'east', array_fill(NULL::vector, ARRAY[{n}]))",
    "images of support": "SELECT susx.add_support('pets', 'cat', array_fill(NULL::bytea, ARRAY[{n}]))",
}


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array(sql, what):
    most = 100_000
    refusal = sql.fails(ARRAYS[what].format(n=most + 1))
    refused(refusal, LIMIT, most, most + 1)
    assert what.split()[0] in refusal.message and refusal.hint
    # A hundred million NULLs are a few megabytes, as long as nobody makes a list of them.
    started = time.monotonic()
    if "NULL" in ARRAYS[what]:
        refused(sql.fails(ARRAYS[what].format(n=100_000_000)), LIMIT, most, 100_000_000)
    # Of several dimensions all elements count.
    refused(sql.fails(ARRAYS[what].format(n=f"{most}, 2")), LIMIT, most, 2 * most)
    assert time.monotonic() - started < PROMPTLY


def test_at_the_limit_of_an_array(sql):
    for what in ("images", "texts", "prompts"):
        assert sql.one(ARRAYS[what].format(n=100_000)) == 100_000
    assert sql.fails(ARRAYS["embeddings"].format(n=100_000)).message == "element 1 of embeddings is NULL"
    assert sql.fails(ARRAYS["categories"].format(n=50_001)).sqlstate == LIMIT
    assert 'category "x" is named twice' in sql.fails(ARRAYS["categories"].format(n=50_000)).message


def test_categories_times_templates(sql):
    create = "SELECT susx.create_classifier('new', %s, %s, 'tiny_split')"
    names = [f"c{i}" for i in range(2_001)]
    refused(sql.fails(create, names, ["{}"] * 100), LIMIT, 200_000, 200_100)
    # A name may stand in a template many times.
    long = "x" * 60_000
    refused(sql.fails(create, [long], ["{}" * 20]), LIMIT, 65_536, 1_200_000)
    refused(sql.fails(create, [long], ["{}" * 32_768]), LIMIT, 65_536, 60_000 * 32_768)
    refused(sql.fails(create, [long], ["{}"] * 5_000), LIMIT, 256 * 2**20, 300_000_000)
    assert sql.one(create, ["a", "b"], ["{}", "a {}"]) == "new"


@pytest.mark.parametrize("what", ["categories", "templates"])
def test_the_length_of_a_name(sql, what):
    for length, works in ((65_536, True), (65_537, False), (10_000_000, False)):
        names = {"categories": ["x" * (length - 12 * (length == 65_536)), "y"], "templates": ["a {}"]}
        if what == "templates":
            # One character of a name takes the place of two.
            names = {"categories": ["xx"], "templates": ["{}" + "x" * (length - 2)]}
        create = "SELECT susx.create_classifier('new', %s, %s, 'tiny_split')"
        if works:
            sql.run(create, names["categories"], names["templates"])
            sql.run("DROP TABLE new")
        else:
            refusal = sql.fails(create, names["categories"], names["templates"])
            refused(refusal, LIMIT, 65_536, length)
            assert what in refusal.message


@pytest.mark.parametrize("length", [256, 5_000, 70_000])
def test_names_of_models(sql, length):
    """No model has such a name, whether the inference process says so or the session itself."""
    long = "x" * length
    for call in (
        f"SELECT susx.embed_text('a', '{long}')",
        f"SELECT * FROM susx.embed_images('{{a}}', '{long}')",
        f"SELECT susx.create_classifier('c', '{{a}}', model => '{long}')",
        f"SELECT susx.alter_classifier('compass', model => '{long}')",
        f"SELECT * FROM susx.generate_images('{{a}}', '{long}')",
        f"SET susx.model = '{long}'; SELECT susx.embed_text('a')",
    ):
        refused(sql.fails(call), "42704", 255, length)
        sql.run("RESET susx.model")


def test_other_names(sql):
    long = "x" * 1_025
    call = f"SELECT susx.create_classifier('{long}', '{{a}}', text_embeddings => '{{\"[1]\"}}')"
    refusal = sql.fails(call)
    refused(refusal, LIMIT, 1_024, 1_025)
    assert "classifier" in refusal.message
    sentence = "x" * 65_537
    for call, arguments in (
        ("SELECT susx.add_support('compass', %s, ARRAY['[1,0]']::vector[])", [sentence]),
        ("SELECT susx.add_prompts('pets', jsonb_build_object('cat', jsonb_build_array(%s::text)))", [sentence]),
        ("SELECT * FROM susx.generate_images(ARRAY[%s])", [sentence]),
        ("SELECT * FROM susx.generate_images('{x}', negative_prompt => %s)", [sentence]),
        ("CALL susx.generate_support_set('pets', negative_prompt => %s)", [sentence]),
    ):
        refused(sql.fails(call, *arguments), LIMIT, 65_536, 65_537)
    # A message is not as long as what it is about.
    for call in ("SELECT susx.label('compass', '[1,0]'::vector, repeat('x', 10000000))",
                 "SELECT susx.add_support('compass', repeat('x', 60000), ARRAY['[1,0]']::vector[])"):  # fmt: skip
        assert len(sql.fails(call).message) < 10_000


def test_a_file_of_prompts(sql):
    many = json.dumps({"cat": ["x"] * 200_001})
    refused(sql.fails("SELECT susx.add_prompts('pets', %s::jsonb)", many), LIMIT, 200_000, 200_001)
    large = json.dumps({"cat": ["x" * 60_000] * 600})
    refusal = sql.fails("SELECT susx.add_prompts('pets', %s::jsonb)", large)
    refused(refusal, LIMIT, 32 * 2**20)
    assert "jsonb" in refusal.message


def test_what_rows_hold(sql):
    """The owner can write rows that no function of susx would."""
    long = "repeat('x', 65537)"
    for place, (change, calls) in enumerate(
        (
            (f"UPDATE compass SET category = {long} WHERE category = 'east'",
             ("SELECT susx.label('compass', '[1,0]'::vector)", "SELECT * FROM susx.tune('compass')",
              "SELECT * FROM susx.build_support_set('compass', 'pool')")),
            (f"UPDATE compass SET prompt = {long} WHERE category = 'east'",
             ("SELECT * FROM susx.build_support_set('compass', 'pool')",)),
            ("CREATE TABLE keys (id text, embedding vector(2)); "
             f"INSERT INTO keys VALUES ({long}, '[1,0]')",
             ("SELECT * FROM susx.build_support_set('compass', 'keys', key_column => 'id')",)),
        )
    ):  # fmt: skip
        sql.run("BEGIN")
        sql.run(change)
        for call in calls:
            sql.run("SAVEPOINT s")
            refused(sql.fails(call), LIMIT, 65_536, 65_537)
            sql.run("ROLLBACK TO s")
        sql.run("ROLLBACK")
    query = f"SELECT ''[1,0]''::vector, repeat(''x'', 65537)"
    for function in ("evaluate", "confusion_matrix"):
        refusal = sql.fails(f"SELECT * FROM susx.{function}('compass', '{query}')")
        refused(refusal, LIMIT, 65_536, 65_537)
        assert "row 1" in refusal.message


def test_categories_of_a_table(sql):
    insert = """INSERT INTO compass (category, kind, origin, embedding)
        SELECT 'c' || i, 'prompt', 'given', '[1,1]' FROM generate_series(1, {}) i"""
    sql.run("BEGIN")
    sql.run(insert.format(49_998))
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    sql.run("ROLLBACK")
    sql.run(insert.format(49_999))
    refused(sql.fails("SELECT susx.label('compass', '[1,0]'::vector)"), LIMIT, 50_000, 50_001)


def test_rows_that_explain(sql):
    """A category without support shows the rows of another, so that there may be far more rows than in the table."""
    sql.run(
        """INSERT INTO compass (category, kind, origin, embedding)
           SELECT 'c' || i, 'prompt', 'given', ('[1,' || i || ']')::vector FROM generate_series(1, 1200) i;
           INSERT INTO compass (category, embedding) SELECT 'east', '[1,0.1]' FROM generate_series(1, 1000)"""
    )
    explain = "SELECT count(*) FROM susx.explain('compass', '[1,0]'::vector, {}, support_rows => {})"
    refused(sql.fails(explain.format(1_001, 1_000)), LIMIT, 1_000_000, 1_001_000)
    assert sql.one(explain.format(2, 1_000)) == 2_000
    assert sql.one(explain.format(1_000, 2)) > 1_000


def test_candidates(sql):
    sql.run(
        """INSERT INTO compass (category, kind, origin, embedding)
           SELECT 'east', 'prompt', 'given', ('[1,' || i || ']')::vector FROM generate_series(1, 1000) i"""
    )
    refused(sql.fails("SELECT * FROM susx.build_support_set('compass', 'pool', 10000)"), LIMIT, 10_000_000, 10_020_000)


# --- Slow calls can be cancelled. ---


@pytest.fixture
def large(sql):
    """A classifier and questions to it that take minutes."""
    sql.run("SET statement_timeout = 0")
    sql.run("CREATE TABLE pool2 AS SELECT i AS id, "
            "(SELECT array_agg(sin(i * 7.1 + j * j * 0.37))::vector(128) FROM generate_series(1, 128) j) AS embedding "
            "FROM generate_series(1, 8000) i")  # fmt: skip
    sql.run("SELECT susx.create_classifier('large', (SELECT array_agg('c' || id ORDER BY id) FROM pool2), "
            "text_embeddings => (SELECT array_agg(embedding ORDER BY id) FROM pool2))")  # fmt: skip
    sql.run("INSERT INTO large (category, origin, embedding) "
            "SELECT 'c' || (1 + id % 4000), 'retrieved', embedding FROM pool2")  # fmt: skip
    return sql


LONG = {
    "fit": "SELECT count(susx.label('large', embedding, 'tip-x')) FROM pool2",
    "gda": "SELECT count(susx.label('large', embedding, 'gda')) FROM pool2",
    "classify_rows": "SELECT count(*) FROM susx.classify_rows('large', "
    "'SELECT a.id::bigint, a.embedding FROM pool2 a, pool2 b', k => 5)",
    "evaluate": "SELECT count(*) FROM susx.evaluate('large', "
    "'SELECT a.embedding, ''c1'' FROM pool2 a, pool2 b')",
    "explain": "SELECT count(*) FROM pool2, susx.explain('large', embedding, 1000, support_rows => 100)",
    "tune": "SELECT * FROM susx.tune('large')",
    "tune on a query": "SELECT * FROM susx.tune('large', 'SELECT embedding, ''c1'' FROM pool2')",
    "build_support_set": "SELECT count(*) FROM susx.build_support_set('large', 'pool2', 300, key_column => 'id', exclusive => false)",
}


@pytest.mark.parametrize("what", LONG)
def test_statement_timeout(large, what):
    large.run("SET statement_timeout = '700ms'")
    for _ in range(3):
        started = time.monotonic()
        assert large.fails(LONG[what]).sqlstate == "57014"
        # Other programs use the machine, too.
        assert time.monotonic() - started < 0.7 + PROMPTLY


def test_the_end_of_a_backend(large, connect):
    other = connect()
    for what in ("fit", "tune", "build_support_set"):
        session = connect()
        session.run("SELECT set_config('search_path', %s, false)", large.one("SELECT current_setting('search_path')"))

        def ends():
            try:
                session.rows(LONG[what])
            except psycopg.OperationalError as error:
                return time.monotonic(), error.sqlstate
            return None

        with in_background(ends) as results:
            time.sleep(0.7)
            asked = time.monotonic()
            other.run("SELECT pg_terminate_backend(%s)", session.pid)
        ended, sqlstate = results[0]
        assert sqlstate == "57P01" and ended - asked < PROMPTLY


def test_a_call_that_plans_many_images(sql, connect):
    """At the limits, the call plans its images, and can be cancelled."""
    names = [f"c{i}" for i in range(100)]
    sql.run("SELECT susx.create_classifier('many', %s, model => 'tiny_split')", names)
    sql.run("SET statement_timeout = '2s'")
    started = time.monotonic()
    call = "CALL susx.generate_support_set('many', %s, per_class => {}, steps => 900)"
    assert sql.fails(call.format(10_000), GENERATOR).sqlstate == "57014"
    assert time.monotonic() - started < 2 + PROMPTLY
    sql.run("RESET statement_timeout")
    sql.run("INSERT INTO many (category, kind, origin, prompt, embedding) "
            "SELECT 'x', 'prompt', 'template', 'x', embedding FROM many LIMIT 1")  # fmt: skip
    refused(sql.fails(call.format(10_000), GENERATOR), LIMIT, 1_000_000, 1_010_000)


# --- Images that are too large are not read. ---


@pytest.fixture
def small_images(sql, cluster):
    with reloaded(cluster, max_image_bytes="100kB"):
        yield sql


def too_large(refusal, size):
    refused(refusal, LIMIT, size, 102_400)
    assert "susx.max_image_bytes" in refusal.hint, refusal


def test_an_image_that_is_too_large(small_images):
    sql = small_images
    size = 200_000
    # Compressed, so that the value itself is small; and as it is, out of line.
    for storage in ("EXTENDED", "EXTERNAL"):
        sql.run(f"CREATE TABLE big (id bigint PRIMARY KEY, image bytea, embedding vector(32)); "
                f"ALTER TABLE big ALTER image SET STORAGE {storage}; "
                f"INSERT INTO big VALUES (1, convert_to(repeat('x', {size}), 'UTF8'))")  # fmt: skip
        sql.run("INSERT INTO big VALUES (2, %s)", encode(picture(1, (64, 64))))
        for call in (
            "SELECT susx.embed_image(image, 'tiny_split') FROM big WHERE id = 1",
            "SELECT susx.label('pets', image) FROM big WHERE id = 1",
            "SELECT susx.classify('pets', image) FROM big WHERE id = 1",
            "SELECT susx.explain('pets', image) FROM big WHERE id = 1",
            "SELECT susx.add_support('pets', 'cat', array_agg(image)) FROM big",
            "INSERT INTO pets (category, image) SELECT 'cat', image FROM big WHERE id = 1",
            "CALL susx.embed_table('big', model => 'tiny_split', on_error => 'stop')",
        ):
            too_large(sql.fails(call), size)
        # One bad image costs one error.
        errors = sql.column("SELECT error FROM susx.embed_images((SELECT array_agg(image ORDER BY id) FROM big), 'tiny_split')")
        assert str(size) in errors[0] and "102400" in errors[0] and errors[1] is None
        errors = sql.column("SELECT error FROM susx.classify_rows('pets', 'SELECT id, image FROM big ORDER BY id')")
        assert str(size) in errors[0] and errors[1] is None
        sql.run("CALL susx.embed_table('big', model => 'tiny_split')")
        assert sql.rows("SELECT sqlstate, message LIKE %s FROM susx.errors WHERE relation = 'big'::regclass", f"%{size}%") == [
            (LIMIT, True)
        ]
        assert sql.column("SELECT id FROM big WHERE embedding IS NOT NULL") == [2]
        for query in ("SELECT * FROM susx.evaluate('pets', 'SELECT image, ''cat'' FROM big') WHERE category IS NULL",):
            assert sql.rows(query)[0][1:3] == (1, 1)
        sql.run("DROP TABLE big")


def test_a_trigger_and_an_image_that_is_too_large(small_images):
    sql = small_images
    sql.run("CREATE TRIGGER e AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
            "EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split', 'record'); "
            "CREATE TRIGGER u AFTER UPDATE ON photos REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT "
            "EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split', 'record')")  # fmt: skip
    sql.run("INSERT INTO photos VALUES (1, convert_to(repeat('x', 200000), 'UTF8'))")
    sql.run("INSERT INTO photos VALUES (2, %s)", encode(picture(1, (64, 64))))
    sql.run("UPDATE photos SET image = convert_to(repeat('y', 200000), 'UTF8')")
    rows = sql.rows("SELECT key, sqlstate FROM susx.errors WHERE relation = 'photos'::regclass ORDER BY 1")
    assert rows == [("1", LIMIT), ("2", LIMIT)]
    assert sql.one("SELECT count(embedding) FROM photos") == 0


def test_memory_of_a_large_image(sql):
    """450 MB that compress well: the backend does not unpack them."""
    sql.run("CREATE TABLE huge (id int PRIMARY KEY, image bytea)")
    sql.run("INSERT INTO huge VALUES (1, convert_to(repeat('x', 450000000), 'SQL_ASCII'))")
    fresh = "SELECT susx.embed_image(image, 'tiny_split') FROM huge"
    path = f"/proc/{sql.pid}/status"

    def peak():
        with open(path) as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) >> 10

    # What was used up to now was for making the image.
    with open(f"/proc/{sql.pid}/clear_refs", "w") as clear:
        clear.write("5")
    before = peak()
    started = time.monotonic()
    refusal = sql.fails(fresh)
    refused(refusal, LIMIT, 450_000_000)
    assert "susx.max_image_bytes" in refusal.hint
    assert time.monotonic() - started < PROMPTLY
    assert peak() - before < 100
