"""Names of things that are none of the categories: who may add which, and what they are in the table."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.gda import unit
from helpers.known import OTHER, add, create_points_around_the_compass, vectors
from helpers.session import array
from tools.paths import ROOT

pytestmark = pytest.mark.same_everywhere

INVALID, DENIED, NOT_READY, DATA = "22023", "42501", "55000", "22000"
NOUNS = (ROOT / "src" / "negatives" / "nouns.txt").read_text().split()


@pytest.fixture
def compass(sql):
    create_points_around_the_compass(sql)
    return sql


def test_names_that_are_negatives_already(compass):
    sql = compass
    assert sql.one(OTHER) == 1
    assert sql.one(OTHER) == 0
    assert add(sql, "compass", ["south-east", "south", "south"], np.array([[1, 1], [0, -1], [-1, 0]])) == 1
    rows = sql.rows("SELECT category, kind, origin, prompt, embedding FROM compass WHERE kind = 'negative' ORDER BY id")
    assert rows == [("south-east", "negative", "given", None, "[1,-1]"), ("south", "negative", "given", None, "[0,-1]")]
    # They are neither categories nor support images.
    assert len(sql.rows("SELECT * FROM susx.classify('compass', '[0,-1]'::vector, k => 9)")) == 2
    # Without them, everything is as it was.
    sql.run("DELETE FROM compass WHERE kind = 'negative'")
    assert sql.one("SELECT susx.known('compass', '[1,-1]'::vector)") == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "arguments, sqlstate, text",
    [
        ("'{east}', ARRAY['[1,1]']::vector[]", INVALID, '"east" is a category'),
        ("'{x,NULL}', ARRAY['[1,1]', '[1,2]']::vector[]", INVALID, "element 2 of names is NULL"),
        ("'{x,\" \"}', ARRAY['[1,1]', '[1,2]']::vector[]", INVALID, "element 2 of names is empty"),
        ("'{}', '{}'::vector[]", INVALID, "names must not be empty"),
        ("'{x,y}', ARRAY['[1,1]']::vector[]", INVALID, "2 names but 1 text embeddings"),
        ("'{x}', ARRAY['[1,1,1]']::vector[]", DATA, "expected 2 dimensions, not 3"),
        ("'{x}', ARRAY['[0,0]']::vector[]", DATA, "zeros"),
        ("'{x}'", NOT_READY, "has no model"),
        ("NULL", NOT_READY, "has no model"),
    ],
)
def test_what_cannot_be_negatives(compass, arguments, sqlstate, text):
    refusal = compass.fails(f"SELECT susx.add_negatives('compass', {arguments})")
    assert (refusal.sqlstate, text in refusal.message) == (sqlstate, True), refusal
    assert sqlstate != NOT_READY or "text_embeddings" in refusal.hint
    assert compass.one("SELECT count(*) FROM compass WHERE kind = 'negative'") == 0


@pytest.mark.parametrize(
    "templates, prompt",
    [
        (["a photo of a {}."], "a photo of a spoon."),
        (["a drawing of a {}"], "a drawing of a spoon"),
        (["a {}.", "the {}."], "a photo of a spoon."),
    ],
)
def test_names_are_embedded_in_the_classifiers_own_template(sql, templates, prompt):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,\"polar bear\"}', %s, 'tiny_split')", templates)
    assert sql.one("SELECT susx.add_negatives('kinds', '{spoon,fork}')") == 2
    assert sql.one("SELECT susx.add_negatives('kinds', '{fork,spoon}')") == 0
    rows = sql.rows(
        "SELECT category, origin, prompt, embedding <=> susx.embed_text(prompt, 'tiny_split') < 1e-6 FROM kinds "
        "WHERE kind = 'negative' ORDER BY id"
    )
    assert rows == [("spoon", "given", prompt, True), ("fork", "given", prompt.replace("spoon", "fork"), True)]


def test_a_negative_written_by_hand(sql):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
    sql.run("INSERT INTO kinds (category, kind, origin, prompt) VALUES ('gravel', 'negative', 'given', 'some gravel')")
    assert sql.one(
        "SELECT embedding <=> susx.embed_text('some gravel', 'tiny_split') < 1e-6 FROM kinds WHERE kind = 'negative'"
    )
    refusal = sql.fails("INSERT INTO kinds (category, kind) VALUES ('gravel', 'negative')")
    assert "needs a prompt" in refusal.message and "negative" in refusal.hint


def test_common_nouns(sql):
    """The 300 that are least like the categories, of those that are not other names of them."""
    sql.run("SELECT susx.create_classifier('kinds', '{dog,Cat,bus}')")
    assert {"dog", "cat", "bus"} <= set(NOUNS)
    assert sql.one("SELECT susx.add_negatives('kinds')") == 300
    assert sql.one("SELECT susx.add_negatives('kinds')") == 0
    rows = sql.rows("SELECT category, origin, prompt FROM kinds WHERE kind = 'negative'")
    chosen = {name for name, *_ in rows}
    assert chosen <= set(NOUNS) - {"dog", "cat", "bus"}
    assert {(origin, prompt == f"a photo of a {name}.") for name, origin, prompt in rows} == {("common", True)}
    names = unit(vectors(sql, "SELECT embedding FROM kinds WHERE kind = 'prompt' ORDER BY id"))
    others = [noun for noun in NOUNS if noun not in ("dog", "cat", "bus")]
    texts = sql.column("SELECT embedding FROM susx.embed_texts(%s) ORDER BY ord", [f"a photo of a {n}." for n in others])
    cosines = (unit(np.array([array(text) for text in texts])) @ names.T).max(axis=1)
    limit = np.sort(cosines)[299]
    assert limit < 0.95
    assert all(cosine <= limit + 1e-5 for noun, cosine in zip(others, cosines) if noun in chosen)


def test_the_list_of_nouns():
    assert NOUNS == sorted(set(NOUNS)) and 1400 < len(NOUNS) < 2000
    assert all(noun.isascii() and noun.islower() and noun.isalpha() for noun in NOUNS)
    notice = (ROOT / "src" / "negatives" / "LICENSE-WordNet.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice


# The constraints that susx.create_classifier of version 0.2.0 made.
OLD = """
    DELETE FROM compass WHERE kind = 'settings';
    ALTER TABLE compass DROP CONSTRAINT compass_kind_check, DROP CONSTRAINT compass_origin_check,
        ADD CONSTRAINT compass_kind_check CHECK (kind IN ('prompt', 'image')),
        ADD CONSTRAINT "Origin check" CHECK (origin IN ('template', 'cupl', 'given', 'retrieved', 'generated', 'labelled')),
        ADD CONSTRAINT mine CHECK (kind <> 'nothing' AND length(kind) > 1)"""
CHECKS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'compass'::regclass AND contype = 'c' ORDER BY conname"""


def test_a_table_that_was_made_before_there_were_negatives(compass):
    sql = compass
    fresh = dict(sql.rows(CHECKS))
    sql.run(OLD)
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    assert sql.one(OTHER) == 1
    after = dict(sql.rows(CHECKS))
    assert after.pop("mine") and after.pop("Origin check") == fresh.pop("compass_origin_check")
    assert after == fresh
    sql.run("INSERT INTO compass (category, kind, origin, embedding) VALUES ('x', 'negative', 'common', '[-1,-1]')")
    assert sql.fails("INSERT INTO compass (category, kind, embedding) VALUES ('x', 'other', '[1,1]')").sqlstate == "23514"


def test_privileges(compass, connect, schema):
    sql = compass
    sql.run(
        "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; "
        f"GRANT USAGE ON SCHEMA {schema} TO reader, writer; GRANT SELECT ON compass, points TO reader, writer; "
        "GRANT INSERT ON compass TO writer"
    )
    try:
        for user in ("reader", "writer"):
            session = connect(user=user)
            session.run(f"SET search_path = {schema}, public")
            assert session.one("SELECT susx.known('compass', '[1,0]'::vector)") == pytest.approx(1, abs=1e-4)
            assert session.one("SELECT susx.suggest_reject('compass', 'points')") is not None
            if user == "reader":
                assert session.fails(OTHER).sqlstate == DENIED
            else:
                assert session.one(OTHER) == 1
                sql.run(f"DELETE FROM compass WHERE kind = 'negative'; {OLD}")
                refusal = session.fails(OTHER)
                owner = sql.one("SELECT current_user")
                assert refusal.sqlstate == DENIED and f"only its owner may do: {owner}" in refusal.hint
            session.close()
        # Once the owner has added some, others who may insert can.
        assert sql.one(OTHER) == 1
        session = connect(user="writer")
        session.run(f"SET search_path = {schema}, public")
        assert session.one(OTHER.replace("south-east", "south")) == 1
        session.close()
        sql.run("REVOKE ALL ON points FROM reader")
        session = connect(user="reader")
        session.run(f"SET search_path = {schema}, public")
        assert session.fails("SELECT susx.suggest_reject('compass', 'points')").sqlstate == DENIED
        session.close()
    finally:
        sql.run("DROP OWNED BY reader, writer; DROP ROLE reader, writer")
