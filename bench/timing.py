"""Measures two sides fairly on a machine that others use, too."""

from __future__ import annotations

import time
from typing import Callable


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(rounds: int, *, warm_up: bool = True, **sides: Callable[[], float]) -> dict[str, float]:
    """The least seconds of every side. Each returns its seconds, and they take turns.

    The first turn does not count, unless `warm_up` is off because both sides have been warmed up with less work.
    """
    least = dict.fromkeys(sides, float("inf"))
    for turn in range(rounds + warm_up):
        for name, side in sides.items():
            spent = side()
            if turn >= warm_up:
                least[name] = min(least[name], spent)
    return least
