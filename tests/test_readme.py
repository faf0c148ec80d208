"""The examples in README.md work as they stand, and its reference tables match the extension."""

from __future__ import annotations

import re

import pytest

from helpers.session import Session
from study.stamps import stamps
from tools.paths import PICTURES, ROOT

README = (ROOT / "README.md").read_text()

# A fence, what stands after it, and the lines up to the next fence.
FENCES = re.findall(r"^```(.*)\n((?:(?!```).*\n)*)```$", README, re.MULTILINE)


def test_every_sql_block_is_run():
    """Every SQL example is found: none is excluded, and none uses another spelling."""
    kinds = {kind for kind, _ in FENCES}
    assert kinds <= {"", "sh", "sql"}, f"unknown kinds of blocks: {kinds}"
    assert sum(kind == "sql" for kind, _ in FENCES) >= 5
    for kind, text in FENCES:
        assert kind == "sql" or not re.search(r"^\s*(SELECT|CREATE|UPDATE|INSERT|ALTER)\b", text, re.MULTILINE), text


@pytest.fixture
def photos(connect, fresh_database):
    """The table that the quick start begins with: some of Tux Paint's stamps."""
    assert PICTURES.is_dir(), "the pictures are not there: run `make pictures`"
    assert "`photos(id bigint PRIMARY KEY, image bytea)`" in README
    _, pictures = stamps()
    wanted = []
    for category in ("bird", "flower", "fruit", "tool"):
        wanted += [path for path, truth in pictures if truth == category][:8]
    session = connect(fresh_database)
    session.run("CREATE TABLE photos (id bigint PRIMARY KEY, image bytea)")
    session.copy("photos", ["id", "image"], ((i, path.read_bytes()) for i, path in enumerate(wanted, 1)))
    return session


def test_the_sql_blocks_in_their_order(cluster, photos: Session, fresh_database):
    """In psql, statement by statement, in one database."""
    for number, (kind, text) in enumerate(FENCES):
        if kind != "sql":
            continue
        file = cluster.directory / f"block{number}.sql"
        file.write_text(text)
        output = cluster.program(
            "psql", "-X", "-v", "ON_ERROR_STOP=1", "--dbname", cluster.url(fresh_database), "--file", file
        )
        # Every example has a result.
        assert "(0 rows)" not in output, f"{text}\n{output}"
    assert photos.rows("SELECT count(*), count(embedding) FROM photos") == [(32, 32)]
    assert photos.one("SELECT count(*) FROM kinds WHERE kind = 'image'") > 8


def test_the_table_of_functions(sql):
    """Names and arguments, in their order."""
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|", README, re.MULTILINE)
    # `alpha, beta double precision`: a type that is not said is that of the next argument.
    written = {
        (name, " ".join(part.split()[0] for part in arguments.split(",") if part.strip())) for name, arguments in rows
    }
    found = sql.rows(
        """
        SELECT proname::text, array_to_string(proargnames[1:pronargs], ' ') FROM pg_proc
        WHERE pronamespace = 'susx'::regnamespace
          AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)"""
    )
    assert written == {(name, arguments or "") for name, arguments in found}


def test_the_table_of_settings(sql, settings):
    rows = re.findall(r"^\| `(susx\.\w+)` \|([^|]*)\|([^|]*)\|", README, re.MULTILINE)
    sql.run("LOAD 'susx'")
    contexts = dict(sql.rows("SELECT name, context FROM pg_settings WHERE name LIKE 'susx.%'"))
    assert {name for name, *_ in rows} == set(contexts)
    changed_by = {"sighup": "reload", "user": "anyone", "superuser": "superuser"}
    values = 0
    for name, default, changer in rows:
        assert changer.strip() == changed_by[contexts[name]], name
        # Some defaults are described in words, and some are changed for the tests.
        if name not in settings and re.fullmatch(r"`?\w+`?", default.strip()):
            assert sql.one(f"SHOW {name}") == default.strip(" `"), name
            values += 1
    assert values >= 8
