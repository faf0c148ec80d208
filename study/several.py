"""Several labels per image: how well `tags` finds all things of a picture, beside a threshold on cosines or probabilities."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Sequence

import numpy as np
import psycopg
from PIL import Image

from bench.sql import copy

from .measure import CLASSIFIER, create
from .report import expected_calibration_error, table, title
from .scenarios import Scenario
from .sets import Set

TITLE = "Several labels per image"
INTRODUCTION = f"""## {TITLE}

Each picture shows one to four things. If the image files are available, they are placed side by side in a square of 448 pixels
and embedded as a new image. For CLIP there are only vectors, so a picture is the normalised sum of the vectors of its images.
This is an approximation, and `tags` is fitted on the same kind of sums. The pictures are composed from one half of a set, and
the support set is retrieved from the other half. `mAP` is the mean over categories of the average precision, in per cent. F1
counts all categories of all pictures together. For `tags`, it is F1 at its threshold of 0.5. The other methods have no such
threshold, so theirs is the F1 of the best threshold *on the same pictures*, which a user would not know. The last column is the
calibration error of the probabilities of `tags`. The form of the method was chosen on these sets, with other draws."""
PICTURES = 1200
# Most things in one picture.
THINGS = 4
SIDE = 448
COLUMNS = ("set", "pictures", "support", "mAP: cosine", "softmax, `zero-shot`", "the default method", "**`tags`**",
           "F1: best of cosine", "best of softmax", "best of the default", "**`tags`**", "calibration error")  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """Of every picture and category."""

    cosine: np.ndarray
    softmax: np.ndarray
    default: np.ndarray
    tags: np.ndarray


@dataclass(frozen=True)
class Run:
    data: Set
    support: str
    shows: np.ndarray
    scores: Scores


def average_precision(shows: np.ndarray, scores: np.ndarray) -> float:
    """The mean over the pictures that show it of the share of right ones among those with scores as large or larger."""
    order = np.sort(scores)
    right = np.sort(scores[shows])
    at_least = len(scores) - np.searchsorted(order, right, "left")
    right_at_least = len(right) - np.searchsorted(right, right, "left")
    return float((right_at_least / at_least).mean())


def mean_average_precision(shows: np.ndarray, scores: np.ndarray) -> float:
    there = [c for c in range(shows.shape[1]) if shows[:, c].any()]
    return float(np.mean([average_precision(shows[:, c], scores[:, c]) for c in there]))


def f1(shows: np.ndarray, found: np.ndarray) -> float:
    return float(2 * (shows & found).sum() / (shows.sum() + found.sum()))


def best_f1(shows: np.ndarray, scores: np.ndarray) -> float:
    """That of the threshold which serves best."""
    order = np.argsort(-scores, axis=None, kind="stable")
    right = np.cumsum(shows.ravel()[order])
    shares = 2 * right / (shows.sum() + np.arange(1, len(order) + 1))
    # No threshold lies between equal scores.
    return float(shares[np.append(np.diff(scores.ravel()[order]) != 0, True)].max())


def measure(sql: psycopg.Connection, data: Set, pictures: int = PICTURES) -> list[Run]:
    """With the names alone, and with a support set from one half of the images."""
    random = np.random.default_rng(12)
    ids = data.ids()
    truth = np.array([data.truth[int(i)] for i in ids])
    pool, source = [], []
    for c in range(len(data.categories)):
        own = random.permutation(ids[truth == c])
        # A category with one image has it on both sides; that happens in quick runs alone.
        pool.append(own[::2]), source.append(own[1::2] if len(own) > 1 else own)
    there = [c for c, own in enumerate(source) if len(own)]
    made, shows = [], np.zeros((pictures, len(data.categories)), bool)
    for row in range(pictures):
        things = random.permutation(there)[: 1 + row % min(THINGS, len(there))]
        shows[row, things] = True
        made.append([int(random.choice(source[c])) for c in things])
    everything = list(range(len(data.categories)))
    some = np.sort(np.concatenate(pool))
    with sql.transaction():
        _compose(sql, data, made)
        runs = []
        for support, of in (("names alone", np.array([], int)), ("retrieved", some)):
            create(sql, data, Scenario("several", everything, of, of), data.categories)
            runs.append(Run(data, support, shows, _scores(sql, data, pictures)))
            sql.execute(f"DROP TABLE {CLASSIFIER}; DROP TABLE IF EXISTS pool")
        sql.execute("DROP TABLE composed")
    return runs


def _compose(sql: psycopg.Connection, data: Set, made: Sequence[Sequence[int]]) -> None:
    """The table composed(id, embedding) of the pictures, each of the images of these ids."""
    wanted = sorted({i for images in made for i in images})
    column = "embedding::text" if data.prototypes is not None else "image"
    found = dict(sql.execute(f"SELECT id, {column} FROM {data.table} WHERE id = ANY(%s)", [wanted]).fetchall())
    if data.prototypes is not None:
        vectors = {i: np.array(text.strip("[]").split(","), np.float64) for i, text in found.items()}
        sums = [sum(vectors[i] / np.linalg.norm(vectors[i]) for i in images) for images in made]
        sql.execute(f"CREATE TABLE composed (id int PRIMARY KEY, embedding vector({len(sums[0])}))")
        copy(sql, "composed (id, embedding)", np.arange(len(sums)), np.array([v / np.linalg.norm(v) for v in sums], np.float32))
        return
    files = []
    for images in made:
        file = io.BytesIO()
        side_by_side([_open(found[i]) for i in images]).save(file, "PNG", compress_level=1)
        files.append(file.getvalue())
    sql.execute("CREATE TABLE composed (id int PRIMARY KEY, image bytea, embedding vector)")
    with sql.cursor() as cursor, cursor.copy("COPY composed (id, image) FROM STDIN") as stream:
        for row in enumerate(files):
            stream.write_row(row)
    sql.execute(
        "UPDATE composed c SET embedding = e.embedding FROM "
        "(SELECT array_agg(image ORDER BY id) AS images, min(id) AS first FROM composed GROUP BY id / 64) part, "
        "susx.embed_images(part.images) e WHERE c.id = part.first + e.ord - 1"
    )


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """A square: one image fills it, two take half each, three a half and two quarters, four a quarter each."""
    half = SIDE // 2
    places = {
        1: [(0, 0, SIDE, SIDE)],
        2: [(0, 0, half, SIDE), (half, 0, half, SIDE)],
        3: [(0, 0, SIDE, half), (0, half, half, half), (half, half, half, half)],
        4: [(x, y, half, half) for y in (0, half) for x in (0, half)],
    }[len(images)]
    square = Image.new("RGB", (SIDE, SIDE))
    for image, (x, y, width, height) in zip(images, places):
        scale = max(width / image.width, height / image.height)
        size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        part = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
        square.paste(part, (x, y))
    return square


def _open(file: bytes) -> Image.Image:
    """An image on white."""
    image = Image.open(io.BytesIO(file)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def _scores(sql: psycopg.Connection, data: Set, pictures: int) -> Scores:
    count = len(data.categories)
    place = {name: c for c, name in enumerate(data.categories)}

    def matrix(query: str, column: int = 2) -> np.ndarray:
        scores = np.full((pictures, count), np.nan)
        for row in sql.execute(query):
            scores[row[0], place[row[1]]] = row[column]
        if np.isnan(scores).any():
            raise ValueError("a picture has no score")
        return scores

    classify = "SELECT p.id, c.category, c.score, c.probability FROM composed p, susx.classify('{}', p.embedding, {}{}) c"
    zero_shot = classify.format(CLASSIFIER, count, ", 'zero-shot'")
    return Scores(
        matrix(zero_shot),
        matrix(zero_shot, 3),
        matrix(classify.format(CLASSIFIER, count, ""), 3),
        matrix(f"SELECT p.id, t.* FROM composed p, susx.tag_probabilities('{CLASSIFIER}', p.embedding) t"),
    )


def section(runs: Sequence[Run]) -> str:
    """The table of docs/methods.md."""
    return table(COLUMNS, [_cells(run) for run in runs])


def _cells(run: Run) -> list[str]:
    scores = run.scores
    all_scores = (scores.cosine, scores.softmax, scores.default, scores.tags)
    precision = [mean_average_precision(run.shows, of) for of in all_scores]
    best = [best_f1(run.shows, of) for of in all_scores[:3]]
    own = f1(run.shows, scores.tags >= 0.5)
    error = expected_calibration_error(run.shows.ravel(), scores.tags.ravel())
    pictures = "sums of vectors" if run.data.prototypes is not None else "side by side"
    shown = [f"{100 * value:.1f}" for value in (*precision, *best, own)]
    shown[3], shown[7] = f"**{shown[3]}**", f"**{shown[7]}**"
    return [title(run.data), pictures, run.support, *shown, f"{error:.3f}"]
