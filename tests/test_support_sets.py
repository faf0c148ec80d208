"""Support sets: labelled images by their vectors, and images retrieved from a pool by the names alone."""

from __future__ import annotations

import pytest

from helpers.session import vector
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

BUILD = "SELECT category, images, similarity FROM susx.build_support_set('compass', 'pool'{})"
CHOSEN = "SELECT category, source_key FROM compass WHERE kind = 'image' AND origin = 'retrieved' ORDER BY id"

# Angles from east to north, in degrees.
POOL = {"e1": 0, "e2": 10, "e3": 20, "e4": 40, "n1": 90, "n2": 75, "n3": 60, "n4": 46}


@pytest.fixture
def pool(sql):
    create_compass(sql)
    sql.run("CREATE TABLE pool (id text PRIMARY KEY, image bytea, embedding vector(2))")
    # Of any length: the direction alone counts.
    sql.run(
        """
        INSERT INTO pool SELECT key, convert_to('image ' || key, 'UTF8'),
                                ('[' || 3 * cosd(angle::float) || ',' || 3 * sind(angle::float) || ']')::vector
        FROM json_each_text(%s) j (key, angle)""",
        '{"' + '", "'.join(f'{k}": "{v}' for k, v in POOL.items()) + '"}',
    )


def chosen(sql):
    """The keys per category, best first."""
    found = {}
    for category, key in sql.rows(CHOSEN):
        found.setdefault(category, []).append(key)
    return found


def test_the_nearest_images_of_every_name(sql, pool):
    rows = sql.rows(BUILD.format(", per_class => 3"))
    assert [row[:2] for row in rows] == [("east", 3), ("north", 3)]
    # The mean cosines of 0, 10, 20 and of 0, 15, 30 degrees.
    assert [row[2] for row in rows] == pytest.approx([0.97483, 0.94398], abs=1e-4)
    assert chosen(sql) == {"east": ["e1", "e2", "e3"], "north": ["n1", "n2", "n3"]}


def test_the_rows_that_it_adds(sql, pool):
    sql.run(BUILD.format(", per_class => 2"))
    rows = sql.rows(
        """
        SELECT c.category, c.origin, c.prompt, c.image, c.similarity, c.embedding = p.embedding
        FROM compass c JOIN pool p ON p.id = c.source_key ORDER BY c.id"""
    )
    assert [row[0] for row in rows] == ["east", "east", "north", "north"]
    assert all(row[1:4] == ("retrieved", None, None) and row[5] for row in rows)
    assert [row[4] for row in rows] == pytest.approx([1, 0.98481, 1, 0.96593], abs=1e-4)


def test_the_pictures_come_along_if_asked_for(sql, pool):
    sql.run(BUILD.format(", image_column => 'image'"))
    assert sql.one("SELECT count(*) FROM compass c JOIN pool p ON p.id = c.source_key AND p.image = c.image") == 8
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 8


def test_more_is_asked_for_than_there_is(sql, pool):
    assert [row[1] for row in sql.rows(BUILD.format(", per_class => 1000"))] == [4, 4]


def test_not_exclusive(sql, pool):
    """An image may then support several names."""
    assert [row[1] for row in sql.rows(BUILD.format(", per_class => 6, exclusive => false"))] == [6, 6]
    assert chosen(sql) == {"east": ["e1", "e2", "e3", "e4", "n4", "n3"], "north": ["n1", "n2", "n3", "n4", "e4", "e3"]}


def test_building_again_replaces_what_was_retrieved(sql, pool):
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[5,1]']::vector[])")
    sql.run(BUILD.format(", per_class => 4"))
    sql.run(BUILD.format(", per_class => 1"))
    assert chosen(sql) == {"east": ["e1"], "north": ["n1"]}
    assert sql.rows("SELECT category, embedding::text FROM compass WHERE origin = 'labelled'") == [("east", "[5,1]")]
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'prompt'") == 2


def test_images_without_an_embedding_are_passed_over(sql, pool):
    sql.run(
        "UPDATE pool SET embedding = NULL WHERE id IN ('e1', 'n2'); INSERT INTO pool VALUES ('zero', NULL, '[0,0]')"
    )
    assert [row[1] for row in sql.rows(BUILD.format(""))] == [3, 3]
    assert chosen(sql) == {"east": ["e2", "e3", "e4"], "north": ["n1", "n3", "n4"]}
    assert any("zero" in notice for notice in sql.notices)


def test_a_category_that_gets_nothing(sql, pool):
    """It is reported with 0, a NOTICE names it, and the classifier goes on with the others."""
    sql.run("DELETE FROM pool WHERE id LIKE 'n%'; SET client_min_messages = notice")
    assert sql.rows(BUILD.format(", per_class => 2"))[1] == ("north", 0, None)
    assert any("north" in notice and "east" not in notice for notice in sql.notices)
    assert sql.one("SELECT susx.label('compass', '[0,1]'::vector)") == "north"


@pytest.mark.parametrize("change", ["TRUNCATE pool", "UPDATE pool SET embedding = NULL"])
def test_a_pool_without_embeddings(sql, pool, change):
    """The support set that is there stays."""
    sql.run(BUILD.format(""))
    before = chosen(sql)
    sql.run(change)
    rows = sql.one("SELECT count(*) FROM pool")
    refusal = sql.fails(BUILD.format(""))
    assert refusal.sqlstate == "55000"
    assert f"0 of {rows} rows of " in refusal.message and "pool have an embedding" in refusal.message
    assert "CALL susx.embed_table(" in refusal.hint and "Nothing was changed" in refusal.hint
    assert before and chosen(sql) == before


def test_several_prompts_take_turns(sql, pool):
    """Not all images are the first prompt's: each prompt has its own nearest, one after the other."""
    sql.run("UPDATE compass SET prompt = 'due east' WHERE category = 'east'")
    sql.run(
        "INSERT INTO compass (category, kind, origin, prompt, embedding) "
        "VALUES ('east', 'prompt', 'template', 'east by north', '[1,0.8]')"
    )
    sql.run(BUILD.format(", per_class => 4, exclusive => false"))
    rows = sql.rows("SELECT source_key, prompt FROM compass WHERE category = 'east' AND kind = 'image' ORDER BY id")
    assert rows == [("e1", "due east"), ("e4", "east by north"), ("e2", "due east"), ("n4", "east by north")]


def test_prompting_with_sentences(sql, pool):
    """`cupl` asks with the sentences that were added, `photo` with the prompts of the creation."""
    refusal = sql.fails(BUILD.format(", prompting => 'cupl'"))
    assert "cupl" in refusal.message
    for category, embedding in (("east", "[0.9,0.9]"), ("north", "[0,1]")):
        sql.run(
            "INSERT INTO compass (category, kind, origin, prompt, embedding) "
            "VALUES (%s, 'prompt', 'cupl', 'a sentence', %s)",
            category,
            embedding,
        )
    sql.run(BUILD.format(", per_class => 1, prompting => 'cupl', exclusive => false"))
    assert chosen(sql) == {"east": ["n4"], "north": ["n1"]}
    assert sql.column("SELECT DISTINCT prompt FROM compass WHERE kind = 'image'") == ["a sentence"]
    sql.run(BUILD.format(", per_class => 1, prompting => 'photo', exclusive => false"))
    assert chosen(sql) == {"east": ["e1"], "north": ["n1"]}


def test_add_support(sql):
    create_compass(sql)
    assert sql.one("SELECT susx.add_support('compass', 'north', ARRAY['[3,4]', '[0,2]']::vector[])") == 2
    assert sql.one("SELECT susx.add_support('compass', 'east', ARRAY[%s::vector])", vector([7, 0])) == 1
    rows = sql.rows("SELECT category, kind, origin, embedding::text FROM compass WHERE kind = 'image' ORDER BY id")
    assert rows == [
        ("north", "image", "labelled", "[3,4]"),
        ("north", "image", "labelled", "[0,2]"),
        ("east", "image", "labelled", "[7,0]"),
    ]


def test_add_support_from_a_labelled_table(sql):
    """One call per category, as the manual does it."""
    create_compass(sql)
    sql.run(
        "CREATE TABLE labelled AS SELECT * "
        "FROM (VALUES ('east', '[1,0]'::vector), ('north', '[0,1]'), ('east', '[2,1]')) v (truth, embedding)"
    )
    rows = sql.rows(
        "SELECT truth, susx.add_support('compass', truth, array_agg(embedding)) FROM labelled "
        "GROUP BY truth ORDER BY truth"
    )
    assert rows == [("east", 2), ("north", 1)]


def test_add_support_takes_all_or_nothing(sql):
    create_compass(sql)
    for bad in ("'[1,2,3]'", "NULL", "'[0,0]'"):
        sql.fails(f"SELECT susx.add_support('compass', 'north', ARRAY['[1,2]', {bad}]::vector[])")
    assert sql.one("SELECT count(category) FROM compass") == 2


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops); SET enable_seqscan = off"])
def test_near_duplicates_are_passed_over(sql, pool, index):
    """Of images nearer to each other than the threshold, the one nearest to the name is taken."""
    # 10 degrees have a cosine of 0.985, 15 degrees one of 0.966, 20 degrees one of 0.940.
    sql.run(index)
    build = "SELECT images FROM susx.build_support_set('compass', 'pool', per_class => 3, skip_duplicates => {})"
    if index:
        build = build.replace("=> {}", "=> {}, use_index => true")
    assert sql.column(build.format(0.98)) == [3, 3]
    assert chosen(sql) == {"east": ["e1", "e3", "e4"], "north": ["n1", "n2", "n3"]}
    assert sql.column(build.format(0.95)) == [3, 2]
    assert chosen(sql) == {"east": ["e1", "e3", "e4"], "north": ["n1", "n3"]}
    assert sql.column(build.format(1)) == [3, 3]
    assert chosen(sql) == {"east": ["e1", "e2", "e3"], "north": ["n1", "n2", "n3"]}
    # By default, cosines in so few dimensions say nothing.
    for default in ("NULL", "0"):
        sql.run(f"SELECT susx.build_support_set('compass', 'pool', 3, skip_duplicates => {default})")
        assert chosen(sql) == {"east": ["e1", "e2", "e3"], "north": ["n1", "n2", "n3"]}


def test_near_duplicates_are_passed_over_by_default(sql):
    """From 64 dimensions on, with a cosine of 0.96 and more."""
    for dimensions in (63, 64):
        sql.run("DROP TABLE IF EXISTS compass, pool")
        axis = lambda *values: str([*values, *[0] * (dimensions - len(values))])  # noqa: E731
        sql.run(
            "SELECT susx.create_classifier('compass', '{east,north}', text_embeddings => %s::vector[])",
            [axis(1), axis(0, 1)],
        )
        sql.run("CREATE TABLE pool (id text PRIMARY KEY, embedding vector)")
        # The cosines with the first one are 0.97 and 0.95.
        for name, cosine in (("e1", 1.0), ("e2", 0.97), ("e3", 0.95)):
            sine = (1 - cosine**2) ** 0.5
            sql.run("INSERT INTO pool VALUES (%s, %s::vector)", name, axis(cosine, 0, sine if name == "e2" else -sine))
        sql.run("SELECT susx.build_support_set('compass', 'pool', 3)")
        assert chosen(sql)["east"] == (["e1", "e2", "e3"] if dimensions == 63 else ["e1", "e3"])


def test_copies_take_one_place(sql, pool):
    sql.run("INSERT INTO pool SELECT id || ' copy ' || i, image, embedding FROM pool, generate_series(1, 9) i")
    sql.run("SELECT susx.build_support_set('compass', 'pool', 3, skip_duplicates => 1)")
    assert {name: [key.split()[0] for key in keys] for name, keys in chosen(sql).items()} == {
        "east": ["e1", "e2", "e3"],
        "north": ["n1", "n2", "n3"],
    }


def test_a_picture_that_is_labelled_is_not_retrieved(sql, pool):
    """Whatever its label says."""
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[9,0]', '[0,2]']::vector[])")
    sql.run("SELECT susx.build_support_set('compass', 'pool', 3, skip_duplicates => 0.99)")
    assert chosen(sql) == {"east": ["e2", "e3", "e4"], "north": ["n2", "n3", "n4"]}


def test_near_duplicates_by_likeness(sql, pool):
    """Where the images have likeness vectors, these are compared."""
    sql.run("ALTER TABLE pool ADD likeness vector(3); UPDATE pool SET likeness = CASE WHEN id IN ('e1', 'e4') THEN '[1,0,0]' "
            "WHEN id IN ('n1', 'n2', 'n3') THEN '[0,1,0]' WHEN id = 'e2' THEN '[0,0,1]' ELSE '[-1,-1,0]' END::vector")  # fmt: skip
    sql.run("SELECT susx.build_support_set('compass', 'pool', likeness_column => 'likeness', skip_duplicates => 0.96)")
    assert chosen(sql) == {"east": ["e1", "e2", "e3"], "north": ["n1", "n4"]}


@pytest.mark.parametrize("threshold", ["-0.5", "1.5", "'NaN'"])
def test_a_threshold_that_is_none(sql, pool, threshold):
    refused = sql.fails(f"SELECT susx.build_support_set('compass', 'pool', skip_duplicates => {threshold})")
    assert refused.sqlstate == "22023" and "skip_duplicates" in refused.message
