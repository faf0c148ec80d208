"""A classifier with row-level security, or a view: every role gets its answer from the rows that it may see at that
moment, whatever the session has answered before."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass, create_points, create_random

# West of north: a category of one's own decides.
POINT = "'[1,0.9]'::vector"
LABEL = f"SELECT susx.label('compass', {POINT})"
EAST, NORTH = "SET app.tenant = 'east'", "SET app.tenant = 'north'"

# Every function that answers with a category.
QUESTIONS = {
    "label": LABEL,
    "classify": f"SELECT category FROM susx.classify('compass', {POINT})",
    "classify_rows": f"SELECT category FROM susx.classify_rows('compass', $$SELECT 1::bigint, {POINT}$$)",
    "explain": f"SELECT category FROM susx.explain('compass', {POINT})",
    "confusion_matrix": f"SELECT predicted FROM susx.confusion_matrix('compass', $$SELECT {POINT}, c.category "
    "FROM compass c LIMIT 1$$)",
}


@pytest.fixture
def owner(sql, schema):
    """A session of the owner, whose table shows a tenant one category."""
    create_compass(sql)
    sql.run(
        f"""
        ALTER TABLE compass ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenants ON compass USING (category = current_setting('app.tenant'));
        CREATE ROLE tenant; CREATE ROLE other_tenant;
        GRANT USAGE, CREATE ON SCHEMA {schema} TO tenant, other_tenant;
        GRANT SELECT ON compass TO tenant, other_tenant"""
    )
    yield sql
    sql.run("RESET SESSION AUTHORIZATION; DROP OWNED BY tenant, other_tenant CASCADE; DROP ROLE tenant, other_tenant")


@pytest.fixture
def tenant(owner, connect, schema):
    session = connect()
    session.run(f"SET search_path = {schema}, public; SET ROLE tenant")
    return session


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_a_policy_that_depends_on_a_setting(tenant, question, level):
    tenant.run(f"BEGIN ISOLATION LEVEL {level}")
    for setting, category in [(EAST, "east"), (NORTH, "north"), (EAST, "east")]:
        tenant.run(setting)
        assert tenant.column(question) == [category]
    tenant.run("COMMIT")


def test_a_pooled_connection(tenant, schema):
    """As a connection pooler does between two users."""
    tenant.run(EAST)
    assert tenant.one(LABEL) == "east"
    tenant.run("DISCARD ALL")
    tenant.run(f"SET search_path = {schema}, public; SET ROLE tenant; {NORTH}")
    assert tenant.one(LABEL) == "north"


def test_prepared_statements(tenant):
    tenant.run(f"PREPARE ask AS {LABEL}")
    for setting, category in [(EAST, "east"), (NORTH, "north")] * 4:
        tenant.run(setting)
        assert tenant.one("EXECUTE ask") == category


def test_statements_of_a_function(tenant):
    """PL/pgSQL evaluates assignments by itself, without what other statements have in common."""
    tenant.run(
        f"""
        CREATE FUNCTION both_of_them() RETURNS text[] LANGUAGE plpgsql AS $$
        DECLARE labels text[]; one text; category text;
        BEGIN
            FOREACH category IN ARRAY '{{east,north,east}}'::text[] LOOP
                PERFORM set_config('app.tenant', category, true);
                one := susx.label('compass', {POINT});
                labels := labels || one;
                SELECT susx.label('compass', {POINT}) INTO one;
                labels := labels || one;
                EXECUTE $x${LABEL}$x$ INTO one;
                labels := labels || one;
            END LOOP;
            RETURN labels;
        END $$"""
    )
    expected = ["east"] * 3 + ["north"] * 3 + ["east"] * 3
    assert tenant.one("SELECT both_of_them()") == expected
    # Also where it is called for several rows, between which it leaves another setting behind.
    assert tenant.column("SELECT both_of_them() FROM generate_series(1, 3)") == [expected] * 3
    # A stable function sees one snapshot in all its statements.
    tenant.run("ALTER FUNCTION both_of_them() STABLE")
    assert tenant.one("SELECT both_of_them()") == expected
    tenant.run(
        f"""
        CREATE TEMPORARY TABLE seen (label text);
        DO $$
        DECLARE label text;
        BEGIN
            PERFORM set_config('app.tenant', 'east', false);
            label := susx.label('compass', {POINT});
            INSERT INTO seen VALUES (label);
            PERFORM set_config('app.tenant', 'north', false);
            label := susx.label('compass', {POINT});
            INSERT INTO seen VALUES (label);
        END $$"""
    )
    assert tenant.column("SELECT label FROM seen") == ["east", "north"]


def test_a_cursor(tenant):
    tenant.run(f"{EAST}; BEGIN; DECLARE c CURSOR FOR SELECT susx.label('compass', {POINT}) FROM generate_series(1, 9)")
    assert tenant.column("FETCH 3 FROM c") == ["east"] * 3
    tenant.run(NORTH)
    assert tenant.column("FETCH 3 FROM c") == ["north"] * 3
    assert tenant.one(LABEL) == "north"
    tenant.run("COMMIT")


@pytest.mark.parametrize("change", ["ROLE", "SESSION AUTHORIZATION"])
def test_a_policy_that_depends_on_the_role(owner, change):
    owner.run(
        """
        DROP POLICY tenants ON compass;
        CREATE POLICY tenants ON compass USING (category = CASE current_user WHEN 'tenant' THEN 'east' ELSE 'north' END)
        """
    )
    everything = owner.one(LABEL)
    for role, category in [("tenant", "east"), ("other_tenant", "north"), ("tenant", "east")]:
        owner.run(f"SET {change} {role}")
        assert owner.one(LABEL) == category
        owner.run(f"RESET {change}")
        assert owner.one(LABEL) == everything


def test_security_definer(owner, tenant, schema):
    """A function that runs as its owner answers from the owner's rows, and its caller from the caller's."""
    owner.run(
        f"""
        CREATE FUNCTION owners_label() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, public
        AS $$ {LABEL} $$;
        DELETE FROM compass WHERE category = 'north';
        INSERT INTO compass (category, kind, embedding) VALUES ('north-east', 'prompt', '[1,1]'),
                                                               ('north', 'prompt', '[0,1]')"""
    )
    tenant.run(NORTH)
    assert tenant.rows(f"SELECT owners_label(), susx.label('compass', {POINT}), owners_label()") == [
        ("north-east", "north", "north-east")
    ]


@pytest.mark.parametrize("invoker", [True, False])
def test_a_view_of_labels(owner, tenant, invoker):
    """Whose rights a view reads tables with does not matter: functions in it run as whoever asks the view."""
    owner.run(
        f"CREATE VIEW labels WITH (security_invoker = {invoker}) AS SELECT susx.label('compass', {POINT}) AS label; "
        "GRANT SELECT ON labels TO tenant"
    )
    for setting, category in [(EAST, "east"), (NORTH, "north")]:
        tenant.run(setting)
        assert tenant.one("SELECT label FROM labels") == category


@pytest.mark.parametrize("invoker", [True, False])
def test_a_view_for_a_classifier(owner, tenant, invoker):
    """Its settings are inserted by hand. A row is what the view shows at that moment."""
    rule = "current_setting('app.tenant')" if invoker else "current_setting('app.view')"
    owner.run(
        f"""
        CREATE VIEW needle WITH (security_invoker = {invoker}) AS
            SELECT * FROM compass WHERE category = {rule};
        GRANT SELECT ON needle TO tenant;
        INSERT INTO susx.classifier (classifier, alpha, beta, gamma, temperature, logit_scale)
        VALUES ('needle', 1, 5.5, 1, 0.5, 100)"""
    )
    for category in ("east", "north", "east"):
        tenant.run("SELECT set_config('app.tenant', %s, false), set_config('app.view', %s, false)", category, category)
        assert tenant.one(LABEL.replace("compass", "needle")) == category
    owner.run("SELECT set_config('app.tenant', 'north', false), set_config('app.view', 'north', false)")
    assert owner.column(f"SELECT susx.label('needle', {POINT}) FROM generate_series(1, 3)") == ["north"] * 3


def test_row_security_that_is_turned_on_and_off(owner, tenant):
    owner.run("ALTER TABLE compass DISABLE ROW LEVEL SECURITY")
    everything = tenant.one(LABEL)
    assert everything == owner.one(LABEL) == "east"
    owner.run("ALTER TABLE compass ENABLE ROW LEVEL SECURITY")
    tenant.run(NORTH)
    assert tenant.one(LABEL) == "north"
    assert owner.one(LABEL) == everything
    owner.run(f"{NORTH}; SET ROLE tenant")
    assert owner.one(LABEL) == "north"
    owner.run("RESET ROLE; ALTER TABLE compass DISABLE ROW LEVEL SECURITY")
    assert tenant.one(LABEL) == everything


def test_the_owner_under_forced_row_security(owner, connect, schema):
    owner.run("ALTER TABLE compass OWNER TO tenant")
    session = connect()
    session.run(f"SET search_path = {schema}, public; SET ROLE tenant")
    assert session.one(LABEL) == "east"
    owner.run("ALTER TABLE compass FORCE ROW LEVEL SECURITY")
    session.run(NORTH)
    assert session.one(LABEL) == "north"
    owner.run("ALTER TABLE compass NO FORCE ROW LEVEL SECURITY")
    assert session.one(LABEL) == "east"


def test_a_role_that_loses_its_exemption(owner, tenant):
    owner.run("ALTER ROLE tenant BYPASSRLS")
    tenant.run(NORTH)
    assert tenant.one(LABEL) == "east"
    owner.run("ALTER ROLE tenant NOBYPASSRLS")
    assert tenant.one(LABEL) == "north"
    assert tenant.fails(f"SET row_security = off; {LABEL}").sqlstate == "42501"


def test_rights_that_are_taken_away(owner, tenant):
    """Also in a transaction whose snapshot stays the same."""
    owner.run("ALTER TABLE compass DISABLE ROW LEVEL SECURITY")
    tenant.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert tenant.one(LABEL) == "east"
    owner.run("REVOKE SELECT ON compass FROM tenant")
    assert tenant.fails(LABEL).sqlstate == "42501"
    tenant.run("ROLLBACK")


def test_one_fit_for_all_rows_of_a_statement(owner, tenant, schema):
    create_random(owner, "toy", categories=20, dimensions=64, per_class=20)
    create_points(owner, "points", rows=300, dimensions=64)
    owner.run(
        """
        ALTER TABLE toy ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenants ON toy USING (category < current_setting('app.tenant'));
        GRANT SELECT ON toy, points TO tenant"""
    )
    tenant.run("SET client_min_messages = debug1; SET app.tenant = 'c15'")
    tenant.fits()
    labels = tenant.column("SELECT susx.label('toy', embedding) FROM points ORDER BY id")
    assert tenant.fits() == ["toy"]
    assert max(labels) < "c15" and len(set(labels)) > 5
    query = "SELECT c.category FROM points, LATERAL susx.classify('toy', embedding) c ORDER BY id"
    assert tenant.column(query) == labels
    assert tenant.fits() == ["toy"]
    tenant.run("SET app.tenant = 'c05'")
    assert max(tenant.column("SELECT susx.label('toy', embedding) FROM points")) < "c05"
