"""Limits on what a caller may ask of the inference process: lengths, numbers, names, and their cost to others."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from conftest import GENERATOR
from helpers.logs import log_of
from helpers.models import new_model_dir
from helpers.processes import PROMPTLY, eventually, servers
from helpers.session import array, cosine, in_background
from helpers.settings import restarted

pytestmark = pytest.mark.same_everywhere

EMBED = "SELECT susx.embed_text(%s, %s)"
LIMIT = 1 << 20

EVIL = "evil"


@pytest.fixture(scope="module")
def own_cluster(new_cluster, model_dir):
    """With a model directory that the tests may add to."""
    folder = new_model_dir()
    for name in ("demo", "tiny_split", "tiny_siglip", GENERATOR):
        shutil.copytree(model_dir / name, folder / name)
    with new_cluster(**{"susx.model_dir": folder, "susx.model": "tiny_split"}) as cluster:
        cluster.models = folder
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def same(one: str, other: str) -> bool:
    return cosine(array(one), array(other)) > 1 - 1e-6


@pytest.mark.parametrize("model", ["demo", "tiny_split", "tiny_siglip"])
@pytest.mark.parametrize("word", ["word ", "слово ", "naïve, café's ", "a" * 300 + " "])
def test_what_a_model_cannot_see_changes_nothing(sql, model, word):
    """A megabyte of words gives the embedding of its beginning, at about the same cost."""
    beginning = word * (4000 // len(word.encode()) + 200)
    started = time.monotonic()
    long = (word * (LIMIT // len(word.encode())))[: LIMIT // 2]
    assert same(sql.one(EMBED, long, model), sql.one(EMBED, beginning, model))
    assert time.monotonic() - started < PROMPTLY


def test_a_million_spaces_and_a_word(sql):
    """Where a text can only be read as a whole, it is: what is at its end counts."""
    spaces = " " * 1_000_000
    assert same(sql.one(EMBED, "a" + spaces + "cat", "demo"), sql.one(EMBED, "a cat", "demo"))
    assert same(sql.one(EMBED, spaces + "cat", "demo"), sql.one(EMBED, "cat", "demo"))
    assert not same(sql.one(EMBED, "a" + spaces + "cat", "demo"), sql.one(EMBED, "a", "demo"))


def refused(refusal, found: int, limit: int = LIMIT) -> bool:
    assert refusal.sqlstate == "54000", refusal
    assert f"{found} bytes" in refusal.message and str(limit) in refusal.message, refusal
    assert "susx.max_text_bytes" in refusal.hint
    return True


def test_longest_texts(sql):
    """One byte more than the limit is an error, wherever a text comes from."""
    most, more = "x" * LIMIT, "x" * (LIMIT + 1)
    assert sql.one("SELECT vector_dims(susx.embed_text(%s))", most) == 32
    assert sql.one("SHOW susx.max_text_bytes") == "1MB"
    assert refused(sql.fails("SELECT susx.embed_text(%s)", more), LIMIT + 1)
    # Of many texts it costs itself.
    rows = sql.rows("SELECT embedding IS NULL, error FROM susx.embed_texts(ARRAY['a', %s, 'b'])", more)
    assert [row[0] for row in rows] == [False, True, False]
    assert str(LIMIT + 1) in rows[1][1] and str(LIMIT) in rows[1][1]
    for call in (
        "SELECT susx.create_classifier('c', '{a,b}', templates => ARRAY['{}' || %s])",
        "SELECT susx.create_classifier('c', ARRAY['a', %s])",
    ):
        refusal = sql.fails(call, "x" * (2 * LIMIT))
        assert refusal.sqlstate in ("54000", "22023"), refusal
    sql.run("SELECT susx.create_classifier('c', '{a,b}')")
    refusal = sql.fails("SELECT susx.add_prompts('c', %s::jsonb)", json.dumps({"a": ["x" * (2 * LIMIT)]}))
    assert refusal.sqlstate in ("54000", "22023"), refusal
    generate = "SELECT * FROM susx.generate_images(%s, steps => 1, negative_prompt => %s)"
    for prompt, negative_prompt in ((more, None), ("a", more)):
        refusal = sql.fails(generate, [prompt], negative_prompt)
        assert refusal.sqlstate == "54000" and str(LIMIT + 1) in refusal.message, refusal


def test_a_text_of_half_a_gigabyte(sql):
    """It is refused by its length, before it is copied or sent."""
    started = time.monotonic()
    assert refused(sql.fails("SELECT susx.embed_text(repeat('word ', 100000000))"), 500_000_000)
    assert time.monotonic() - started < PROMPTLY
    sql.run("CREATE TABLE texts AS SELECT repeat('word ', 20000000) AS text")
    started = time.monotonic()
    assert refused(sql.fails("SELECT susx.embed_text(text) FROM texts"), 100_000_000)
    # From its header: it was neither fetched nor decompressed.
    assert time.monotonic() - started < PROMPTLY


def test_another_limit(sql, cluster):
    with restarted(cluster, max_text_bytes="10B"):
        assert sql.one("SELECT vector_dims(susx.embed_text('0123456789'))") == 32
        assert refused(sql.fails("SELECT susx.embed_text('0123456789a')"), 11, 10)
        assert refused(sql.fails("SELECT susx.embed_text('äöüßäö')"), 12, 10)


def test_cancelled_texts_hold_nobody_up(sql, connect, cluster):
    """Two sessions have long texts read as a whole, and give up; a third is not made to wait for what is left."""
    # No space that follows a letter: the tokenizer has to read all of it.
    hard = "東京." * (LIMIT // 10)
    assert sql.one(EMBED, "a", "demo")
    sessions = [connect() for _ in range(2)]
    for session in sessions:
        session.run("SET statement_timeout = '1s'")
    many = "SELECT count(*) FROM susx.embed_texts(array_fill(%s::text, ARRAY[200]), 'demo')"
    calls = [lambda session=session: session.fails(many, hard).sqlstate for session in sessions]
    with in_background(*calls) as results:
        pass
    assert results == ["57014"] * 2
    started = time.monotonic()
    assert sql.one(EMBED, "a cat", "demo")
    # What was taken before is finished, one text for each thread; all of them would take minutes.
    assert time.monotonic() - started < PROMPTLY
    assert eventually(lambda: sql.one("SELECT queue_inputs FROM susx.stat_server") == 0)


CATASTROPHIC = [r"(a+)+$", r"(a|aa)+$", r"^(([a-z])+.)+[A-Z]([a-z])+$"]


def hostile(cluster, expression: str, where: str) -> None:
    """A model whose tokenizer has this expression."""
    folder = cluster.models / EVIL
    if not folder.exists():
        shutil.copytree(cluster.models / "tiny_split", folder)
    tokenizer = json.loads((cluster.models / "tiny_split" / "tokenizer.json").read_text())
    if where == "normalizer":
        tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": expression}, "content": "x"}
    else:
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Removed", "invert": True}
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("where", ["normalizer", "pre_tokenizer"])
@pytest.mark.parametrize("expression", CATASTROPHIC)
def test_an_expression_that_takes_for_ever(sql, connect, cluster, expression, where):
    """It ends with an error that names the model, and other models and sessions go on."""
    name = f"{EVIL}{CATASTROPHIC.index(expression)}{where}"
    folder = cluster.models / EVIL
    hostile(cluster, expression, where)
    folder.rename(cluster.models / name)
    assert sql.one(EMBED, "a cat", "demo")
    (server,) = servers(cluster.data_dir)
    other = connect()
    with in_background(lambda: sql.fails(EMBED, "a" * 50_000 + "!", name)) as results:
        for _ in range(5):
            started = time.monotonic()
            assert other.one(EMBED, "a dog", "demo")
            assert time.monotonic() - started < PROMPTLY
    (refusal,) = results
    assert name in refusal.message, refusal
    assert servers(cluster.data_dir) == [server]
    assert sql.one(EMBED, "a cat", "tiny_split")


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ("steps => 0", "steps"),
        ("steps => 1001", "steps"),
        ("steps => 2147483647", "steps"),
        ("width => 4104", "width"),
        ("height => 2147483647", "height"),
        ("width => 12", "width"),
        ("guidance_scale => 101", "guidance_scale"),
        ("guidance_scale => 'NaN'", "guidance_scale"),
        ("guidance_scale => 1e300", "guidance_scale"),
    ],
)
def test_numbers_of_a_generator(sql, arguments, argument):
    refusal = sql.fails(f"SELECT * FROM susx.generate_images('{{a}}', {arguments})")
    assert refusal.sqlstate in ("22023", "54000"), refusal
    assert argument in refusal.message


def test_names(sql):
    """A name that is too long for any file, or that is none."""
    for name in ("x" * 10_000_000, "x" * 256, "../demo", "no such model"):
        refusal = sql.fails(EMBED, "a", name)
        assert refusal.sqlstate == "42704" and len(refusal.message) < 1000, refusal.message[:1000]


ODD = "\x1b[31mred\x1b[0m\nERROR:  forged\t\u202e\x7f"
SHOWN = r"\u{1b}[31mred\u{1b}[0m\nERROR:  forged\t\u{202e}\u{7f}"


def test_names_and_texts_reach_the_log_escaped(sql, connect, cluster):
    """Neither a terminal that shows the log, nor one who reads it, is led astray."""
    sql.run("SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_parameter_max_length = 0")
    sql.run("SELECT susx.create_classifier('odd', %s::text[], text_embeddings => ARRAY['[1,0]','[0,1]']::vector[])", [ODD, "b"])
    with log_of(cluster) as log:
        calls = {
            "SELECT susx.embed_text('a', %s)": ODD,
            "SELECT susx.create_classifier('bad', ARRAY[%s, %s])": None,
            "SELECT * FROM susx.add_support('odd', %s, ARRAY['[1,0]']::vector[])": ODD + "x",
            "SELECT susx.alter_classifier('odd', method => %s)": ODD,
            "SELECT * FROM susx.generate_images('{a}', %s)": ODD,
        }
        for call, argument in calls.items():
            refusal = sql.fails(call, *([ODD, ODD] if argument is None else [argument]))
            assert "\x1b" not in refusal.message + refusal.hint and "\n" not in refusal.message, refusal
        assert SHOWN in log()
        assert not any(c in log() for c in "\x1b\x7f\u202e")
        assert not any(line.startswith("ERROR:  forged") for line in log().splitlines())
