"""`make bench` in tiny sizes: it runs, both sides agree, and it writes its page. No times are judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PG
from tools import bench
from tools.paths import ROOT


@pytest.fixture(scope="module")
def program() -> Path:
    return bench.program()


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "bench.run", "--program", program, "--pg", PG, "--quick", *arguments]
    return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_a_quick_run_writes_the_page(program, tmp_path):
    page = tmp_path / "page.md"
    done = run(program, "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    for title in ("Predicting", "Tuning", "The KL term and the size of the support set", "In PostgreSQL"):
        assert f"\n## {title}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in rows}) == 1, "a table is broken"
    assert len(rows) >= 4 + 10
    # Both sides of each were compared.
    assert text.count("logits differ by") == 4 and text.count("labels equal") == 3


def test_sides_that_disagree_fail(program, tmp_path):
    """A program that answers with logits of other queries is found out, and nothing is written."""
    liar = tmp_path / "liar"
    liar.write_text(f"""#!{sys.executable}
import json, subprocess, sys
import numpy as np
program = subprocess.Popen([{str(program)!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for line in sys.stdin:
    program.stdin.write(line)
    program.stdin.flush()
    answer = program.stdout.readline()
    output = json.loads(line).get("output")
    if output:
        np.save(output, np.load(output)[::-1])
    print(answer, end="", flush=True)
""")
    liar.chmod(0o755)
    page = tmp_path / "page.md"
    done = run(liar, "--only", "predict", "--output", page)
    assert done.returncode == 1 and "the results differ by" in done.stderr, done.stderr
    assert not page.exists()


def test_an_unknown_benchmark_is_named(program):
    done = run(program, "--only", "predict,nothing")
    assert done.returncode == 2 and "no benchmark nothing" in done.stderr
