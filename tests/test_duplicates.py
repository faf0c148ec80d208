"""Near-duplicates of a table, compared with the connected components of NumPy's cosines."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import psycopg
import pytest
from PIL import Image

from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY
from helpers.session import vector

pytestmark = pytest.mark.same_everywhere

FOUND = 'SELECT "group", key, similarity, keep FROM susx.duplicates({})'


def unit(rows):
    rows = np.asarray(rows, float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def components(vectors, threshold):
    """The groups of two and more, as sets of row numbers."""
    near = unit(vectors) @ unit(vectors).T >= threshold
    left, found = set(range(len(near))), set()
    while left:
        reached, edge = set(), {left.pop()}
        while edge:
            reached |= edge
            edge = set(np.flatnonzero(near[list(edge)].any(0)).tolist()) - reached
        left -= reached
        if len(reached) > 1:
            found.add(frozenset(reached))
    return found


def groups(rows):
    found = {}
    for group, key, *_ in rows:
        found.setdefault(group, set()).add(int(key))
    return {frozenset(members) for members in found.values()}


def fill(sql, vectors, table="pool"):
    sql.run(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector)")
    sql.copy(table, ["id", "embedding"], ((i, vector(row)) for i, row in enumerate(vectors)))


def clusters(count, copies, dimensions, noise, seed=0):
    """Vectors of `count` directions, each with up to `copies` near ones, in random order."""
    random = np.random.default_rng(seed)
    rows = []
    for centre in random.normal(size=(count, dimensions)):
        for _ in range(random.integers(1, copies + 1)):
            rows.append((centre + noise * random.normal(size=dimensions)) * random.uniform(0.1, 9))
    return random.permutation(np.array(rows))


def variants(image):
    width, height = image.size
    return [
        image,
        image.resize((width // 2, height // 2), Image.LANCZOS).resize((width, height), Image.LANCZOS),
        image.crop((2, 2, width - 2, height - 2)),
        image.transpose(Image.FLIP_LEFT_RIGHT),
    ]


def test_copies_of_pictures(sql):
    """Files of another format and quality are found, other pictures are not. NumPy says which."""
    files = []
    for seed in range(12):
        files += [encode(image) for image in variants(picture(seed, (224, 224)))]
        files += [encode(picture(seed, (224, 224)), "JPEG", quality=90)]
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, image bytea, embedding vector)")
    sql.copy("pool", ["id", "image"], enumerate(files))
    sql.run("CALL susx.embed_table('pool')")
    vectors = np.array([json.loads(row) for row in sql.column("SELECT embedding::text FROM pool ORDER BY id")])
    for threshold in (None, 0.9, 0.97, 0.995):
        found = sql.rows(FOUND.format("'pool', %s"), threshold)
        assert groups(found) == components(vectors, threshold or 0.96)


@pytest.mark.parametrize("dimensions, count", [(3, 40), (64, 700)])
def test_connected_components(sql, dimensions, count):
    vectors = clusters(count, 4, dimensions, 0.05 if dimensions > 3 else 0.02)
    fill(sql, vectors)
    cosines = unit(vectors) @ unit(vectors).T
    for threshold in (0.9, 0.99, 0.999):
        found = sql.rows(FOUND.format("'pool', %s"), threshold)
        assert groups(found) == components(vectors, threshold)
        sizes = {}
        for group, key, similarity, keep in found:
            sizes.setdefault(group, []).append((int(key), similarity, keep))
        assert list(sizes) == list(range(1, len(sizes) + 1))
        lengths = [len(members) for members in sizes.values()]
        assert lengths == sorted(lengths, reverse=True)
        for members in sizes.values():
            # One is kept, comes first and has the most near-duplicates; of several, the one of the lowest number.
            assert [keep for *_, keep in members] == [True] + [False] * (len(members) - 1)
            kept, own, _ = members[0]
            assert own == 1
            degree = lambda row: (cosines[row] >= threshold - 1e-5).sum()
            assert kept == min((row for row, *_ in members), key=lambda row: (-degree(row), row))
            others = [similarity for _, similarity, _ in members[1:]]
            assert others == sorted(others, reverse=True)
            assert others == pytest.approx([cosines[kept, row] for row, *_ in members[1:]], abs=1e-5)


def test_a_chain_is_one_group(sql):
    angles = np.radians([0, 8, 16, 24, 120])
    fill(sql, np.stack([np.cos(angles), np.sin(angles)], 1))
    found = sql.rows(FOUND.format("'pool', 0.99"))
    assert groups(found) == {frozenset({0, 1, 2, 3})}
    # The ends are less like the kept one than the threshold, which shows.
    assert min(similarity for _, _, similarity, _ in found) == pytest.approx(np.cos(np.radians(16)), abs=1e-5)


@pytest.mark.parametrize("index", ["hnsw (embedding vector_cosine_ops)", "ivfflat (embedding vector_cosine_ops) WITH (lists = 20)"])
def test_an_index(sql, index):
    vectors = unit(clusters(300, 40, 16, 0.02))
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector(16))")
    sql.copy("pool", ["id", "embedding"], ((i, vector(row)) for i, row in enumerate(vectors)))
    sql.run(f"CREATE INDEX ON pool USING {index}; ANALYZE pool; SET enable_seqscan = off")
    expected = components(vectors, 0.95)
    # More copies of one than the index is first asked for.
    assert max(map(len, expected)) > 16
    exact = sql.rows(FOUND.format("'pool', 0.95, exact => true"))
    assert groups(exact) == expected
    found = groups(sql.rows(FOUND.format("'pool', 0.95, exact => false")))
    # An index may miss a few pairs, and so split or lose a group, but it joins nothing that is apart.
    assert all(any(group <= whole for whole in expected) for group in found)
    assert len(found & expected) > 0.9 * len(expected)
    # So small a table is compared pair by pair.
    assert sql.rows(FOUND.format("'pool', 0.95")) == exact
    # Without an index there is none to ask.
    sql.run("CREATE TABLE plain AS TABLE pool; ALTER TABLE plain ADD PRIMARY KEY (id)")
    assert sql.rows(FOUND.format("'plain', 0.95, exact => false")) == exact


def test_what_has_no_direction_is_left_out(sql):
    fill(sql, [[1, 0], [1, 0], [0, 1]])
    sql.run("INSERT INTO pool VALUES (7, NULL), (8, '[0,0]'), (9, '[0,0]')")
    sql.run("SET client_min_messages = warning")
    sql.notices.clear()
    assert sql.rows(FOUND.format("'pool', 1")) == [(1, "0", 1.0, True), (1, "1", 1.0, False)]
    assert [notice for notice in sql.notices if "2 images" in notice and "all-zero" in notice]
    sql.run("INSERT INTO pool VALUES (10, '[1,2,3]')")
    refused = sql.fails(FOUND.format("'pool'"))
    assert refused.sqlstate == "22000" and "image 10" in refused.message
    assert "2 dimensions" in refused.message and "3" in refused.message


def test_no_duplicates_and_no_rows(sql):
    fill(sql, np.eye(3))
    assert sql.rows(FOUND.format("'pool'")) == []
    sql.run("TRUNCATE pool")
    assert sql.rows(FOUND.format("'pool'")) == []
    assert sql.rows(FOUND.format("NULL")) == []
    assert sql.rows(FOUND.format("'pool', NULL, NULL, NULL, NULL")) == []


def test_keys(sql):
    """As text, as in susx.errors: of several columns as a record. Without a primary key a column is named."""
    sql.run("CREATE TABLE pool (shelf text, place float8, \"Other\" int, \"Vec\" vector(2), PRIMARY KEY (shelf, place))")
    sql.run("INSERT INTO pool VALUES ('a b', 0.1, 5, '[1,0]'), ('c', 1e-7, NULL, '[2,0]'), ('d', 2, 6, '[0,1]')")
    sql.run("SET extra_float_digits = -3")
    found = sql.rows(FOUND.format("'pool', embedding_column => 'Vec'"))
    assert [key for _, key, *_ in found] == ["(c,1e-07)", '("a b",0.1)']
    sql.run("CREATE VIEW v AS SELECT * FROM pool")
    refused = sql.fails(FOUND.format("'v', embedding_column => 'Vec'"))
    assert refused.sqlstate == "55000" and "key_column" in refused.hint
    assert sql.rows(FOUND.format("'v', embedding_column => 'Vec', key_column => 'Other'")) == []
    sql.run("UPDATE pool SET \"Other\" = 7 WHERE \"Other\" IS NULL")
    found = sql.rows(FOUND.format("'v', embedding_column => 'Vec', key_column => 'Other'"))
    assert [key for _, key, *_ in found] == ["5", "7"]


@pytest.mark.parametrize("threshold", ["0", "-1", "1.01", "'NaN'", "'Infinity'"])
def test_a_threshold_that_is_none(sql, threshold):
    fill(sql, np.eye(2))
    refused = sql.fails(FOUND.format(f"'pool', {threshold}"))
    assert refused.sqlstate == "22023" and "threshold" in refused.message and refused.hint


def test_a_column_of_another_type(sql):
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding real[])")
    assert sql.fails(FOUND.format("'pool'")).sqlstate == "22023"
    assert sql.fails(FOUND.format("'pool', embedding_column => 'nothing'")).sqlstate == "42703"


def test_too_many_numbers(sql):
    """The limit is checked before any vector is kept: 40,000 images of 16,000 dimensions are 640 million."""
    sql.run("CREATE TABLE pool (id int, embedding vector)")
    sql.run("CREATE VIEW many AS SELECT i AS id, v.embedding FROM generate_series(1, 40000) i, "
            "LATERAL (SELECT array_fill(1::real, '{16000}')::vector AS embedding OFFSET 0) v")  # fmt: skip
    refused = sql.fails(FOUND.format("'many', key_column => 'id'"))
    assert refused.sqlstate == "54000"
    assert "536870912" in refused.message and "640000000" in refused.message


def test_rights_and_policies_are_the_callers(sql, schema, connect):
    fill(sql, [[1, 0], [1, 0], [1, 0]])
    sql.run(f"DROP ROLE IF EXISTS looker; CREATE ROLE looker; GRANT USAGE ON SCHEMA {schema} TO looker")
    try:
        sql.run("SET ROLE looker")
        assert sql.fails(FOUND.format("'pool'")).sqlstate == "42501"
        sql.run("RESET ROLE; GRANT SELECT ON pool TO looker; ALTER TABLE pool ENABLE ROW LEVEL SECURITY; "
                "CREATE POLICY few ON pool USING (id < 2); SET ROLE looker")  # fmt: skip
        assert [key for _, key, *_ in sql.rows(FOUND.format("'pool'"))] == ["0", "1"]
        sql.run("RESET ROLE")
        assert len(sql.rows(FOUND.format("'pool'"))) == 3
    finally:
        sql.run("RESET ROLE; DROP OWNED BY looker; DROP ROLE looker")


def test_cancel(sql, connect):
    """While the pairs are compared, which takes minutes here."""
    sql.run("CREATE TABLE pool AS SELECT i AS id, (SELECT array_agg(sin(i * j)) FROM generate_series(1, 256) j)::real[]::vector "
            "AS embedding FROM generate_series(1, 3000) i")  # fmt: skip
    # Read once, compared many times over: a view that repeats the table.
    sql.run("CREATE VIEW many AS SELECT p.id + 3000 * r AS id, p.embedding FROM generate_series(0, 59) r, pool p")
    other = connect()
    asked = []

    def cancel():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if other.rows("SELECT 1 FROM susx.stat_progress WHERE pid = %s AND phase = 'searching'", sql.pid):
                break
            time.sleep(0.1)
        time.sleep(0.5)
        asked.append(time.monotonic())
        other.one("SELECT pg_cancel_backend(%s)", sql.pid)

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        sql.rows(FOUND.format("'many', key_column => 'id', threshold => 0.999"))
    ended = time.monotonic()
    thread.join()
    assert ended - asked[0] < PROMPTLY
    assert sql.one("SELECT 1") == 1
