"""A classifier's settings are in its own table as well, and go where the table goes."""

from __future__ import annotations

import pytest

from conftest import DATABASE
from helpers.session import Session
from helpers.toy import create_compass

SETTINGS = "SELECT settings FROM compass WHERE kind = 'settings'"
# A query between the two categories: its scores depend on every number of the settings.
SCORES = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, 2, method => 'tip-x')"
REGISTERED = "SELECT alpha, beta, method FROM susx.classifier WHERE classifier = 'compass'::regclass"

DENIED = "42501"


@pytest.fixture
def compass(sql) -> Session:
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[1,1]', '[1,2]']::vector[])")
    return sql


def stored(sql: Session) -> dict:
    (settings,) = sql.column(SETTINGS)
    return settings


def test_a_new_classifier_has_a_row(compass):
    """One row, with all that susx.classifier has."""
    row = compass.rows("SELECT id, category, origin, embedding IS NULL FROM compass WHERE kind = 'settings'")
    assert row == [(0, None, "given", True)]
    columns = compass.one(
        "SELECT to_jsonb(c) - 'classifier' FROM susx.classifier c WHERE classifier = 'compass'::regclass"
    )
    assert stored(compass) == columns


def test_the_digest_of_a_model(sql):
    sql.run("SELECT susx.create_classifier('compass', '{cat,dog}', model => 'tiny_split')")
    digest = sql.one("SELECT encode(model_sha256, 'hex') FROM susx.classifier WHERE classifier = 'compass'::regclass")
    assert len(digest) == 64
    assert stored(sql)["model_sha256"] == digest
    assert stored(sql)["model"] == "tiny_split"


@pytest.mark.parametrize(
    "change",
    [
        "SELECT susx.alter_classifier('compass', alpha => 0.3, beta => 7.7, method => 'tip-x')",
        "UPDATE susx.classifier SET alpha = 0.3, beta = 7.7, method = 'tip-x' WHERE classifier = 'compass'::regclass",
        "UPDATE compass SET settings = settings || '{\"alpha\": 0.3, \"beta\": 7.7, \"method\": \"tip-x\"}' "
        "WHERE kind = 'settings'",
    ],
    ids=["alter_classifier", "susx.classifier", "the table"],
)
def test_both_places_have_a_change(compass, connect, schema, change):
    """And a session that has fitted the classifier sees it at once."""
    other = connect()
    other.run(f"SET search_path = {schema}, public")
    before = other.rows(SCORES)
    compass.run(change)
    (row,) = compass.rows(REGISTERED)
    assert row == (pytest.approx(0.3), pytest.approx(7.7), "tip-x")
    found = stored(compass)
    assert (found["alpha"], found["beta"], found["method"]) == (0.3, 7.7, "tip-x")
    assert other.rows(SCORES) == compass.rows(SCORES) != before


def test_tune_changes_both(compass):
    compass.run("CREATE TABLE points AS SELECT * FROM (VALUES ('[1,0.9]'::vector, 'north'), ('[1,0.1]', 'east')) v (e, c)")
    compass.run("SELECT susx.tune('compass', 'SELECT e, c FROM points')")
    (row,) = compass.rows("SELECT alpha, beta, gamma FROM susx.classifier WHERE classifier = 'compass'::regclass")
    found = stored(compass)
    assert row == tuple(pytest.approx(found[name], rel=1e-6) for name in ("alpha", "beta", "gamma"))


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_a_change_in_a_transaction(compass, end):
    before = compass.rows(SCORES)
    compass.run("BEGIN; SELECT susx.alter_classifier('compass', alpha => 9)")
    inside = compass.rows(SCORES)
    assert inside != before and stored(compass)["alpha"] == 9
    compass.run(end)
    assert compass.rows(SCORES) == (inside if end == "COMMIT" else before)
    assert compass.rows(REGISTERED)[0][0] == stored(compass)["alpha"] == (9 if end == "COMMIT" else 1)


def test_all_rows_are_deleted_and_written_again(compass):
    """Without the row, the settings are those of susx.classifier."""
    compass.run("SELECT susx.alter_classifier('compass', alpha => 4)")
    scores = compass.rows(SCORES)
    compass.run(
        "CREATE TABLE kept AS SELECT * FROM compass WHERE kind <> 'settings'; DELETE FROM compass; "
        "INSERT INTO compass TABLE kept"
    )
    assert compass.rows(SCORES) == scores
    compass.run("SELECT susx.alter_classifier('compass', alpha => 5)")
    assert compass.rows(REGISTERED)[0][0] == 5
    assert compass.column(SETTINGS) == []
    compass.run("SELECT susx.adopt_classifier('compass')")
    assert stored(compass)["alpha"] == 5


def test_names_and_schemas_change(compass, schema):
    compass.run("SELECT susx.alter_classifier('compass', alpha => 4)")
    scores = compass.rows(SCORES)
    compass.run("ALTER TABLE compass RENAME TO needle; CREATE SCHEMA elsewhere; ALTER TABLE needle SET SCHEMA elsewhere")
    try:
        assert compass.rows(SCORES.replace("compass", "elsewhere.needle")) == scores
        compass.run("SELECT susx.alter_classifier('elsewhere.needle', alpha => 1)")
        assert compass.rows(SCORES.replace("compass", "elsewhere.needle")) != scores
    finally:
        compass.run("DROP SCHEMA elsewhere CASCADE")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "invalid type"),
        ("7", "invalid type"),
        ('{"alpha": -1}', "alpha must be a number from 0"),
        ('{"alpha": "much"}', "invalid type"),
        ('{"method": "guess"}', "guess"),
        ('{"model_sha256": "zz"}', "digest"),
    ],
)
def test_settings_that_make_no_sense(compass, text, reason):
    """The trigger refuses them. Where there is no trigger, whoever uses the classifier reads what is wrong."""
    change = "UPDATE compass SET settings = %s WHERE kind = 'settings'"
    refusal = compass.fails(change, text)
    assert refusal.sqlstate == "22000"
    assert 'table of classifier "compass" cannot be read' in refusal.message and reason in refusal.message
    compass.run("ALTER TABLE compass DISABLE TRIGGER susx_embed")
    compass.run(change, text)
    refusal = compass.fails(SCORES)
    assert refusal.sqlstate == "22000" and reason in refusal.message
    assert "DELETE FROM" in refusal.hint and "adopt_classifier" in refusal.hint
    compass.run("ALTER TABLE compass ENABLE TRIGGER susx_embed; DELETE FROM compass WHERE kind = 'settings'")
    compass.run("SELECT susx.adopt_classifier('compass')")
    assert stored(compass)["alpha"] == 1


def test_what_another_version_wrote(compass):
    """Unknown keys are left alone, and missing ones have their starting values."""
    compass.run("""UPDATE compass SET settings = '{"alpha": 2, "of the future": [1]}' WHERE kind = 'settings'""")
    assert compass.rows("SELECT alpha, beta FROM susx.classifier WHERE classifier = 'compass'::regclass") == [(2, 5.5)]


def test_only_this_row_has_neither_category_nor_embedding(compass):
    compass.run("ALTER TABLE compass DISABLE TRIGGER susx_embed")
    for values in ("('north', 'prompt', NULL)", "(NULL, 'prompt', '[1,1]')", "(NULL, 'settings', '[1,1]')",
                   "('north', 'settings', NULL)"):  # fmt: skip
        refusal = compass.fails(f"INSERT INTO compass (category, kind, embedding) VALUES {values}")
        assert refusal.sqlstate == "23514" and "susx_rows" in refusal.message


def test_row_security_keeps_the_settings(compass, connect, schema):
    """Whoever sees only some rows uses the same settings, and cannot change them, whatever the policies allow."""
    compass.run(
        f"CREATE ROLE tenant LOGIN; GRANT USAGE ON SCHEMA {schema} TO tenant; "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON compass TO tenant; ALTER TABLE compass ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY mine ON compass TO tenant USING (kind = 'prompt' OR category = 'mine') "
        "WITH CHECK (kind <> 'image')"
    )
    try:
        compass.run("SELECT susx.alter_classifier('compass', logit_scale => 50)")
        tenant = connect(user="tenant")
        tenant.run(f"SET search_path = {schema}, public")
        assert tenant.column(SETTINGS) == []
        zero_shot = SCORES.replace("tip-x", "zero-shot")
        assert tenant.rows(zero_shot) == compass.rows(zero_shot)
        compass.run("DELETE FROM compass WHERE kind = 'settings'")
        refusal = tenant.fails(
            "INSERT INTO compass (id, kind, settings) VALUES (0, 'settings', '{\"logit_scale\": 1}')"
        )
        assert refusal.sqlstate == DENIED
        compass.run("SELECT susx.adopt_classifier('compass')")
        compass.run("ALTER POLICY mine ON compass USING (kind <> 'image')")
        assert len(tenant.column(SETTINGS)) == 1
        refusal = tenant.fails("UPDATE compass SET settings = '{\"logit_scale\": 1}' WHERE kind = 'settings'")
        assert refusal.sqlstate == DENIED
        assert tenant.fails("SELECT susx.alter_classifier('compass', logit_scale => 1)").sqlstate == DENIED
        assert stored(compass)["logit_scale"] == 50
    finally:
        compass.run("DROP OWNED BY tenant; DROP ROLE tenant")


def test_a_superuser_runs_no_trigger_of_another(compass, connect, schema):
    """Of a classifier whose settings a superuser changes among others: its owner's triggers run as the owner."""
    compass.run(f"CREATE ROLE mallory LOGIN; GRANT USAGE, CREATE ON SCHEMA {schema} TO mallory")
    try:
        mallory = connect(user="mallory")
        mallory.run(f"SET search_path = {schema}, public")
        create_compass(mallory, "trap")
        mallory.run(
            """CREATE TABLE seen (who name);
            CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO seen VALUES (current_user); RETURN NEW; END $$;
            CREATE TRIGGER spy BEFORE UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION spy()"""
        )
        compass.run("UPDATE susx.classifier SET alpha = 3 WHERE classifier = 'trap'::regclass")
        assert mallory.column("SELECT who FROM seen") == ["mallory"]
        # A deferred trigger would run after the caller is the superuser again.
        mallory.run(
            """DROP TRIGGER spy ON trap;
            CREATE CONSTRAINT TRIGGER spy AFTER UPDATE ON trap INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy()"""
        )
        refusal = compass.fails("UPDATE susx.classifier SET alpha = 4 WHERE classifier = 'trap'::regclass")
        assert refusal.sqlstate == DENIED and "security-restricted operation" in refusal.message
        assert mallory.column("SELECT who FROM seen") == ["mallory"]
    finally:
        compass.run("DROP OWNED BY mallory; DROP ROLE mallory")


def test_a_dump_of_the_table_alone(cluster, compass, connect, schema, fresh_database):
    """It is a classifier where it is restored, with the same settings."""
    compass.run("SELECT susx.alter_classifier('compass', alpha => 0.3, beta => 7.7, method => 'tip-x')")
    scores = compass.rows(SCORES)
    file = cluster.directory / "table.sql"
    dump = cluster.program("pg_dump", f"--table={schema}.compass", "--dbname", cluster.url(DATABASE))
    file.write_text(dump)
    target = connect(fresh_database)
    target.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    target.run(f"CREATE SCHEMA {schema}; SET search_path = {schema}, public")
    cluster.program("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "--dbname", cluster.url(fresh_database), "--file", file)
    assert target.rows(SCORES) == scores
    assert target.rows(REGISTERED) == []
    target.run("SELECT susx.alter_classifier('compass', alpha => 2)")
    assert target.rows(REGISTERED) == [(2, pytest.approx(7.7), "tip-x")]
    assert stored(target)["alpha"] == 2


def test_the_extension_is_dropped_and_created_again(compass, connect, fresh_database):
    session = connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    create_compass(session)
    session.run("SELECT susx.add_support('compass', 'north', ARRAY['[1,1]']::vector[])")
    session.run("SELECT susx.alter_classifier('compass', alpha => 0.3, method => 'tip-x')")
    scores = session.rows(SCORES)
    session.run("DROP EXTENSION susx CASCADE; CREATE EXTENSION susx")
    assert session.rows(SCORES) == scores
    assert session.rows(REGISTERED) == []
    # Changes are seen without the triggers, too.
    session.run("DELETE FROM compass WHERE kind = 'image'")
    assert session.rows(SCORES) != scores
    assert session.one("SELECT susx.adopt_classifier('compass')::text") == "compass"
    assert session.rows(REGISTERED) == [(pytest.approx(0.3), 5.5, "tip-x")]
    triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'compass'::regclass ORDER BY 1"
    assert session.rows(triggers) == [
        ("susx_classifier_changed", "A"), ("susx_classifier_replicated", "R"), ("susx_embed", "O")
    ]  # fmt: skip


OLD_TABLE = """
    ALTER TABLE compass DROP CONSTRAINT susx_rows, DROP CONSTRAINT compass_kind_check,
        ADD CONSTRAINT compass_kind_check CHECK (kind = ANY (ARRAY['prompt', 'image', 'negative'])),
        ALTER COLUMN embedding SET NOT NULL, ALTER COLUMN category SET NOT NULL, DROP COLUMN settings"""


def test_a_table_of_an_older_version(compass):
    compass.run("SELECT susx.alter_classifier('compass', alpha => 4); DELETE FROM compass WHERE kind = 'settings'")
    compass.run(OLD_TABLE)
    scores = compass.rows(SCORES)
    compass.run("SELECT susx.alter_classifier('compass', beta => 9)")
    assert compass.rows(SCORES) != scores
    for _ in range(2):
        compass.run("SELECT susx.adopt_classifier('compass')")
        assert (stored(compass)["alpha"], stored(compass)["beta"]) == (4, 9)
    refusal = compass.fails("INSERT INTO compass (category, kind) VALUES ('north', 'image')")
    assert refusal.sqlstate == "55000"  # It has no model to embed with.


def test_what_cannot_be_adopted(compass, connect, schema):
    compass.run("CREATE TABLE other (id bigint PRIMARY KEY, category text)")
    refusal = compass.fails("SELECT susx.adopt_classifier('other')")
    assert refusal.sqlstate == "42703" and "kind" in refusal.message
    compass.run(f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {schema} TO guest")
    compass.run("GRANT SELECT, UPDATE ON compass TO guest")
    try:
        guest = connect(user="guest")
        guest.run(f"SET search_path = {schema}, public")
        refusal = guest.fails("SELECT susx.adopt_classifier('compass')")
        assert refusal.sqlstate == DENIED and "owner" in refusal.hint
    finally:
        compass.run("DROP OWNED BY guest; DROP ROLE guest")


def test_a_table_made_by_hand_starts_from_the_defaults(compass):
    compass.run("CREATE TABLE copy (LIKE compass INCLUDING ALL)")
    compass.run("INSERT INTO copy SELECT * FROM compass WHERE kind <> 'settings'; SET client_min_messages = notice")
    compass.run("SELECT susx.adopt_classifier('copy')")
    assert "starts from the defaults" in compass.notices[-1]
    assert compass.one("SELECT susx.label('copy', '[0,1]'::vector)") == "north"
    # One whose rows were copied with the settings has those.
    compass.run("SELECT susx.alter_classifier('compass', alpha => 4)")
    compass.run("CREATE TABLE whole (LIKE compass INCLUDING ALL); INSERT INTO whole SELECT * FROM compass")
    compass.run("SELECT susx.adopt_classifier('whole')")
    assert compass.one("SELECT alpha FROM susx.classifier WHERE classifier = 'whole'::regclass") == 4
