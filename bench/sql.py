"""susx in PostgreSQL: against the formula in pure SQL, against the library, on parallel workers, and on first use."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Iterator

import numpy as np
import psycopg

from tools.cluster import Cluster
from tools.harness import create_extension, session

from .chart import Chart
from .data import Data, clip_like
from .library import Library
from .reference import CLIP, Scale
from .report import Disagreement, Row, Section, duration, faster, times
from .timing import alternate, seconds

TEXT = """\
This runs in a temporary cluster with all data in memory and `jit` off. Parallel workers are off except where they are
measured. Table `t` has the vectors to be labelled. The classifier is fitted before the measurement, except in the rows
about its first use. The formula in pure SQL uses pgvector's operators and is measured in two versions. The literal
version reads the classifier's table and computes the KL divergence of each pair, with precomputed logarithms of the
support images' distributions. The expert version stores the support set inline (`STORAGE PLAIN`) and uses the collapsed
KL term with precomputed sums per category. Both detoast the vector of a query only once, and their labels are compared
with those of `susx.label`."""

LABEL = "SELECT count(susx.label('c', embedding)) FROM t"
LABEL_BY_GDA = "SELECT count(susx.label('c', embedding, 'gda')) FROM t"
READ = "SELECT count(vector_norm(embedding)) FROM {}"

# For the literal version: log q of every support image.
PREPARE_LITERAL = """
CREATE TABLE log_q (id bigint PRIMARY KEY, log_q vector({categories}));
INSERT INTO log_q
SELECT f.id, (SELECT array_agg(-(w.embedding <#> f.embedding) / {temperature} - lse.lse ORDER BY w.id)::vector
              FROM c w WHERE w.kind = 'prompt')
FROM c f CROSS JOIN LATERAL (SELECT ln(sum(exp(-(w.embedding <#> f.embedding) / {temperature}))) AS lse
                             FROM c w WHERE w.kind = 'prompt') lse
WHERE f.kind = 'image';
ANALYZE c, log_q;
"""

LITERAL_SQL = """
SELECT {answer}
FROM (SELECT id, l2_normalize(embedding) AS f FROM t WHERE id < {rows} OFFSET 0) t
CROSS JOIN LATERAL (
    WITH zero_shot AS MATERIALIZED (
             SELECT id, category, -(embedding <#> t.f) AS cosine FROM c WHERE kind = 'prompt'),
         normaliser AS MATERIALIZED (SELECT ln(sum(exp(cosine / {temperature}))) AS lse FROM zero_shot),
         softmax AS MATERIALIZED (
             SELECT array_agg(exp(cosine / {temperature} - lse) ORDER BY id)::vector AS p,
                    sum(exp(cosine / {temperature} - lse) * (cosine / {temperature} - lse)) AS p_log_p
             FROM zero_shot, normaliser),
         support AS (
             SELECT category, count(*) AS n, sum(exp(-{beta} * (1 + (embedding <#> t.f)))) AS cache,
                    sum({a} * (p_log_p + (log_q <#> p)) + {b}) AS kl
             FROM c JOIN log_q USING (id), softmax GROUP BY category)
    SELECT category
    FROM zero_shot JOIN support USING (category)
    ORDER BY {logit_scale} * cosine + {mean} / n * ({alpha} * cache - {gamma} * kl) DESC
    LIMIT 1) best
"""

# For the expert's formula. `category` has one row per category: the products of its mean image with all prompts, and
# the mean logarithm of the softmax's denominator, both less the mean over all categories.
PREPARE_EXPERT = """
CREATE TABLE prompts (c int, w vector({d}));
ALTER TABLE prompts ALTER w SET STORAGE PLAIN;
INSERT INTO prompts SELECT id, embedding FROM prompt_data ORDER BY id;

CREATE TABLE support (c int, f vector({d}));
ALTER TABLE support ALTER f SET STORAGE PLAIN;
INSERT INTO support SELECT category, embedding FROM support_data ORDER BY category;

CREATE TABLE category (c int, n float8, g vector({categories}), lambda float8);
ALTER TABLE category ALTER g SET STORAGE PLAIN;
INSERT INTO category
WITH phi AS (SELECT c, count(*) AS n, avg(f) AS phi FROM support GROUP BY c),
     g AS (SELECT c, n, (SELECT array_agg(-(w <#> phi) ORDER BY p.c)::vector FROM prompts p) AS g FROM phi),
     lse AS (SELECT c, (SELECT ln(sum(exp(-(w <#> f) / {temperature}))) FROM prompts) AS lse FROM support),
     lambda AS (SELECT c, avg(lse) AS lambda FROM lse GROUP BY c)
SELECT c, n, g - (SELECT avg(g) FROM g), lambda - (SELECT avg(lambda) FROM lambda)
FROM g JOIN lambda USING (c) ORDER BY c;

-- What all categories' divergences have in common: the centre that was taken off.
CREATE TABLE centre AS
WITH phi AS (SELECT c, avg(f) AS phi FROM support GROUP BY c),
     lse AS (SELECT c, (SELECT ln(sum(exp(-(w <#> f) / {temperature}))) FROM prompts) AS lse FROM support),
     lambda AS (SELECT c, avg(lse) AS lambda FROM lse GROUP BY c)
SELECT (SELECT array_agg(-(w <#> (SELECT avg(phi) FROM phi)) ORDER BY c)::vector FROM prompts) AS g,
       (SELECT avg(lambda) FROM lambda) AS lambda;
ALTER TABLE centre ALTER g SET STORAGE PLAIN;
ANALYZE prompts, support, category, centre;
"""

# p = e / z; the shared part of the divergence is sum p log p - p.g / T + lambda.
EXPERT_SQL = """
SELECT {answer}
FROM (SELECT id, l2_normalize(embedding) AS f FROM t WHERE id < {rows} OFFSET 0) t
CROSS JOIN LATERAL (
    WITH zero_shot AS MATERIALIZED (SELECT c, -(w <#> t.f) AS cosine FROM prompts),
         softmax AS MATERIALIZED (
             SELECT array_agg(exp(cosine / {temperature}) ORDER BY c)::vector AS e,
                    sum(exp(cosine / {temperature})) AS z,
                    sum(exp(cosine / {temperature}) * cosine) AS ec
             FROM zero_shot),
         shared AS MATERIALIZED (
             SELECT (ec / z + (e <#> centre.g) / z) / {temperature} - ln(z) + lambda AS divergence
             FROM softmax, centre),
         cache AS (SELECT c, sum(exp({beta} * (-(f <#> t.f) - 1))) AS cache FROM support GROUP BY c)
    SELECT c
    FROM zero_shot JOIN cache USING (c) JOIN category USING (c), softmax, shared
    ORDER BY {logit_scale} * cosine + {alpha} * {mean} / n * cache
             - {gamma} * {mean} * ({a} * (divergence + (e <#> g) / z / {temperature} + category.lambda) + {b}) DESC
    LIMIT 1) best
"""


def measure(library: Library, folder: Path, quick: bool, pg: str) -> Section:
    categories, per_class, rows, dimensions, part = (8, 4, 300, 64, 20) if quick else (100, 16, 10_000, 512, 100)
    data = clip_like(4, categories, categories * per_class, rows, dimensions)
    data.save(folder)
    scale = library.do("fit", name="sql", folder=folder, params=asdict(CLIP))["affinity_scale"]
    section = Section("In PostgreSQL", TEXT)
    settings = {
        "shared_buffers": "128MB" if quick else "1GB",
        "autovacuum": "off",
        "synchronous_commit": "off",
        "max_wal_size": "4GB",
        "jit": "off",
        "susx.classifier_cache": "1GB",
    }
    with Cluster.throwaway(pg, settings) as cluster:
        create_extension(cluster)
        with session(cluster) as sql:
            sql.execute("SET client_min_messages = warning")
            fill(sql, "t", data.queries)
            create(sql, "c", data)
            sql.execute("SET max_parallel_workers_per_gather = 0")
            sizes = f"{rows:,} rows, C = {categories}, M = {len(data.support):,}, d = {dimensions}"
            against_sql(sql, section, data, scale, sizes, part)
            against_library(sql, section, library, folder, data, sizes, 2 if quick else 5)
            parallel(sql, section, library, folder, data, sizes, 1 if quick else 5)
        library.do("drop", name="sql")
        for count in (4,) if quick else (100, 1000):
            first_use(cluster, section, count, 200 if quick else 50_000, dimensions, quick)
    return section


def spent(sql: psycopg.Connection, query: str) -> float:
    return seconds(lambda: sql.execute(query).fetchall())


# --- what is measured


def against_sql(sql, section: Section, data: Data, scale: Scale, sizes: str, part: int) -> None:
    counts = np.bincount(data.labels)
    words = dict(asdict(CLIP), mean=repr(float(counts.mean())), a=repr(scale[0]), b=repr(scale[1]), rows=part)
    sizing = {"d": data.prompts.shape[1], "categories": len(counts), "temperature": CLIP.temperature}
    by_susx = dict(sql.execute(f"SELECT id, susx.label('c', embedding) FROM t WHERE id < {part}").fetchall())
    sql.execute(PREPARE_LITERAL.format(**sizing))
    sql.execute(PREPARE_EXPERT.format(**sizing))
    literal, expert = LITERAL_SQL.format(answer="{answer}", **words), EXPERT_SQL.format(answer="{answer}", **words)
    by_literal = dict(sql.execute(literal.format(answer="t.id, best.category")).fetchall())
    by_expert = {id: name(c) for id, c in sql.execute(expert.format(answer="t.id, best.c"))}
    for labels in (by_literal, by_expert):
        if labels != by_susx:
            same = sum(labels.get(id) == label for id, label in by_susx.items())
            raise Disagreement(f"pure SQL and susx.label agree on {same} of {part} rows")
    least = alternate(
        2,
        literal=lambda: spent(sql, literal.format(answer="count(best.category)")),
        expert=lambda: spent(sql, expert.format(answer="count(best.c)")),
        susx=lambda: spent(sql, LABEL),
    )
    whole = len(data.queries) / part
    rates = {
        "pgvector and SQL, as published": 1 / (least["literal"] * whole),
        "pgvector and SQL, by an expert": 1 / (least["expert"] * whole),
        "susx: susx.label per row": 1 / least["susx"],
    }
    section.chart = Chart("sql", "How fast is TIP-X in PostgreSQL?", rates)
    for side, what, target in (("literal", "literal version", 20), ("expert", "expert version", None)):
        section.rows.append(
            faster(
                f"`count(susx.label('c', embedding))`: the formula in pure SQL, {what}",
                sizes,
                least[side] * whole,
                least["susx"],
                target,
                measured=f"{part} rows timed",
                agreement=f"{part} of {part} labels equal",
            )
        )


def against_library(sql, section: Section, library: Library, folder: Path, data: Data, sizes: str, rounds: int) -> None:
    ask = {"name": "sql", "queries": folder / "queries.npy", "method": "tip-x", "one_by_one": True}
    by_library = library.result("labels", **ask)
    by_susx = dict(sql.execute("SELECT id, susx.label('c', embedding) FROM t").fetchall())
    same = sum(name(c) == by_susx[id] for id, c in enumerate(by_library))
    # susx normalises its input, and the library takes queries as they are, so they may break a tie differently.
    if same < 0.999 * len(by_library):
        raise Disagreement(f"the library and susx.label agree on {same} of {len(by_library)} rows")
    least = alternate(
        rounds,
        library=lambda: library.seconds("labels", **ask),
        sql=lambda: spent(sql, LABEL),
        read=lambda: spent(sql, READ.format("t")),
        gda=lambda: spent(sql, LABEL_BY_GDA),
    )
    rows = len(data.queries)
    overhead = least["sql"] / least["library"] - 1
    section.rows.append(
        Row(
            "`susx.label` per row: the library in memory, one row at a time",
            sizes,
            duration(least["library"] / rows),
            duration(least["sql"] / rows),
            f"{100 * overhead:+.0f} %",
            "≤ +30 %",
            overhead <= 0.3,
            f"{same:,} of {rows:,} labels equal",
        )
    )
    beside = least["sql"] - least["library"] - least["read"]
    rest = duration(beside / rows) if beside > 0 else "less than the noise"
    section.notes.append(
        f"Of the {duration(least['sql'] / rows)} of `susx.label` per row, the library's work in memory is "
        f"{duration(least['library'] / rows)}, reading the vector (`{READ.format('t')}`) "
        f"{duration(least['read'] / rows)}, and everything else {rest}."
    )
    section.notes.append(
        f"`susx.label` by `gda` takes {duration(least['gda'] / rows)} per row, and by TIP-X "
        f"{times(least['sql'] / least['gda'])} as long."
    )


def parallel(sql, section: Section, library: Library, folder: Path, data: Data, sizes: str, rounds: int) -> None:
    # The planner sees no gain in a single worker, so the last setting forces one.
    sql.execute("""
        SET parallel_leader_participation = off; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
        SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on""")

    def with_workers(count: int) -> float:
        sql.execute(f"SET max_parallel_workers_per_gather = {count}")
        return spent(sql, LABEL)

    for count in (1, 2):
        sql.execute(f"SET max_parallel_workers_per_gather = {count}")
        (plan,) = sql.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {LABEL}").fetchone()
        launched = launched_in(plan)
        if launched != count:
            raise Disagreement(f"{count} parallel workers were wanted, and {launched} launched")
    # What the machine can give at the same time: the library in one process, and in two with half of the rows each.
    half = folder / "half.npy"
    np.save(half, data.queries[: len(data.queries) // 2])
    with contextlib.closing(library.another()) as other:
        other.do("fit", name="sql", folder=folder, params=asdict(CLIP))

        def in_processes(*processes: Library, queries: Path) -> float:
            ask = {"name": "sql", "queries": queries, "method": "tip-x", "one_by_one": True, "repetitions": 1}
            return seconds(lambda: Library.together("labels", processes, **ask))

        least = alternate(
            rounds,
            one=lambda: with_workers(1),
            two=lambda: with_workers(2),
            one_process=lambda: in_processes(library, queries=folder / "queries.npy"),
            two_processes=lambda: in_processes(library, other, queries=half),
        )
    sql.execute("RESET ALL; SET max_parallel_workers_per_gather = 0")
    ratio = least["one"] / least["two"]
    section.rows.append(
        Row(
            "two parallel workers: one, the leader not taking part",
            sizes,
            duration(least["one"]),
            duration(least["two"]),
            times(ratio),
            "≥ 1.7 ×",
            ratio >= 1.7,
            "workers launched: 1 and 2",
        )
    )
    section.notes.append(
        "For comparison, on this machine and in the same rounds: two processes of the library with half of the rows each were "
        f"{times(least['one_process'] / least['two_processes'])} as fast as one. Small classifiers are fitted by every worker."
    )


def first_use(cluster: Cluster, section: Section, categories: int, rows: int, dimensions: int, quick: bool) -> None:
    data = clip_like(5, categories, rows, 1, dimensions)
    table = f"first_{categories}"
    label = f"SELECT susx.label('{table}', embedding) FROM one"
    with session(cluster) as sql:
        sql.execute("DROP TABLE IF EXISTS one")
        fill(sql, "one", data.queries)
        create(sql, table, data)

    def first(shared_fits: str) -> float:
        """The time of the first label in a new session, less that of the second."""
        with session(cluster) as sql:
            sql.execute(f"SET susx.shared_fits = {shared_fits}")
            return spent(sql, label) - spent(sql, label)

    def read() -> float:
        with session(cluster) as sql:
            sql.execute("SET max_parallel_workers_per_gather = 0")
            return spent(sql, READ.format(table))

    # In the first turn, which does not count, the session fits the classifier and shares the fit.
    least = alternate(1 if quick else 3, fitted=lambda: first("off"), mapped=lambda: first("on"), read=read)
    with session(cluster) as sql:
        sql.execute(f"DROP TABLE {table}")
    sizes = f"C = {categories:,}, M = {rows:,}, d = {dimensions}"
    section.rows += [
        Row(
            "first use of a classifier: reading its rows (`count(vector_norm(embedding))`)",
            sizes,
            duration(least["read"]),
            duration(least["fitted"]),
            f"{least['fitted'] / least['read']:.1f} × as long",
            "< 2 s",
            least["fitted"] < 2,
        ),
        Row(
            "first use in a session after another one has shared its fit: fitting it again",
            sizes,
            duration(least["fitted"]),
            duration(least["mapped"]),
            f"{times(least['fitted'] / least['mapped'])} as fast",
            "≤ 50 ms",
            least["mapped"] <= 0.05,
        ),
    ]


# --- tables


def name(category: int) -> str:
    """The name that the library's program gives a category."""
    return f"c{category:04}"


def fill(sql: psycopg.Connection, table: str, vectors: np.ndarray) -> None:
    """Creates a table (id, embedding) with ids from 0."""
    sql.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({vectors.shape[1]}))")
    copy(sql, f"{table} (id, embedding)", np.arange(len(vectors)), vectors)
    sql.execute(f"VACUUM (FREEZE, ANALYZE) {table}")


def create(sql: psycopg.Connection, classifier: str, data: Data) -> None:
    """Creates a classifier of the prompts and the support set, and keeps these in prompt_data and support_data."""
    d = data.prompts.shape[1]
    sql.execute(f"""
        DROP TABLE IF EXISTS prompt_data, support_data;
        CREATE TABLE prompt_data (id int, embedding vector({d}));
        CREATE TABLE support_data (category int, embedding vector({d}))""")
    copy(sql, "prompt_data (id, embedding)", np.arange(len(data.prompts)), data.prompts)
    copy(sql, "support_data (category, embedding)", data.labels, data.support)
    sql.execute(f"""
        SELECT susx.create_classifier('{classifier}', array_agg('c' || lpad(id::text, 4, '0') ORDER BY id),
                                      text_embeddings => array_agg(embedding ORDER BY id))
        FROM prompt_data;
        INSERT INTO {classifier} (category, kind, origin, embedding)
        SELECT 'c' || lpad(category::text, 4, '0'), 'image', 'labelled', embedding FROM support_data""")
    settings = ", ".join(f"{key} => {value}" for key, value in asdict(CLIP).items())
    # VACUUM marks only pages whose changes are on disk.
    sql.execute("SET synchronous_commit = on")
    sql.execute(f"SELECT susx.alter_classifier('{classifier}', {settings}, method => 'tip-x')")
    sql.execute("RESET synchronous_commit")
    sql.execute(f"VACUUM (FREEZE, ANALYZE) {classifier}")


def copy(sql: psycopg.Connection, target: str, numbers: np.ndarray, vectors: np.ndarray) -> None:
    with copying(sql, target) as stream:
        stream.write(binary_rows(numbers, vectors))


@contextlib.contextmanager
def copying(sql: psycopg.Connection, target: str) -> Iterator[psycopg.Copy]:
    """A stream for rows in COPY's binary format."""
    with sql.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT binary)") as stream:
        stream.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        yield stream
        stream.write(b"\xff\xff")


def binary_rows(numbers: np.ndarray, vectors: np.ndarray) -> bytes:
    """Rows of an int and a vector in COPY's binary format, which is big-endian."""
    d = vectors.shape[1]
    fields = [("fields", ">i2"), ("int_bytes", ">i4"), ("int", ">i4"), ("bytes", ">i4")]
    fields += [("dimensions", ">i2"), ("unused", ">i2"), ("vector", ">f4", d)]
    rows = np.zeros(len(vectors), np.dtype(fields))
    rows["fields"], rows["int_bytes"], rows["bytes"], rows["dimensions"] = 2, 4, 4 + 4 * d, d
    rows["int"], rows["vector"] = numbers, vectors
    return rows.tobytes()


def launched_in(plan: object) -> int:
    """The largest `Workers Launched` in a plan."""
    if isinstance(plan, str):
        plan = json.loads(plan)
    parts = plan if isinstance(plan, list) else plan.values() if isinstance(plan, dict) else []
    own = plan.get("Workers Launched", 0) if isinstance(plan, dict) else 0
    return max([own, *(launched_in(part) for part in parts if isinstance(part, (list, dict)))])
