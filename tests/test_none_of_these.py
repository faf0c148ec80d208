"""Images that are of none of the categories: how that is known, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.session import array, vector
from helpers.toy import create_compass, create_points, create_random
from tools.paths import ROOT

INVALID, DENIED, NOT_READY, DATA = "22023", "42501", "55000", "22000"
NOUNS = (ROOT / "src" / "negatives" / "nouns.txt").read_text().split()
ROWS = "SELECT key, rank, category, score, probability, known, error FROM susx.classify_rows('compass', %s) ORDER BY key"
# To the south-east there is something else.
OTHER = "SELECT susx.add_negatives('compass', '{south-east}', ARRAY['[1,-1]']::vector[])"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def known(queries: np.ndarray, names: np.ndarray, others: np.ndarray, scale: float) -> np.ndarray:
    """The formula in float64: of all names, what the categories have; without others, the best name's share."""
    of_names = scale * unit(queries) @ unit(names).T
    of_others = scale * unit(queries) @ unit(others).T if len(others) else np.zeros((len(queries), 0))
    top = np.hstack([of_names, of_others]).max(axis=1, keepdims=True)
    a, b = np.exp(of_names - top), np.exp(of_others - top)
    if not len(others):
        return a.max(axis=1) / a.sum(axis=1)
    return a.sum(axis=1) / (a.sum(axis=1) + b.sum(axis=1))


def otsu(numbers: np.ndarray) -> float:
    """Of 0.01 to 0.99, the threshold with the smallest variance within both sides; the lowest of several."""
    costs = []
    for step in range(1, 100):
        below = numbers < np.float32(step) / np.float32(100)
        sides = [numbers[below].astype(np.float64), numbers[~below].astype(np.float64)]
        costs.append(sum(((side - side.mean()) ** 2).sum() for side in sides if len(side)))
    costs = np.array(costs)
    return float((np.flatnonzero(costs <= costs.min() * (1 + 1e-9))[0] + 1) / 100)


def vectors(sql, query: str) -> np.ndarray:
    return np.array([array(text) for text in sql.column(query)])


def add(sql, name: str, names: list[str], embeddings: np.ndarray) -> int:
    return sql.one(
        "SELECT susx.add_negatives(%s, %s, %s::vector[])", name, names, [vector(row) for row in embeddings]
    )


@pytest.fixture
def toy(sql):
    """Ten categories in 48 dimensions, and 500 points, with probabilities that are not all 0 or 1."""
    create_random(sql, "toy", categories=10, dimensions=48, per_class=2)
    create_points(sql, "points", rows=500, dimensions=48)
    sql.run("SELECT susx.alter_classifier('toy', logit_scale => 12)")
    return sql


@pytest.fixture
def compass(sql):
    """Two points of each category, one between them, and one in the south-east."""
    create_compass(sql)
    sql.run("""
        CREATE TABLE points (id bigint PRIMARY KEY, embedding vector(2), truth text);
        INSERT INTO points VALUES (1, '[1,0]', 'east'), (2, '[1,0.1]', 'east'), (3, '[0,1]', 'north'),
            (4, '[0.1,1]', 'north'), (5, '[1,-0.9]', 'east'), (6, '[1,0.99]', 'east')""")
    return sql


@pytest.mark.parametrize("others", [0, 1, 25])
def test_known_is_the_formula(toy, others):
    sql = toy
    negatives = np.random.default_rng(3).normal(size=(others, 48)).astype(np.float32)
    if others:
        assert add(sql, "toy", [f"n{i}" for i in range(others)], negatives) == others
    names = vectors(sql, "SELECT embedding FROM toy WHERE kind = 'prompt' ORDER BY id")
    queries = vectors(sql, "SELECT embedding FROM points ORDER BY id")
    expected = known(queries, names, negatives.astype(np.float64), 12)
    assert expected.std() > 0.05
    alone = sql.column("SELECT susx.known('toy', embedding) FROM points ORDER BY id")
    assert alone == pytest.approx(expected, abs=1e-4)
    for method in ("zero-shot", "tip-x", "gda"):
        shown = sql.column(
            "SELECT c.known FROM points p, susx.classify('toy', p.embedding, 1, %s) c ORDER BY p.id", method
        )
        assert shown == alone, "no method changes it"
    together = sql.rows(
        "SELECT key, known FROM susx.classify_rows('toy', 'SELECT id::bigint, embedding FROM points') ORDER BY key"
    )
    assert [row[1] for row in together] == pytest.approx(expected, abs=1e-4)


def test_on_images_of_other_categories(sql):
    """CLIP's vectors: with half of the names, the images of the other half are told apart by their names."""
    caltech = Caltech()
    here = np.arange(len(caltech.categories)) % 2 == 0
    names, others = caltech.prototypes[here], caltech.prototypes[~here]
    sql.run(
        "SELECT susx.create_classifier('half', %s, text_embeddings => %s::vector[])",
        [name for name, is_here in zip(caltech.categories, here) if is_here],
        [vector(row) for row in names],
    )
    assert add(sql, "half", [name for name, is_here in zip(caltech.categories, here) if not is_here], others) == len(others)
    caltech.load_queries(sql)
    found = np.array(sql.column("SELECT susx.known('half', embedding) FROM test_vectors ORDER BY id"))
    expected = known(caltech.queries.astype(np.float64), names.astype(np.float64), others.astype(np.float64), 100)
    assert found == pytest.approx(expected, abs=1e-3)
    is_known = here[caltech.labels]
    # The area under the ROC curve.
    assert (found[is_known][:, None] > found[~is_known]).mean() > 0.9


def test_what_is_not_known_gets_no_label(compass):
    sql = compass
    assert sql.one(OTHER) == 1
    query = "SELECT id, embedding FROM points"
    labels = "SELECT susx.label('compass', embedding) FROM points ORDER BY id"
    # Nothing is rejected unless somebody has asked for it.
    assert sql.column(labels) == ["east", "east", "north", "north", "east", "east"]
    assert [row[6] for row in sql.rows(ROWS, query)] == [None] * 6
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.25)")
    assert sql.column(labels) == ["east", "east", "north", "north", None, "east"]
    rows = sql.rows(ROWS, query)
    assert [row[2] for row in rows] == sql.column(labels)
    share = sql.one("SELECT susx.known('compass', embedding) FROM points WHERE id = 5")
    assert share < 0.25
    key, *answer, found, error = rows[4]
    assert (key, answer, found) == (5, [None] * 4, pytest.approx(share, rel=1e-4))
    assert error.startswith("rejected: known ") and error.endswith(" is below 0.25")
    # With k categories it is still one row; what cannot be classified has another error, and NULL has none.
    mixed = "VALUES (1::bigint, ''[1,-0.9]''::vector), (2, ''[1]''), (3, NULL), (4, ''[1,0]'')".replace("''", "'")
    rows = sql.rows(
        "SELECT key, count(category), min(known), min(error) FROM susx.classify_rows('compass', %s, k => 2) "
        "GROUP BY key ORDER BY key",
        mixed,
    )
    assert [row[1] for row in rows] == [0, 0, 0, 2]
    assert [row[2] is None for row in rows] == [False, True, True, False]
    assert "rejected" in rows[0][3] and "expects 2 dimensions" in rows[1][3] and rows[2][3] is rows[3][3] is None
    # classify is for looking: it shows all.
    shown = sql.rows("SELECT category, known FROM susx.classify('compass', '[1,-0.9]'::vector, k => 2)")
    assert shown == [("east", share), ("north", share)]


def test_the_same_verdict_however_it_is_asked_for(toy):
    """The threshold is the answer of some row, where rounding could go either way."""
    sql = toy
    add(sql, "toy", ["n"], np.random.default_rng(4).normal(size=(1, 48)))
    for share in sql.column("SELECT susx.known('toy', embedding) FROM points WHERE id % 50 = 0"):
        sql.run("SELECT susx.alter_classifier('toy', reject => %s)", share)
        alone = sql.column("SELECT susx.label('toy', embedding) FROM points ORDER BY id")
        together = sql.rows(
            "SELECT key, category FROM susx.classify_rows('toy', 'SELECT id::bigint, embedding FROM points') ORDER BY key"
        )
        assert [row[1] for row in together] == alone
        assert None in alone


def test_names_that_are_negatives_already(compass):
    sql = compass
    assert sql.one(OTHER) == 1
    assert sql.one(OTHER) == 0
    assert add(sql, "compass", ["south-east", "south", "south"], np.array([[1, 1], [0, -1], [-1, 0]])) == 1
    rows = sql.rows("SELECT category, kind, origin, prompt, embedding FROM compass WHERE kind = 'negative' ORDER BY id")
    assert rows == [("south-east", "negative", "given", None, "[1,-1]"), ("south", "negative", "given", None, "[0,-1]")]
    # They are neither categories nor support images.
    assert len(sql.rows("SELECT * FROM susx.classify('compass', '[0,-1]'::vector, k => 9)")) == 2
    assert sql.one("SELECT method FROM susx.classifier WHERE classifier = 'compass'::regclass") is None
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


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON points USING hnsw (embedding vector_cosine_ops); SET enable_seqscan = off"])
def test_a_support_set_of_what_is_known(compass, index):
    """A pool that also shows other things."""
    sql = compass
    sql.run(index)

    def build():
        sql.rows("SELECT * FROM susx.build_support_set('compass', 'points', 4)")
        return sql.column("SELECT source_key FROM compass WHERE origin = 'retrieved' ORDER BY source_key")

    assert build() == ["1", "2", "3", "4", "5", "6"]
    # By the best name's probability alone: the one between the categories is not known.
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.9)")
    assert build() == ["1", "2", "3", "4", "5"]
    # With negatives at least one half, whatever reject is.
    sql.run("SELECT susx.alter_classifier('compass', reject => 0)")
    sql.one(OTHER)
    assert build() == ["1", "2", "3", "4", "6"]
    # The negatives stay.
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'negative'") == 1


def test_a_suggestion_is_otsus_threshold(toy):
    sql = toy
    sql.run("INSERT INTO points VALUES (1000, NULL), (1001, %s::vector)", vector(np.zeros(48)))
    before = sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'toy'::regclass")
    for others in (0, 8, 60):
        if others:
            add(sql, "toy", [f"{others}-{i}" for i in range(others)], np.random.default_rng(others).normal(size=(others, 48)))
        shares = sql.column("SELECT susx.known('toy', embedding) FROM points WHERE id < 1000 ORDER BY id")
        found = sql.one("SELECT susx.suggest_reject('toy', 'points')")
        assert found == pytest.approx(otsu(np.array(shares, np.float32)), abs=1e-6)
    assert sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'toy'::regclass") == before


def test_a_suggestion_for_any_table(compass):
    sql = compass
    sql.one(OTHER)
    suggest = "SELECT susx.suggest_reject('compass', 'other', 'v')"
    # It needs no key.
    sql.run("CREATE TABLE other (v vector); INSERT INTO other VALUES (NULL)")
    assert sql.one(suggest) is None
    sql.run("INSERT INTO other VALUES ('[1,0]'), ('[1,-1]')")
    assert sql.one(suggest) == pytest.approx(0.01)
    refusal = sql.fails("SELECT susx.suggest_reject('compass', 'other')")
    assert refusal.sqlstate == "42703"
    sql.run("INSERT INTO other VALUES ('[1,2,3]')")
    refusal = sql.fails(suggest)
    assert refusal.message == "an image of the pool: expected 2 dimensions, not 3"


def test_evaluation_counts_what_got_no_label(compass):
    sql = compass
    sql.one(OTHER)
    query = "SELECT embedding, truth FROM points"
    figures = "SELECT category, n, failed, top1, top5, precision, recall, rejected FROM susx.evaluate('compass', %s)"
    assert sql.rows(figures, query)[0] == (None, 6, 0, 1, 1, 1, 1, 0)
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.5)")
    assert sql.rows(figures, query) == [
        (None, 6, 0, pytest.approx(5 / 6), pytest.approx(5 / 6), 1, pytest.approx(7 / 8), 1),
        ("east", 4, 0, 0.75, 0.75, 1, 0.75, 1),
        ("north", 2, 0, 1, 1, 1, 1, 0),
    ]
    assert sql.rows("SELECT * FROM susx.confusion_matrix('compass', %s)", query) == [
        ("east", "east", 3),
        ("east", None, 1),
        ("north", "north", 2),
    ]
