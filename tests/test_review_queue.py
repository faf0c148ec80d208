"""Which rows to look at first, compared with what susx.classify says of every row and formulas written out here."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_compass, create_points, create_random

pytestmark = pytest.mark.same_everywhere

QUEUE = "SELECT key, reason, category, probability, suggestion, priority, alike FROM susx.review_queue({})"
POINTS = "SELECT id::bigint, embedding FROM points"
NEAR = 0.96
REASONS = ("label looks wrong", "alike, other label", "least sure", "methods disagree", "category not listed?")


@pytest.fixture
def toy(sql):
    """Ten categories whose images overlap, and 600 points among them."""
    create_random(sql, "toy", categories=10, dimensions=64)
    create_points(sql, "points", rows=600, dimensions=64)


def vectors(sql, table="points"):
    rows = sql.rows(f"SELECT id, embedding::text FROM {table} ORDER BY id")
    found = {id: np.array(json.loads(text)) for id, text in rows}
    return {id: row / np.linalg.norm(row) for id, row in found.items()}


def answers(sql, method=None, table="points"):
    """For each row, the categories with their probabilities, best first, and known."""
    found = {}
    for id, category, probability, known in sql.rows(
        f"SELECT id, category, probability, known FROM {table}, susx.classify('toy', embedding, 99, %s) ORDER BY id, rank",
        method,
    ):
        found.setdefault(id, ([], [], known))
        found[id][0].append(category)
        found[id][1].append(probability)
    return found


def by_priority(priorities):
    return [id for id, priority in sorted(priorities.items(), key=lambda item: (-item[1], item[0]))]


def near(a, b):
    return a @ b >= NEAR


def labelled(sql):
    rows = sql.column("SELECT embedding::text FROM toy WHERE kind = 'image' AND origin = 'labelled' ORDER BY id")
    found = np.array([json.loads(row) for row in rows])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_least_sure_and_disagreements(sql, toy):
    """One of each in turn, the least sure twice as often; the formulas are those of the manual."""
    unit, by_method, by_names = vectors(sql), answers(sql), answers(sql, "zero-shot")
    support = labelled(sql)
    new = [id for id in unit if (support @ unit[id]).max() < NEAR]
    least_sure = by_priority({id: 1 - by_method[id][1][0] for id in new})
    disagree = by_priority(
        {
            id: min(by_method[id][1][0], by_names[id][1][0])
            for id in new
            if by_method[id][0][0] != by_names[id][0][0]
        }
    )
    assert len(disagree) > 15
    lists = {"least sure": iter(least_sure), "methods disagree": iter(disagree)}
    rows, taken, turns = sql.rows(QUEUE.format("'toy', %s, n => 40"), POINTS), [], []
    for id, reason, category, probability, suggestion, priority, alike in rows:
        if reason == "category not listed?":
            taken.append(id)
            continue
        new = (i for i in lists[reason] if not any(i == other or near(unit[i], unit[other]) for other in taken))
        assert id == next(new)
        taken.append(id)
        turns.append(reason)
        names, probabilities, _ = by_method[id]
        assert (category, alike) == (names[0], None)
        assert probability == pytest.approx(probabilities[0], abs=1e-5)
        if reason == "least sure":
            assert (suggestion, priority) == (names[1], pytest.approx(1 - probabilities[0], abs=1e-5))
        else:
            both = min(probabilities[0], by_names[id][1][0])
            assert (suggestion, priority) == (by_names[id][0][0], pytest.approx(both, abs=1e-5))
    assert turns[:9] == ["least sure", "methods disagree", "least sure"] * 3


def test_labels_that_look_wrong(sql, toy):
    """Confident learning's rule, on labels of which every tenth was changed."""
    by_method = answers(sql)
    random = np.random.default_rng(5)
    names = sorted(by_method[0][0])
    truth = {id: by_method[id][0][0] for id in by_method}
    label = {id: str(random.choice(names)) if id % 10 == 0 else truth[id] for id in truth}
    sql.run("CREATE TABLE labels (id int PRIMARY KEY, label text)")
    sql.copy("labels", ["id", "label"], ((id, None if id % 7 == 3 else name) for id, name in label.items()))
    known = {id: name for id, name in label.items() if id % 7 != 3}
    of = {id: dict(zip(*by_method[id][:2])) for id in by_method}
    mean = {name: np.mean([of[id][name] for id, given in known.items() if given == name]) for name in names}
    wrong = {
        id: by_method[id][1][0] - of[id][name]
        for id, name in known.items()
        if name != truth[id] and of[id][name] < mean[name] and by_method[id][1][0] >= mean[truth[id]]
    }
    assert len(wrong) > 10
    query = POINTS.replace(" FROM points", ", label FROM points JOIN labels USING (id)")
    rows = [row for row in sql.rows(QUEUE.format("'toy', %s, n => 100"), query) if row[1] == "label looks wrong"]
    unit = vectors(sql)
    found = [row[0] for row in rows]
    assert set(found) <= set(wrong)
    # Rounding may decide between priorities that are all but equal.
    assert all(wrong[a] >= wrong[b] - 1e-5 for a, b in zip(found, found[1:]))
    # What is missing is like a row of the queue, or is there for another reason.
    queued = sql.column("SELECT key FROM susx.review_queue('toy', %s, n => 100)", query)
    for id in set(wrong) - set(found):
        assert any(id == other or near(unit[id], unit[other]) for other in queued) or len(queued) == 100
    for id, _, category, probability, suggestion, priority, _ in rows:
        assert (category, suggestion) == (label[id], truth[id])
        assert probability == pytest.approx(of[id][label[id]], abs=1e-5)
        assert priority == pytest.approx(wrong[id], abs=1e-5)


def test_near_duplicates_with_other_labels(sql):
    # Two of 64 dimensions: in fewer, no rows are near-duplicates.
    axes = [vector(np.eye(64)[axis]) for axis in range(2)]
    sql.run("SELECT susx.create_classifier('compass', '{east,north}', text_embeddings => %s::vector[])", axes)
    plane = "SELECT id::bigint, (ARRAY[x, y] || array_fill(0.0, '{{62}}'))::vector, label FROM (VALUES {}) v (id, x, y, label)"
    query = plane.format(
        "(1, 1, 0.1, 'east'), (2, 1, 0.12, 'north'), (3, 0.1, 1, 'north'), (4, 0.3, 1, NULL), (5, 0.1, 1.02, 'north')"
    )
    rows = {row[0]: row[1:] for row in sql.rows(QUEUE.format("'compass', %s"), query)}
    # By the rule a single wrong label may be as likely as its mean; its copy tells.
    reason, category, _, suggestion, priority, alike = rows[2]
    assert reason in ("alike, other label", "label looks wrong") and (category, suggestion) == ("north", "east")
    if reason == "alike, other label":
        assert (alike, priority) == (1, pytest.approx(0.9998, abs=1e-3))
    assert rows.keys().isdisjoint({1})


def test_a_category_that_is_not_listed(sql):
    """Three heaps far from every name and support image: the largest first, with an example.

    With these numbers, none of the three examples comes for another reason first.
    """
    random = np.random.default_rng(3)
    centres = random.normal(size=(5, 64))
    sql.run("SELECT susx.create_classifier('toy', '{a,b}', text_embeddings => %s::vector[])", [vector(row) for row in centres[:2]])
    for name, centre in zip("ab", centres):
        some = [vector(centre + 0.2 * random.normal(size=64)) for _ in range(8)]
        sql.run("SELECT susx.add_support('toy', %s, %s::vector[])", name, some)
    sql.run("CREATE TABLE points (id int PRIMARY KEY, embedding vector(64))")
    sizes = {0: 20, 1: 20, 2: 12, 3: 8, 4: 5}
    heap = [place for place, size in sizes.items() for _ in range(size)]
    sql.copy("points", ["id", "embedding"], ((i, vector(centres[place] + 0.25 * random.normal(size=64))) for i, place in enumerate(heap)))
    rows = [row for row in sql.rows(QUEUE.format("'toy', %s, n => 100"), POINTS) if row[1] == "category not listed?"]
    known = {id: answer[2] for id, answer in answers(sql).items()}
    low = [id for id in known if known[id] < 0.5]
    assert {heap[row[0]] for row in rows} <= {heap[id] for id in low}
    # The heaps without a name come by their size; rows in between may form one more group.
    assert [heap[row[0]] for row in rows if heap[row[0]] > 1] == [2, 3, 4]
    for key, _, _, _, suggestion, priority, alike in rows:
        assert key in low and suggestion is None
        assert priority == pytest.approx(1 - known[key], abs=1e-4)
        assert alike in low and alike != key


def test_no_two_are_near_duplicates(sql, toy):
    sql.run("INSERT INTO points SELECT id + 1000 * r, embedding FROM points, generate_series(1, 3) r")
    keys = sql.column("SELECT key FROM susx.review_queue('toy', %s, n => 60)", POINTS)
    unit = vectors(sql)
    assert len(keys) == len(set(keys)) == 60
    assert not any(near(unit[a], unit[b]) for a in keys for b in keys if a < b)


def test_what_was_labelled_does_not_come_again(sql, toy):
    first = sql.rows(QUEUE.format("'toy', %s, n => 10"), POINTS)
    keys = [row[0] for row in first]
    sql.run(
        "INSERT INTO toy (category, source_key, embedding) SELECT 'c00', id, embedding FROM points WHERE id = ANY(%s)", keys
    )
    again = sql.column("SELECT key FROM susx.review_queue('toy', %s, n => 50)", POINTS)
    assert set(keys).isdisjoint(again)


def test_in_few_dimensions_no_rows_are_alike(sql):
    """As in build_support_set: cosines near 1 tell nothing there."""
    create_compass(sql)
    query = "VALUES (1::bigint, '[1,0.9]'::vector), (2, '[1,0.91]'), (3, '[1,0.92]'), (4, '[2,1.8]')"
    assert len(sql.column("SELECT key FROM susx.review_queue('compass', %s)", query)) == 4


def test_images(sql):
    """The same queue from the images as from their embeddings; a broken one is left out with a WARNING."""
    files = [encode(picture(seed, (40, 40))) for seed in range(60)]
    embedded = sql.column("SELECT embedding::text FROM susx.embed_images(%s, 'tiny_split') ORDER BY ord", files)
    sql.run("SELECT susx.create_classifier('toy', '{a,b,c}', text_embeddings => %s::vector[])", embedded[:3])
    sql.run("SELECT susx.alter_classifier('toy', model => 'tiny_split')")
    sql.run("CREATE TABLE pictures (id int PRIMARY KEY, image bytea, embedding vector)")
    rows = [(i, file, text) for i, (file, text) in enumerate(zip(files, embedded))]
    sql.copy("pictures", ["id", "image", "embedding"], iter([*rows, (98, None, None), (99, b"no picture", None)]))
    by_embedding = sql.rows(QUEUE.format("'toy', 'SELECT id, embedding FROM pictures', key => NULL::int"))
    sql.notices.clear()
    by_image = sql.rows(QUEUE.format("'toy', 'SELECT id, image FROM pictures', key => NULL::int"))
    assert [row[:3] for row in by_image] == [row[:3] for row in by_embedding] and by_image
    assert any("1 rows" in notice for notice in sql.notices)


def test_keys_of_other_types(sql):
    create_compass(sql)
    query = "VALUES ('a b'::text, '[1,0.9]'::vector), (NULL, '[0.2,1]')"
    assert sql.column("SELECT key FROM susx.review_queue('compass', %s, NULL::text)", query) == ["a b", None]
    refused = sql.fails("SELECT * FROM susx.review_queue('compass', %s)", query)
    assert refused.sqlstate == "42804" and "NULL::text" in refused.hint


@pytest.mark.parametrize(
    "columns, part",
    [
        ("1::bigint", "not 1"),
        ("1::bigint, '[1,0]'::vector, '[1]'::vector, 'east', 'more'", "not 5"),
        ("1::bigint, '[1,0]'::vector, 'east', '[1]'::vector", "label"),
        ("1::bigint, '[1,0]'::vector, '[1]'::vector, '[1]'::vector", "label"),
        ("1::bigint, '\\x00'::bytea, '[1]'::vector", "likeness"),
        ("1::bigint, 'east'", "second column"),
    ],
)
def test_columns(sql, columns, part):
    create_compass(sql)
    refused = sql.fails("SELECT * FROM susx.review_queue('compass', %s)", f"SELECT {columns}")
    assert refused.sqlstate == "42804" and part in refused.message


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_the_length_of_the_queue(sql, n):
    create_compass(sql)
    refused = sql.fails("SELECT * FROM susx.review_queue('compass', 'SELECT 1::bigint, NULL::vector', n => %s)", n)
    assert refused.sqlstate == "22023" and str(n) in refused.message


def test_nothing_to_look_at(sql):
    create_compass(sql)
    assert sql.rows(QUEUE.format("'compass', 'SELECT 1::bigint, NULL::vector'")) == []
    assert sql.rows(QUEUE.format("'compass', 'SELECT 1::bigint, NULL::vector WHERE false'")) == []


def test_the_rows_are_the_callers(sql, schema, toy):
    sql.run(f"DROP ROLE IF EXISTS looker; CREATE ROLE looker; GRANT USAGE ON SCHEMA {schema} TO looker; GRANT SELECT ON toy TO looker")
    try:
        sql.run("SET ROLE looker")
        assert sql.fails(QUEUE.format("'toy', %s"), POINTS).sqlstate == "42501"
        sql.run("RESET ROLE; GRANT SELECT ON points TO looker; ALTER TABLE points ENABLE ROW LEVEL SECURITY; "
                "CREATE POLICY few ON points USING (id < 5); SET ROLE looker")  # fmt: skip
        assert {row[0] for row in sql.rows(QUEUE.format("'toy', %s"), POINTS)} <= set(range(5))
    finally:
        sql.run("RESET ROLE; DROP OWNED BY looker; DROP ROLE looker")
