"""Real photographs and the demo model: labels from nothing but the names of 30 categories."""

from __future__ import annotations

import pytest

from conftest import LIKENESS_MODEL

pytestmark = pytest.mark.same_everywhere

# label() with the settings that the classifier was created with.
ACCURACY = "SELECT 100 * avg((susx.label('kinds', embedding) = truth)::int)::float FROM {}"


@pytest.fixture
def kinds(sql, photos):
    """A classifier of the categories' names, created as the manual does it. The table's order says nothing."""
    names = sql.one(f"SELECT array_agg(DISTINCT truth) FROM {photos}")
    assert len(names) == 30
    sql.run("SELECT susx.create_classifier('kinds', %s)", names)
    return names


def test_zero_shot(sql, photos, kinds):
    assert sql.one(ACCURACY.format(photos)) >= 79


def test_with_a_support_set_from_the_same_photographs(sql, photos, kinds):
    built = sql.rows(
        "SELECT category, images, similarity FROM susx.build_support_set('kinds', %s, per_class => 16, skip_duplicates => 0)", photos
    )
    assert [row[0] for row in built] == kinds
    assert all(images <= 16 for _, images, _ in built)
    assert sum(images for _, images, _ in built) >= 400
    assert all(similarity is None if images == 0 else 0 < similarity < 1 for _, images, similarity in built)
    assert sql.one(ACCURACY.format(photos)) >= 91
    # The table has what was requested.
    found = sql.rows(
        "SELECT category, count(*)::int FROM kinds WHERE kind = 'image' GROUP BY category ORDER BY category"
    )
    assert found == sorted((category, images) for category, images, _ in built if images)


def test_a_second_model_makes_better_labels(sql, photos, kinds):
    sql.run(f"CREATE TABLE pool AS SELECT *, NULL::vector(128) AS likeness FROM {photos}")
    sql.run("ALTER TABLE pool ADD PRIMARY KEY (id)")
    sql.run("CALL susx.embed_table('pool', embedding_column => 'likeness', model => %s)", LIKENESS_MODEL)
    # The demo model's vector has the same features, as its last 128 dimensions.
    assert sql.one("SELECT max(likeness <=> subvector(embedding, 385, 128)) FROM pool") < 1e-4

    sql.run("SELECT susx.build_support_set('kinds', 'pool')")
    by_one = sql.one(ACCURACY.format("pool"))
    sql.run("SELECT susx.alter_classifier('kinds', likeness_model => %s)", LIKENESS_MODEL)
    sql.run("SELECT susx.build_support_set('kinds', 'pool')")
    by_both = sql.one("SELECT 100 * avg((susx.label('kinds', embedding, likeness) = truth)::int)::float FROM pool")
    assert by_both >= by_one + 0.3


def test_labels_come_from_images_as_from_their_embeddings(sql, photos, kinds):
    sql.run("SELECT susx.build_support_set('kinds', %s)", photos)
    some = f"(SELECT * FROM {photos} WHERE id % 60 = 0)"
    rows = sql.rows(f"SELECT susx.label('kinds', image), susx.label('kinds', embedding) FROM {some} p")
    assert len(rows) == 20
    assert all(image == embedding for image, embedding in rows)
    rows = sql.rows(
        f"""
        SELECT a.category, b.category, a.score, b.score FROM {some} p, susx.classify('kinds', p.image, 3) a
        JOIN LATERAL susx.classify('kinds', p.embedding, 3) b ON a.rank = b.rank"""
    )
    assert len(rows) == 60
    assert all(a == b and x == pytest.approx(y, rel=1e-3) for a, b, x, y in rows)


def test_an_index_finds_nearly_the_same_support_set(sql, photos, kinds):
    sql.run(f"CREATE TABLE pool AS SELECT id, embedding FROM {photos}; ALTER TABLE pool ADD PRIMARY KEY (id)")
    # Few enough of each for the planner of every version to ask the index of so small a table.
    chosen = "SELECT category || ' ' || source_key FROM kinds WHERE kind = 'image'"
    sql.run("SELECT susx.build_support_set('kinds', 'pool', per_class => 16)")
    exact = set(sql.column(chosen))

    sql.run(
        "CREATE INDEX pool_index ON pool USING hnsw (embedding vector_cosine_ops); ANALYZE pool; SET enable_seqscan = off"
    )
    sql.run("SELECT susx.build_support_set('kinds', 'pool', per_class => 16, use_index => true)")
    indexed = set(sql.column(chosen))
    # The statistics of a transaction are counted a moment after its end.
    sql.run("SELECT pg_stat_force_next_flush()")
    assert sql.one("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pool_index'") >= 30
    assert len(exact & indexed) >= 0.95 * len(exact | indexed)
    assert sql.one(ACCURACY.format(photos)) >= 91


def test_an_index_on_a_part_of_the_pool_is_not_asked(sql, photos, kinds):
    sql.run(f"CREATE TABLE pool AS SELECT id, embedding FROM {photos}; ALTER TABLE pool ADD PRIMARY KEY (id)")
    sql.run("CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops) WHERE id < 40; SET enable_seqscan = off")
    assert sql.fails("SELECT susx.build_support_set('kinds', 'pool', use_index => true)").sqlstate == "42704"
    sql.run("SELECT susx.build_support_set('kinds', 'pool')")
    assert sql.one("SELECT count(*) FROM kinds WHERE source_key::int >= 40") >= 400
