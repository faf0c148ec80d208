"""NULL gives NULL, or no row where rows are returned. Where NULL makes no sense it is an error, never a crash."""

from __future__ import annotations

import psycopg
import pytest

from helpers.toy import create_compass


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]']::vector[])")
    return sql


@pytest.mark.parametrize(
    "call",
    [
        "susx.embed_image(NULL)",
        "susx.embed_image(NULL, 'demo')",
        "susx.embed_image(NULL, 'there is no such model')",
        "susx.embed_text(NULL)",
        "susx.embed_text(NULL, 'demo')",
        "susx.known('compass', NULL::vector)",
        "susx.known('compass', NULL::bytea)",
        "susx.known(NULL, '[1,0]'::vector)",
        "susx.tags('compass', NULL::vector)",
        "susx.tags('compass', NULL::bytea)",
        "susx.tags(NULL, '[1,0]'::vector)",
        "susx.suggest_reject(NULL, 'compass')",
        "susx.suggest_reject('compass', NULL)",
        "susx.suggest_reject('compass', 'compass', NULL)",
        "susx.report('compass', NULL)",
        "susx.report(NULL, 'SELECT 1')",
        "susx.contact_sheet(NULL)",
        "susx.contact_sheet(NULL, 0, 0)",
        "susx.thumbnail(NULL)",
        "susx.thumbnail(NULL, 160, 'there is no such format')",
        "susx.label('compass', NULL::vector)",
        "susx.label('compass', NULL::bytea)",
        "susx.label(NULL, '[1,0]'::vector)",
        "susx.label(NULL, 'x'::bytea)",
        "susx.label(NULL, NULL::vector, NULL)",
    ],
)
def test_null_for_null(sql, call):
    assert sql.rows(f"SELECT {call}") == [(None,)]


@pytest.mark.parametrize(
    "call",
    [
        "susx.tag_probabilities('compass', NULL::vector)",
        "susx.tag_probabilities('compass', NULL::bytea)",
        "susx.tag_probabilities(NULL, '[1,0]'::vector)",
        "susx.classify('compass', NULL::vector)",
        "susx.classify('compass', NULL::bytea)",
        "susx.classify(NULL, '[1,0]'::vector)",
        "susx.classify(NULL, NULL::bytea, NULL, NULL)",
        "susx.classify_rows('compass', NULL)",
        "susx.classify_rows(NULL, 'SELECT 1')",
        "susx.classify_rows(NULL, NULL, NULL::text, NULL, NULL)",
        "susx.duplicates(NULL)",
        "susx.review_queue('compass', NULL)",
        "susx.review_queue(NULL, 'SELECT 1')",
        "susx.review_queue(NULL, NULL, NULL::text, NULL)",
        "susx.embed_images(NULL)",
        "susx.embed_texts(NULL, 'demo')",
    ],
)
def test_no_rows_for_null(sql, call):
    assert sql.rows(f"SELECT * FROM {call}") == []


def test_null_for_what_has_a_default_is_the_default(sql):
    one = sql.rows("SELECT * FROM susx.classify('compass', '[1,0]'::vector)")
    assert len(one) == 1
    assert sql.rows("SELECT * FROM susx.classify('compass', '[1,0]'::vector, NULL, NULL)") == one
    rows = sql.rows("SELECT * FROM susx.classify_rows('compass', 'VALUES (7::bigint, ''[1,0]''::vector)', k => NULL, method => NULL)")
    assert rows == [(7, *one[0], None)]
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector, NULL)") == "east"
    assert sql.one("SELECT susx.embed_text('a', NULL) = susx.embed_text('a', 'demo')")
    before = sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'compass'::regclass")
    sql.run("SELECT susx.alter_classifier('compass', NULL, NULL, NULL, NULL, NULL, NULL, NULL, likeness_model => NULL)")
    assert sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'compass'::regclass") == before


def test_rows_with_null_among_others(sql):
    sql.run(
        "CREATE TABLE points AS SELECT * FROM (VALUES (1, '[1,0]'::vector), (2, NULL), (3, '[0,1]')) v (id, embedding)"
    )
    assert sql.rows("SELECT id, susx.label('compass', embedding, 'zero-shot') FROM points ORDER BY id") == [
        (1, "east"),
        (2, None),
        (3, "north"),
    ]
    assert sql.column("SELECT id FROM points, susx.classify('compass', embedding) ORDER BY id") == [1, 3]


@pytest.mark.parametrize(
    "call",
    [
        "susx.create_classifier(NULL, '{a,b}')",
        "susx.create_classifier('new', NULL)",
        "susx.create_classifier('new', '{a,b}', NULL::text[])",
        "susx.create_classifier('new', '{a,b}', text_embeddings => NULL)",
        "susx.create_classifier(NULL, NULL, text_embeddings => NULL)",
        "susx.alter_classifier(NULL, alpha => 2)",
        "susx.adopt_classifier(NULL)",
        "susx.distribute_classifier(NULL)",
        "susx.add_support(NULL, 'east', ARRAY['[1,0]']::vector[])",
        "susx.add_support('compass', NULL, ARRAY['[1,0]']::vector[])",
        "susx.add_support('compass', 'east', NULL::vector[])",
        "susx.add_support('compass', 'east', NULL::bytea[])",
        "susx.add_support('compass', NULL, '{x}'::bytea[])",
        "susx.add_support(NULL, 'east', '{x}'::bytea[])",
        "susx.add_support('compass', 'east', ARRAY['[1,0]']::vector[], ARRAY[NULL]::vector[])",
        "susx.add_support('compass', 'east', NULL::vector[], ARRAY['[1,0]']::vector[])",
        "susx.add_negatives(NULL, '{a}')",
        "susx.add_negatives(NULL, '{a}', ARRAY['[1,0]']::vector[])",
        "susx.add_negatives('compass', NULL, ARRAY['[1,0]']::vector[])",
        "susx.add_negatives('compass', '{a}', NULL)",
        "susx.add_prompts(NULL, '{}')",
        "susx.add_prompts('compass', NULL)",
        "susx.correct(NULL, 'compass', '1', 'east')",
        "susx.correct('compass', NULL, '1', 'east')",
        "susx.correct('compass', 'compass', NULL, 'east')",
        "susx.correct('compass', 'compass', '1', 'east', label_column => NULL)",
        "susx.correct('compass', 'compass', '1', NULL, undo => NULL)",
        "susx.label_counts(NULL)",
        "susx.label_counts('compass', NULL)",
        "susx.add_embedding_column(NULL)",
        "susx.add_embedding_column('compass', NULL)",
        "susx.build_support_set(NULL, 'compass')",
        "susx.build_support_set('compass', NULL)",
        "susx.build_support_set('compass', 'compass', NULL)",
        "susx.build_support_set('compass', 'compass', prompting => NULL)",
        "susx.build_support_set('compass', 'compass', embedding_column => NULL)",
        "susx.build_support_set('compass', 'compass', exclusive => NULL)",
    ],
)
def test_null_for_what_is_needed(sql, call):
    """An error that says so, or nothing; and nothing is changed."""
    state = (
        "SELECT array_agg(c ORDER BY id), (SELECT array_agg(s ORDER BY classifier::oid) "
        "FROM susx.classifier s) FROM compass c"
    )
    before = sql.rows(state)
    try:
        assert sql.rows(f"SELECT {call}") in ([], [(None,)]), "neither an error nor nothing"
    except psycopg.Error as error:
        assert error.sqlstate in ("22004", "22023"), error
    assert sql.rows(state) == before
    assert sql.one("SELECT to_regclass('new')") is None
