"""Pools of every shape: keys of any type, strange names, views, partitions, indexes."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

VALUES = "VALUES (1, '[1,0]'::vector), (2, '[1,0.1]'), (3, '[0,1]'), (4, '[0.1,1]')"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    return sql


# Without it, the index is only asked where the pool is very large.
BY_INDEX = ", use_index => true"


def build(sql, pool, more=""):
    """The images per category and the keys in the order of the classifier's table."""
    counts = [row[1] for row in sql.rows(f"SELECT * FROM susx.build_support_set('compass', %s{more})", pool)]
    return counts, sql.column("SELECT source_key FROM compass WHERE kind = 'image' ORDER BY id")


@pytest.mark.parametrize(
    "type, make",
    [
        ("int", "i"),
        ("smallint", "i::smallint"),
        ("bigint", "i + 5000000000"),
        ("numeric(12,3)", "i / 8.0"),
        ("text", "'k ''\"\\ ' || i"),
        ("varchar(9)", "'k' || i"),
        ("char(5)", "'k' || i"),
        ("name", "('k' || i)::name"),
        ("uuid", "md5(i::text)::uuid"),
        ("timestamptz", "'2026-03-29 00:30:00.000001+00'::timestamptz + i * interval '1 hour'"),
        ("date", "'2026-01-01'::date + i"),
        ("bytea", "decode('00ff0' || i, 'hex')"),
        ("float8", "i / 3.0::float8"),
        ("oid", "i::oid"),
        ("bool", "i = 1"),
    ],
)
def test_keys_of_every_type(sql, type, make):
    sql.run(f"CREATE TABLE pool (key {type} PRIMARY KEY, embedding vector(2))")
    some = "" if type != "bool" else "WHERE i IN (1, 3)"
    sql.run(f"INSERT INTO pool SELECT {make}, v FROM ({VALUES}) p (i, v) {some}")
    expected = sql.column("SELECT key::text FROM pool ORDER BY embedding <=> '[1,0]'")
    counts, keys = build(sql, "pool")
    assert sum(counts) == len(keys) == len(expected)
    assert set(keys) == set(expected)
    # The key identifies the row, as the manual shows.
    assert sql.one(
        "SELECT count(*) FROM compass c JOIN pool p ON p.key::text = c.source_key WHERE c.embedding = p.embedding"
    ) == len(keys)


def test_keys_of_a_users_own_type(sql):
    sql.run(
        "CREATE TYPE shelf AS (room int, place text); CREATE DOMAIN positive AS int CHECK (value > 0); "
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd')"
    )
    for type, make in (
        ("shelf", "ROW(i, 'p,\"' || i)::shelf"),
        ("positive", "i::positive"),
        ("mood", "(ARRAY['a', 'b', 'c', 'd'])[i]::mood"),
        ("int[]", "ARRAY[i, -i]"),
    ):
        sql.run(
            f"DROP TABLE IF EXISTS pool; CREATE TABLE pool (key {type} PRIMARY KEY, embedding vector(2)); "
            f"INSERT INTO pool SELECT {make}, v FROM ({VALUES}) p (i, v)"
        )
        counts, keys = build(sql, "pool")
        assert counts == [2, 2], type
        assert set(keys) == set(sql.column("SELECT key::text FROM pool"))


@pytest.mark.parametrize(
    "name",
    [
        "Pool",
        "with space",
        "with.dot",
        'with"quote',
        "with'apostrophe",
        "Ünïcode 图",
        "select",
        "a" * 63,
        "%s",
        "$1",
        "back\\slash",
    ],
)
def test_strange_names(sql, name):
    """Of the schema, the table, its columns, and the classifier."""
    quoted = sql.one("SELECT quote_ident(%s)", name)
    sql.run(f"CREATE SCHEMA {quoted}")
    try:
        sql.run(f"CREATE TABLE {quoted}.{quoted} (key int PRIMARY KEY, {quoted} vector(2))")
        sql.run(f"INSERT INTO {quoted}.{quoted} {VALUES}")
        create_compass(sql, f"{quoted}.classifier")
        rows = sql.rows(
            "SELECT * FROM susx.build_support_set(%s, %s, embedding_column => %s)",
            f"{quoted}.classifier",
            f"{quoted}.{quoted}",
            name,
        )
        assert [row[1] for row in rows] == [2, 2]
        create_compass(sql, quoted)
        assert sql.one("SELECT susx.label(%s, '[1,0]'::vector)", quoted) == "east"
        assert sql.one("SELECT relname FROM pg_class WHERE oid = %s::regclass", quoted) == name
    finally:
        sql.run(f"DROP SCHEMA {quoted} CASCADE")


def test_a_key_column_is_named_in_its_own_case(sql):
    sql.run(f'CREATE TABLE pool ("The Key" int UNIQUE, "Vec" vector(2)); INSERT INTO pool {VALUES}')
    counts, keys = build(sql, "pool", ", embedding_column => 'Vec', key_column => 'The Key'")
    assert (counts, keys) == ([2, 2], ["1", "2", "3", "4"])


def test_a_view(sql):
    sql.run(
        f"CREATE TABLE t (key int PRIMARY KEY, embedding vector(2), secret bool); "
        f"INSERT INTO t SELECT *, i = 2 FROM ({VALUES}) p (i, v)"
    )
    sql.run("CREATE VIEW pool AS SELECT key, embedding FROM t WHERE NOT secret")
    assert "key_column" in sql.fails("SELECT susx.build_support_set('compass', 'pool')").hint
    assert build(sql, "pool", ", key_column => 'key'") == ([1, 2], ["1", "3", "4"])
    refusal = sql.fails(f"SELECT susx.build_support_set('compass', 'pool', key_column => 'key'{BY_INDEX})")
    # PostgreSQL would refuse CREATE INDEX.
    assert refusal.sqlstate == "42704" and "CREATE INDEX" not in refusal.hint and "Leave out use_index" in refusal.hint
    sql.run("CREATE MATERIALIZED VIEW pool2 AS SELECT * FROM pool")
    assert build(sql, "pool2", ", key_column => 'key'") == ([1, 2], ["1", "3", "4"])
    refusal = sql.fails(f"SELECT susx.build_support_set('compass', 'pool2', key_column => 'key'{BY_INDEX})")
    sql.run(refusal.hint.split(": ", 1)[1])
    assert build(sql, "pool2", f", key_column => 'key'{BY_INDEX}") == ([1, 2], ["1", "3", "4"])


def test_a_partitioned_table(sql):
    sql.run(
        """
        CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2)) PARTITION BY RANGE (key);
        CREATE TABLE low PARTITION OF pool FOR VALUES FROM (0) TO (3);
        CREATE TABLE high PARTITION OF pool FOR VALUES FROM (3) TO (9)"""
    )
    sql.run(f"INSERT INTO pool {VALUES}")
    assert build(sql, "pool") == ([2, 2], ["1", "2", "3", "4"])
    # An index on a partitioned table is one on every partition.
    sql.run("CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops); SET enable_seqscan = off")
    assert build(sql, "pool", BY_INDEX) == ([2, 2], ["1", "2", "3", "4"])


def test_inherited_tables_count(sql):
    sql.run(
        f"CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2)); CREATE TABLE child () INHERITS (pool); "
        f"INSERT INTO child {VALUES}"
    )
    assert build(sql, "pool") == ([2, 2], ["1", "2", "3", "4"])


def test_dropped_and_added_columns(sql):
    sql.run(
        f"CREATE TABLE pool (gone int, key int PRIMARY KEY, embedding text); "
        f"ALTER TABLE pool DROP gone, DROP embedding, ADD embedding vector(2); INSERT INTO pool {VALUES}"
    )
    assert build(sql, "pool") == ([2, 2], ["1", "2", "3", "4"])


@pytest.mark.parametrize(
    "index", ["hnsw (embedding vector_cosine_ops)", "ivfflat (embedding vector_cosine_ops) WITH (lists = 8)"]
)
def test_few_of_many_are_nearest(sql, index):
    """The images of a rare name are far down in every list: the index is asked for more until they are found."""
    sql.run(
        """
        CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2));
        INSERT INTO pool SELECT i, ARRAY[cosd(i / 100.0), sind(i / 100.0)]::vector FROM generate_series(1, 3000) i;
        INSERT INTO pool SELECT 4000 + i, ARRAY[cosd(60.0 + i), sind(60.0 + i)]::vector FROM generate_series(1, 5) i"""
    )
    sql.run("UPDATE compass SET embedding = '[1,1.2]' WHERE category = 'north'")
    sql.run(f"CREATE INDEX ON pool USING {index}; SET enable_seqscan = off")
    counts, keys = build(sql, "pool", f", per_class => 5{BY_INDEX}")
    assert counts == [5, 5]
    assert {key for key in keys if int(key) > 4000} == {"4001", "4002", "4003", "4004", "4005"}


@pytest.mark.parametrize("index", ["hnsw (embedding vector_l2_ops)", "ivfflat (embedding vector_ip_ops) WITH (lists = 1)"])
def test_an_index_by_another_order_changes_nothing(sql, index):
    """Vectors of unequal lengths: the nearest by angle are neither the nearest by distance nor by inner product."""
    sql.run(
        """
        CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2));
        INSERT INTO pool SELECT i, ARRAY[l * cosd(i * 0.9), l * sind(i * 0.9)]::vector
        FROM generate_series(1, 99) i, LATERAL (SELECT 0.01 + 100 * power(sind(i * 77), 4) AS l) lengths"""
    )
    # By angle alone: the first and the last keys.
    expected = [4, 4], sorted(map(str, [1, 2, 3, 4, 96, 97, 98, 99]))
    counts, keys = build(sql, "pool", ", per_class => 4")
    assert (counts, sorted(keys)) == expected
    sql.run(f"CREATE INDEX ON pool USING {index}; SET enable_seqscan = off; SET enable_sort = off")
    counts, keys = build(sql, "pool", ", per_class => 4")
    assert (counts, sorted(keys)) == expected


def test_the_settings_of_index_scans_are_left_as_they_were(sql):
    sql.run(
        f"CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2)); INSERT INTO pool {VALUES}; "
        f"CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops)"
    )
    sql.run("SET hnsw.iterative_scan = relaxed_order")
    build(sql, "pool", BY_INDEX)
    assert sql.one("SHOW hnsw.iterative_scan") == "relaxed_order"
    sql.run("BEGIN")
    build(sql, "pool", BY_INDEX)
    assert sql.one("SHOW hnsw.iterative_scan") == "relaxed_order"
    sql.run("COMMIT")


def test_the_classifier_itself_may_be_the_pool(sql):
    """A classifier's own table as its pool, say: the choice is made before anything is replaced."""
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.3]', '[0.3,1]']::vector[])")
    assert [
        row[1] for row in sql.rows("SELECT * FROM susx.build_support_set('compass', 'compass', per_class => 1)")
    ] == [1, 1]


def test_search_path_and_operators_of_the_user_do_not_matter(sql, schema):
    """Names are qualified: operators that somebody put in front of the catalogue's are not called."""
    sql.run(f"CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2)); INSERT INTO pool {VALUES}")
    sql.run(
        f"""
        CREATE FUNCTION no(text, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''called''; END';
        CREATE FUNCTION no(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''called''; END';
        CREATE FUNCTION no(oid, oid) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''called''; END';
        CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = no);
        CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = no);
        CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = oid, FUNCTION = no);
        SET search_path = {schema}, pg_catalog, public"""
    )
    assert [row[1] for row in sql.rows("SELECT * FROM susx.build_support_set('compass', 'pool')")] == [2, 2]
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    sql.run("SELECT susx.alter_classifier('compass', alpha => 2)")
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.3]']::vector[])")
    # With no schema at all.
    sql.run("SET search_path = ''")
    assert sql.one(f"SELECT susx.label('{schema}.compass', '[1,0]'::public.vector)") == "east"
    assert len(sql.rows(f"SELECT * FROM susx.build_support_set('{schema}.compass', '{schema}.pool')")) == 2


# What a session sets to have values shown otherwise. None of it changes what is found.
SHOWN_OTHERWISE = """
    SET extra_float_digits = -3; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard';
    SET TimeZone = 'Asia/Kathmandu'; SET bytea_output = 'escape'"""


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops); SET enable_seqscan = off"])
@pytest.mark.parametrize(
    "type, make",
    [
        ("float8", "i / 3.0::float8"),
        ("float4", "i / 3.0::float4"),
        ("near_float8", "(1 + i * 2.220446049250313e-16)::float8"),
        ("domain_float8", "(1 + i * 2.220446049250313e-16)::float8"),
        ("float8[]", "ARRAY[i / 3.0::float8, 0.1]"),
        ("pair", "ROW(i / 3.0::float8, '2026-02-03'::date + i)::pair"),
        ("date", "'2026-02-03'::date + i"),
        ("timestamp", "'2026-02-03 04:05:06.000007'::timestamp + i * interval '1 day'"),
        ("timestamptz", "'2026-02-03 04:05:06.000007+00'::timestamptz + i * interval '1 day'"),
        ("timetz", "'04:05:06+07'::timetz + i * interval '1 minute'"),
        ("interval", "make_interval(1, -2, 0, i, -4, 5)"),
        ("bytea", "decode('00ff0' || i, 'hex')"),
        ("tstzrange", "tstzrange('2026-02-03 04:05:06+00', '2026-02-03 04:05:06+00'::timestamptz + i * interval '1 day')"),
        ("money", "(i / 4.0)::numeric::money"),
    ],
)
def test_keys_do_not_depend_on_how_they_are_shown(sql, type, make, index):
    sql.run("CREATE DOMAIN domain_float8 AS float8; CREATE TYPE pair AS (a float8, b date)")
    sql.run(f"CREATE TABLE pool (key {type.removeprefix('near_')} PRIMARY KEY, embedding vector(2))")
    sql.run(f"INSERT INTO pool SELECT {make}, v FROM ({VALUES}) p (i, v); {index}")
    by_index = BY_INDEX if index else ""
    counts, exact = build(sql, "pool", by_index)
    assert counts == [2, 2] and len(set(exact)) == 4
    sql.run(SHOWN_OTHERWISE)
    assert build(sql, "pool", by_index) == (counts, exact)
    # Exact text leads back to the row from any session.
    if type != "money":
        back = f"c.source_key::{type.removeprefix('near_')}"
        assert sql.one(f"SELECT count(*) FROM compass c JOIN pool p ON p.key = {back} AND c.embedding = p.embedding") == 4
    assert sql.one("SHOW extra_float_digits") == "-3" and sql.one("SHOW DateStyle") == "German, DMY"


def test_triggers_of_the_classifier_run_with_the_callers_settings(sql):
    sql.run(f"CREATE TABLE pool (key float8 PRIMARY KEY, embedding vector(2)); INSERT INTO pool {VALUES}")
    sql.run(
        """
        CREATE TABLE seen (digits text, style text);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (current_setting('extra_float_digits'), current_setting('DateStyle')); RETURN NEW; END $$;
        CREATE TRIGGER see BEFORE INSERT ON compass FOR EACH ROW EXECUTE FUNCTION see()"""
    )
    sql.run(SHOWN_OTHERWISE)
    build(sql, "pool")
    assert set(sql.rows("SELECT * FROM seen")) == {("-3", "German, DMY")}


def test_images_that_are_not_found_again(sql):
    """A view that shows less once the old support set is deleted stands for somebody who deletes images meanwhile."""
    sql.run(
        f"""
        CREATE TABLE t (key int PRIMARY KEY, embedding vector(2)); INSERT INTO t {VALUES};
        SELECT susx.build_support_set('compass', 't');
        CREATE TABLE gone (key int);
        CREATE FUNCTION shrink() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO gone VALUES (4); RETURN NULL; END';
        CREATE TRIGGER shrink AFTER DELETE ON compass FOR EACH STATEMENT EXECUTE FUNCTION shrink();
        CREATE VIEW pool AS SELECT * FROM t WHERE key NOT IN (SELECT key FROM gone)"""
    )
    before = sql.rows("SELECT * FROM compass ORDER BY id")
    refusal = sql.fails("SELECT * FROM susx.build_support_set('compass', 'pool', key_column => 'key')")
    assert refusal.sqlstate == "40001"
    assert "4 images of" in refusal.message and "but only 3 of them" in refusal.message and "call again" in refusal.hint
    assert sql.rows("SELECT * FROM compass ORDER BY id") == before


def test_more_images_than_an_old_index_scan_finds(sql):
    """Before version 0.8.0 an hnsw scan of pgvector ends after hnsw.ef_search images, 40 unless it is told otherwise."""
    sql.run(
        """
        CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2));
        INSERT INTO pool SELECT i, ARRAY[cosd(i / 50.0), sind(i / 50.0)]::vector FROM generate_series(1, 4000) i"""
    )
    counts, _ = build(sql, "pool", ", per_class => 300")
    assert counts == [300, 300]
    for index in ("hnsw (embedding vector_cosine_ops)", "ivfflat (embedding vector_cosine_ops) WITH (lists = 40)"):
        sql.run(f"CREATE INDEX pool_index ON pool USING {index}; SET enable_seqscan = off; SET enable_sort = off")
        assert build(sql, "pool", f", per_class => 300{BY_INDEX}")[0] == [300, 300]
        assert build(sql, "pool", f", per_class => 1700{BY_INDEX}")[0] == [1700, 1700]
        sql.run("DROP INDEX pool_index")


@pytest.fixture
def circle(sql):
    """A pool with an index."""
    sql.run(
        """
        CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2));
        INSERT INTO pool SELECT i, ARRAY[cosd(i / 100.0), sind(i / 100.0)]::vector FROM generate_series(0, 9000) i;
        CREATE INDEX pool_index ON pool USING hnsw (embedding vector_cosine_ops); ANALYZE pool;
        SET enable_seqscan = off; SET client_min_messages = debug1"""
    )
    return sql


def scans(sql):
    """How many scans of the index there have been."""
    sql.run("SELECT pg_stat_force_next_flush()")
    return sql.one("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pool_index'")


def decision(sql):
    """What a call at debug1 has said of the index."""
    return [notice for notice in sql.notices if notice.startswith("build_support_set ")][-1]


def test_the_index_is_asked_where_that_costs_far_less(circle):
    """Two images are few of nine thousand; for six hundred, the index would return most of the pool."""
    before = scans(circle)
    assert build(circle, "pool", ", per_class => 300, skip_duplicates => 0")[0] == [300, 300]
    assert decision(circle).startswith("build_support_set reads every image: ") and "9001 images" in decision(circle)
    assert scans(circle) == before
    assert build(circle, "pool", ", per_class => 1, skip_duplicates => 0")[0] == [1, 1]
    assert decision(circle).startswith("build_support_set asks the index: ") and "2 prompts" in decision(circle)
    assert scans(circle) > before


def test_the_caller_decides_about_the_index(circle):
    before = scans(circle)
    assert build(circle, "pool", ", per_class => 1, use_index => false")[0] == [1, 1]
    assert decision(circle).startswith("build_support_set reads every image: ") and scans(circle) == before
    assert build(circle, "pool", f", per_class => 300{BY_INDEX}")[0] == [300, 300]
    assert decision(circle).startswith("build_support_set asks the index: ") and scans(circle) > before


def test_an_index_that_does_not_exist(circle):
    circle.run("DROP INDEX pool_index")
    kept = build(circle, "pool", ", per_class => 2")
    refusal = circle.fails(f"SELECT susx.build_support_set('compass', 'pool', 2{BY_INDEX})")
    assert refusal.sqlstate == "42704" and 'column "embedding"' in refusal.message
    create = refusal.hint.split(": ", 1)[1]
    circle.run(create)
    assert build(circle, "pool", f", per_class => 2{BY_INDEX}") == kept


def test_an_index_in_a_new_session(sql, connect, schema):
    """Which settings pgvector has is known only when its library is loaded."""
    sql.run(
        f"CREATE TABLE pool (key int PRIMARY KEY, embedding vector(2)); INSERT INTO pool {VALUES}; "
        f"CREATE INDEX ON pool USING hnsw (embedding vector_cosine_ops)"
    )
    session = connect()
    session.run(f"SET search_path = {schema}, public")
    session.notices.clear()
    assert [row[1] for row in session.rows(f"SELECT * FROM susx.build_support_set('compass', 'pool'{BY_INDEX})")] == [2, 2]
    assert [notice for notice in session.notices if "parameter" in notice] == []
