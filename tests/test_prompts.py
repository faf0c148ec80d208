"""add_prompts: files of CuPL, whose sentences join the prompts of the templates (CuPL+e)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from helpers.session import array, vector
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

ADD = "SELECT susx.add_prompts('pets', %s::jsonb)"
ROWS = "SELECT category, prompt FROM pets WHERE origin = 'cupl' ORDER BY id"
EVERYTHING = "SELECT array_agg(p ORDER BY id)::text FROM pets p"

FILE = {
    "cat": ["A cat is a small, furry animal.", "Whiskers; pointed ears. \n", "A cat is a small, furry animal."],
    "polar bear": ["A large white bear on the ice.", 'It\'s called "ice bear", 東京 🙂'],
}


@pytest.fixture
def pets(sql):
    sql.run("SELECT susx.create_classifier('pets', '{polar bear,cat,dog}', model => 'tiny_split')")
    return sql


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def prototypes(sql, texts):
    """The normalised mean of the normalised embeddings of each category's prompts, in numpy."""

    def prototype(own):
        rows = [array(sql.one("SELECT susx.embed_text(%s, 'tiny_split')::text", text)) for text in own]
        return unit(np.mean(unit(np.array(rows)), axis=0))

    return {category: prototype(own) for category, own in texts.items()}


def zero_shot(sql, query):
    scale = sql.one("SELECT logit_scale FROM susx.classifier WHERE classifier = 'pets'::regclass")
    rows = sql.rows("SELECT category, score FROM susx.classify('pets', %s::vector, 100, 'zero-shot')", vector(query))
    return {category: score / scale for category, score in rows}


def test_the_mean_of_all_prompts(pets):
    """CuPL+e: templates and sentences count alike, also a sentence that is there twice."""
    assert pets.one(ADD, json.dumps(FILE)) == 5
    texts = {name: [f"a photo of a {name}.", *FILE.get(name, [])] for name in ("polar bear", "cat", "dog")}
    expected = prototypes(pets, texts)
    # Each axis of the space shows one component of every prototype.
    for query in np.eye(32):
        found = zero_shot(pets, query)
        assert found == pytest.approx({name: weight @ query for name, weight in expected.items()}, abs=2e-6)


def test_the_rows_that_it_adds(pets):
    pets.run(ADD, json.dumps(FILE))
    found = {}
    for category, prompt in pets.rows(ROWS):
        found.setdefault(category, []).append(prompt)
    assert found == FILE
    assert pets.rows("SELECT DISTINCT kind, source_key, image, similarity FROM pets WHERE kind <> 'settings'") == [("prompt", None, None, None)]
    # The categories keep their order, and those that the file leaves out are as before.
    templates = pets.column("SELECT category FROM pets WHERE origin = 'template' ORDER BY id")
    assert templates == ["polar bear", "cat", "dog"]


def test_added_again(pets):
    assert pets.one(ADD, '{"dog": ["a dog asleep"]}') == 1
    assert pets.one(ADD, '{"dog": ["a dog asleep", "a dog awake"]}') == 2
    assert pets.rows(ROWS) == [("dog", "a dog asleep"), ("dog", "a dog asleep"), ("dog", "a dog awake")]


def test_more_sentences_than_go_together(pets):
    """Each keeps its own embedding across the batches."""
    file = {"cat": [f"a cat of {i} years" for i in range(1500)], "dog": [f"dog number {i}" for i in range(700)]}
    assert pets.one(ADD, json.dumps(file)) == 2200
    rows = pets.rows("SELECT category, prompt, embedding::text FROM pets WHERE origin = 'cupl' ORDER BY id")
    assert [row[1] for row in rows] == file["cat"] + file["dog"]
    for category, prompt, embedding in rows[::173] + rows[1020:1028]:
        assert prompt in file[category]
        expected = array(pets.one("SELECT susx.embed_text(%s, 'tiny_split')::text", prompt))
        assert array(embedding) == pytest.approx(expected, abs=1e-5)


def test_they_ask_for_a_support_set(pets):
    pets.run(ADD, json.dumps({name: [f"{name}, seen from above"] for name in ("cat", "dog", "polar bear")}))
    pets.run("CREATE TABLE pool AS SELECT id, embedding FROM pets; ALTER TABLE pool ADD PRIMARY KEY (id)")
    pets.run("SELECT susx.build_support_set('pets', 'pool', prompting => 'cupl')")
    asked = pets.column("SELECT DISTINCT prompt FROM pets WHERE kind = 'image'")
    assert asked and all(prompt.endswith("seen from above") for prompt in asked)


DEEP = '{"cat": ' + "[" * 300 + "]" * 300 + "}"


@pytest.mark.parametrize(
    "file, named",
    [
        ('["a cat"]', "an object with one key per category, not an array"),
        ("null", "not null"),
        ("7", "not a number"),
        ("{}", "no category"),
        ('{"cat": "a cat"}', 'category "cat": expected an array of sentences, not a string'),
        ('{"cat": {"a": 1}}', 'category "cat": expected an array of sentences, not an object'),
        ('{"cat": ["a cat"], "dog": []}', 'category "dog" has no sentence'),
        ('{"cat": ["a cat", "b", null]}', 'category "cat", element 3: expected a string, not null'),
        ('{"cat": ["a cat", ["b"]]}', 'category "cat", element 2: expected a string, not an array'),
        ('{"cat": ["a cat", ""]}', 'category "cat", element 2: the sentence is empty'),
        ('{"cat": ["a cat", " \\t"]}', 'category "cat", element 2: the sentence is empty'),
        ('{"cat": [1e999]}', "cannot be read"),
        pytest.param(DEEP, "cannot be read", id="deep"),
    ],
)
def test_what_is_no_file_of_sentences(pets, file, named):
    before = pets.one(EVERYTHING)
    refusal = pets.fails(ADD, file)
    assert refusal.sqlstate == "22023"
    assert named in refusal.message
    assert '{"category": ["sentence"' in refusal.hint
    assert pets.one(EVERYTHING) == before


def test_unknown_categories_are_all_named(pets):
    before = pets.one(EVERYTHING)
    refusal = pets.fails(ADD, '{"cat": ["a cat"], "Cat": ["a cat"]}')
    assert (refusal.sqlstate, refusal.message) == ("42704", 'category "Cat" of classifier "pets" does not exist')
    refusal = pets.fails(ADD, '{"cat": ["a cat"], "c": ["x"], "b": ["x"], "a": ["x"]}')
    assert refusal.message == 'categories "a", "b" and "c" of classifier "pets" do not exist'
    assert refusal.hint == "Its categories: polar bear, cat, dog."
    refusal = pets.fails(ADD, json.dumps({f"x{i:02}": ["x"] for i in range(13)}))
    assert '"x00", "x01"' in refusal.message and '"x09" and 3 more' in refusal.message
    assert "x10" not in refusal.message
    assert pets.one(EVERYTHING) == before


def test_a_classifier_without_a_model(sql):
    create_compass(sql)
    refusal = sql.fails("SELECT susx.add_prompts('compass', '{\"east\": [\"where the sun rises\"]}')")
    assert refusal.sqlstate == "55000"
    assert "model" in refusal.message and "alter_classifier" in refusal.hint


def test_no_classifier(sql):
    sql.run("CREATE TABLE plain (i int)")
    assert sql.fails("SELECT susx.add_prompts('plain', '{\"a\": [\"b\"]}')").sqlstate == "42704"


@pytest.fixture
def only_images(model_dir):
    """The name of a model that cannot embed texts."""
    folder = shutil.copytree(model_dir / "tiny_split", model_dir / "only_images")
    (folder / "onnx" / "text_model.onnx").unlink()
    yield folder.name
    shutil.rmtree(folder)


def test_a_sentence_that_cannot_be_embedded(sql, only_images):
    """The error names it, and nothing is added."""
    embedding = vector(np.eye(32)[0])
    sql.run("SELECT susx.create_classifier('pets', '{cat}', text_embeddings => ARRAY[%s::vector])", embedding)
    sql.run("SELECT susx.alter_classifier('pets', model => %s)", only_images)
    refusal = sql.fails(ADD, '{"cat": ["a cat", "another"]}')
    assert refusal.sqlstate == "22P03"
    assert 'category "cat", element 1: ' in refusal.message
    assert sql.one("SELECT count(*) FROM pets WHERE kind = 'prompt'") == 1


def test_a_model_of_other_dimensions(pets, sql):
    """As after another model was put into the directory."""
    sql.run("UPDATE susx.classifier SET model = 'demo', model_sha256 = NULL WHERE classifier = 'pets'::regclass")
    for query in (
        "SELECT susx.add_prompts('pets', '{\"cat\": [\"a cat\"]}')",
        "INSERT INTO pets (category, kind, prompt) VALUES ('cat', 'prompt', 'a cat')",
    ):
        refusal = sql.fails(query)
        assert refusal.sqlstate == "22000"
        assert "32 dimensions, not 512" in refusal.message
    assert sql.one("SELECT count(*) FROM pets WHERE kind = 'prompt'") == 3


def test_rights(pets, schema, connect):
    """Who may only read is told so before anything is embedded, whatever the file holds."""
    admin = connect()
    admin.run(f"CREATE ROLE carol LOGIN; GRANT USAGE ON SCHEMA {schema} TO carol")
    try:
        carol = connect(user="carol")
        carol.run(f"SET search_path = {schema}, public")
        for grant in ("", "GRANT SELECT ON pets TO carol"):
            pets.run(grant)
            # # Not even a valid file: rights are checked first.
            for file in ('{"dog": ["a dog"]}', "7"):
                refusal = carol.fails(ADD, file)
                assert refusal.sqlstate == "42501"
                assert "pets" in refusal.message
        pets.run("GRANT INSERT (category, kind, origin, prompt, embedding) ON pets TO carol")
        assert carol.one(ADD, '{"dog": ["a dog"]}') == 1
        # Rows go through the caller's policies.
        pets.run(
            "ALTER TABLE pets ENABLE ROW LEVEL SECURITY; CREATE POLICY look ON pets FOR SELECT USING (true); "
            "CREATE POLICY add ON pets FOR INSERT WITH CHECK (category <> 'dog')"
        )
        assert carol.fails(ADD, '{"dog": ["a dog"]}').sqlstate == "42501"
        assert carol.one(ADD, '{"cat": ["a cat"]}') == 1
        carol.close()
    finally:
        admin.run("DROP OWNED BY carol; DROP ROLE carol")


SCORE = "SELECT category, score FROM susx.classify('pets', susx.embed_text('a dog asleep', 'tiny_split'), 3)"

CHANGES = {
    "add_prompts": "SELECT susx.add_prompts('pets', '{\"dog\": [\"a dog asleep\"]}')",
    "insert": "INSERT INTO pets (category, kind, origin, prompt) VALUES ('dog', 'prompt', 'cupl', 'a dog asleep')",
    "delete": "DELETE FROM pets WHERE prompt = 'a photo of a dog.'",
    "insert a category": "INSERT INTO pets (category, kind, prompt) VALUES ('ox', 'prompt', 'a dog asleep')",
    "embed again": "UPDATE pets SET prompt = 'a dog asleep', embedding = NULL WHERE category = 'dog'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_session_sees_it_at_commit(pets, schema, connect, change):
    other = connect()
    other.run(f"SET search_path = {schema}, public")
    before = other.rows(SCORE)
    pets.run("BEGIN")
    pets.run(CHANGES[change])
    changed = pets.rows(SCORE)
    assert changed != before
    assert other.rows(SCORE) == before
    pets.run("COMMIT")
    assert other.rows(SCORE) == changed

    pets.run("BEGIN; DELETE FROM pets WHERE category = 'cat'")
    assert other.rows(SCORE) == changed
    pets.run("ROLLBACK")
    assert other.rows(SCORE) == pets.rows(SCORE) == changed


def test_labels_change_at_commit(pets, schema, connect):
    """A sentence that says what the query says wins it, from the commit on and until it is deleted."""
    label = "SELECT susx.label('pets', susx.embed_text('a dog asleep', 'tiny_split'))"
    other = connect()
    other.run(f"SET search_path = {schema}, public")
    pets.run("INSERT INTO pets (category, kind, prompt) VALUES ('sleeper', 'prompt', 'something else')")
    assert other.one(label) != "sleeper"
    pets.run("BEGIN; UPDATE pets SET prompt = 'a dog asleep', embedding = NULL WHERE category = 'sleeper'")
    assert other.one(label) != "sleeper"
    pets.run("COMMIT")
    assert other.one(label) == "sleeper"
    pets.run("DELETE FROM pets WHERE category = 'sleeper'")
    assert other.one(label) != "sleeper"
