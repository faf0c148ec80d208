"""A session that embeds a single image or text while another session embeds many."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path

import psycopg

from tools.harness import MODEL, THREADS, cluster_with_models, session

from . import large_model
from .encoders import fill, photos
from .report import Disagreement, Row, Section, duration, per_second, times
from .texts import prompts
from .timing import seconds

TEXT = """\
One session embeds many images or texts in one call with the default model, or with a model of the size of a ViT-B/32 (350
MB), which has random weights. Another session embeds a single one, twice a second. The first row of each kind compares its
median time with that on an idle server. The second row compares the rate of the bulk call with and without the other
session. The other session's own inputs are not counted in this rate."""

SLOWEST = 4.0
LEAST_RATE = 0.95
PAUSE = 0.5


def measure(folder: Path, quick: bool, pg: str) -> Section:
    images, texts = photos(40 if quick else 400), prompts(200 if quick else 10_000)
    rounds = 1 if quick else 3
    section = Section("A bystander", TEXT)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(cluster_with_models(pg, folder))
        large_model.make(folder / "models", quick)
        caller, bystander = (stack.enter_context(session(cluster)) for _ in range(2))
        fill(caller, "photos", images)
        caller.execute("CREATE TABLE prompts (id int PRIMARY KEY, prompt text)")
        with caller.cursor() as cursor, cursor.copy("COPY prompts FROM STDIN") as stream:
            for row in enumerate(texts):
                stream.write_row(row)
        for kind, model, column, table, given, copies in (
            ("image", MODEL.name, "image", "photos", images, 5),
            ("image", large_model.NAME, "image", "photos", images, 5 if quick else 1),
            ("text", MODEL.name, "prompt", "prompts", texts, 20 if quick else 2),
        ):
            count = copies * len(given)
            many = (
                f"SELECT count(embedding) FROM susx.embed_{kind}s("
                f"(SELECT array_agg({column}) FROM {table}, generate_series(1, {copies})), '{model}')"
            )
            one = f"SELECT susx.embed_{kind}({column}, '{model}') FROM {table} WHERE id = 0"

            def bulk() -> float:
                return seconds(lambda: expect(caller, many, count))

            def single() -> float:
                return seconds(lambda: bystander.execute(one).fetchone())

            for connection in (caller, bystander):
                connection.execute(one)
            idle, beside, alone, accompanied = [], [], [], []
            for _ in range(rounds):
                idle += [single() for _ in range(10)]
                alone.append(bulk())
                spent, latencies = with_bystander(bulk, single, 0.05 if quick else PAUSE)
                accompanied.append(spent)
                beside += latencies
            section.rows += rows(kind, model, count, idle, beside, min(alone), min(accompanied))
    return section


def rows(
    kind: str, model: str, count: int, idle: list[float], beside: list[float], alone: float, accompanied: float
) -> list[Row]:
    usual, typical = statistics.median(idle), statistics.median(beside)
    ratio = alone / accompanied
    sizes = f"{model}, {count:,} {kind}s in a call, {THREADS} threads"
    return [
        Row(
            f"a single {kind} while another session embeds many: on an idle server",
            f"{sizes}, {len(beside)} single {kind}s",
            duration(usual),
            f"{duration(typical)}, at worst {duration(max(beside))}",
            f"{times(typical / usual)} as long",
            f"≤ {SLOWEST:g} ×",
            typical <= SLOWEST * usual,
        ),
        Row(
            f"`embed_{kind}s` while another session embeds single {kind}s: alone",
            sizes,
            per_second(count, f"{kind}s", alone),
            per_second(count, f"{kind}s", accompanied),
            times(ratio),
            f"≥ {LEAST_RATE:g} ×",
            ratio >= LEAST_RATE,
        ),
    ]


def with_bystander(bulk, single, pause: float) -> tuple[float, list[float]]:
    """The seconds of a bulk call, and those of the single calls during it."""
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(bulk())
        except Exception as error:  # The waiting thread raises it.
            outcome.append(error)

    latencies = []
    thread = threading.Thread(target=work)
    thread.start()
    while True:
        # By the first call, the server has inputs of the bulk call.
        time.sleep(pause)
        spent = single()
        if not thread.is_alive():
            break
        latencies.append(spent)
    thread.join()
    (spent,) = outcome
    if isinstance(spent, Exception):
        raise spent
    if not latencies:
        raise Disagreement("the bulk call ended before the first single one")
    return spent, latencies


def expect(connection: psycopg.Connection, query: str, count: int) -> None:
    if (found := connection.execute(query).fetchone()[0]) != count:
        raise Disagreement(f"{count:,} inputs have {found:,} embeddings")
