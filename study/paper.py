"""The table of the paper (SuS-X, arXiv 2211.16198), for whoever has its sets and a real CLIP. Prints it, as Markdown.

usage: python -m study.paper --data FOLDER --model NAME [--generator NAME] [--pg 18] [--quick] [--output FILE]

FOLDER has the sets (see folders.py), and maybe prompts/<set>.json with sentences for each category, as CuPL publishes
them. A model and a generator are folders of build/models, or paths of their own. `make study DATA=… MODEL=…` runs this.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Sequence

import numpy as np
import psycopg

from tools.console import Failure, say
from tools.console import main as with_plain_errors
from tools.harness import cluster_with_models, commit, options, public_folder, publish, session
from tools.paths import MODELS, ROOT, TEST_GENERATORS, TEST_MODELS

from .folders import Folder, Image, find
from .measure import CLASSIFIER, DEFAULT
from .report import table

PAGE = ROOT / "docs" / "paper.md"
METHODS = ("zero-shot", "tip-adapter", "tip-x", DEFAULT)
# What a classifier is made of besides the names, and the `prompting` that asks or paints with it.
NAMES, CUPL = "names", "CuPL+e"
PROMPTINGS = {NAMES: "photo", CUPL: "cupl"}
RETRIEVED, PAINTED = "retrieved (SuS-LC)", "painted (SuS-SD)"

INTRODUCTION = """# The table of the paper

Top-1 accuracy in per cent on folders of labelled images, through SQL in a throwaway cluster. The labels only count what
is right: every value is a default, the prompt of a name is "a photo of a {}.", and nothing was tuned. The support set
is retrieved from the pool, or painted from the prompts.

The paper (arXiv 2211.16198) has, by CLIP's RN50 and as means over its eleven sets, 60.31 for CuPL and 61.76 for its best
method, SuS-X-SD-C. Its published code searches alpha, beta and gamma with labels; here every value is a default."""


@dataclass(frozen=True)
class Row:
    """A classifier's accuracies, by method."""

    data: str
    images: int
    unreadable: int
    pool: str
    prompts: str
    support: str
    accuracies: dict[str, float]


def main() -> None:
    parser = options("study", PAGE)
    parser.add_argument("--data", default="", help="a folder <set>/<category>/<image>, or that of one set")
    parser.add_argument("--model", default="", help="a CLIP: a folder of build/models, or a path")
    parser.add_argument("--generator", help="a Stable Diffusion, likewise; the default is the only one of build/models")
    parser.add_argument("--quick", action="store_true", help="paint only two images of two steps each")
    arguments = parser.parse_args()
    if not arguments.data or not arguments.model:
        raise Failure("both are needed: make study DATA=/folder/of/sets MODEL=clip-rn50")
    found = find(Path(arguments.data))
    model = _model(arguments.model, MODELS, TEST_MODELS)
    generator = _model(arguments.generator, MODELS, TEST_GENERATORS) if arguments.generator else _only_generator()
    with public_folder("paper") as folder:
        for source in filter(None, (model, generator)):
            _copy(source, folder / "models" / source.name)
        settings = {"susx.model": model.name}
        with cluster_with_models(arguments.pg, folder, **settings) as cluster, session(cluster) as sql:
            sql.execute("SET client_min_messages = error")
            rows = []
            for data in found:
                say(f"measuring {data.name}: {len(data.judged)} images of {len(data.categories)} categories")
                rows += measure(sql, data, generator and generator.name, arguments.quick)
    publish(page(rows, model.name, generator and generator.name, arguments.quick), arguments.output)


def _model(name: str, *folders: Path) -> Path:
    places = [*(folder / name for folder in folders), Path(name).resolve()]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise Failure(f"there is no model {name}: put its folder into {MODELS}, or give its path")
    return found


def _only_generator() -> Path | None:
    found = sorted(path.parent for path in MODELS.glob("*/model_index.json"))
    if len(found) > 1:
        raise Failure(f"choose one by --generator: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _copy(source: Path, target: Path) -> None:
    """Copies a model, so that PostgreSQL's account can read it whatever the modes of its files are."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in (target.parent, target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def measure(sql: psycopg.Connection, data: Folder, generator: str | None, quick: bool) -> list[Row]:
    """Every classifier that the set has the parts for: with and without sentences, retrieved and painted support."""
    _load(sql, "judged", data.judged)
    pool = "judged" if data.pool is None else "pool"
    if data.pool is not None:
        _load(sql, pool, data.pool)
    rows = []
    for prompts in (NAMES, CUPL) if data.sentences else (NAMES,):
        for support in (RETRIEVED, PAINTED) if generator else (RETRIEVED,):
            sql.execute("SELECT susx.create_classifier(%s, %s)", [CLASSIFIER, data.categories])
            if prompts == CUPL:
                sql.execute("SELECT susx.add_prompts(%s, %s)", [CLASSIFIER, json.dumps(data.sentences)])
            if support == RETRIEVED:
                build = "SELECT count(*) FROM susx.build_support_set(%s, %s, prompting => %s)"
                sql.execute(build, [CLASSIFIER, pool, PROMPTINGS[prompts]])
            else:
                few = ", per_class => 2, steps => 2" if quick else ""
                paint = f"CALL susx.generate_support_set(%s, generator => %s, prompting => %s{few})"
                sql.execute(paint, [CLASSIFIER, generator, PROMPTINGS[prompts]])
            rows.append(_judge(sql, data, prompts, support))
            sql.execute(f"DROP TABLE {CLASSIFIER}")
    sql.execute("DROP TABLE judged; DROP TABLE IF EXISTS pool")
    return rows


def _load(sql: psycopg.Connection, name: str, images: Sequence[Image]) -> None:
    sql.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, image bytea, truth text, embedding vector)")
    with sql.cursor() as cursor, cursor.copy(f"COPY {name} (id, image, truth) FROM STDIN") as stream:
        for id, (path, category) in enumerate(images):
            stream.write_row((id, path.read_bytes(), category))
    sql.execute("CALL susx.embed_table(%s)", [name])


def _judge(sql: psycopg.Connection, data: Folder, prompts: str, support: str) -> Row:
    accuracies = {}
    for method in METHODS:
        # The row without a category is of all images.
        images, unreadable, top1 = sql.execute(
            "SELECT n, failed, top1 FROM susx.evaluate(%s, %s, method => %s) WHERE category IS NULL",
            [CLASSIFIER, "SELECT embedding, truth FROM judged", method],
        ).fetchone()
        if not images:
            raise Failure(f"none of the images of {data.name} could be read")
        accuracies[method] = 100 * top1
    pool = "the same" if data.pool is None else str(len(data.pool))
    return Row(data.name, images, unreadable, pool, prompts, support, accuracies)


def page(rows: Sequence[Row], model: str, generator: str | None, quick: bool) -> str:
    facts = [f"measured: {date.today()}, commit {commit(PAGE)}", f"model: {model}"]
    facts.append(f"painted by: {generator}" if generator else "not painted, because there is no generator")
    if quick:
        facts.append("painted: two images of two steps for each category, which mean nothing (--quick)")
    unreadable = {row.data: row.unreadable for row in rows if row.unreadable}
    facts += [f"{name}: without {count} of the images, which could not be read" for name, count in unreadable.items()]
    cells = [
        [row.data, str(row.images), row.pool, row.prompts, row.support, *_percent(row.accuracies.values())]
        for row in rows
    ]
    header = ["set", "images", "pool", "prompts", "support set", *METHODS]
    return "\n".join([INTRODUCTION, "", *(f"- {fact}" for fact in facts), "", table(header, cells + _means(rows))])


def _means(rows: Sequence[Row]) -> list[list[str]]:
    """The mean over the sets, of each kind of classifier that all of them have."""
    sets = len({row.data for row in rows})
    found = []
    for prompts, support in dict.fromkeys((row.prompts, row.support) for row in rows):
        own = [list(row.accuracies.values()) for row in rows if (row.prompts, row.support) == (prompts, support)]
        if len(own) == sets > 1:
            found.append([f"**mean of {sets}**", "", "", prompts, support, *_percent(np.mean(own, axis=0))])
    return found


def _percent(shares: Sequence[float]) -> list[str]:
    return [f"{share:.2f}" for share in shares]


if __name__ == "__main__":
    with_plain_errors(main)
