"""`make study` in tiny sizes runs in SQL, and writes its pages. The accuracy is not judged, but counted again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from conftest import PG
from helpers.pictures import encode, picture
from study import copies, folders, pairs, queue, scenarios, sets, several
from study.measure import DEFAULT, METHODS, TUNED, Labels, Measured
from study.none_of_these import Answers, Run, auroc, fpr95, section
from study.report import Study, expected_calibration_error, mean_of_worst_tenth
from study.run import with_section
from tools.paths import ROOT

pytestmark = [pytest.mark.same_everywhere, pytest.mark.slow]


def run(*arguments: object, program: str = "run") -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", f"study.{program}", "--pg", PG, "--quick", *map(str, arguments)]
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
    # balanced, other images, half of the categories twice, unbalanced, with and without distractors, few names
    assert len(by_scenario) == 8
    for row in by_scenario:
        # Images, zero-shot's share, and the gains of the other five.
        assert len(row) == 9 and all("±" in gain for gain in row[4:]), row
    assert [row[0] for row in rows_below(text, "Without labels, in short")] == [
        "`tip-adapter`",
        "`tip-x`",
        "`gda`",
        "**`gated-tip-x`, the default**",
        "tuned",
    ]
    rejected = rows_below(text, "None of these")
    assert [row[1] for row in rejected] == ["without distractors", "with distractors"]
    # The shares are per cent, between the threshold and the sizes before it.
    assert all(0 <= float(share) <= 100 for row in rejected for share in (*row[3:5], row[7], *row[9:])), rejected
    calibration = rows_below(text, "Calibration")
    assert [row[1] for row in calibration[-2:]] == ["**mean**", "**worst**"]
    for row in calibration:
        assert all(0 <= float(error) <= 1 for error in row[2:])


def test_sections_of_their_own(tmp_path):
    """They are measured alone, too, and then replaced in the page."""
    there = "caltech" if "caltech" in sets.names() else "stamps"
    if there not in sets.names():
        pytest.skip("needs clip-vectors in the folder `shared` beside the checkout, or `make pictures`")
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n## Near-duplicates\n\nwhat stood here\n\n## Calibration\n\nstays\n")
    done = run("--sets", there, "--only", "several,copies,queue", "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "what stood here" not in text and "\n## Calibration\n\nstays\n" in text
    tags = rows_below(text, several.TITLE)
    assert [row[2] for row in tags] == ["names alone", "retrieved"]
    for row in tags:
        assert all(0 <= float(share.strip("*")) <= 100 for share in row[3:]), row
    assert [row[1] for row in rows_below(text, copies.TITLE)] == ["8", "32"]
    ((_, before, held_out, *gains),) = rows_below(text, queue.TITLE)
    assert 0 < float(before) <= 100 and 0 < float(held_out) <= 100 and all("±" in gain for gain in gains)


def test_a_section_is_replaced_or_added():
    page = "# Page\n\n## A\n\none\n\n## B\n\ntwo\n"
    assert with_section(page, "A", "## A\n\nthree") == "# Page\n\n## A\n\nthree\n\n## B\n\ntwo\n"
    assert with_section(page, "B", "## B\n\nthree") == "# Page\n\n## A\n\none\n\n## B\n\nthree\n"
    assert with_section(page, "C", "## C\n\nthree") == page + "\n## C\n\nthree\n"
    likeness = page + "\n## Likeness: a second vector\n\nfour\n"
    expected = page + "\n## C\n\nthree\n\n## Likeness: a second vector\n\nfour\n"
    assert with_section(likeness, "C", "## C\n\nthree") == expected


def test_average_precision_and_f1():
    """By their definitions, with ties."""
    random = np.random.default_rng(5)
    shows, scores = random.random((60, 4)) < 0.3, random.integers(0, 12, (60, 4)) / 12
    for c in range(4):
        own, of = shows[:, c], scores[:, c]
        shares = [own[of >= of[i]].mean() for i in range(60) if own[i]]
        assert several.average_precision(own, of) == pytest.approx(np.mean(shares))
    best = max(several.f1(shows, scores >= threshold) for threshold in np.unique(scores))
    assert several.best_f1(shows, scores) == pytest.approx(best)


def test_pictures_side_by_side():
    colours = ["red", "green", "blue", "white"]
    for count in range(1, 5):
        square = several.side_by_side([Image.new("RGB", (300, 100 + 50 * i), c) for i, c in enumerate(colours[:count])])
        assert square.size == (448, 448)
        shown = {square.getpixel((x, y)) for x in (5, 442) for y in (5, 442)}
        assert shown == {ImageColor.getrgb(colour) for colour in colours[:count]}


def test_a_quick_run_of_pairs(tmp_path):
    if "caltech_pairs" not in pairs.names():
        pytest.skip("needs clip-vectors in the folder `shared` beside the checkout")
    page = tmp_path / "page.md"
    done = run("--sets", "caltech_pairs", "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "## By scenario" not in text, "there is no set of one vector"
    summary = rows_below(text.replace("\n###", "\n##"), "Likeness, in short")
    assert [row[0] for row in summary] == ["`gated-tip-x`", "**`likeness`, the default**", "tuned"]
    by_scenario = rows_below(text.replace("\n###", "\n##"), "Likeness, by scenario")
    # As above, without distractors.
    assert len(by_scenario) == 6 and all(len(row) == 7 for row in by_scenario)


def test_a_set_that_is_not_there_is_named():
    done = run("--sets", "caltech,nothing")
    assert done.returncode == 2 and "no set" in done.stderr and "nothing" in done.stderr


def test_expected_calibration_error():
    """Computed by hand: four images at 0.9, three of them right, and one wrong image at 0.5."""
    right = np.array([True, True, True, False, False])
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.5])
    assert expected_calibration_error(right, probability) == pytest.approx((4 * 0.15 + 1 * 0.5) / 5)
    assert expected_calibration_error(np.array([True]), np.array([1.0])) == 0


def test_the_mean_of_the_worst_tenth():
    assert mean_of_worst_tenth(np.arange(20.0)) == 0.5
    assert mean_of_worst_tenth(np.array([3.0, -1.0])) == -1


def made_up(categories: int, images: int) -> sets.Set:
    """A set of as many images of every category, and as many distractors."""
    truth = {i: i % categories for i in range(categories * images)}
    part = dict.fromkeys(truth, sets.LABELLED) | {len(truth) + i: sets.DISTRACTOR for i in range(images)}
    truth |= {i: -1 for i in part if i not in truth}
    return sets.Set("made up", "made_up", [f"c{c}" for c in range(categories)], None, truth, part, "default model")


@pytest.mark.parametrize(("categories", "shown"), [(4, 2), (40, 4)])
def test_tables_that_show_some_of_the_names(categories: int, shown: int):
    data = made_up(categories, 5)
    by_kind: dict[str, list[scenarios.Scenario]] = {}
    for one in scenarios.of(data, quick=False):
        by_kind.setdefault(one.kind, []).append(one)
    few, half = by_kind["few names"], by_kind["half, judged on those"]
    assert len(few) == scenarios.FEW_NAMES and len(half) == 2
    for one, count in [*((one, shown) for one in few), *((one, categories // 2) for one in half)]:
        assert one.categories == list(range(categories)), "the classifier has all names"
        assert one.pool.tolist() == one.judged.tolist() and len(one.pool) == 5 * count
        assert len({data.truth[int(i)] for i in one.pool}) == count
    assert {data.truth[int(i)] % 2 for i in half[0].pool} == {0}
    pools = [(one.pool.tolist(), len(one.judged)) for one in by_kind["half, all judged"]]
    assert pools == [(one.pool.tolist(), 5 * categories) for one in half]


def test_the_summary():
    """Two scenarios of ten images, one with two draws, and gains that can be counted."""

    def run(kind: str, **right: int) -> Measured:
        scenario = scenarios.Scenario(kind, [0, 1], np.arange(10), np.arange(10))
        shares = {method: right.get(method.replace("-", "_"), 5) for method in (*METHODS, TUNED)}
        labels = {method: Labels(np.arange(10) < count, np.ones(10)) for method, count in shares.items()}
        return Measured(made_up(2, 5), scenario, labels)

    study = Study([run("balanced", gated_tip_x=8), run("few names", gated_tip_x=3), run("few names", gated_tip_x=6)])
    rows = rows_below(f"\n## It\n{study.summary()}", "It")
    where = "(made up, default model: few names)"
    # Means of +30 and of -20 and +10; the worst tenth of three runs is one.
    heading = f"**`{DEFAULT}`, the default**"
    assert rows[-2] == [heading, "+12.50", f"-5.00 {where}", f"-20.00 {where}", "-20.00", "1 of 3"]
    assert rows[0][1] == "+0.00" and rows[0][-1] == "0 of 3"


def paint(folder: Path, names: list[str], seed: int) -> list[str]:
    """Writes a different picture for every name."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(picture(seed + i), "JPEG"))
    return names


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two sets as they are unpacked: one of folders, with sentences, and one that CoOp's file splits."""
    paint(tmp_path / "toys", [f"{category}/{i}.jpg" for category in ("red_car", "boat") for i in range(4)], 0)
    sentences = {"red_car": ["A car that is red."], "boat": ["A boat on a lake.", "A ship in a harbour."]}
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "toys.json").write_text(json.dumps(sentences))
    paths = paint(tmp_path / "pets" / "images", [f"{i}.jpg" for i in range(9)], 50)
    # The labels are in another order than the names.
    names = ["tabby_cat", "dog", "ant"]
    rows = [[path, i % 3, names[i % 3]] for i, path in enumerate(paths)]
    split = {"train": rows[:5], "val": rows[5:6], "test": rows[6:]}
    (tmp_path / "pets" / "split_zhou_Pets.json").write_text(json.dumps(split))
    return tmp_path


def test_sets_in_folders(published: Path):
    pets, toys = folders.find(published)
    assert (pets.name, pets.categories, pets.sentences) == ("pets", ["tabby cat", "dog", "ant"], {})
    images = published.resolve() / "pets" / "images"
    assert pets.judged == [(images / "6.jpg", "tabby cat"), (images / "7.jpg", "dog"), (images / "8.jpg", "ant")]
    assert [path.name for path, _ in pets.pool] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert (toys.name, toys.categories, toys.pool) == ("toys", ["boat", "red car"], None)
    assert [category for _, category in toys.judged] == ["boat"] * 4 + ["red car"] * 4
    assert toys.sentences["red car"] == ["A car that is red."]


def test_a_folder_that_is_one_set(published: Path):
    (toys,) = folders.find(published / "toys")
    assert len(toys.judged) == 8 and toys.sentences == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "split"], "both are needed"),
        (["--data", "/nowhere", "--model", "split"], "there is no folder /nowhere"),
        (["--data", ".", "--model", "split"], "no folder of categories"),
    ],
)
def test_what_the_table_of_the_paper_needs(tmp_path: Path, arguments: list[str], message: str):
    """An error without a traceback."""
    data = [str(tmp_path) if word == "." else word for word in arguments]
    done = run(*data, program="paper")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def zero_shot(sql, prompts: dict[str, list[str]], images: list[tuple[Path, str]]) -> float:
    """The share of right names in per cent, from the embeddings alone."""

    def embed(function: str, values: list) -> np.ndarray:
        rows = sql.column(f"SELECT embedding::real[] FROM susx.{function}(%s, 'tiny_split') ORDER BY ord", values)
        return np.array(rows, float)

    prototypes = np.array([embed("embed_texts", texts).mean(axis=0) for texts in prompts.values()])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    cosines = embed("embed_images", [path.read_bytes() for path, _ in images]) @ prototypes.T
    names = list(prompts)
    return 100 * float(np.mean([names[best] == truth for best, (_, truth) in zip(cosines.argmax(axis=1), images)]))


def test_the_table_of_the_paper(sql, published: Path, tmp_path: Path):
    page = tmp_path / "page.md"
    done = run("--data", published, "--model", "split", "--generator", "pndm", "--output", page, program="paper")
    assert done.returncode == 0, done.stderr
    rows = rows_below(f"\n## It\n{page.read_text()}", "It")
    supports = ["retrieved (SuS-LC)", "painted (SuS-SD)"]
    assert [row[:5] for row in rows] == [
        *(["pets", "3", "5", "names", support] for support in supports),
        *(["toys", "8", "the same", "names", support] for support in supports),
        *(["toys", "8", "the same", "CuPL+e", support] for support in supports),
        *(["**mean of 2**", "", "", "names", support] for support in supports),
    ]
    pets, toys = folders.find(published)
    prompts = [{name: [f"a photo of a {name}."] for name in data.categories} for data in (pets, toys)]
    both = {name: prompts[1][name] + toys.sentences[name] for name in toys.categories}
    expected = [zero_shot(sql, prompts[0], pets.judged), zero_shot(sql, prompts[1], toys.judged)]
    expected += [zero_shot(sql, both, toys.judged), sum(expected) / 2]
    assert [row[5] for row in rows] == [f"{share:.2f}" for share in expected for _ in supports]
    for row in rows[:6]:
        counts = np.array(row[5:], float) * int(row[1]) / 100
        assert counts == pytest.approx(counts.round(), abs=0.01), row


def test_auroc():
    """Counted by hand: of six pairs four are in order, and one is a tie."""
    known, unknown = np.array([0.9, 0.5, 0.3]), np.array([0.5, 0.2])
    assert auroc(known, unknown) == pytest.approx(4.5 / 6)
    assert auroc(unknown, known) == pytest.approx(1.5 / 6)
    assert auroc(np.ones(3), np.ones(2)) == 0.5


def test_fpr95():
    """The threshold lets 19 of 20 pass: all but the least."""
    known = np.arange(20) / 20
    assert fpr95(known, np.array([0.0, 0.04, 0.05, 0.5])) == 0.5
    assert fpr95(known, np.array([0.0])) == 0 and fpr95(known, np.array([2.0])) == 1


def test_the_table_of_rejected_images():
    """Of four images two are right, and the threshold keeps three of them, one wrong, and one of two distractors."""
    labelled = Answers(np.array([True, True, False, False]), np.full(4, 0.5), np.array([0.9, 0.8, 0.7, 0.1]))
    distractors = Answers(np.zeros(2, bool), np.full(2, 0.5), np.array([0.2, 0.75]))
    text = section([Run(made_up(2, 2), "without distractors", labelled, distractors, 0.6)])
    ((*where, area, passing, of_probability, threshold, before, after, kept, rejected),) = rows_below(
        f"\n## It\n{text}", "It"
    )
    assert where == ["made up, default model", "without distractors", "4, 2"]
    # Pairs in order: 2 + 2 + 1 + 0 of 8. At 95 % all four must pass, and so both distractors do.
    assert (area, passing, of_probability) == ("62.5", "100.0", "50.0, 100.0")
    assert (threshold, before, after, kept, rejected) == ("0.600", "50.0", "66.7", "75.0", "50.0")
