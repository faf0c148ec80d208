"""Databases that are not UTF8: susx refuses what it cannot read, and never changes a text or ends the session."""

from __future__ import annotations

import pytest

from helpers.session import Session, session_of
from helpers.toy import create_compass

LATIN1 = b"K\xe4se"


@pytest.fixture(scope="module", params=["LATIN1", "EUC_JP", "SQL_ASCII"])
def foreign(cluster, request):
    """A database with another encoding, and the encoding."""
    name = f"encoded_{request.param.lower()}"
    with session_of(cluster, "postgres") as admin:
        admin.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'")
        yield name, request.param
        admin.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_extension_is_refused_or_made(cluster, foreign):
    name, encoding = foreign
    with session_of(cluster, name) as sql:
        sql.run("SET client_min_messages = warning; CREATE EXTENSION vector")
        if encoding == "SQL_ASCII":
            sql.run("CREATE EXTENSION susx")
            assert sql.one("SELECT count(*) FROM susx.models()") > 0
            return
        refusal = sql.fails("CREATE EXTENSION susx")
        assert refusal.sqlstate == "0A000"
        assert refusal.message == f"susx needs a database with encoding UTF8, not {encoding}"
        assert "ENCODING 'UTF8'" in refusal.hint
        # A function that was there before, as after an update from version 0.2.0.
        sql.run(
            "CREATE FUNCTION embed_text(text, text) RETURNS vector STABLE LANGUAGE c AS 'susx', 'embed_text_wrapper'"
        )
        refusal = sql.fails("SELECT embed_text('cheese', NULL)")
        assert (refusal.sqlstate, refusal.message) == (
            "0A000",
            f"susx needs a database with encoding UTF8, not {encoding}",
        )


def latin1() -> str:
    """An expression of a text that is not UTF-8, in a database that does not check texts."""
    return f"convert_from('\\x{LATIN1.hex()}'::bytea, 'SQL_ASCII')"


@pytest.fixture(scope="module")
def ascii_database(cluster):
    with session_of(cluster, "postgres") as admin:
        admin.run("CREATE DATABASE unchecked TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        with session_of(cluster, "unchecked") as sql:
            sql.run(
                "SET client_min_messages = warning; CREATE EXTENSION susx CASCADE; SET client_encoding = 'SQL_ASCII'"
            )
            sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'demo')")
            create_compass(sql)
            yield sql
        admin.run("DROP DATABASE unchecked WITH (FORCE)")


REFUSED = {
    "a text": "SELECT susx.embed_text({0})",
    "a model": "SELECT susx.embed_text('a', {0})",
    "an array": "SELECT * FROM susx.embed_texts(ARRAY['a', {0}])",
    "categories": "SELECT susx.create_classifier('cheeses', ARRAY['a', {0}])",
    "a name": "SELECT susx.create_classifier({0}, '{{a,b}}')",
    "jsonb": "SELECT susx.add_prompts('kinds', jsonb_build_object('cat', jsonb_build_array({0})))",
    "a column": "CALL susx.embed_table('kinds', embedding_column => {0}::name)",
    "a query": "SELECT * FROM susx.evaluate('compass', 'SELECT ''[1,0]''::vector, ''' || {0} || '''')",
    "a category in a row": "SELECT * FROM susx.evaluate('compass', $q$SELECT '[1,0]'::vector, {0}$q$)",
    "a label in a row": "SELECT * FROM susx.review_queue('compass', $q$SELECT 1, '[1,0]'::vector, {0}$q$)",
    "a key in a row": "SELECT susx.report('compass', $q$SELECT {0}, '[1,0]'::vector AS embedding$q$)",
    "a row of a classifier": "INSERT INTO kinds (category, kind, prompt) VALUES ('cat', 'prompt', {0})",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_text_of_another_encoding(ascii_database: Session, case):
    refusal = ascii_database.fails(REFUSED[case].format(latin1()))
    assert refusal.sqlstate == "22021", refusal
    assert "0xe4" in refusal.message and "convert_from" in refusal.hint


def test_a_classifier_with_a_category_of_another_encoding(ascii_database: Session):
    sql = ascii_database
    create_compass(sql, "wind")
    sql.run(f"UPDATE wind SET category = {latin1()} WHERE category = 'east'")
    assert sql.fails("SELECT susx.label('wind', '[1,0]'::vector)").sqlstate == "22021"


def test_utf8_without_a_declaration(ascii_database: Session, connect):
    """UTF-8 in such a database gives what it gives in a database with encoding UTF8."""
    sql = ascii_database
    word = "convert_from('\\x4bc3a47365'::bytea, 'SQL_ASCII')"
    expected = connect().one("SELECT susx.embed_text('Käse', 'demo')::text")
    assert sql.one(f"SELECT susx.embed_text({word}, 'demo')::text") in (expected, expected.encode())
    sql.run(f"SELECT susx.add_prompts('kinds', jsonb_build_object('cat', jsonb_build_array({word})))")
    assert sql.one(f"SELECT count(*) FROM kinds WHERE prompt = {word}") == 1


def test_a_report_is_ascii(sql: Session):
    """So its umlauts are right whatever encoding a client writes it to a file in."""
    sql.run(
        "SELECT susx.create_classifier('dishes', '{Käse,寿司}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    )
    page = sql.one("SELECT susx.report('dishes', 'SELECT 1, ''[1,0]''::vector AS embedding', title => 'Größe')")
    assert page.isascii()
    assert "K&#xe4;se" in page and "&#x5bff;&#x53f8;" in page and "<title>Gr&#xf6;&#xdf;e</title>" in page
    sql.run("SET client_encoding = 'LATIN1'")
    assert sql.one("SELECT susx.report('dishes', 'SELECT 1, ''[1,0]''::vector AS embedding', title => 'Größe')") == page
