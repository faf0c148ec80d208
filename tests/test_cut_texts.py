"""A text that is longer than the model's context is cut with a WARNING that names it, wherever texts are embedded."""

from __future__ import annotations

import itertools
import json

import pytest
import tokenizers

from helpers.session import array, cosine

pytestmark = pytest.mark.same_everywhere

MODEL = "tiny_split"
CONTEXT = {"tiny_split": 77, "tiny_siglip": 64}
WORDS = ("cat", "dog", "photo", "red")
TRUNCATED = "01004"


@pytest.fixture
def warnings(sql):
    """The SQLSTATE and the message of every WARNING since the last call."""
    found = []
    sql.connection.add_notice_handler(
        lambda notice: found.append((notice.sqlstate, notice.message_primary)) if notice.severity == "WARNING" else None
    )

    def take() -> list[str]:
        taken = [message for _, message in found]
        assert all(sqlstate == TRUNCATED for sqlstate, _ in found), found
        found.clear()
        return taken

    return take


@pytest.fixture
def fitting(model_dir):
    """The longest text of some words that a model reads whole, by the tokenizer's own library."""

    def find(model: str, first: str = "") -> str:
        tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / model / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        text = first
        for word in itertools.cycle(WORDS):
            longer = f"{text} {word}".strip()
            if len(tokenizer.encode(longer).ids) > CONTEXT[model]:
                return text
            text = longer
        raise AssertionError

    return find


def beyond(text: str, rest: str = "zebra") -> str:
    return f"{text} zebra {rest}"


def says(warning: str, model: str, *names: str) -> bool:
    return f"longer than the {CONTEXT[model]} tokens" in warning and all(name in warning for name in names)


@pytest.mark.parametrize("model", CONTEXT)
def test_embed_text(sql, warnings, fitting, model):
    whole = fitting(model)
    embed = "SELECT susx.embed_text(%s, %s)::text"
    assert len(array(sql.one(embed, whole, model))) > 1 and warnings() == []
    one, two = (array(sql.one(embed, beyond(whole, rest), model)) for rest in ("a", "b"))
    found = warnings()
    assert len(found) == 2 and all(says(warning, model, f'the text "{whole[:80]}…"') for warning in found), found
    # The rest plays no part.
    assert cosine(one, two) > 0.999999
    # However long.
    assert cosine(one, array(sql.one(embed, beyond(whole) * 2000, model))) > 0.999999
    assert len(warnings()) == 1


def test_embed_texts(sql, warnings, fitting):
    whole = fitting(MODEL)
    query = "SELECT count(embedding) FROM susx.embed_texts(%s, %s)"
    assert sql.one(query, ["a cat", whole, None], MODEL) == 2 and warnings() == []
    assert sql.one(query, ["a", None, beyond(whole), "b", beyond(whole, "x")], MODEL) == 4
    (found,) = warnings()
    assert says(found, MODEL, "element 3 of texts", "element 5 of texts", " are longer") and "element 4" not in found
    # Two batches of the client, and more than a WARNING names.
    assert sql.one(query, ["a"] * 300 + [beyond(whole, str(i)) for i in range(25)], MODEL) == 325
    (found,) = warnings()
    assert says(found, MODEL, "element 301 ", "element 310 ", "and 15 more are longer") and "element 311 " not in found


def test_one_by_one(sql, warnings, fitting):
    whole = fitting(MODEL)
    query = "SELECT count(susx.embed_text(n %% %s || %s, %s)) FROM generate_series(1, 40) n"
    assert sql.one(query, 1, beyond(whole), MODEL) == 40
    assert len(warnings()) == 1
    assert sql.one(query, 40, beyond(whole), MODEL) == 40
    assert len(warnings()) == 10
    # The next statement tells again, also in a block.
    with sql.connection.transaction():
        assert sql.one(query, 1, beyond(whole), MODEL) == 40
    assert len(warnings()) == 1


def test_create_classifier(sql, warnings, fitting):
    long = beyond(fitting(MODEL, "lion"))
    create = "SELECT susx.create_classifier('pets', %s, %s, %s)"
    sql.run(create, ["cat", long], ["a photo of a {}.", "{}"], MODEL)
    (found,) = warnings()
    assert says(found, MODEL, 'category "lion cat dog', 'the prompt "a photo of a lion cat') and 'category "cat"' not in found
    assert sql.one("SELECT count(category) FROM pets") == 4


def test_categories_that_differ_after_the_cut(sql, warnings, fitting):
    whole = fitting(MODEL)
    create = "SELECT susx.create_classifier('pets', %s, %s, %s)"
    for categories, templates in (
        (["cat", beyond(whole, "one"), beyond(whole, "two")], ["{}", "a photo of a {}."]),
        # Or the template leaves no room for names.
        (["cat", "dog"], [f"{beyond(whole)} {{}}"]),
    ):
        refusal = sql.fails(create, categories, templates, MODEL)
        assert refusal.sqlstate == "22023" and "differ only after the 77 tokens" in refusal.message
        assert f'"{categories[-2][:80]}' in refusal.message and f'"{categories[-1][:80]}' in refusal.message
        assert "shorter" in refusal.hint
        assert sql.one("SELECT to_regclass('pets')") is None
    warnings()
    # One of the templates tells them apart.
    sql.run(create, ["cat", "dog"], [f"{beyond(whole)} {{}}", "{}"], MODEL)
    assert len(warnings()) == 1


@pytest.fixture
def pets(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => %s)", MODEL)
    return sql


def test_add_prompts(pets, warnings, fitting):
    whole = fitting(MODEL)
    prompts = {"cat": ["a cat", whole], "dog": [whole, beyond(whole)]}
    assert pets.one("SELECT susx.add_prompts('pets', %s)", json.dumps(prompts)) == 4
    (found,) = warnings()
    assert says(found, MODEL, 'category "dog", element 2 is longer') and '"cat"' not in found


def test_add_negatives(pets, warnings, fitting):
    assert pets.one("SELECT susx.add_negatives('pets', %s)", ["lamp", beyond(fitting(MODEL))]) == 2
    (found,) = warnings()
    assert says(found, MODEL, 'name "cat dog') and "lamp" not in found


def test_rows_written_by_hand(pets, warnings, fitting):
    long = beyond(fitting(MODEL))
    pets.run("INSERT INTO pets (category, kind, origin, prompt) VALUES ('cat', 'prompt', 'given', 'my cat')")
    assert warnings() == []
    pets.run("INSERT INTO pets (category, kind, origin, prompt) VALUES ('dog', 'prompt', 'given', %s)", long)
    (found,) = warnings()
    assert says(found, MODEL, f'category "dog": the prompt "{long[:80]}…"')
    pets.run("UPDATE pets SET embedding = NULL")
    (found,) = warnings()
    assert says(found, MODEL, 'category "dog"')
    same = "SELECT susx.embed_text(prompt, %s)::text = embedding::text FROM pets WHERE prompt = %s"
    assert pets.one(same, MODEL, long) is True
