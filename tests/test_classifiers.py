"""Creating classifiers and changing their settings."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from helpers.pictures import encode, picture
from helpers.session import array, cosine, vector
from helpers.toy import create_compass
from tools.paths import ROOT

SETTINGS = """
    SELECT model, method, alpha, beta, gamma, temperature, logit_scale, lambda, ridge
    FROM susx.classifier WHERE classifier = %s::regclass"""


def documented(who):
    """The row of docs/defaults.md: the starting values by name."""
    (row,) = re.findall(
        rf"^\| {who}[^|]*\|(.*)\|$", (ROOT / "docs" / "defaults.md").read_text().split("**The rule.**")[0], re.MULTILINE
    )
    return dict(zip(("logit_scale", "alpha", "beta", "gamma", "temperature", "lambda"), map(float, row.split("|"))))


@pytest.mark.parametrize("model, who", [("demo", "demo model"), ("tiny_split", "CLIP"), (None, "CLIP")])
def test_starting_values(sql, model, who):
    """The model's own (susx.json), else CLIP's: as documented."""
    if model:
        sql.run("SELECT susx.create_classifier('compass', '{east,north}', model => %s)", model)
    else:
        create_compass(sql)
    ((found_model, method, *numbers),) = sql.rows(SETTINGS, "compass")
    assert (found_model, method) == (model, None)
    expected = documented(who)
    assert numbers == pytest.approx(
        [*(expected[name] for name in ("alpha", "beta", "gamma", "temperature", "logit_scale", "lambda")), 3]
    )


def test_the_model_s_file_says_the_same(sql, model_dir):
    assert json.loads((model_dir / "demo" / "susx.json").read_text()) == documented("demo model")


def test_prompts(sql):
    """Each template with each name, in their orders; the embedding is that of the prompt."""
    templates = ["a photo of a {}.", "{}, drawn by a {}"]
    table = sql.one("SELECT susx.create_classifier('kinds', '{cat,polar bear}', templates => %s)::text", templates)
    assert table == "kinds"
    rows = sql.rows("SELECT category, kind, origin, prompt, source_key, image, similarity FROM kinds WHERE kind <> 'settings' ORDER BY id")
    assert [row[:4] for row in rows] == [
        ("cat", "prompt", "template", "a photo of a cat."),
        ("cat", "prompt", "template", "cat, drawn by a cat"),
        ("polar bear", "prompt", "template", "a photo of a polar bear."),
        ("polar bear", "prompt", "template", "polar bear, drawn by a polar bear"),
    ]
    assert all(row[4:7] == (None, None, None) for row in rows)
    for prompt, embedding in sql.rows("SELECT prompt, embedding::text FROM kinds WHERE kind = 'prompt'"):
        assert cosine(array(embedding), array(sql.one("SELECT susx.embed_text(%s)::text", prompt))) > 0.99999
    sql.run("SELECT susx.create_classifier('default', '{cat}')")
    assert sql.column("SELECT prompt FROM \"default\" WHERE kind = 'prompt'") == ["a photo of a cat."]


def test_prompts_are_ensembled(sql):
    """A category's prototype is the mean of its prompts' unit vectors, however long they are."""
    create_compass(sql)
    sql.run("INSERT INTO compass (category, kind, embedding) VALUES ('east', 'prompt', '[0,9]')")
    assert sql.one(
        "SELECT score FROM susx.classify('compass', '[1,1]'::vector) WHERE category = 'east'"
    ) == pytest.approx(100, abs=1e-3)


def test_text_embeddings(sql):
    """They are kept as given, with origin `given`, and without a prompt or a model."""
    vectors = [vector([3, 4]), vector([0, 0.5])]
    sql.run(
        "SELECT susx.create_classifier('compass', ARRAY['näw \"x\"', 'b'], text_embeddings => %s::vector[])", vectors
    )
    rows = sql.rows("SELECT category, kind, origin, prompt, embedding::text FROM compass WHERE kind <> 'settings' ORDER BY id")
    assert rows == [('näw "x"', "prompt", "given", None, "[3,4]"), ("b", "prompt", "given", None, "[0,0.5]")]
    assert sql.rows("SELECT model, model_sha256 FROM susx.classifier WHERE classifier = 'compass'::regclass") == [
        (None, None)
    ]


def test_many_categories(sql):
    """More names than go into a request, in the order in which they were given."""
    names = [f"thing number {i}" for i in range(300)]
    sql.run("SELECT susx.create_classifier('kinds', %s, model => 'tiny_split')", names)
    assert sql.column("SELECT category FROM kinds WHERE kind = 'prompt' ORDER BY id") == names
    found = sql.rows("SELECT k.category, susx.label('kinds', k.embedding) FROM kinds k WHERE kind = 'prompt' AND id % 30 = 0")
    assert len(found) == 10
    assert all(own == label for own, label in found)


def test_one_category(sql):
    sql.run("SELECT susx.create_classifier('kinds', '{cat}', text_embeddings => ARRAY['[1,0]'::vector])")
    sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY['[1,0.5]', '[1,0.2]']::vector[])")
    assert sql.rows("SELECT category, probability FROM susx.classify('kinds', '[0,1]'::vector, 5)") == [("cat", 1)]


def test_alter(sql):
    """Only the named settings change; NULL leaves one as it is."""
    create_compass(sql)
    for name in ("alpha", "beta", "gamma", "temperature", "logit_scale", "lambda", "ridge"):
        ((_, method, *before),) = sql.rows(SETTINGS, "compass")
        sql.run(f"SELECT susx.alter_classifier('compass', {name} => 0.123)")
        ((_, _, *after),) = sql.rows(SETTINGS, "compass")
        assert sum(a != b for a, b in zip(before, after)) == 1
        assert sql.one(f"SELECT {name} FROM susx.classifier WHERE classifier = 'compass'::regclass") == pytest.approx(
            0.123
        )
    for method in ("zero-shot", "tip-adapter", "gda", "likeness", "gated-tip-x", "tip-x"):
        sql.run("SELECT susx.alter_classifier('compass', method => %s)", method)
        assert sql.rows(SETTINGS, "compass")[0][1] == method
    sql.run("SELECT susx.alter_classifier('compass', alpha => 4)")
    assert sql.rows(SETTINGS, "compass")[0][1:3] == ("tip-x", 4)
    sql.run("SELECT susx.alter_classifier('compass', method => 'auto')")
    assert sql.rows(SETTINGS, "compass")[0][1] is None


@pytest.mark.parametrize(
    "value", ["2.5", "3", "'2.5'", "2.5::float8", "2.5::real", "2.5::numeric", "3::smallint", "3::bigint"]
)
def test_numbers_of_every_type(sql, value):
    """A driver sends floats as float8 and integers as what they fit into."""
    create_compass(sql)
    sql.run(f"SELECT susx.alter_classifier('compass', alpha => {value})")
    assert sql.one("SELECT alpha FROM susx.classifier WHERE classifier = 'compass'::regclass") in (2.5, 3)


def test_a_model_for_a_classifier_of_vectors(sql):
    """The user's own vectors are a model's: with its name the classifier takes images too."""
    image = encode(picture(1))
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    other = vector(-array(embedding))
    sql.run(
        "SELECT susx.create_classifier('kinds', '{this,other}', text_embeddings => ARRAY[%s, %s]::vector[])",
        embedding,
        other,
    )
    sql.run("SELECT susx.alter_classifier('kinds', model => 'tiny_split')")
    assert sql.one("SELECT susx.label('kinds', %s::bytea)", image) == "this"
    assert sql.fails("SELECT susx.alter_classifier('kinds', model => 'nothing')").sqlstate == "42704"
    assert sql.one("SELECT model FROM susx.classifier WHERE classifier = 'kinds'::regclass") == "tiny_split"


def test_the_digest_of_the_model(sql):
    """Two models have two, the same model has one."""
    digests = []
    for name, model in (("a", "tiny_split"), ("b", "tiny_split"), ("c", "tiny_siglip")):
        sql.run("SELECT susx.create_classifier(%s, '{cat,dog}', model => %s)", name, model)
        digests.append(sql.one("SELECT model_sha256 FROM susx.classifier WHERE classifier = %s::regclass", name))
    assert len(digests[0]) == hashlib.sha256().digest_size
    assert digests[0] == digests[1] != digests[2]


def test_the_session_s_model_does_not_change_a_classifier(sql):
    """It embeds with the model that it was made with."""
    image = encode(picture(2))
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog,bird}', model => 'tiny_split')")
    before = sql.rows("SELECT * FROM susx.classify('kinds', %s::bytea, 3)", image)
    sql.run("SET susx.model = 'demo'")
    assert sql.rows("SELECT * FROM susx.classify('kinds', %s::bytea, 3)", image) == before


def test_the_table_is_an_ordinary_one(sql):
    """COPY out and in, UPDATE, a view, an index on the category: all work as for any table."""
    create_compass(sql)
    sql.run(
        "CREATE INDEX ON compass (category); CREATE VIEW shown AS SELECT * FROM compass; "
        "UPDATE shown SET category = 'south' WHERE category = 'north'"
    )
    assert sql.one("SELECT susx.label('compass', '[0,1]'::vector)") == "south"
    sql.run("CREATE TABLE saved AS SELECT * FROM compass; TRUNCATE compass; INSERT INTO compass SELECT * FROM saved")
    assert sql.one("SELECT susx.label('compass', '[0,1]'::vector)") == "south"
    refusal = sql.fails("INSERT INTO compass (category, kind, embedding) VALUES ('a', 'picture', '[1,0]')")
    assert refusal.sqlstate == "23514"
    assert "2 dimensions" in sql.fails("INSERT INTO compass (category, embedding) VALUES ('south', '[1,0,0]')").message
    assert sql.one("SELECT obj_description('compass'::regclass)")


def test_in_the_schema_that_is_named_or_comes_first(sql, schema):
    sql.run("CREATE SCHEMA " + schema + "_2")
    create_compass(sql, f"{schema}_2.compass")
    create_compass(sql)
    found = sql.column(
        "SELECT relnamespace::regnamespace::text FROM pg_class "
        "WHERE relname = 'compass' AND relnamespace::regnamespace::text LIKE %s ORDER BY 1",
        schema + "%",
    )
    assert found == [schema, schema + "_2"]
    sql.run(f"DROP SCHEMA {schema}_2 CASCADE")
