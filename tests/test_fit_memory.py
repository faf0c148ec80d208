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


def test_vectors_are_in_memory_once(sql, connect, schema):
    session = connect()
    session.run(f"SET search_path = {schema}, public")
    ask = "SELECT susx.label('large', v) FROM base WHERE i = 1"
    # What a session needs anyway.
    session.run("SELECT susx.library_version(); SELECT * FROM large LIMIT 1; SELECT v + v FROM base")
    before = anonymous(session.pid)
    with Peak(session.pid) as peak:
        assert session.one(ask) is not None
    kept = anonymous(session.pid) - before
    assert kept >= 0.9 * VECTORS, "the vectors are not in memory"
    assert kept <= 1.5 * VECTORS, f"{kept / VECTORS:.2f} times the vectors"
    assert peak.bytes - before <= 1.7 * VECTORS, f"{(peak.bytes - before) / VECTORS:.2f} times the vectors at the peak"
