"""`make soak` for some seconds runs, finds no errors, and writes its page."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from conftest import PG
from tools.paths import ROOT

pytestmark = [pytest.mark.same_everywhere, pytest.mark.slow]


def test_some_seconds(tmp_path):
    page = tmp_path / "page.md"
    words = [sys.executable, "-m", "soak.run", "--pg", PG, "--minutes", "0.3", "--output", page]
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "left behind, leaks: none" in text and "36 sessions" in text
    counts = [int(count.replace(",", "")) for count in re.findall(r"^\| .* \| ([\d,]+) \|$", text, re.MULTILINE)]
    # Every kind of session got something done.
    assert len(counts) >= 12 and min(counts) > 0
