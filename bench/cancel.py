"""A cancelled call of many images: when its session is free again, and when the server is."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path

import psycopg

from tools.harness import cluster_with_models, session

from .encoders import fill, photos
from .report import Disagreement, Row, Section, duration, times
from .timing import seconds

TEXT = """\
One session embeds 10,000 images in one call with the default model. Another session calls `pg_cancel_backend`, each time
after a different delay. `ours` is the time from that call to the error at the client: the median and the worst of all
tries. The reference is a query without susx that holds the same array and sleeps, which shows how long PostgreSQL takes to
free that much memory. Then another session, which is already connected, embeds a single image: immediately after the error,
while such a call runs, and on an idle server (the reference). After the cancel, it waits only for the batches that the
model is running. If the queue were not dropped, it would wait as long as during the running call."""

LIMIT = 0.1


def measure(folder: Path, quick: bool, pg: str) -> Section:
    times_each, tries = (12, 2) if quick else (25, 8)
    images = photos(40 if quick else 400)
    count = times_each * len(images)
    many = (
        "SELECT count(embedding) FROM susx.embed_images("
        f"(SELECT array_agg(image) FROM photos, generate_series(1, {times_each})))"
    )
    # OFFSET 0 makes PostgreSQL build the array before the sleep begins.
    sleep = (
        f"SELECT pg_sleep(60) FROM (SELECT array_agg(image) AS a FROM photos, generate_series(1, {times_each}) OFFSET 0) s "
        "WHERE cardinality(a) > 0"
    )
    one = "SELECT susx.embed_image(image) FROM photos WHERE id = 0"
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(cluster_with_models(pg, folder))
        caller, bystander, canceller = (stack.enter_context(session(cluster)) for _ in range(3))
        fill(canceller, "photos", images)
        for connection in (caller, bystander):
            connection.execute(one)

        def single() -> float:
            return seconds(lambda: bystander.execute(one).fetchone())

        def cancel(call: Call) -> float:
            asked = time.perf_counter()
            canceller.execute("SELECT pg_cancel_backend(%s)", [caller.info.backend_pid])
            call.wait()
            return call.ended - asked

        idle, beside, after, cancelled, slept = [], [], [], [], []
        for place in range(tries):
            # By now the server has images, and the moments are spread over a batch.
            moment = (0.3 if quick else 1.0) + 0.13 * place
            with running(caller, sleep) as call:
                time.sleep(moment)
                slept.append(cancel(call))
            idle += [single() for _ in range(3)]
            with running(caller, many) as call:
                time.sleep(moment)
                beside.append(single())
                cancelled.append(cancel(call))
                after.append(single())
            # Lets the server finish its batches before the next try.
            time.sleep(0.2 if quick else 1.0)
    worst, median = max(cancelled), statistics.median(cancelled)
    section = Section("Cancelling", TEXT)
    section.rows.append(
        Row(
            "from `pg_cancel_backend` to the error: without susx",
            f"{count:,} images in a call, {tries} tries",
            f"{duration(statistics.median(slept))}, at worst {duration(max(slept))}",
            f"{duration(median)}, at worst {duration(worst)}",
            f"{times(median / statistics.median(slept))} as long",
            "≤ 100 ms",
            worst <= LIMIT,
        )
    )
    alone = statistics.median(idle)
    for what, spent in (("after the cancel", after), ("while the call runs", beside)):
        typical = statistics.median(spent)
        section.rows.append(
            Row(
                f"another session's single image {what}: on an idle server",
                f"{tries} tries",
                duration(alone),
                f"{duration(typical)}, at worst {duration(max(spent))}",
                f"{times(typical / alone)} as long",
            )
        )
    return section


class Call:
    """A statement in a thread, and the time when its error arrived."""

    def __init__(self, connection: psycopg.Connection, statement: str):
        self.ended = 0.0
        self.outcome: object = None

        def work() -> None:
            try:
                connection.execute(statement)
                self.outcome = "an answer"
            except Exception as error:  # The waiting thread judges it.
                self.outcome = error
            self.ended = time.perf_counter()

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def wait(self) -> None:
        self.thread.join()
        if not isinstance(self.outcome, psycopg.errors.QueryCanceled):
            raise Disagreement(f"a call that was to be cancelled ended with {self.outcome!r}")


@contextlib.contextmanager
def running(connection: psycopg.Connection, statement: str):
    call = Call(connection, statement)
    try:
        yield call
    finally:
        call.thread.join()
