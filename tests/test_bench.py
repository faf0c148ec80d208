"""`make bench` in tiny sizes runs, both sides agree, and it writes its page. No time is judged."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from bench import texts
from bench.chart import Chart
from bench.page import Page
from bench.report import Section
from conftest import PG
from tools import bench_programs
from tools.paths import ROOT

pytestmark = [pytest.mark.same_everywhere, pytest.mark.slow]


@pytest.fixture(scope="module")
def programs() -> list[object]:
    return bench_programs.unoptimised()


def run(programs: list[object], *arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "bench.run", *programs, "--pg", PG, "--quick", *arguments]
    return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=600)


def rows_of(text: str) -> list[str]:
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in rows}) == 1, "a table is broken"
    return [line for line in rows if not line.startswith("| what ")]


METHOD = ("Predicting", "Tuning", "The KL term and the size of the support set", "In PostgreSQL", "Large tables", "A busy cluster")
ENCODERS = (
    *("Embedding a table", "Two models", "Many sessions", "Embedding texts"),
    *("Memory", "Cancelling", "A bystander", "Image generation"),
)


def test_a_quick_run_writes_the_page(programs, tmp_path):
    page = tmp_path / "page.md"
    done = run(programs, "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    for title in METHOD + ENCODERS:
        assert f"\n## {title}\n" in text
    assert len(rows_of(text)) >= 10 + 11 + 1 + 6
    # Both sides of each were compared.
    assert text.count("logits differ by") == 4 and text.count("labels equal") == 7
    assert text.count("cosines ≥") == 2 * 2 + 2 + 1 and "40 images each" in text
    # The charts of the first screen, which are there and are well-formed.
    charts = re.findall(r"^!\[.+\]\((.+)\)$", text, re.MULTILINE)
    assert len(charts) == 3
    for chart in charts:
        bars = [node for node in ElementTree.parse(page.parent / chart).iter() if node.tag.endswith("rect")]
        assert len(bars) >= 3 and any(bar.get("class") == "susx" for bar in bars)
        assert max(float(bar.get("width")) for bar in bars) == 380


def test_sections_are_measured_again_alone(programs, tmp_path):
    """Others keep what they have, also when and where they were measured."""
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text())
    before = Page(page.read_text())
    done = run(programs, "--only", "kl", "--update", "--output", page)
    assert done.returncode == 0, done.stderr
    after = Page(page.read_text())
    changed = {title for title, text in after.sections.items() if text != before.sections.get(title)}
    assert changed == {"The KL term and the size of the support set"}
    assert list(after.sections) == list(before.sections) and after.charts == before.charts
    assert "(--quick)" in after.sections[changed.pop()]


def test_a_page_is_read_as_it_was_written():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert Page(text).text() == text
    page = Page()
    chart = Chart("one", "How fast?", {"another": 1.0, "susx": 2.0})
    page.update([Section("One", "Text.", chart=chart, facts="Measured today."), Section("Two", "Text.")])
    assert Page(page.text()).text() == page.text()
    assert re.findall("^!.*$|^## .*$|^Measured.*$", page.text(), re.MULTILINE) == [
        "![How fast? another: 1.00 ×, susx: 2.00 ×](benchmarks/one.svg)",
        "## One",
        "Measured today.",
        "## Two",
    ]


def test_some_of_the_benchmarks(programs, tmp_path):
    """They are printed in their usual order, and nothing is written without --output."""
    done = run(programs, "--only", "memory,texts")
    # The commands of `make` print their progress there.
    text = done.stderr
    assert done.returncode == 0, text
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["Embedding texts", "Memory"]
    assert [row.split("|")[1].strip() for row in rows_of(text)] == [
        "`embed_texts`: tokenizers and onnxruntime in Python",
        "a session that has embedded and classified: an idle one",
        "the server after all images: after half of them",
    ]
    assert "wrote" not in text


def test_sides_that_disagree_fail(programs, tmp_path):
    """A program that answers with the logits of other queries is detected, and nothing is written."""
    liar = tmp_path / "liar"
    liar.write_text(f"""#!{sys.executable}
import json, subprocess, sys
import numpy as np
program = subprocess.Popen([{str(programs[1])!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
    done = run(["--program", liar, *programs[2:]], "--only", "predict", "--output", page)
    assert done.returncode == 1 and "the results differ by" in done.stderr, done.stderr
    assert not page.exists()


def test_a_program_that_embeds_less_is_found_out(programs, tmp_path):
    lazy = tmp_path / "lazy"
    lazy.write_text("""#!/bin/sh\necho '{"images": 39, "seconds": 1.0}'\n""")
    lazy.chmod(0o755)
    done = run([*programs[:3], lazy, *programs[4:]], "--only", "embed")
    assert done.returncode == 1 and "embedded 39 of 40 images" in done.stderr, done.stderr


def test_prompts_are_distinct():
    assert len(set(texts.prompts(10_000))) == 10_000
    assert len(set(texts.prompts(200))) == 200


def test_an_unknown_benchmark_is_named(programs):
    done = run(programs, "--only", "predict,nothing")
    assert done.returncode == 2 and "no benchmark nothing" in done.stderr
