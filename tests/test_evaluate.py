"""Accuracy, precision, recall and F1 in SQL are those of their definitions, worked out from the labels of every row."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

METHODS = ("zero-shot", "tip-adapter", "tip-x", "gated-tip-x")

# In per cent, for alpha 1, beta 5.5 and gamma 1: see test_tip_x.py. With labels, the gate is open.
PUBLISHED = dict(zip(METHODS, (95.57, 96.32, 96.17, 96.17)))

EVALUATE = "SELECT * FROM susx.evaluate(%s, %s, %s)"
MATRIX = "SELECT * FROM susx.confusion_matrix(%s, %s, %s)"


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


def ratio(part, whole):
    return part / whole if whole else None


def judge(answers, categories):
    """The rows that evaluate() must give for (truth, five best categories), by the definitions."""
    truth = np.array([categories.index(row[0]) for row in answers])
    predicted = np.array([categories.index(row[1][0]) for row in answers])
    near = np.array([row[0] in row[1][:5] for row in answers])
    rows = []
    for c, name in enumerate(categories):
        n, taken = int((truth == c).sum()), int((predicted == c).sum())
        right = int(((truth == c) & (predicted == c)).sum())
        recall, precision, top5 = ratio(right, n), ratio(right, taken), ratio(int(((truth == c) & near).sum()), n)
        f1 = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
        f1 = None if precision is None and recall is None else f1
        rows.append([name, n, 0, recall, top5, precision, recall, f1])
    present = [row for row in rows if row[1] > 0]
    means = [np.mean([row[column] or 0.0 for row in present]) for column in (5, 6, 7)]
    return [[None, len(answers), 0, (truth == predicted).mean(), near.mean(), *means], *rows]


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert list(one[:3]) == other[:3]
        for a, b in zip(one[3:], other[3:]):
            assert a is None and b is None or a == pytest.approx(b, abs=1e-12), (one, other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", ["true", "mod(id, 3) = 0 AND truth < 'd'"])
def test_every_figure(sql, caltech, method, part):
    """Of all 1,333 images, and of some of a few categories: then others are only predicted, or not at all."""
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech")
    sql.run("SELECT susx.alter_classifier('caltech', 1, 5.5, 1)")
    answers = sql.rows(
        f"""
        SELECT t.truth, (SELECT array_agg(c.category ORDER BY c.rank)
                         FROM susx.classify('caltech', t.embedding, k => 5, method => %s) c)
        FROM test_vectors t WHERE {part} ORDER BY t.id""",
        method,
    )
    label = f"SELECT susx.label('caltech', embedding, %s) FROM test_vectors WHERE {part} ORDER BY id"
    labels = sql.column(label, method)
    assert [best[0] for _, best in answers] == labels
    query = f"SELECT embedding, truth FROM test_vectors WHERE {part}"
    found = sql.rows(EVALUATE, "caltech", query, method)
    same(found, judge(answers, caltech.categories))
    counts = {}
    for (truth, _), label in zip(answers, labels):
        counts[truth, label] = counts.get((truth, label), 0) + 1
    place = caltech.categories.index
    expected = sorted(((*pair, n) for pair, n in counts.items()), key=lambda row: (place(row[0]), place(row[1])))
    assert sql.rows(MATRIX, "caltech", query, method) == expected
    if part == "true":
        assert len(answers) == 1333
        assert round(100 * found[0][3], 2) == PUBLISHED[method]
    else:
        assert any(row[1] == 0 for row in found)


def test_the_method_is_the_classifiers_own(sql, caltech):
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech")
    query = "SELECT embedding, truth FROM test_vectors"
    figures = {method: sql.rows(EVALUATE, "caltech", query, method) for method in METHODS}
    assert figures["tip-x"] != figures["zero-shot"] != figures["tip-adapter"]
    evaluate = "SELECT * FROM susx.evaluate('caltech', %s)"
    matrix = "SELECT * FROM susx.confusion_matrix('caltech', %s)"
    assert sql.rows(evaluate, query) == figures["gated-tip-x"]
    for method in METHODS:
        sql.run("SELECT susx.alter_classifier('caltech', method => %s)", method)
        assert sql.rows(evaluate, query) == figures[method]
        assert sql.rows(matrix, query) == sql.rows(MATRIX, "caltech", query, method)


def test_undefined_shares_are_null(sql):
    """Three directions: everything is labelled east, and west never occurs."""
    sql.run(
        "SELECT susx.create_classifier('rose', '{east,north,west}', "
        "text_embeddings => ARRAY['[1,0]', '[0,1]', '[-1,0]']::vector[])"
    )
    sql.run(
        """
        SET client_min_messages = error; CREATE TABLE seen (v vector, c text);
        INSERT INTO seen VALUES ('[1,0]', 'east'), ('[1,0]', 'east'), ('[1,0]', 'north'), (NULL, 'west')"""
    )
    query = "SELECT v, c FROM seen"
    rows = sql.rows("SELECT category, n, failed, top1, precision, recall, f1 FROM susx.evaluate('rose', %s)", query)
    assert rows[1:] == [
        ("east", 2, 0, 1, pytest.approx(2 / 3), 1, pytest.approx(0.8)),
        ("north", 1, 0, 0, None, 0, 0),
        ("west", 0, 1, None, None, None, None),
    ]
    # As scikit-learn's macro averages with zero_division=0.
    assert rows[0] == (None, 3, 1, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.5, pytest.approx(0.4))
    assert sql.rows("SELECT * FROM susx.confusion_matrix('rose', %s)", query) == [
        ("east", "east", 2),
        ("north", "east", 1),
        ("west", None, 1),
    ]
    nothing = [(None, 0, 0, *[None] * 5)] + [(name, 0, 0, *[None] * 5) for name in ("east", "north", "west")]
    figures = "SELECT category, n, failed, top1, top5, precision, recall, f1 FROM susx.evaluate('rose', %s)"
    assert sql.rows(figures, f"{query} WHERE false") == nothing


@pytest.mark.parametrize("function", ["evaluate", "confusion_matrix"])
def test_arguments(sql, function):
    create_compass(sql)
    query = "SELECT ''[1,0]''::vector, ''east''"
    call = f"SELECT * FROM susx.{function}"
    for arguments in (f"NULL, '{query}'", "'compass', NULL", "NULL, NULL, NULL"):
        assert sql.rows(f"{call}({arguments})") == []
    assert len(sql.rows(f"{call}('compass', '{query}', NULL)")) > 0
    refusal = sql.fails(f"{call}('compass', '{query}', 'guess')")
    assert refusal.sqlstate == "42704"
    assert "tip-adapter" in refusal.hint
    sql.run("CREATE TABLE other (id int)")
    assert sql.fails(f"{call}('other', '{query}')").sqlstate == "42704"
    # The classifier is looked at before the query.
    assert sql.fails(f"{call}('other', 'nonsense')").sqlstate == "42704"


def test_photographs_by_image_and_by_embedding(sql, photos):
    names = sql.one(f"SELECT array_agg(DISTINCT truth) FROM {photos}")
    sql.run("SELECT susx.create_classifier('kinds', %s)", names)
    sql.run("SELECT susx.build_support_set('kinds', %s)", photos)
    by_embedding = sql.rows("SELECT * FROM susx.evaluate('kinds', %s)", f"SELECT embedding, truth FROM {photos}")
    right = sql.one(f"SELECT avg((susx.label('kinds', embedding) = truth)::int)::float FROM {photos}")
    assert by_embedding[0][1:4] == (1200, 0, pytest.approx(right))
    some = f"FROM {photos} WHERE id % 30 = 0"
    matrix = "SELECT * FROM susx.confusion_matrix('kinds', %s)"
    by_image = sql.rows(matrix, f"SELECT image, truth {some}")
    assert sum(n for *_, n in by_image) == 40
    assert by_image == sql.rows(matrix, f"SELECT embedding, truth {some}")
