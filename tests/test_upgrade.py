"""ALTER EXTENSION susx UPDATE makes of any older version what CREATE EXTENSION makes, and a library that is not of the
database's version says so."""

from __future__ import annotations

import contextlib
import math
import shutil

import pytest

from conftest import DATABASE, PG
from helpers.installation import FIRST_VERSION, OLDER_SCHEMAS, OLDER_VERSIONS, copied
from helpers.schema import describe, difference
from helpers.session import Session, session_of
from helpers.toy import create_compass
from tools.cluster import Cluster
from tools.paths import ROOT

# What each older version left in a database.
CLASSIFIERS = {
    version: (ROOT / "tests" / "upgrade" / f"classifier--{version}.sql").read_text() for version in OLDER_VERSIONS
}
LABEL = "SELECT susx.label('compass', '[1,0.2]'::vector)"
VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'susx'"

NOT_THE_SAME = "55000"


@pytest.fixture(scope="module")
def installation():
    with copied(PG) as installation:
        for schema in OLDER_SCHEMAS:
            installation.add(schema)
        yield installation


@pytest.fixture(scope="module")
def cluster(installation, settings):
    with Cluster.throwaway(PG, settings, home=installation.home) as cluster:
        cluster.create_database(DATABASE)
        with session_of(cluster) as session:
            session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
        yield cluster


@pytest.fixture
def library(connect):
    """The version of the installed library."""
    return connect().one("SELECT susx.library_version()")


@pytest.fixture(params=OLDER_VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture
def old(connect, fresh_database, version) -> Session:
    """A session in a database that has an older version, with a classifier in it."""
    session = connect(fresh_database)
    session.run(f"CREATE EXTENSION vector; CREATE EXTENSION susx VERSION '{version}'")
    session.run(CLASSIFIERS[version])
    return session


def test_every_older_version_has_a_script(installation, library):
    """If this fails: a version was released, and its schema is not kept in tests/upgrade/."""
    steps = [path.stem.split("--")[1:] for path in installation.scripts.glob("susx--*--*.sql")]
    assert sorted(steps) == sorted(map(list, zip(OLDER_VERSIONS, (*OLDER_VERSIONS[1:], library))))


def test_the_schema_is_that_of_a_fresh_installation(connect, old, version, library):
    """If this fails: sql/susx--A--B.sql lacks what stands in bootstrap.sql, finalize.sql or at a function in src/."""
    before = describe(old, "susx")
    old.run("ALTER EXTENSION susx UPDATE")
    assert old.one(VERSION) == library
    updated, fresh = describe(old, "susx"), describe(connect(), "susx")
    assert not difference(updated, fresh, ("after the update", "fresh")), (
        "the update from " + version + " leaves another schema:\n"
        + difference(updated, fresh, ("after the update", "fresh"))
    )
    # The comparison sees differences.
    assert difference(before, fresh, ("", ""))
    assert len(fresh) > 200
    assert old.one("SELECT susx.library_version()") == library


def test_the_library_is_of_the_default_version(connect, library):
    ((default, installed),) = connect().rows(
        "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'susx'"
    )
    assert default == installed == library


def test_classifiers_and_grants_outlive_the_update(connect, old, fresh_database):
    old.run(
        "CREATE ROLE reader LOGIN; GRANT SELECT ON compass TO reader; "
        "REVOKE EXECUTE ON FUNCTION susx.embed_text(text, text) FROM PUBLIC"
    )
    settings = "SELECT * FROM susx.classifier"
    before = old.rows(settings)
    assert len(before) == 1
    try:
        old.run("ALTER EXTENSION susx UPDATE")
        (after,) = old.rows(settings)
        assert after[: len(before[0])] == before[0]
        # Tip-Adapter by hand: the support image is the query itself, and the other category's at its cosine.
        ((category, score),) = old.rows("SELECT category, score FROM susx.classify('compass', '[1,0.2]'::vector)")
        assert category == "east"
        assert score == pytest.approx(100 / math.hypot(1, 0.2) + 2, rel=1e-5)
        reader = connect(fresh_database, user="reader")
        assert reader.one(LABEL) == "east"
        assert reader.fails("SELECT susx.embed_text('a')").sqlstate == "42501"
        assert reader.fails("SELECT susx.alter_classifier('compass', alpha => 3)").sqlstate == "42501"
        old.run("SELECT susx.alter_classifier('compass', alpha => 3)")
        assert reader.one("SELECT alpha FROM susx.classifier") == 3
        old.run("DROP TABLE compass")
        assert old.rows(settings) == []
        reader.close()
    finally:
        old.run("DROP OWNED BY reader; DROP ROLE reader")


def test_an_old_classifier_gets_likeness_vectors(old):
    """The update changes no table of a user's; the first call with likeness vectors does."""
    old.run("ALTER EXTENSION susx UPDATE")
    column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'compass'::regclass AND attname = 'likeness'"
    add = "SELECT susx.add_support('compass', 'east', ARRAY['[1,0.1]']::vector[]{})"
    assert old.one(add.format("")) == 1
    assert old.one(column) == 0
    assert old.one(add.format(", ARRAY['[1,2,3]']::vector[]")) == 1
    assert old.one(column) == 1
    assert old.column("SELECT likeness FROM compass WHERE likeness IS NOT NULL") == ["[1,2,3]"]
    old.run("DROP TABLE compass")


CALLS = """
    SELECT format('%s susx.%I(%s)', CASE prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, proname,
                  (SELECT string_agg('NULL::' || CASE type WHEN 'anyelement'::regtype THEN 'int' ELSE type::regtype::text END,
                                     ', ' ORDER BY ord)
                   FROM unnest(proargtypes::oid[]) WITH ORDINALITY u (type, ord)))
    FROM pg_proc WHERE pronamespace = 'susx'::regnamespace
        AND prorettype <> ALL ('{trigger,event_trigger,internal}'::regtype[]) AND proname <> 'library_version'"""


def test_a_library_that_is_newer_than_the_database(old, version, library):
    """Every function says so, before it looks at its arguments, and so do the triggers that need to."""
    calls = old.column(CALLS)
    assert len(calls) > 20
    calls += [LABEL, "INSERT INTO compass (category, image) VALUES ('east', 'x')", "SELECT * FROM susx.stat_server"]
    for call in calls:
        refusal = old.fails(call)
        assert refusal.sqlstate == NOT_THE_SAME, call
        assert refusal.message == (
            f"susx is version {version} in this database, but the library in use is version {library}"
        )
        assert refusal.hint == "Update the database: ALTER EXTENSION susx UPDATE."
    # What does not depend on it goes on.
    old.run("INSERT INTO compass (category, embedding) VALUES ('east', '[2,1]'); UPDATE susx.classifier SET alpha = 1")
    old.run("BEGIN; ALTER EXTENSION susx UPDATE")
    assert old.one(LABEL) == "east"
    old.run("ROLLBACK")
    assert old.fails(LABEL).sqlstate == NOT_THE_SAME
    old.run("ALTER EXTENSION susx UPDATE")
    assert old.one(LABEL) == "east"
    old.run("DROP TABLE compass")


def test_a_library_that_is_older_than_the_database(connect, installation, fresh_database, library):
    """Another session has updated the database with a newer library; this one still has the old one."""
    later = installation.scripts / f"susx--{library}--99.0.0.sql"
    later.write_text(
        "CREATE OR REPLACE FUNCTION susx.library_version() RETURNS text STRICT STABLE PARALLEL SAFE "
        "LANGUAGE c AS 'MODULE_PATHNAME', 'library_version_wrapper';"
    )
    session, other = connect(fresh_database), connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    create_compass(session)
    assert session.one(LABEL) == "east"
    other.run("ALTER EXTENSION susx UPDATE TO '99.0.0'")
    later.unlink()
    for query in (LABEL, "SELECT susx.embed_text('a')", "INSERT INTO compass (category, image) VALUES ('east', 'x')"):
        refusal = session.fails(query)
        assert refusal.sqlstate == NOT_THE_SAME
        assert refusal.message == (
            f"susx is version 99.0.0 in this database, but the library in use is version {library}"
        )
        assert "new session" in refusal.hint and "shared_preload_libraries" in refusal.hint
    session.run("DROP TABLE compass")


@contextlib.contextmanager
def older_library(installation):
    """In place of the library one that lacks a function, by another name for it: as an older one does."""
    kept = installation.library.with_suffix(".kept")
    shutil.copy(installation.library, kept)
    content = installation.library.read_bytes()
    assert content.count(b"library_version_wrapper") >= 1
    changed = installation.library.with_suffix(".changed")
    changed.write_bytes(content.replace(b"library_version_wrapper", b"library_version_nowhere"))
    changed.replace(installation.library)
    try:
        yield
    finally:
        kept.replace(installation.library)


def test_an_update_with_the_old_library(connect, installation, old, version, fresh_database):
    with older_library(installation):
        session = connect(fresh_database)
        refusal = session.fails("ALTER EXTENSION susx UPDATE")
        assert refusal.sqlstate == NOT_THE_SAME
        assert refusal.message.startswith("susx cannot be updated to version ")
        assert "the library in use is of version before" in refusal.message
        assert "new session" in refusal.hint and "shared_preload_libraries" in refusal.hint
        assert session.one(VERSION) == version
        # The session has the library in its memory still.
    assert session.fails("ALTER EXTENSION susx UPDATE").sqlstate == NOT_THE_SAME
    session.close()
    old.run("ALTER EXTENSION susx UPDATE")
    assert old.one(LABEL) == "east"


def test_who_may_update(connect, old, fresh_database):
    old.run("CREATE ROLE nobody_special LOGIN")
    try:
        user = connect(fresh_database, user="nobody_special")
        assert user.fails("ALTER EXTENSION susx UPDATE").sqlstate == "42501"
        user.close()
    finally:
        old.run("DROP ROLE nobody_special")


def test_make_up_updates_the_databases_of_an_embedded_cluster(cluster, old, library, connect):
    """Those that have an older version, whatever they are called."""
    connect("postgres").run('CREATE DATABASE "an older/one?"')
    other = connect("an older/one?")
    other.run(f"CREATE EXTENSION vector; CREATE EXTENSION susx VERSION '{FIRST_VERSION}'")
    cluster.update_extension("susx")
    assert old.one(VERSION) == other.one(VERSION) == connect().one(VERSION) == library
    cluster.update_extension("susx")
    other.close()
    connect("postgres").run('DROP DATABASE "an older/one?" WITH (FORCE)')
