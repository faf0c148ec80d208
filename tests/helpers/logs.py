"""Reads PostgreSQL's log."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator

from tools.cluster import Cluster


@contextlib.contextmanager
def log_of(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """A function that returns what was logged since the block began."""
    begin = cluster.log_file.stat().st_size
    yield lambda: cluster.log_file.read_bytes()[begin:].decode()
