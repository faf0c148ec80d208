"""What a session needs to fit a classifier: its vectors once, and little else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.same_everywhere

DIMENSIONS, SIDE = 512, 180
VECTORS = SIDE * SIDE * DIMENSIONS * 4


def anonymous(pid: int) -> int:
    """Bytes of memory that a process has for itself: what all sessions share does not count."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


class Peak(threading.Thread):
    """Samples a process's memory until it is stopped."""

    def __init__(self, pid: int):
        super().__init__()
        self.pid, self.bytes, self.stopped = pid, anonymous(pid), threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.005):
            self.bytes = max(self.bytes, anonymous(self.pid))

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.join()


@pytest.fixture
def sql(sql):
    """A classifier of 32,400 support images, whose categories alternate, so that no category's rows are adjacent."""
    sql.run(
        f"""
        SELECT setseed(0.5);
        CREATE TABLE base AS
            SELECT i, (SELECT array_agg(random() - 0.5) FROM generate_series(1, {DIMENSIONS}) WHERE i > 0)::vector AS v
            FROM generate_series(1, {SIDE}) i;
        SELECT susx.create_classifier('large', array_agg('c' || i), text_embeddings => array_agg(v))
        FROM base WHERE i <= 20;
        INSERT INTO large (category, embedding)
        SELECT 'c' || (1 + row_number() OVER (ORDER BY a.i, b.i) % 20), a.v + b.v FROM base a, base b"""
    )
    return sql


def first_label(connect, schema: str, shared_fits: str) -> tuple[float, float]:
    """The memory that a new session keeps for its first label, and that it needs at the most, as shares of the vectors."""
    session = connect()
    session.run(f"SET search_path = {schema}, public; SET susx.shared_fits = {shared_fits}")
    # What a session needs anyway.
    session.run("SELECT susx.library_version(); SELECT * FROM large LIMIT 1; SELECT v + v FROM base")
    before = anonymous(session.pid)
    with Peak(session.pid) as peak:
        assert session.one("SELECT susx.label('large', v) FROM base WHERE i = 1") is not None
    return (anonymous(session.pid) - before) / VECTORS, (peak.bytes - before) / VECTORS


def test_vectors_are_in_memory_once(sql, connect, schema):
    kept, peak = first_label(connect, schema, "off")
    assert 0.9 <= kept <= 1.5, "the vectors are not in memory, or more than once"
    assert peak <= 1.7


def test_shared_vectors_are_in_no_session_s_own_memory(sql, connect, schema):
    kept, peak = first_label(connect, schema, "on")
    assert kept <= 0.5 and peak <= 1.7
    kept, peak = first_label(connect, schema, "on")
    assert kept <= 0.1 and peak <= 0.2
