"""Row-level security of a table also decides who sees and changes what susx knows about the table: records of images
that failed, the model of its embeddings, a classifier's settings. Whoever is held back by it can embed all the same."""

from __future__ import annotations

import pytest

from helpers.logs import log_of
from helpers.pictures import encode, picture
from helpers.toy import create_compass

DENIED = "42501"
IMAGE = encode(picture(1, (64, 64)))
CALL = "CALL susx.embed_table('photos', model => 'tiny_split'{})"
KEYS = "SELECT key FROM susx.errors WHERE relation = to_regclass('photos') ORDER BY key"
MODELS = "SELECT model FROM susx.embedding_column WHERE relation = to_regclass('photos')"


@pytest.fixture
def roles(sql, schema, connect):
    """landlord owns a table of images; tenant may do everything with the rows of tenant."""
    sql.run(
        f"CREATE ROLE landlord LOGIN; CREATE ROLE tenant LOGIN; CREATE ROLE auditor LOGIN BYPASSRLS; "
        f"GRANT ALL ON SCHEMA {schema} TO landlord; GRANT USAGE ON SCHEMA {schema} TO tenant, auditor"
    )
    sessions = {}
    for role in ("landlord", "tenant", "auditor"):
        sessions[role] = connect(user=role)
        sessions[role].run(f"SET search_path = {schema}, public; SET client_min_messages = notice")
    yield sessions
    for session in sessions.values():
        session.close()
    sql.run("DROP OWNED BY landlord, tenant, auditor CASCADE; DROP ROLE landlord, tenant, auditor")


def create_photos(landlord) -> None:
    landlord.run(
        """
        CREATE TABLE photos (id int PRIMARY KEY, owner text, image bytea, embedding vector);
        GRANT SELECT, UPDATE ON photos TO tenant, auditor;
        ALTER TABLE photos ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON photos USING (owner = current_user)"""
    )
    for i in range(8):
        landlord.run(
            "INSERT INTO photos (id, owner, image) VALUES (%s, %s, %s)",
            i,
            "tenant" if i < 4 else "other",
            b"bad" if i % 4 == 1 or i % 4 == 2 else IMAGE,
        )


@pytest.fixture
def landlord(roles):
    create_photos(roles["landlord"])
    return roles["landlord"]


@pytest.fixture
def tenant(roles, landlord):
    return roles["tenant"]


@pytest.fixture
def auditor(roles, landlord):
    return roles["auditor"]


def test_nobody_else_reads_keys(landlord, tenant, auditor):
    landlord.run(CALL.format(""))
    assert landlord.column(KEYS) == auditor.column(KEYS) == ["1", "2", "5", "6"]
    assert landlord.column(MODELS) == auditor.column(MODELS) == ["tiny_split"]
    assert tenant.column(KEYS) == [] and tenant.column(MODELS) == []
    assert tenant.column("SELECT count(*) FROM susx.errors") == [0]
    # Without row-level security it is as before.
    landlord.run("ALTER TABLE photos DISABLE ROW LEVEL SECURITY")
    assert tenant.column(KEYS) == ["1", "2", "5", "6"] and tenant.column(MODELS) == ["tiny_split"]
    # With FORCE it holds the owner back as well, as it does in the table.
    landlord.run("ALTER TABLE photos ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    assert landlord.column(KEYS) == [] and landlord.column(MODELS) == []
    assert auditor.column(KEYS) == ["1", "2", "5", "6"]


def test_no_way_around(sql, schema, landlord, tenant):
    """SET ROLE, a function with its owner's rights, a view of the reader's."""
    landlord.run(CALL.format(""))
    sql.run("SET ROLE tenant")
    assert sql.column(KEYS) == []
    sql.run("RESET ROLE; SET SESSION AUTHORIZATION tenant")
    assert sql.column(KEYS) == []
    sql.run("RESET SESSION AUTHORIZATION")
    assert len(sql.column(KEYS)) == 4
    landlord.run(
        f"CREATE FUNCTION keys() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = {schema} AS $${KEYS}$$"
    )
    assert len(tenant.column("SELECT keys()")) == 4
    sql.run("CREATE VIEW of_all AS SELECT * FROM susx.errors; GRANT SELECT ON of_all TO tenant")
    sql.run("ALTER VIEW of_all SET (security_invoker = true)")
    assert tenant.column("SELECT count(*) FROM of_all") == [0]
    assert tenant.fails("SET row_security = off; SELECT * FROM susx.errors").sqlstate == DENIED


def test_nobody_else_forges_or_changes(landlord, tenant):
    landlord.run(CALL.format(""))
    record = "INSERT INTO susx.errors VALUES ('photos', 'embedding', '7', 'forged', '22P03', '1')"
    model = "INSERT INTO susx.embedding_column VALUES ('photos', '{}', 'forged', NULL)"
    conflict = " ON CONFLICT (relation, embedding_column{}) DO UPDATE SET {} = 'forged'"
    for statement in (
        record,
        record.replace("'7'", "'5'") + conflict.format(", key", "message"),
        model.format("other"),
        model.format("embedding") + conflict.format("", "model"),
    ):
        assert tenant.fails(statement).sqlstate == DENIED, statement
    tenant.run("UPDATE susx.errors SET message = 'forged', row_version = '1'; UPDATE susx.embedding_column SET model = 'forged'")
    assert landlord.one("SELECT count(*) FROM susx.errors WHERE message = 'forged'") == 0
    assert landlord.column(MODELS) == ["tiny_split"]
    # Whoever sees all rows may.
    landlord.run(record)
    landlord.run("UPDATE susx.embedding_column SET model_sha256 = NULL WHERE relation = 'photos'::regclass")
    assert landlord.column(KEYS) == ["1", "2", "5", "6", "7"]


def test_a_right_to_another_column_is_none(landlord, tenant):
    """It takes the right to update the embeddings, with row-level security and without."""
    landlord.run(CALL.format(""))
    landlord.run("ALTER TABLE photos DISABLE ROW LEVEL SECURITY; REVOKE UPDATE ON photos FROM tenant")
    landlord.run("GRANT UPDATE (owner) ON photos TO tenant")
    record = "INSERT INTO susx.errors VALUES ('photos', 'embedding', '7', 'forged', '22P03', '1')"
    assert tenant.fails(record).sqlstate == DENIED
    tenant.run("UPDATE susx.errors SET message = 'forged'; UPDATE susx.embedding_column SET model = 'forged'")
    assert landlord.one("SELECT count(*) FROM susx.errors WHERE message = 'forged'") == 0
    assert landlord.column(MODELS) == ["tiny_split"]
    assert tenant.fails("SELECT susx.forget_errors('photos', 'embedding')").sqlstate == DENIED
    assert tenant.one("SELECT susx.forget_errors('photos')") == 0
    assert len(landlord.column(KEYS)) == 4
    landlord.run("GRANT UPDATE (embedding) ON photos TO tenant")
    tenant.run(record)
    assert tenant.one("SELECT susx.forget_errors('photos', 'embedding')") == 5
    # A right to read some columns is none to read keys.
    tenant.run(record)
    landlord.run("REVOKE SELECT ON photos FROM tenant; GRANT SELECT (owner, image) ON photos TO tenant")
    assert tenant.column(KEYS) == []


def test_embedding_under_row_level_security(landlord, tenant):
    """A tenant's images are embedded, recorded, passed over and tried again, and nobody else's."""
    tenant.run(CALL.format(""))
    assert landlord.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == [0, 3]
    assert landlord.column(KEYS) == ["1", "2"] and landlord.column(MODELS) == ["tiny_split"]
    assert any("2 of 4 images" in notice for notice in tenant.notices)
    landlord.run(CALL.format(""))
    assert landlord.column(KEYS) == ["1", "2", "5", "6"]
    times = landlord.column('SELECT "time" FROM susx.errors ORDER BY key')
    # Its own, and no others', were tried before.
    tenant.notices.clear()
    tenant.run(CALL.format(""))
    assert len(tenant.notices) == 1 and "2 failed in earlier calls" in tenant.notices[0]
    assert landlord.column('SELECT "time" FROM susx.errors ORDER BY key') == times
    landlord.notices.clear()
    landlord.run(CALL.format(""))
    assert len(landlord.notices) == 1 and "4 failed in earlier calls" in landlord.notices[0]
    # Tried again: one can be read by now.
    landlord.run("UPDATE photos SET image = %s WHERE id IN (1, 5)", IMAGE)
    tenant.run(CALL.format(", on_error => 'retry'"))
    assert landlord.column(KEYS) == ["2", "5", "6"]
    new = landlord.column('SELECT "time" FROM susx.errors ORDER BY key')
    assert new[0] > times[1] and new[1:] == times[2:]
    assert tenant.fails(CALL.format(", on_error => 'stop'")).message.startswith('row 2 of relation "photos": ')


def test_a_changed_row_is_tried_again(landlord, tenant):
    tenant.run(CALL.format(""))
    tenant.run("UPDATE photos SET image = %s WHERE id = 2", IMAGE)
    tenant.run(CALL.format(", batch_size => 1"))
    assert landlord.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == [0, 2, 3]
    assert landlord.column(KEYS) == ["1"]


def test_forget_errors(landlord, tenant):
    """Of the rows that the caller may update: neither of those that are not seen, nor of those that are only read."""
    landlord.run(CALL.format(""))
    assert tenant.one("SELECT susx.forget_errors('photos', 'embedding', '5')") == 0
    assert tenant.one("SELECT susx.forget_errors('photos', 'other')") == 0
    assert tenant.one("SELECT susx.forget_errors('photos', 'embedding', '1')") == 1
    assert landlord.column(KEYS) == ["2", "5", "6"]
    assert tenant.one("SELECT susx.forget_errors('photos')") == 1
    assert landlord.column(KEYS) == ["5", "6"]
    landlord.run("CREATE POLICY look ON photos FOR SELECT TO tenant USING (true)")
    assert tenant.one("SELECT count(*) FROM photos") == 8
    assert tenant.one("SELECT susx.forget_errors('photos')") == 0
    assert landlord.column(KEYS) == ["5", "6"]
    assert landlord.one("SELECT susx.forget_errors('photos')") == 2


def test_a_row_that_is_only_read_is_not_recorded(landlord, tenant):
    landlord.run("CREATE POLICY look ON photos FOR SELECT TO tenant USING (true)")
    tenant.run(CALL.format(""))
    assert landlord.column(KEYS) == ["1", "2"]
    assert landlord.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == [0, 3]


def test_rows_that_embed_themselves(landlord, tenant):
    landlord.run(
        "GRANT INSERT ON photos TO tenant; CREATE TRIGGER embed_new AFTER INSERT ON photos REFERENCING NEW TABLE AS new "
        "FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split', 'record')"
    )
    tenant.run("INSERT INTO photos (id, owner, image) VALUES (20, 'tenant', %s), (21, 'tenant', 'bad')", IMAGE)
    assert landlord.column("SELECT id FROM photos WHERE embedding IS NOT NULL") == [20]
    assert landlord.column(KEYS) == ["21"]
    assert tenant.column(KEYS) == []


def test_models_are_not_mixed_by_who_sees_some_rows(landlord, tenant):
    """Nor does a tenant without embeddings decide that the table has none."""
    landlord.run("UPDATE photos SET image = NULL WHERE owner = 'tenant'")
    landlord.run(CALL.format(""))
    landlord.run("UPDATE photos SET image = %s WHERE owner = 'tenant'", IMAGE)
    assert tenant.one("SELECT count(embedding) FROM photos") == 0
    refusal = tenant.fails("CALL susx.embed_table('photos', model => 'tiny_fused')")
    assert refusal.sqlstate == "55000"
    assert refusal.message == 'column "embedding" of relation "photos" has embeddings of model "tiny_split", not "tiny_fused"'
    assert "Only a role that sees all rows" in refusal.hint
    assert landlord.column(MODELS) == ["tiny_split"]
    tenant.run(CALL.format(""))
    assert tenant.one("SELECT count(embedding) FROM photos") == 4


def test_partitions(roles):
    """What counts is the relation that was named: a partition has policies of its own."""
    landlord, tenant = roles["landlord"], roles["tenant"]
    landlord.run(
        """
        CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF photos FOR VALUES FROM (0) TO (10);
        GRANT SELECT, UPDATE ON photos, part TO tenant;
        ALTER TABLE photos ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON photos USING (id = 1);
        INSERT INTO photos (id, image) VALUES (1, 'bad'), (2, 'bad')"""
    )
    landlord.run(CALL.format(""))
    assert landlord.column(KEYS) == ["1", "2"] and tenant.column(KEYS) == []
    tenant.run("CALL susx.embed_table('part', model => 'tiny_split')")
    assert tenant.column("SELECT key FROM susx.errors WHERE relation = 'part'::regclass ORDER BY key") == ["1", "2"]
    landlord.run("ALTER TABLE part ENABLE ROW LEVEL SECURITY")
    assert tenant.column("SELECT key FROM susx.errors WHERE relation = 'part'::regclass") == []


def test_records_of_a_table_that_is_gone(sql, landlord, tenant):
    landlord.run(CALL.format(""))
    oid = landlord.one("SELECT 'photos'::regclass::oid")
    sql.run("ALTER EVENT TRIGGER susx_forget_dropped DISABLE")
    try:
        landlord.run("DROP TABLE photos")
        assert sql.one("SELECT count(*) FROM susx.errors WHERE relation::oid = %s", oid) == 4
        assert tenant.one("SELECT count(*) FROM susx.errors WHERE relation::oid = %s", oid) == 0
    finally:
        sql.run("ALTER EVENT TRIGGER susx_forget_dropped ENABLE")
        sql.run("DELETE FROM susx.errors WHERE relation::oid = %s", oid)
        sql.run("DELETE FROM susx.embedding_column WHERE relation::oid = %s", oid)


def test_models_names_no_hidden_columns(sql, landlord, tenant):
    landlord.run(CALL.format(""))
    landlord.run("UPDATE susx.embedding_column SET model_sha256 = '\\x00' WHERE relation = 'photos'::regclass")
    remark = "SELECT error FROM susx.models() WHERE name = 'tiny_split'"
    assert "photos.embedding" in landlord.one(remark)
    assert "photos" not in (tenant.one(remark) or "")


@pytest.fixture
def compass(landlord):
    create_compass(landlord)
    landlord.run(
        """
        SELECT susx.add_support('compass', 'north', ARRAY['[1,0.2]']::vector[]);
        GRANT SELECT, UPDATE ON compass TO tenant, auditor;
        ALTER TABLE compass ENABLE ROW LEVEL SECURITY;
        CREATE POLICY names ON compass USING (kind = 'prompt' AND category = 'east')"""
    )
    return "SELECT alpha FROM susx.classifier WHERE classifier = to_regclass('compass')"


def test_settings_of_a_classifier(landlord, tenant, auditor, compass):
    """They count for all rows, so who sees some of them does not change them. Labels need them, so they are read."""
    before = landlord.one(compass)
    assert tenant.one(compass) == before
    for statement in (
        "SELECT susx.alter_classifier('compass', alpha => 9)",
        "SELECT * FROM susx.tune('compass')",
        "SELECT * FROM susx.tune('compass', 'SELECT ''[1,0]''::vector, ''east''')",
    ):
        refusal = tenant.fails(statement)
        assert refusal.sqlstate == DENIED, statement
        assert "row-level security" in refusal.message and "BYPASSRLS" in refusal.hint
    tenant.run("UPDATE susx.classifier SET alpha = 9")
    tenant.fails(
        "INSERT INTO susx.classifier SELECT * FROM susx.classifier WHERE classifier = 'compass'::regclass "
        "ON CONFLICT (classifier) DO UPDATE SET alpha = 9"
    )
    assert landlord.one(compass) == before
    auditor.run("SELECT susx.alter_classifier('compass', alpha => 9)")
    assert landlord.one(compass) == 9
    landlord.run("SELECT susx.alter_classifier('compass', alpha => 8); ALTER TABLE compass FORCE ROW LEVEL SECURITY")
    assert landlord.fails("SELECT susx.alter_classifier('compass', alpha => 7)").sqlstate == DENIED
    assert landlord.one(compass) == 8


def test_messages_name_no_hidden_categories(landlord, tenant, compass):
    assert "north" in landlord.fails("SELECT susx.add_support('compass', 'west', ARRAY['[1,0]']::vector[])").hint
    landlord.run("GRANT INSERT ON compass TO tenant")
    refusal = tenant.fails("SELECT susx.add_support('compass', 'west', ARRAY['[1,0]']::vector[])")
    assert refusal.hint == "Its categories: east."
    # Nor classifiers of others.
    create_compass(landlord, "hidden")
    assert "hidden" in landlord.fails("SELECT susx.label('pg_class', '[1,0]'::vector)").hint
    assert "hidden" not in tenant.fails("SELECT susx.label('pg_class', '[1,0]'::vector)").hint


def test_control_characters_are_shown_escaped(sql, cluster):
    """In messages, and with them in the log: a terminal that shows either does what nobody asked for otherwise."""
    evil = "a\x1b[31m\x07b\u202ec\x9bd\ne"
    create_compass(sql)
    sql.run("SET client_min_messages = notice")
    with log_of(cluster) as log:
        refusal = sql.fails("SELECT susx.add_support('compass', %s, ARRAY['[1,0]']::vector[])", evil)
        assert "a\\u{1b}[31m\\u{7}b\\u{202e}c\\u{9b}d\\ne" in refusal.message
        sql.run("INSERT INTO compass (category, kind, origin, embedding) VALUES (%s, 'prompt', 'given', '[-1,0]')", evil)
        refusal = sql.fails("SELECT susx.add_support('compass', 'west', ARRAY['[1,0]']::vector[])")
        assert "a\\u{1b}[31m" in refusal.hint
        sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector); INSERT INTO pool VALUES (1, '[1,0]'), (2, '[0,1]')")
        sql.rows("SELECT * FROM susx.build_support_set('compass', 'pool')")
        assert any("a\\u{1b}[31m" in notice for notice in sql.notices)
        ours = [line for line in log().splitlines() if "STATEMENT" not in line]
        assert any("\\u{1b}" in line for line in ours)
        for line in ours:
            assert not any(mark in line for mark in "\x1b\x07\x9b\u202e"), line
