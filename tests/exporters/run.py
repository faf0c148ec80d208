"""The program behind `make test-exporters`: one model at a time is made, used by susx, compared, and deleted.

Every row is a test: the program fails if a cosine is below the row's threshold, if a generated image differs by more than
rounding, or if a row cannot be run.
"""

from __future__ import annotations

import gc
import shutil
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg

from tools.cluster import Cluster
from tools.console import Failure, main, say
from tools.harness import chosen, create_extension, options, public_folder, session
from tools.paths import ONNXRUNTIME, ROOT

from . import clip, diffusion, dinov2, generated, inputs, multilingual, openclip, siglip
from .row import Row

PAGE = ROOT / "docs" / "models.md"
# What is between the two is replaced.
BEGIN, END = "<!-- make test-exporters: {} -->", "<!-- end -->"
MODULES = (clip, openclip, multilingual, siglip, dinov2, diffusion)
ROWS = [row for module in MODULES for row in module.ROWS]
GENERATORS = {row.name for row in diffusion.ROWS}
# Two different inputs have a smaller cosine than this, or the comparison would see nothing.
DIFFERENT = 0.99


@dataclass
class Result:
    row: Row
    verdict: str
    # The least cosine of images and of texts, where there are any.
    cosines: tuple[float | None, float | None] = (None, None)
    # The largest difference of a generator's pixels, in grey levels.
    difference: int | None = None


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def compare(kind: str, expected: np.ndarray | None, found: list[str]) -> float | None:
    if expected is None:
        return None
    wanted = unit(expected.astype(np.float64))
    others = wanted @ wanted.T
    # The last two images are the first two as JPEG.
    count = len(inputs.SIZES) if kind == "images" else len(wanted)
    most = others[:count, :count][np.triu_indices(count, 1)].max()
    if most >= DIFFERENT:
        raise Failure(f"two different {kind} have the cosine {most:.4f}: the comparison would prove nothing")
    vectors = unit(np.array([[float(value) for value in text.strip("[]").split(",")] for text in found]))
    return float((vectors * wanted).sum(-1).min())


def embeddings(sql: psycopg.Connection, function: str, type: str, values: list, model: str) -> list[str]:
    rows = sql.execute(
        f"SELECT embedding::text, error FROM susx.{function}(%s::{type}[], %s) ORDER BY ord", (values, model)
    ).fetchall()
    for _, error in rows:
        if error is not None:
            raise Failure(error)
    return [embedding for embedding, _ in rows]


def check(row: Row, folder: Path, sql: psycopg.Connection) -> Result:
    model = folder / row.name
    model.mkdir()
    try:
        expected = row.make(model)
        gc.collect()
        for path in model.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if expected.generated is not None:
            difference = generated.difference(expected.generated, row.name, sql)
            return Result(row, "same" if difference <= generated.ROUNDING else "differs", difference=difference)
        found: list[float | None] = [None, None]
        if expected.images is not None:
            embedded = embeddings(sql, "embed_images", "bytea", inputs.files(), row.name)
            found[0] = compare("images", expected.images, embedded)
        if expected.texts is not None:
            embedded = embeddings(sql, "embed_texts", "text", inputs.TEXTS, row.name)
            found[1] = compare("texts", expected.texts, embedded)
        least = min(cosine for cosine in found if cosine is not None)
        return Result(row, "same" if least >= row.least else "differs", (found[0], found[1]))
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().split("\n")[0]
        return Result(row, f"not run: {reason}")
    finally:
        shutil.rmtree(model)


def embedders(results: list[Result]) -> str:
    lines = ["| model | exporter | verdict | images | texts |", "|---|---|---|---|---|"]
    for result in results:
        cosines = ["–" if cosine is None else f"{cosine:.6f}" for cosine in result.cosines]
        lines.append(f"| {result.row.model} | {result.row.exporter} | {result.verdict} | {' | '.join(cosines)} |")
    return "\n".join(lines)


def generators(results: list[Result]) -> str:
    lines = ["| scheduler | exporter | verdict | largest difference |", "|---|---|---|---|"]
    for result in results:
        difference = "–" if result.difference is None else result.difference
        lines.append(f"| {result.row.model} | {result.row.exporter} | {result.verdict} | {difference} |")
    return "\n".join(lines)


def write(tables: dict[str, str]) -> None:
    page = PAGE.read_text()
    for name, table in tables.items():
        begin = BEGIN.format(name)
        before, rest = page.split(begin)
        _, after = rest.split(END, 1)
        page = f"{before}{begin}\n{table}\n{END}{after}"
    PAGE.write_text(page)
    say(f"wrote {PAGE}")


def run() -> None:
    parser = options("test-exporters", PAGE)
    parser.add_argument("--only", help="names of rows, by comma; the tables are then printed only")
    arguments = parser.parse_args()
    names = chosen(parser, "row", arguments.only, [row.name for row in ROWS])
    results = []
    with public_folder("exporters") as folder:
        settings = {
            "susx.model_dir": folder,
            "susx.onnxruntime_library": ONNXRUNTIME,
            "susx.execution_provider": "cpu",
            "susx.model_idle_timeout": "10s",
        }
        with Cluster.throwaway(arguments.pg, settings) as cluster:
            create_extension(cluster)
            for row in ROWS:
                if row.name not in names:
                    continue
                start = time.monotonic()
                with session(cluster) as sql:
                    results.append(check(row, folder, sql))
                result = results[-1]
                say(f"{row.name}: {result.verdict} ({time.monotonic() - start:.0f} s)")
    of_generators = [result for result in results if result.row.name in GENERATORS]
    of_others = [result for result in results if result.row.name not in GENERATORS]
    tables = {"embeddings": embedders(of_others), "generators": generators(of_generators)}
    if arguments.only:
        print(*tables.values(), sep="\n\n")
    else:
        write(tables)
    wrong = [result.row.name for result in results if result.verdict != "same"]
    if wrong:
        raise Failure(f"not as in the library's own pipeline: {', '.join(wrong)}")
    say(f"{len(results)} passed, 0 failed")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(run)
