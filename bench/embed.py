"""`embed_table`: against Python's loops over the same table, and against a Rust program without PostgreSQL."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tools.harness import BATCH, MODEL, THREADS, cluster_with_models, session
from tools.paths import ONNXRUNTIME

from .chart import Chart
from .encoders import MOST, agreement_of_decoders, fill, large_photos, photos
from .python_loop import PythonLoop
from .report import Disagreement, Row, Section, duration, per_second, times
from .sql import binary_rows, copying
from .timing import alternate, seconds

TEXT = """\
This embeds a table of JPEG photographs with the default model on the CPU, in batches of 32. Both sides use as many
threads as cores. `ours` is one `CALL susx.embed_table('photos', 'image', 'embedding')`. The Python loop reads the rows
from the table, decodes and resizes with Pillow exactly as CLIP does, runs onnxruntime, and writes the results with a
binary `COPY` into an empty table. Pillow's `draft` decodes large photographs at a part of their size, as susx does. A
second version decodes the next batch in a thread pool while the model runs. The Rust program calls the library without
PostgreSQL: it has the images in memory and discards the results. The large photographs are generated."""

CALL = "CALL susx.embed_table('photos', 'image', 'embedding')"


@dataclass(frozen=True)
class Album:
    """Photographs, and how many times as fast as Python's loop they should be embedded."""

    name: str
    images: list[bytes]
    what: str
    target: float

    def sizes(self) -> str:
        kilobytes = sum(map(len, self.images)) / len(self.images) / 1000
        return f"{len(self.images):,} JPEGs{self.what} of {kilobytes:,.0f} kB, {THREADS} threads"


def measure(program: Path, folder: Path, quick: bool, pg: str) -> Section:
    albums = (
        Album("photos", photos(40 if quick else MOST), "", 1.2),
        Album("large", large_photos(4 if quick else 96), " of 12 megapixels", 3),
    )
    section = Section("Embedding a table", TEXT)
    python, rust = PythonLoop(MODEL, THREADS, BATCH), Rust(program)
    with cluster_with_models(pg, folder) as cluster, session(cluster) as sql, session(cluster) as writer:
        for album in albums:
            files = folder / album.name
            files.mkdir()
            for number, image in enumerate(album.images):
                (files / f"{number:05}.jpg").write_bytes(image)
            sql.execute("DROP TABLE IF EXISTS originals")
            fill(sql, "originals", album.images)
            compare(section, album, files, python, rust, sql, writer, quick)
    return section


def compare(
    section: Section,
    album: Album,
    files: Path,
    python: PythonLoop,
    rust: Rust,
    sql: psycopg.Connection,
    writer: psycopg.Connection,
    quick: bool,
) -> None:
    """Adds the rows of an album, which is also in the table `originals`, and the chart of the first one."""
    count = len(album.images)

    def ours() -> float:
        renew(sql, "photos")
        spent = seconds(lambda: sql.execute(CALL))
        (done,) = sql.execute("SELECT count(embedding) FROM photos").fetchone()
        if done != count:
            raise Disagreement(f"embed_table embedded {done} of {count} photographs")
        return spent

    def in_python(loop, table: str) -> float:
        renew(sql, table)
        sql.execute(f"TRUNCATE {table}")
        return seconds(lambda: write(sql, writer, loop, table))

    # Both have loaded everything and run once.
    list(python.images(enumerate(album.images[:BATCH])))
    sql.execute("SELECT susx.embed_image(image) FROM originals LIMIT 1")
    least = alternate(
        1 if quick else 2,
        warm_up=False,
        simple=lambda: in_python(python.images, "by_python"),
        ours=ours,
        rust=lambda: rust.seconds(files, count),
        prefetched=lambda: in_python(python.images_prefetched, "by_prefetching_python"),
    )
    agreements = {
        side: agreement_of_decoders(sql, "Python's loop", "photos", table, count)
        for side, table in (("simple", "by_python"), ("prefetched", "by_prefetching_python"))
    }
    agreements["rust"] = f"{count:,} images each"
    ways = {
        "a loop in Python": "simple",
        "the loop, with decoding threads": "prefetched",
        "susx: CALL embed_table": "ours",
        "a Rust program without PostgreSQL": "rust",
    }
    rates = {way: 1 / least[side] for way, side in ways.items()}
    section.chart = section.chart or Chart("embed", "How fast are the images of a table embedded?", rates)
    sides = {
        "simple": ("Python's loop", album.target),
        "prefetched": ("Python's loop with decoding threads", None),
        "rust": ("a Rust program without PostgreSQL", 0.9),
    }
    for side, (what, target) in sides.items():
        ratio = least[side] / least["ours"]
        section.rows.append(
            Row(
                f"`embed_table`: {what}",
                album.sizes(),
                rate(count, least[side]),
                rate(count, least["ours"]),
                times(ratio),
                f"≥ {target:g} ×" if target else "",
                ratio >= target if target else None,
                agreements[side],
            )
        )


def rate(images: int, spent: float) -> str:
    return f"{duration(spent)} ({per_second(images, 'images', spent)})"


def renew(sql: psycopg.Connection, table: str) -> None:
    """The table as it was before anything was embedded, and nothing left for a checkpoint to do in the clock."""
    sql.execute(f"DROP TABLE IF EXISTS {table}")
    sql.execute(f"CREATE TABLE {table} (LIKE originals INCLUDING ALL)")
    sql.execute(f"INSERT INTO {table} SELECT * FROM originals ORDER BY id")
    sql.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    sql.execute("CHECKPOINT")


def write(reader: psycopg.Connection, writer: psycopg.Connection, loop, table: str) -> None:
    with reader.cursor(binary=True) as cursor, copying(writer, f"{table} (id, embedding)") as stream:
        rows = cursor.stream("SELECT id, image FROM originals ORDER BY id", size=BATCH)
        for numbers, embeddings in loop(rows):
            stream.write(binary_rows(numbers, embeddings))


class Rust:
    """crates/susx-core/benches/embed.rs, a process for each run; it loads the model before its clock starts."""

    def __init__(self, program: Path):
        self.command = [
            *(program, "--model", MODEL, "--onnxruntime", ONNXRUNTIME),
            *("--threads", THREADS, "--batch-size", BATCH, "--images"),
        ]

    def seconds(self, folder: Path, images: int) -> float:
        words = [str(word) for word in (*self.command, folder)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the program without PostgreSQL failed: {done.stderr}")
        answer = json.loads(done.stdout.splitlines()[-1])
        if answer["images"] != images:
            raise Disagreement(f"the program without PostgreSQL embedded {answer['images']} of {images} images")
        return answer["seconds"]
