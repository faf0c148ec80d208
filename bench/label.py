"""Labels of a whole table: CALL susx.label_table against an UPDATE by susx.label, and against the library in memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tools.cluster import Cluster
from tools.harness import create_extension, session

from .chart import Chart
from .data import clip_like
from .library import Library
from .reference import CLIP
from .report import Disagreement, Section, duration, faster
from .sql import create, fill, name, spent
from .timing import alternate, seconds

TEXT = """\
This runs in a temporary cluster with all data in memory, and with `jit` and `synchronous_commit` off. Table `photos` has
embeddings and no labels. It is created again before each round, so each side writes every row. `CALL susx.label_table` is
compared with `UPDATE photos SET label = susx.label('c', embedding)`, which does not record what the labels were made with,
and with the library's labels of all rows in memory, which reads and writes no table. The last rows are calls on a table
that is already labelled: if nothing has changed, if one embedding in a hundred has changed, and if the classifier has
changed, so that all labels are computed again."""

UPDATE = "UPDATE photos SET label = susx.label('c', embedding)"
CALL = "CALL susx.label_table('photos', 'c')"


def measure(library: Library, folder: Path, quick: bool, pg: str, rows: int | None = None) -> Section:
    rows = rows or (400 if quick else 100_000)
    categories, per_class, dimensions = (8, 4, 64) if quick else (100, 16, 512)
    rounds = 1 if quick else 2
    data = clip_like(6, categories, categories * per_class, rows, dimensions)
    data.save(folder)
    library.do("fit", name="label", folder=folder, params=asdict(CLIP))
    ask = {"name": "label", "queries": folder / "queries.npy", "method": "tip-x", "one_by_one": False}
    sizes = f"{rows:,} rows, C = {categories}, M = {categories * per_class:,}, d = {dimensions}, `tip-x`"
    section = Section("Labelling a table", TEXT)
    settings = {
        "shared_buffers": "128MB" if quick else "2GB",
        "autovacuum": "off",
        "synchronous_commit": "off",
        "max_wal_size": "8GB",
        "jit": "off",
        "susx.classifier_cache": "1GB",
    }
    with Cluster.throwaway(pg, settings) as cluster:
        create_extension(cluster)
        with session(cluster) as sql:
            sql.execute("SET client_min_messages = warning; SET max_parallel_workers_per_gather = 0")
            fill(sql, "vectors", data.queries)
            create(sql, "c", data)

            def anew() -> None:
                sql.execute(
                    "DROP TABLE IF EXISTS photos; CREATE TABLE photos (id int PRIMARY KEY, embedding vector, label text); "
                    "INSERT INTO photos (id, embedding) SELECT id, embedding FROM vectors"
                )
                sql.execute("VACUUM (FREEZE, ANALYZE) photos")
                sql.execute("CHECKPOINT")
                sql.execute("SELECT susx.label('c', embedding) FROM vectors LIMIT 1")

            def labelled(statement: str) -> float:
                anew()
                return seconds(lambda: sql.execute(statement))

            def again(change: str | None) -> float:
                if change:
                    sql.execute(change)
                return seconds(lambda: sql.execute(CALL))

            labelled(CALL)
            by_call = dict(sql.execute("SELECT id, label FROM photos").fetchall())
            labelled(UPDATE)
            by_update = dict(sql.execute("SELECT id, label FROM photos").fetchall())
            same = sum(by_update[id] == label for id, label in by_call.items())
            if same != rows:
                raise Disagreement(f"label_table and susx.label agree on {same} of {rows} rows")
            by_library = library.result("labels", **ask)
            same_library = sum(by_call[id] == name(c) for id, c in enumerate(by_library))
            if same_library < 0.999 * rows:
                raise Disagreement(f"label_table and the library agree on {same_library} of {rows} rows")
            least = alternate(
                rounds,
                warm_up=False,
                update=lambda: labelled(UPDATE),
                library=lambda: library.seconds("labels", **ask),
                call=lambda: labelled(CALL),
            )
            steps = {
                "nothing": None,
                "some": "UPDATE photos SET embedding = (SELECT embedding FROM vectors WHERE id = 0) WHERE id % 100 = 1",
                "classifier": "SELECT susx.alter_classifier('c', logit_scale => 90)",
            }
            later = {step: again(change) for step, change in steps.items()}
            read = spent(sql, "SELECT count(vector_norm(embedding)) FROM photos")
        library.do("drop", name="label")
    section.rows += [
        faster(
            "`UPDATE … SET label = susx.label(…)`",
            sizes,
            least["update"],
            least["call"],
            3,
            agreement=f"{same:,} of {rows:,} labels equal",
        ),
        faster(
            "the library in memory, all rows at once",
            sizes,
            least["library"],
            least["call"],
            0.5,
            agreement=f"{same_library:,} of {rows:,} labels equal",
        ),
        *(
            faster(f"the first call, for one where {what}", sizes, least["call"], later[step], target)
            for step, what, target in (
                ("nothing", "nothing has changed", 5),
                ("some", "1 % of the embeddings have changed", 5),
                ("classifier", "the classifier has changed", None),
            )
        ),
    ]
    ways = {
        "susx: UPDATE with susx.label": least["update"],
        "susx: CALL label_table": least["call"],
        "its library, without any table": least["library"],
        "susx: label_table, 1 % has changed": later["some"],
    }
    rates = {way: 1 / spent for way, spent in ways.items()}
    section.chart = Chart("label", "How fast are the rows of a table labelled?", rates)
    section.notes.append(f"Reading every vector (`count(vector_norm(embedding))`) takes {duration(read)}.")
    return section
