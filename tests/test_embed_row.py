"""Rows of a classifier's table that are inserted without an embedding: its trigger embeds them."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.session import array, cosine
from helpers.toy import create_compass

# Whether the embedding is that of the row's own prompt or image.
RIGHT = """
    SELECT category, kind, 1 - (embedding <=> CASE kind WHEN 'prompt' THEN susx.embed_text(prompt, 'tiny_split')
                                                        ELSE susx.embed_image(image, 'tiny_split') END) > 0.99999
    FROM pets WHERE id > 2 ORDER BY id"""


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (64, 48))) for seed in range(4)]


@pytest.fixture
def pets(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    return sql


def test_insert(pets, images):
    pets.run("INSERT INTO pets (category, image) VALUES ('dog', %s)", images[0])
    pets.run("INSERT INTO pets (category, kind, origin, prompt) VALUES ('dog', 'prompt', 'cupl', 'a dog asleep')")
    assert pets.rows(RIGHT) == [("dog", "image", True), ("dog", "prompt", True)]
    assert pets.rows("SELECT origin, prompt, image FROM pets WHERE id > 2 ORDER BY id") == [
        ("labelled", None, images[0]),
        ("cupl", "a dog asleep", None),
    ]


def test_many_rows(pets, images):
    """In one statement, of both kinds; what has an embedding keeps it."""
    pets.run(
        "INSERT INTO pets (category, kind, prompt, image, embedding) VALUES "
        "('cat', 'image', 'a note', %s, NULL), ('cat', 'prompt', 'a cat asleep', %s, NULL), "
        "('dog', 'image', NULL, %s, NULL), ('dog', 'image', NULL, %s, array_fill(1, '{32}')::vector)",
        *images,
    )
    assert pets.rows(RIGHT) == [
        ("cat", "image", True),
        ("cat", "prompt", True),
        ("dog", "image", True),
        ("dog", "image", False),
    ]
    assert array(pets.one("SELECT embedding::text FROM pets WHERE id = 6")).tolist() == [1] * 32


def test_insert_select_and_upsert(pets, images):
    pets.run("CREATE TABLE labelled (truth text, image bytea)")
    pets.copy("labelled", ["truth", "image"], (("cat", image) for image in images))
    pets.run("INSERT INTO pets (category, image) SELECT truth, image FROM labelled")
    pets.run(
        "INSERT INTO pets (id, category, kind, prompt) VALUES (1, 'cat', 'prompt', 'a cat asleep') "
        "ON CONFLICT (id) DO UPDATE SET prompt = excluded.prompt, embedding = NULL"
    )
    assert pets.rows(RIGHT) == [("cat", "image", True)] * 4
    assert cosine_of(pets, 1, "a cat asleep")


def cosine_of(sql, id, text):
    embed = "SELECT susx.embed_text(%s, 'tiny_split')::text"
    found = array(sql.one("SELECT embedding::text FROM pets WHERE id = %s", id))
    return cosine(found, array(sql.one(embed, text))) > 0.99999


def test_update(pets):
    """Only what is set to NULL is embedded anew."""
    before = pets.one("SELECT embedding::text FROM pets WHERE id = 1")
    pets.run("UPDATE pets SET prompt = 'a cat asleep', category = 'kitten' WHERE id = 1")
    assert pets.one("SELECT embedding::text FROM pets WHERE id = 1") == before
    pets.run("UPDATE pets SET embedding = NULL WHERE id = 1")
    assert cosine_of(pets, 1, "a cat asleep") and cosine_of(pets, 2, "a photo of a dog.")
    pets.run("UPDATE pets SET prompt = 'the ' || category, embedding = NULL")
    assert cosine_of(pets, 1, "the kitten") and cosine_of(pets, 2, "the dog")


def test_with_another_model(pets):
    """alter_classifier changes the model, and one UPDATE the embeddings."""
    pets.run("SELECT susx.alter_classifier('pets', model => 'tiny_siglip')")
    pets.run("UPDATE pets SET embedding = NULL")
    expected = array(pets.one("SELECT susx.embed_text('a photo of a cat.', 'tiny_siglip')::text"))
    assert cosine(array(pets.one("SELECT embedding::text FROM pets WHERE id = 1")), expected) > 0.99999


def test_copy(pets, images):
    pets.copy("pets", ["category", "image"], (("cat", image) for image in images))
    pets.copy("pets", ["category", "kind", "prompt"], (("dog", "prompt", f"dog number {i}") for i in range(3)))
    assert pets.rows(RIGHT) == [("cat", "image", True)] * 4 + [("dog", "prompt", True)] * 3


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_in_a_transaction(pets, level):
    pets.run(f"BEGIN ISOLATION LEVEL {level}")
    pets.run("SELECT susx.create_classifier('inner', '{a,b}', model => 'tiny_split')")
    for table in ("pets", '"inner"'):
        pets.run(f"INSERT INTO {table} (category, kind, prompt) VALUES ('cat', 'prompt', 'a cat asleep')")
        pets.run(f"INSERT INTO {table} (category, kind, prompt) VALUES ('cat', 'prompt', 'a cat awake')")
    pets.run("SAVEPOINT s; INSERT INTO pets (category, kind, prompt) VALUES ('cat', 'prompt', 'x'); ROLLBACK TO s")
    pets.run("COMMIT")
    assert pets.rows(RIGHT) == [("cat", "prompt", True)] * 2
    assert pets.one('SELECT count(category) FROM "inner"') == 4


def test_a_new_category(pets):
    """Its first prompt creates it, also with a plain INSERT."""
    pets.run("INSERT INTO pets (category, kind, prompt) VALUES ('ox', 'prompt', 'a photo of an ox.')")
    label = "SELECT susx.label('pets', susx.embed_text('a photo of an ox.', 'tiny_split'))"
    assert pets.one(label) == "ox"


def test_a_hostile_search_path(pets, schema):
    """Tables, functions and operators of the same names come first."""
    pets.run(
        f"""
        CREATE FUNCTION {schema}.always(anyelement, anyelement) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR {schema}.= (FUNCTION = {schema}.always, LEFTARG = anyelement, RIGHTARG = anyelement);
        CREATE OPERATOR {schema}.= (FUNCTION = pg_catalog.textne, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR {schema}.= (FUNCTION = pg_catalog.oidne, LEFTARG = oid, RIGHTARG = oid);
        CREATE TABLE {schema}.classifier (classifier regclass, model text);
        CREATE TABLE {schema}.pg_attribute (atttypmod int);
        CREATE DOMAIN {schema}.vector AS text;
        CREATE FUNCTION {schema}.min(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0';
        SET search_path = {schema}, pg_catalog, public"""
    )
    pets.run("INSERT INTO pets (category, kind, prompt) VALUES ('dog', 'prompt', 'a dog asleep')")
    assert pets.one("SELECT susx.add_prompts('pets', '{\"dog\": [\"a dog awake\"]}')") == 1
    assert pets.one("SELECT susx.add_support('pets', 'dog', %s::bytea[])", [encode(picture(1))]) == 1
    refusal = pets.fails("SELECT susx.add_prompts('pets', '{\"ox\": [\"an ox\"]}')")
    assert refusal.hint == "Its categories: cat, dog."
    pets.run("SET search_path = ''")
    pets.run(f"INSERT INTO {schema}.pets (category, image) VALUES ('dog', %s)", encode(picture(2)))
    pets.run(f"SET search_path = public; ALTER TABLE {schema}.pets SET SCHEMA public")
    try:
        assert pets.rows(RIGHT) == [("dog", "prompt", True)] * 2 + [("dog", "image", True)] * 2
    finally:
        pets.run("DROP TABLE public.pets")


def test_renamed_and_moved(pets, schema):
    pets.run(f"CREATE SCHEMA {schema}_2; ALTER TABLE pets RENAME TO beasts; ALTER TABLE beasts SET SCHEMA {schema}_2")
    pets.run(f"INSERT INTO {schema}_2.beasts (category, kind, prompt) VALUES ('dog', 'prompt', 'a dog asleep')")
    assert pets.one(f"SELECT embedding IS NOT NULL FROM {schema}_2.beasts WHERE id = 3")
    pets.run(f"DROP SCHEMA {schema}_2 CASCADE")


@pytest.mark.parametrize(
    "columns, values, needed",
    [
        ("category", "'dog'", 'kind "image" without an embedding needs an image'),
        ("category, prompt", "'dog', 'a dog'", 'kind "image" without an embedding needs an image'),
        ("category, kind", "'dog', 'prompt'", 'kind "prompt" without an embedding needs a prompt'),
        ("category, kind, prompt", "'dog', 'prompt', ' '", 'kind "prompt" without an embedding needs a prompt'),
        ("category, kind, image", "'dog', 'prompt', 'x'", 'kind "prompt" without an embedding needs a prompt'),
    ],
)
def test_nothing_to_embed(pets, columns, values, needed):
    refusal = pets.fails(f"INSERT INTO pets ({columns}) VALUES ({values})")
    assert refusal.sqlstate == "23502"
    assert needed in refusal.message
    assert refusal.hint
    assert pets.one("SELECT count(category) FROM pets") == 2


def test_an_image_that_cannot_be_read(pets, images):
    """It fails the statement, with the rows that came before."""
    refusal = pets.fails(
        "INSERT INTO pets (category, image) VALUES ('dog', %s), ('dog', %s)", images[0], b"this is no picture"
    )
    assert refusal.sqlstate == "22P03"
    assert "found text" in refusal.message and "image file" in refusal.hint
    assert pets.one("SELECT count(category) FROM pets") == 2


def test_a_classifier_without_a_model(sql):
    create_compass(sql)
    for row in ("'image', NULL, 'x'", "'prompt', 'x', NULL"):
        refusal = sql.fails(f"INSERT INTO compass (category, kind, prompt, image) VALUES ('east', {row})")
        assert refusal.sqlstate == "55000"
        assert "model" in refusal.message and "alter_classifier" in refusal.hint
    sql.run("INSERT INTO compass (category, embedding) VALUES ('east', '[1,0.1]')")


def test_the_table_s_own_rules_still_hold(pets):
    for columns, values, sqlstate in (
        ("kind, prompt", "'prompt', 'a dog'", "23514"),
        ("category, kind, embedding", "'a', 'b', array_fill(1, '{32}')::vector", "23514"),
        ("category, kind, origin, prompt", "'a', 'prompt', 'b', 'c'", "23514"),
    ):
        assert pets.fails(f"INSERT INTO pets ({columns}) VALUES ({values})").sqlstate == sqlstate


# Triggers that do not fit, and what is done to the table that they are on.
ATTACHED = {
    "no classifier": ("BEFORE INSERT ON plain FOR EACH ROW", "INSERT INTO plain VALUES (1)", "42704"),
    "a statement": ("BEFORE INSERT ON plain FOR EACH STATEMENT", "INSERT INTO plain VALUES (1)", "39P01"),
    "too late": ("AFTER INSERT ON plain FOR EACH ROW", "INSERT INTO plain VALUES (1)", "39P01"),
    "a deletion": ("BEFORE DELETE ON pets FOR EACH ROW", "DELETE FROM pets", "39P01"),
    "a view": ("INSTEAD OF INSERT ON seen FOR EACH ROW", "INSERT INTO seen VALUES (1)", "39P01"),
}


@pytest.mark.parametrize("case", ATTACHED)
def test_attached_elsewhere(pets, case):
    """An error says what it is for, and nothing crashes."""
    where, statement, sqlstate = ATTACHED[case]
    pets.run("CREATE TABLE plain (i int); CREATE VIEW seen AS SELECT * FROM plain")
    pets.run(f"CREATE TRIGGER t {where} EXECUTE FUNCTION susx.embed_row()")
    refusal = pets.fails(statement)
    assert refusal.sqlstate == sqlstate
    assert "is not a classifier" in refusal.message or "susx.embed_row()" in refusal.message
    assert pets.one("SELECT count(category) FROM pets") == 2


def test_without_its_condition(pets):
    """A trigger that fires for every row leaves embeddings that are there."""
    pets.run(
        "DROP TRIGGER susx_embed ON pets; CREATE TRIGGER t BEFORE INSERT OR UPDATE ON pets "
        "FOR EACH ROW EXECUTE FUNCTION susx.embed_row()"
    )
    pets.run("INSERT INTO pets (category, prompt, kind, embedding) SELECT 'dog', 'x', 'prompt', embedding FROM pets "
        "WHERE kind = 'prompt'")
    assert pets.one("SELECT count(DISTINCT embedding::text) FROM pets") == 2
    pets.run("INSERT INTO pets (category, kind, prompt) VALUES ('dog', 'prompt', 'a dog asleep')")
    assert cosine_of(pets, 5, "a dog asleep")


def test_a_table_that_lost_a_column(pets):
    pets.run("ALTER TABLE pets DROP COLUMN image")
    pets.run("INSERT INTO pets (category, kind, prompt) VALUES ('dog', 'prompt', 'a dog asleep')")
    assert "image" in pets.fails("INSERT INTO pets (category) VALUES ('dog')").message


def test_called_as_a_function(sql):
    assert "trigger" in sql.fails("SELECT susx.embed_row()").message.lower()


def test_rights(pets, schema, connect, images):
    """The right to insert and read suffices, since readers of the table can read its settings."""
    admin = connect()
    admin.run(f"CREATE ROLE erin LOGIN; GRANT USAGE ON SCHEMA {schema} TO erin")
    insert = "INSERT INTO pets (category, image) VALUES ('dog', %s)"
    try:
        erin = connect(user="erin")
        erin.run(f"SET search_path = {schema}, public")
        for grant in ("SELECT", "INSERT"):
            pets.run(f"REVOKE ALL ON pets FROM erin; GRANT {grant} ON pets TO erin")
            refusal = erin.fails(insert, images[0])
            assert refusal.sqlstate == "42501" and "pets" in refusal.message
        pets.run("GRANT SELECT ON pets TO erin")
        erin.run(insert, images[0])
        assert pets.rows(RIGHT) == [("dog", "image", True)]
        erin.close()
    finally:
        admin.run("DROP OWNED BY erin; DROP ROLE erin")
