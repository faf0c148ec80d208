"""Names, keys and texts appear in messages as text, whatever they contain, both at the client and in the log."""

from __future__ import annotations

import pytest

from helpers.logs import log_of
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

# A terminal would clear its screen, set its title, show red, go back a line, or turn the rest around.
ODD = "ea\x1b[2J\x1b]0;x\x07\x1b[31mst\r\n2026-01-01 PANIC:  all is lost\x7f\x9b1A\u202etsew\u2028\x08"
SHOWN = r"ea\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}[31mst\r\n2026-01-01 PANIC:  all is lost\u{7f}\u{9b}1A\u{202e}tsew\u{2028}\u{8}"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run("SET client_min_messages = notice")
    sql.run("SELECT susx.create_classifier('odd', ARRAY[%s, 'dull'], text_embeddings => '{\"[1,0]\",\"[0,1]\"}'::vector[])", ODD)
    sql.run("SET log_min_messages = notice")
    return sql


def test_errors(sql, cluster):
    with log_of(cluster) as log:
        for query, arguments in (
            ("SELECT susx.add_support('compass', %s, ARRAY['[1,0]']::vector[])", [ODD]),
            ("SELECT susx.label('compass', '[1,0]'::vector, %s)", [ODD]),
            ("SELECT susx.embed_text('x', %s)", [ODD]),
            ("SELECT susx.create_classifier('new', ARRAY[%s, 'a', %s], model => 'tiny_split')", [ODD, ODD]),
            ("SELECT susx.create_classifier('new', ARRAY['a'], ARRAY[%s])", [ODD]),
            ("SELECT * FROM susx.build_support_set('compass', 'compass', prompting => %s)", [ODD]),
            ("SELECT * FROM susx.build_support_set('compass', 'compass', embedding_column => %s)", [ODD]),
            ("CALL susx.embed_table('compass', on_error => %s)", [ODD]),
            ("SELECT * FROM susx.evaluate('compass', 'SELECT ''[1,0]''::vector, ' || quote_literal(%s))", [ODD]),
        ):
            refusal = sql.fails(query, *arguments)
            assert SHOWN in refusal.message, refusal
        # Also in hints, which list what there is.
        refusal = sql.fails("SELECT susx.add_support('odd', 'x', ARRAY['[1,0]']::vector[])")
        assert SHOWN in refusal.hint
    text = log()
    assert text.count(SHOWN) >= 10
    # Of what PostgreSQL itself shows, the statement is the client's own, and has the texts as parameters.
    for line in text.splitlines():
        if "ERROR:" in line or "HINT:" in line:
            assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line.replace("\t", "")), repr(line)
    assert "\nPANIC" not in text and "\n2026-01-01 PANIC" not in text


def test_notices_and_warnings(sql, cluster):
    sql.run("CREATE TABLE pool (id text PRIMARY KEY, embedding vector(2)); INSERT INTO pool VALUES ('a', '[0,1]')")
    with log_of(cluster) as log:
        sql.notices.clear()
        sql.run("SELECT * FROM susx.build_support_set('odd', 'pool')")
        assert any(SHOWN in notice for notice in sql.notices)
        sql.run("SELECT * FROM susx.evaluate('odd', 'SELECT NULL::vector, ''dull''')")
    assert SHOWN in log() and "\x1b" not in log() and "\u202e" not in log()


def test_what_is_returned_is_as_it_is(sql):
    """Data is not escaped."""
    assert sql.one("SELECT susx.label('odd', '[1,0]'::vector)") == ODD


def test_a_long_message(sql):
    refusal = sql.fails("SELECT susx.label('compass', '[1,0]'::vector, repeat('é', 100000))")
    assert refusal.message.startswith('unknown method "éé') and len(refusal.message) < 9_000
    assert "more bytes)" in refusal.message
    # As many categories as there may be are not all named.
    sql.run("""INSERT INTO compass (category, kind, origin, embedding)
               SELECT 'category ' || i, 'prompt', 'given', '[1,1]' FROM generate_series(1, 20000) i""")  # fmt: skip
    refusal = sql.fails("SELECT susx.add_support('compass', 'nowhere', ARRAY['[1,0]']::vector[])")
    assert "more" in refusal.hint and len(refusal.hint) < 9_000
