"""Large tables: a support set from a large pool, one of many images, images unlike any category, many categories, and a few
new images."""

from __future__ import annotations

import statistics

import numpy as np
import psycopg

from tools.cluster import Cluster
from tools.harness import create_extension, session

from .data import Data, clip_like
from .report import Disagreement, Row, Section, duration, faster, per_second, times
from .sql import copy, create, fill
from .timing import alternate, seconds

TEXT = """\
This runs in a temporary cluster with all data in memory, and with `jit` and `synchronous_commit` off. `build_support_set` reads
every image of a pool or, with `use_index`, asks its hnsw index; the share of the images that the index finds is that of those
which reading all finds. `label` needs the best category only, so it leaves out the support images of those that cannot win;
`classify` computes the probabilities too, from all support images. `classify_rows` labels images like those of the categories and
random vectors, which are like none. `create_classifier` gets vectors for a few and for many categories, and the ratio compares the time per category.
The last row is the query by which `embed_table` finds what is left to embed, with and without the index that its NOTICE
suggests."""


def measure(quick: bool, pg: str) -> Section:
    section = Section("Large tables", TEXT)
    settings = {
        "shared_buffers": "128MB" if quick else "4GB",
        "maintenance_work_mem": "64MB" if quick else "2GB",
        "autovacuum": "off",
        "synchronous_commit": "off",
        "max_wal_size": "16GB",
        "jit": "off",
    }
    with Cluster.throwaway(pg, settings) as cluster:
        create_extension(cluster)
        with session(cluster) as sql:
            sql.execute("SET client_min_messages = error; SET max_parallel_workers_per_gather = 0")
            for part in (_pool, _label, _unlike, _categories, _missing):
                section.rows += part(sql, quick)
    return section


def _data(quick: bool, rows: int) -> Data:
    categories, per_class, dimensions = (8, 4, 64) if quick else (100, 32, 512)
    return clip_like(6, categories, categories * per_class, rows, dimensions)


def _pool(sql: psycopg.Connection, quick: bool) -> list[Row]:
    rows = 400 if quick else 100_000
    data = _data(quick, rows)
    fill(sql, "pool", data.queries)
    sql.execute("CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops)")
    create(sql, "kinds", data)
    sql.execute("DELETE FROM kinds WHERE kind = 'image'")

    def build(use_index: bool) -> float:
        call = "SELECT susx.build_support_set('kinds', 'pool', skip_duplicates => 0, use_index => %s)"
        return seconds(lambda: sql.execute(call, [use_index]))

    def chosen(use_index: bool) -> set:
        build(use_index)
        return set(sql.execute("SELECT category, source_key FROM kinds WHERE kind = 'image'").fetchall())

    by_all, by_index = chosen(False), chosen(True)
    least = alternate(1 if quick else 2, warm_up=False, index=lambda: build(True), all=lambda: build(False))
    categories, dimensions = data.prompts.shape
    found = f"the index finds {100 * len(by_all & by_index) / len(by_all):.0f} % of them"
    sizes = f"{rows:,} images, C = {categories}, 32 per category, d = {dimensions}"
    what = "`build_support_set`: by the hnsw index; ours reads every image"
    return [faster(what, sizes, least["index"], least["all"], None, agreement=found)]


def _label(sql: psycopg.Connection, quick: bool) -> list[Row]:
    categories, per_class, dimensions, rows = (8, 40, 64, 20) if quick else (1_000, 50, 512, 200)
    found = []
    for noise in (0.6, 1.2):
        data = clip_like(7, categories, categories * per_class, rows, dimensions, noise)
        found.append(_label_one(sql, data, 1 if quick else 3))
    return found


def _label_one(sql: psycopg.Connection, data: Data, rounds: int) -> Row:
    create(sql, "many", data)
    fill(sql, "asked", data.queries)
    queries = data.queries[: len(data.prompts)]
    alike, others = (np.median(part) for part in _cosines(queries, data))
    ways = {
        "all": "SELECT a.id, c.category FROM asked a, susx.classify('many', a.embedding, method => 'gated-tip-x') c "
        "ORDER BY a.id",
        "best": "SELECT id, susx.label('many', embedding, 'gated-tip-x') FROM asked ORDER BY id",
    }
    answers = [sql.execute(way).fetchall() for way in ways.values()]
    if answers[0] != answers[1]:
        raise Disagreement("label and classify give different categories")

    def ask(way: str) -> float:
        return seconds(lambda: sql.execute(ways[way]).fetchall())

    least = alternate(rounds, all=lambda: ask("all"), best=lambda: ask("best"))
    sql.execute("DROP TABLE many; DROP TABLE asked")
    categories, dimensions = data.prompts.shape
    sizes = f"{len(data.queries):,} rows, C = {categories:,}, M = {len(data.support):,}, d = {dimensions}"
    images = f"cosines of images of a category {alike:.2f}, of others {others:.2f}"
    what = f"`classify` by `gated-tip-x`; ours is `label`; {images}"
    return faster(what, sizes, least["all"], least["best"], None)


def _cosines(queries: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The cosines of queries to the support images of their categories, and to the others."""
    cosines = queries @ data.support.T
    own = data.truth[: len(queries), None] == data.labels
    return cosines[own], cosines[~own]


def _unlike(sql: psycopg.Connection, quick: bool) -> list[Row]:
    rows = 400 if quick else 20_000
    data = _data(quick, rows)
    create(sql, "labelled", data)
    fill(sql, "alike", data.queries)
    noise = np.random.default_rng(1).standard_normal(data.queries.shape).astype(np.float32)
    fill(sql, "unlike", noise / np.linalg.norm(noise, axis=1, keepdims=True))
    found = []
    for method in ("zero-shot", "tip-x", "gated-tip-x"):

        def classify(table: str) -> float:
            query = f"SELECT id, embedding FROM {table}"
            call = "SELECT count(*) FROM susx.classify_rows('labelled', %s, key => NULL::int, method => %s)"
            return seconds(lambda: sql.execute(call, [query, method]))

        least = alternate(
            1 if quick else 3, alike=lambda: classify("alike"), unlike=lambda: classify("unlike")
        )
        ratio = least["alike"] / least["unlike"]
        found.append(
            Row(
                f"`classify_rows` by `{method}`: images like the categories; ours are unlike any",
                f"{rows:,} rows, C = {len(data.prompts)}, M = {len(data.support):,}, d = {data.prompts.shape[1]}",
                per_second(rows, "rows", least["alike"]),
                per_second(rows, "rows", least["unlike"]),
                times(ratio),
                "≥ 0.9 ×",
                ratio >= 0.9,
            )
        )
    return found


def _categories(sql: psycopg.Connection, quick: bool) -> list[Row]:
    few, many = (20, 200) if quick else (5_000, 50_000)
    dimensions = 64 if quick else 512
    vectors = np.random.default_rng(2).standard_normal((many, dimensions)).astype(np.float32)
    sql.execute(f"CREATE TABLE names (id int PRIMARY KEY, embedding vector({dimensions}))")
    copy(sql, "names (id, embedding)", np.arange(many), vectors)

    def make(count: int) -> float:
        call = (
            "SELECT susx.create_classifier('wide', array_agg('c' || id ORDER BY id), "
            "text_embeddings => array_agg(embedding ORDER BY id)) FROM names WHERE id < %s"
        )
        spent = seconds(lambda: sql.execute(call, [count]))
        sql.execute("DROP TABLE wide")
        return spent

    least = alternate(1 if quick else 2, few=lambda: make(few), many=lambda: make(many))
    ratio = (least["many"] / many) / (least["few"] / few)
    return [
        Row(
            f"`create_classifier` from vectors: {few:,} categories",
            f"{many:,} categories, d = {dimensions}",
            duration(least["few"]),
            duration(least["many"]),
            f"{times(ratio)} per category",
            "≤ 2 ×",
            ratio <= 2,
        )
    ]


def _missing(sql: psycopg.Connection, quick: bool) -> list[Row]:
    rows = 2_000 if quick else 1_000_000
    sql.execute("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    sql.execute(
        "INSERT INTO photos SELECT i, '\\x00', array_fill(1, '{128}')::vector FROM generate_series(1, %s) i", [rows]
    )
    sql.execute("VACUUM (FREEZE, ANALYZE) photos")
    find = "SELECT id FROM photos WHERE embedding IS NULL AND image IS NOT NULL ORDER BY id LIMIT 256"

    def spent() -> float:
        return statistics.median(seconds(lambda: sql.execute(find).fetchall()) for _ in range(3))

    before = spent()
    sql.execute("CREATE INDEX ON photos (id) WHERE embedding IS NULL; ANALYZE photos")
    what = "finding the rows without an embedding: without the partial index"
    return [faster(what, f"{rows:,} rows, all embedded", before, spent(), None)]
