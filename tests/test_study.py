"""`make study` in tiny sizes runs in SQL, and writes its page. The accuracy is not judged."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from conftest import PG
from study import sets
from study.report import expected_calibration_error
from tools.paths import ROOT

pytestmark = pytest.mark.same_everywhere


def run(*arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "study.run", "--pg", PG, "--quick", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)


def rows_below(text: str, title: str) -> list[list[str]]:
    lines = text.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1, "a table is broken"
    return rows[1:]


def test_a_quick_run_writes_the_page(tmp_path):
    """Uses vectors if there are any, because they need no embedding."""
    there = "caltech" if "caltech" in sets.names() else "stamps"
    if there not in sets.names():
        pytest.skip("needs clip-vectors in the folder `shared` beside the checkout, or `make pictures`")
    page = tmp_path / "page.md"
    done = run("--sets", there, "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "the figures mean nothing (--quick)" in text
    by_scenario = rows_below(text, "By scenario")
    # balanced, other images, half, unbalanced, with and without distractors
    assert len(by_scenario) == 6
    for row in by_scenario:
        # Images, zero-shot's share, and the gains of the other four.
        assert len(row) == 8 and all("±" in gain for gain in row[4:]), row
    assert [row[0] for row in rows_below(text, "Without labels, in short")] == [
        "`tip-adapter`",
        "`tip-x`",
        "tip-x, tuned",
        "`gda`",
    ]
    for row in rows_below(text, "Calibration"):
        assert all(0 <= float(error) <= 1 for error in row[2:])


def test_a_set_that_is_not_there_is_named():
    done = run("--sets", "caltech,nothing")
    assert done.returncode == 2 and "no set" in done.stderr and "nothing" in done.stderr


def test_expected_calibration_error():
    """Computed by hand: four images at 0.9, three of them right, and one wrong image at 0.5."""
    right = np.array([True, True, True, False, False])
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.5])
    assert expected_calibration_error(right, probability) == pytest.approx((4 * 0.15 + 1 * 0.5) / 5)
    assert expected_calibration_error(np.array([True]), np.array([1.0])) == 0
