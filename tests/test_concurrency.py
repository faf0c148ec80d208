"""Several sessions change one classifier at once, or use many."""

from __future__ import annotations

import time

import pytest

from helpers.pictures import encode, picture
from helpers.session import in_background
from helpers.toy import create_compass, create_points, create_random

BUILD = "SELECT susx.build_support_set('compass', 'pool', per_class => 3)"


@pytest.fixture
def pool(sql):
    create_compass(sql)
    sql.run(
        "CREATE TABLE pool AS SELECT i AS id, ARRAY[cosd(i), sind(i)]::vector AS embedding "
        "FROM generate_series(1, 89) i; ALTER TABLE pool ADD PRIMARY KEY (id)"
    )


@pytest.mark.parametrize("built_before", [True, False])
def test_two_sessions_build_the_same_support_set(sql, connect, schema, pool, built_before):
    """The set exists once: the second session replaces what the first has retrieved."""
    if built_before:
        sql.run(BUILD)
    other = connect()
    other.run(f"SET search_path = {schema}, public")
    sql.run("BEGIN")
    sql.run(BUILD)
    with in_background(lambda: other.run(BUILD)) as results:
        time.sleep(0.5)
        sql.run("COMMIT")
    assert results == [None]
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 6


def test_building_does_not_stop_labelling(sql, connect, schema, pool):
    other = connect()
    other.run(f"SET search_path = {schema}, public; SET statement_timeout = '2min'")
    sql.run("BEGIN")
    sql.run(BUILD)
    sql.run("SELECT susx.alter_classifier('compass', alpha => 3)")
    assert other.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    sql.run("ROLLBACK")


def test_sessions_that_add_support_at_once(sql, connect, schema, pool):
    """Nothing is lost, and no session waits for another without need."""
    sessions = [connect() for _ in range(4)]

    def work(session):
        session.run(f"SET search_path = {schema}, public")
        for _ in range(25):
            session.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.1]']::vector[])")
            assert session.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"

    with in_background(*(lambda session=session: work(session) for session in sessions)) as results:
        pass
    assert results == [None] * 4
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 100


def test_more_classifiers_than_a_session_keeps(sql):
    """The least recently used ones are dropped from memory, and fitted again when needed."""
    create_points(sql, "points", rows=40, dimensions=128)
    for number in range(6):
        create_random(sql, f"toy{number}", categories=20, dimensions=128, per_class=40, seed=number)
    ask = (
        "SELECT array_agg((c.category, c.score)::text ORDER BY p.id) FROM points p, "
        "susx.classify('toy{}', p.embedding) c"
    )
    expected = [sql.one(ask.format(number)) for number in range(6)]
    assert len(set(map(tuple, expected))) == 6
    sql.run("SET susx.classifier_cache = '1MB'")
    for number in (0, 5, 1, 4, 2, 3, 0, 1, 2, 3, 4, 5):
        assert sql.one(ask.format(number)) == expected[number]
    # Several in one statement, each needed again for the next row.
    both = "SELECT count(*) FROM points p WHERE " + " AND ".join(
        f"susx.label('toy{n}', p.embedding) IS NOT NULL" for n in range(6)
    )
    assert sql.one(both) == 40


def test_a_trigger_that_labels_what_comes_in(sql, connect):
    """An ETL job's table: each picture has its embedding and its label when it arrives."""
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog,bird}', model => 'tiny_split')")
    sql.run(
        """
        CREATE TABLE arrivals (id int PRIMARY KEY, image bytea, embedding vector, label text);
        CREATE FUNCTION look_at() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.embedding = susx.embed_image(NEW.image, 'tiny_split');
            NEW.label = susx.label('kinds', NEW.embedding);
            RETURN NEW;
        END $$;
        CREATE TRIGGER look_at BEFORE INSERT ON arrivals FOR EACH ROW EXECUTE FUNCTION look_at()"""
    )
    sql.copy("arrivals", ["id", "image"], ((i, encode(picture(i, (40, 40)))) for i in range(30)))
    assert sql.one("SELECT count(*) FROM arrivals WHERE label = susx.label('kinds', image)") == 30
    assert sql.fails("INSERT INTO arrivals VALUES (99, 'broken')").sqlstate == "22P03"
    assert sql.one("SELECT count(*) FROM arrivals") == 30
