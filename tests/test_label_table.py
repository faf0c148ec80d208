"""CALL susx.label_table: every row has the label that susx.label() gives it, and only outdated rows are written."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.labels import DIMENSIONS, call, counts, create_kinds, create_photos, records, rewritten, writers, wrong
from helpers.session import vector

ONES = f"array_fill(1, '{{{DIMENSIONS}}}')::vector"


@pytest.fixture
def photos(sql):
    create_kinds(sql)
    create_photos(sql)
    return sql


def test_every_row_gets_its_label(photos):
    assert call(photos) == '"photos": labelled 300 rows, 300 of them changed'
    assert wrong(photos) == 0
    assert photos.one("SELECT count(label) FROM photos") == 300
    assert photos.one("SELECT count(*) FROM photos WHERE probability IS NOT NULL OR known IS NOT NULL") == 0
    assert counts(photos) == (300, 0, 0, 0, 0)
    # Nothing is left to do.
    before = writers(photos)
    assert call(photos) == '"photos": all labels are up to date'
    assert rewritten(photos, before) == set()


def test_probability_and_known(photos):
    call(photos)
    before = writers(photos)
    # Rows that have a label still lack the numbers.
    assert call(photos, probability_column="probability", known_column="known").endswith("0 of them changed")
    assert rewritten(photos, before) == set(range(300))
    assert wrong(photos) == 0
    off = photos.one(
        "SELECT count(*) FROM photos p, susx.classify('kinds', embedding) c "
        "WHERE abs(p.probability - c.probability) > 1e-5 OR abs(p.known - c.known) > 1e-5"
    )
    assert off == 0
    assert call(photos, probability_column="probability", known_column="known").endswith("up to date")


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "tip-x", "gated-tip-x", "gda"])
def test_methods(photos, method):
    call(photos, method=method)
    assert photos.one(
        "SELECT count(*) FROM photos WHERE label IS DISTINCT FROM susx.label('kinds', embedding, %s)", method
    ) == 0


@pytest.mark.parametrize("batch_size", [1, 7, 299, 1000])
def test_batches_in_the_order_of_keys(photos, batch_size):
    call(photos, batch_size=batch_size)
    written = photos.column("SELECT xmin::text::bigint FROM photos ORDER BY id")
    assert written == sorted(written)
    assert len(set(written)) == -(-300 // batch_size)
    assert wrong(photos) == 0


def test_embeddings_that_change(photos):
    call(photos)
    photos.run(f"UPDATE photos SET embedding = {ONES} WHERE id IN (5, 250)")
    before = writers(photos)
    assert counts(photos) == (298, 2, 0, 0, 0)
    assert call(photos).startswith('"photos": labelled 2 rows')
    assert rewritten(photos, before) <= {5, 250}
    assert wrong(photos) == 0


CHANGES = {
    "support": f"SELECT susx.add_support('kinds', 'c01', ARRAY[{ONES}])",
    "settings": "SELECT susx.alter_classifier('kinds', logit_scale => 3)",
    "default method": "SELECT susx.alter_classifier('kinds', method => 'zero-shot')",
    "deleted rows": "DELETE FROM kinds WHERE kind = 'image' AND category = 'c02'",
    "a name": "UPDATE kinds SET category = 'other' WHERE category = 'c03'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_classifier_that_changes(photos, change):
    """All labels are outdated, but only rows that get another one are written."""
    call(photos)
    before, old = writers(photos), dict(photos.rows("SELECT id, label FROM photos"))
    photos.run(CHANGES[change])
    assert counts(photos) == (0, 300, 0, 0, 0)
    new = dict(photos.rows("SELECT id, susx.label('kinds', embedding) FROM photos"))
    changed = {key for key in old if old[key] != new[key]}
    assert call(photos) == f'"photos": labelled 300 rows, {len(changed)} of them changed'
    assert rewritten(photos, before) == changed
    assert wrong(photos) == 0
    assert counts(photos) == (300, 0, 0, 0, 0)


def test_rows_in_another_place(photos):
    """What decides is what the rows hold, not where they lie."""
    call(photos)
    photos.run("UPDATE kinds SET similarity = 0.5 WHERE id % 2 = 0")
    photos.run("VACUUM FULL kinds")
    assert call(photos).endswith("up to date")


def test_labels_by_hand(photos):
    """Also those from before the first call. One that is set to NULL is given again."""
    photos.run("UPDATE photos SET label = 'mine' WHERE id = 1")
    assert "1 left unchanged" in call(photos)
    photos.run("UPDATE photos SET label = 'mine, too' WHERE id = 2; UPDATE photos SET label = NULL WHERE id = 3")
    assert counts(photos) == (297, 0, 0, 2, 1)
    assert "2 left unchanged" in call(photos)
    photos.run("SELECT susx.alter_classifier('kinds', logit_scale => 3)")
    photos.run(f"UPDATE photos SET embedding = {ONES} WHERE id = 2")
    call(photos)
    assert photos.rows("SELECT id, label FROM photos WHERE label LIKE 'mine%%' ORDER BY id", ) == [
        (1, "mine"), (2, "mine, too")
    ]
    assert wrong(photos, where="id NOT IN (1, 2)") == 0


def test_another_classifier_takes_over(photos):
    photos.run("UPDATE photos SET label = 'mine' WHERE id = 1")
    call(photos)
    create_kinds(photos, "others", categories=3, seed=9)
    call(photos, classifier="others")
    assert wrong(photos, classifier="others", where="id <> 1") == 0
    assert photos.one("SELECT label FROM photos WHERE id = 1") == "mine"
    assert photos.rows("SELECT classifier::text FROM susx.label_column WHERE relation = 'photos'::regclass") == [("others",)]


def test_two_columns_of_labels(photos):
    create_kinds(photos, "others", categories=3, seed=9)
    photos.run("ALTER TABLE photos ADD other varchar(20)")
    call(photos)
    call(photos, classifier="others", label_column="other")
    assert wrong(photos) == 0
    assert photos.one("SELECT count(*) FROM photos WHERE other IS DISTINCT FROM susx.label('others', embedding)") == 0
    assert photos.one("SELECT count(*) FROM susx.label_column WHERE relation = 'photos'::regclass") == 2


def test_rejected(photos):
    limit = photos.one(
        "SELECT percentile_cont(0.4) WITHIN GROUP (ORDER BY susx.known('kinds', embedding)) FROM photos"
    )
    photos.run("SELECT susx.alter_classifier('kinds', reject => %s)", limit)
    none = photos.one("SELECT count(*) FROM photos WHERE susx.label('kinds', embedding) IS NULL")
    assert 50 < none < 200
    assert f"{none} rejected" in call(photos, probability_column="probability", known_column="known")
    assert wrong(photos) == 0
    assert photos.one("SELECT count(*) FROM photos WHERE (label IS NULL) <> (probability IS NULL) OR known IS NULL") == 0
    assert counts(photos) == (300 - none, 0, none, 0, 0)
    before = writers(photos)
    assert call(photos, probability_column="probability", known_column="known").endswith("up to date")
    assert rewritten(photos, before) == set()


def test_vectors_that_cannot_be_classified(photos):
    photos.run("UPDATE photos SET embedding = '[1,2]' WHERE id = 3")
    photos.run(f"UPDATE photos SET embedding = array_fill(0, '{{{DIMENSIONS}}}')::vector WHERE id = 4")
    photos.run("UPDATE photos SET embedding = NULL WHERE id = 5")
    report = call(photos)
    assert "labelled 297 rows" in report and "2 failed: see susx.errors" in report
    assert "1 without an embedding: see susx.embed_table" in report
    assert photos.column("SELECT id FROM photos WHERE label IS NULL ORDER BY id") == [3, 4, 5]
    errors = "SELECT key, sqlstate, message FROM susx.errors WHERE relation = 'photos'::regclass AND embedding_column = 'label' ORDER BY key"
    assert [(key, sqlstate) for key, sqlstate, _ in photos.rows(errors)] == [("3", "22000"), ("4", "22000")]
    assert wrong(photos, where="id NOT IN (3, 4)") == 0
    assert counts(photos) == (297, 0, 0, 0, 3)
    # They are not tried again until they change, and lose the label that they had.
    assert "failed" not in call(photos, known_column="known")
    photos.run("UPDATE photos SET embedding = '[1,2]' WHERE id = 6; UPDATE photos SET embedding = NULL WHERE id = 7")
    photos.run(f"UPDATE photos SET embedding = {ONES} WHERE id IN (3, 5)")
    call(photos)
    assert photos.column("SELECT id FROM photos WHERE label IS NULL ORDER BY id") == [4, 6, 7]
    assert [key for key, *_ in photos.rows(errors)] == ["4", "6"]
    assert wrong(photos, where="id NOT IN (4, 6)") == 0
    assert call(photos) == '"photos": 1 without an embedding: see susx.embed_table'
    photos.run(f"UPDATE photos SET embedding = {ONES} WHERE id = 7")
    call(photos)
    assert wrong(photos, where="id NOT IN (4, 6)") == 0


def test_only_new(photos):
    call(photos)
    photos.run(f"UPDATE photos SET embedding = {ONES} WHERE id = 5; UPDATE photos SET label = NULL WHERE id = 6")
    photos.run(f"INSERT INTO photos (id, embedding) VALUES (1000, {ONES})")
    old = photos.one("SELECT label FROM photos WHERE id = 5")
    before = writers(photos)
    assert call(photos, only_new=True) == '"photos": labelled 1 rows, 1 of them changed'
    assert rewritten(photos, before) == {1000}
    assert photos.one("SELECT label FROM photos WHERE id = 5") == old
    call(photos)
    assert wrong(photos) == 0


def test_ranges_of_keys(photos):
    call(photos, last_key="99")
    assert photos.one("SELECT count(*) FROM photos WHERE (label IS NOT NULL) <> (id <= 99)") == 0
    call(photos, first_key="200", last_key="249")
    assert photos.one("SELECT count(label) FROM photos") == 150
    call(photos, first_key="100")
    assert wrong(photos) == 0
    assert photos.fails("CALL susx.label_table('photos', 'kinds', first_key => 'x')").sqlstate == "22P02"
    photos.run("CREATE TABLE pairs (a int, b int, embedding vector, label text, PRIMARY KEY (a, b))")
    refusal = photos.fails("CALL susx.label_table('pairs', 'kinds', last_key => '(1,2)')")
    assert refusal.sqlstate == "22023" and "has 2" in refusal.message


def test_rows_that_are_gone(photos):
    call(photos)
    photos.run("DELETE FROM photos WHERE id IN (0, 77, 299)")
    assert len(records(photos)) == 300
    call(photos, last_key="100")
    assert len(records(photos)) == 300
    call(photos)
    assert sorted(int(key) for key, *_ in records(photos)) == [i for i in range(300) if i not in (0, 77, 299)]
    photos.run("TRUNCATE photos")
    call(photos)
    assert records(photos) == []


def test_a_table_that_is_dropped(photos):
    call(photos)
    (number,) = photos.column("SELECT id FROM susx.labelling WHERE relation = 'photos'::regclass")
    photos.run("DROP TABLE photos")
    assert photos.one("SELECT count(*) FROM susx.labelling WHERE id = %s", number) == 0
    assert photos.one("SELECT count(*) FROM susx.row_label WHERE labelling = %s", number) == 0


KEYS = {
    "text": ("k text", "'k ' || i || E' é''\"\\\\,(' || repeat(E'\\n', i % 3)"),
    "collated": ('k text COLLATE "C"', "chr(64 + i % 60) || i"),
    "double": ("k double precision", "sin(i) / 3"),
    "timestamptz": ("k timestamptz", "'2024-03-31 00:00+00'::timestamptz + i * '7 min 0.000001 s'::interval"),
    "bytea": ("k bytea", "sha256(i::text::bytea)"),
    "uuid": ("k uuid", "md5(i::text)::uuid"),
    "composite": ("k text, k2 date, k3 int", "'a,' || i % 2, '2024-01-01'::date + i % 3, i"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_types_of_keys(photos, kind):
    """Whatever format the session uses for dates and numbers."""
    columns, values = KEYS[kind]
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    photos.run(f"CREATE TABLE keyed ({columns}, embedding vector, label text, PRIMARY KEY ({names}))")
    photos.run(f"INSERT INTO keyed SELECT {values}, embedding FROM photos, LATERAL (SELECT id AS i) s WHERE id < 100")
    photos.run("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Europe/Berlin'; SET extra_float_digits = -3")
    assert "labelled 100 rows" in call(photos, "keyed", batch_size=9)
    assert wrong(photos, "keyed") == 0
    photos.run("SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'; SET extra_float_digits = 0")
    assert call(photos, "keyed").endswith("up to date")
    photos.run("DELETE FROM keyed WHERE embedding IN (SELECT embedding FROM photos WHERE id < 50)")
    call(photos, "keyed")
    assert len(records(photos, "keyed")) == 50


def test_partitioned_tables(photos):
    photos.run(
        "CREATE TABLE parts (tenant int, id int, embedding vector, label text, PRIMARY KEY (tenant, id)) "
        "PARTITION BY LIST (tenant); CREATE TABLE first PARTITION OF parts FOR VALUES IN (0, 3); "
        "CREATE TABLE second (label text, gone int, embedding vector, id int NOT NULL, tenant int NOT NULL); "
        "ALTER TABLE second DROP gone; ALTER TABLE parts ATTACH PARTITION second FOR VALUES IN (1, 2); "
        "INSERT INTO parts SELECT id % 4, id, embedding FROM photos"
    )
    call(photos, "parts", batch_size=16)
    assert wrong(photos, "parts") == 0
    assert call(photos, "parts").endswith("up to date")


def test_likeness(sql):
    """The named column of likeness vectors counts, for rows that have one."""
    random = np.random.default_rng(5)
    create_kinds(sql, per_class=1)
    sql.run("DELETE FROM kinds WHERE kind = 'image'")
    for i in range(5):
        vectors = [[vector(random.normal(size=size)) for _ in range(4)] for size in (DIMENSIONS, 6)]
        sql.run("SELECT susx.add_support('kinds', %s, %s::vector[], %s::vector[])", f"c{i:02}", *vectors)
    create_photos(sql)
    sql.run("ALTER TABLE photos ADD likeness vector(6)")
    for i in range(0, 300, 2):
        sql.run("UPDATE photos SET likeness = %s WHERE id = %s", vector(random.normal(size=6)), i)
    call(sql, likeness_column="likeness")
    right = "SELECT count(*) FROM photos WHERE label IS DISTINCT FROM susx.label('kinds', embedding, likeness)"
    assert sql.one(right) == 0
    sql.run("UPDATE photos SET likeness = NULL WHERE id < 100")
    before = writers(sql)
    assert "labelled 50 rows" in call(sql, likeness_column="likeness")
    assert rewritten(sql, before) <= set(range(0, 100, 2))
    assert sql.one(right) == 0


REFUSED = {
    "view": ("CREATE VIEW it AS TABLE photos", "42809"),
    "temp": ("CREATE TEMP TABLE it (LIKE photos INCLUDING ALL)", "42809"),
    "no key": ("CREATE TABLE it (LIKE photos)", "55000"),
    "no label": ("CREATE TABLE it (id int PRIMARY KEY, embedding vector)", "42703"),
    "no embedding": ("CREATE TABLE it (id int PRIMARY KEY, label text)", "42703"),
    "type of label": ("CREATE TABLE it (id int PRIMARY KEY, embedding vector, label int)", "42804"),
    "type of embedding": ("CREATE TABLE it (id int PRIMARY KEY, embedding real[], label text)", "22023"),
    "generated": (
        "CREATE TABLE it (id int PRIMARY KEY, embedding vector, l text, label text GENERATED ALWAYS AS (l) STORED)",
        "22023",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_table_to_label(photos, what):
    statement, sqlstate = REFUSED[what]
    photos.run(statement)
    assert photos.fails("CALL susx.label_table('it', 'kinds')").sqlstate == sqlstate


def test_other_wrong_arguments(photos):
    for arguments, sqlstate in {
        "'photos', 'photos'": "42704",
        "NULL, 'kinds'": "22004",
        "'photos', NULL": "22004",
        "'photos', 'kinds', label_column => NULL": "22004",
        "'photos', 'kinds', batch_size => 0": "22023",
        "'photos', 'kinds', probability_column => 'label'": "42804",
        "'photos', 'kinds', probability_column => 'known', known_column => 'known'": "22023",
        "'photos', 'kinds', likeness_column => 'nothing'": "42703",
        "'photos', 'kinds', method => 'magic'": "42704",
    }.items():
        refusal = photos.fails(f"CALL susx.label_table({arguments})")
        assert refusal.sqlstate == sqlstate, (arguments, refusal)
    assert photos.one("SELECT count(label) FROM photos") == 0


def test_where_no_transaction_can_end(photos):
    photos.run("BEGIN")
    assert photos.fails("CALL susx.label_table('photos', 'kinds')").sqlstate == "2D000"
    photos.run("ROLLBACK; SET default_transaction_read_only = on")
    assert photos.fails("CALL susx.label_table('photos', 'kinds')").sqlstate == "25006"


def test_vectors_of_another_model(sql):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), label text)")
    sql.run("CALL susx.embed_table('photos', model => 'tiny_fused')")
    sql.run("INSERT INTO susx.embedding_column VALUES ('photos', 'embedding', 'demo') ON CONFLICT DO NOTHING")
    assert sql.fails("CALL susx.label_table('photos', 'kinds')").sqlstate == "55000"


def test_rights(photos, connect, schema):
    """Who labels needs to read the table and the classifier, and to update the column of labels; no more than that."""
    photos.run("DROP ROLE IF EXISTS labeller; CREATE ROLE labeller LOGIN")
    photos.run(f"GRANT USAGE ON SCHEMA {schema} TO labeller")
    try:
        labeller = connect(user="labeller")
        labeller.run(f"SET search_path = {schema}, public")
        statement = "CALL susx.label_table('photos', 'kinds')"
        for grant in ("SELECT ON photos", "SELECT ON kinds", "UPDATE (label) ON photos"):
            assert labeller.fails(statement).sqlstate == "42501"
            photos.run(f"GRANT {grant} TO labeller")
        labeller.run(statement)
        assert wrong(photos) == 0
        assert labeller.one("SELECT count(*) FROM susx.row_label") == 300
        for query in ("DELETE FROM susx.row_label", "DELETE FROM susx.labelling", "UPDATE susx.labelling SET method = 'gda'"):
            assert labeller.fails(query).sqlstate == "42501"
        assert counts(labeller) == (300, 0, 0, 0, 0)
        photos.run("REVOKE SELECT ON photos FROM labeller")
        assert labeller.rows("SELECT * FROM susx.label_column") == []
        assert labeller.rows("SELECT * FROM susx.labelling") == []
        assert labeller.rows("SELECT * FROM susx.row_label") == []
    finally:
        photos.run("DROP OWNED BY labeller; DROP ROLE labeller")


def test_row_level_security(photos, connect, schema):
    """Only rows that the caller sees and may update are labelled, and only their records are looked up or kept."""
    photos.run("DROP ROLE IF EXISTS tenant; CREATE ROLE tenant LOGIN")
    photos.run(f"GRANT USAGE ON SCHEMA {schema} TO tenant; GRANT SELECT ON photos, kinds TO tenant")
    photos.run("GRANT UPDATE ON photos TO tenant; ALTER TABLE photos ENABLE ROW LEVEL SECURITY")
    photos.run("CREATE POLICY see ON photos FOR SELECT USING (id < 100)")
    photos.run("CREATE POLICY change ON photos FOR UPDATE USING (id >= 50)")
    try:
        tenant = connect(user="tenant")
        tenant.run(f"SET search_path = {schema}, public")
        assert "labelled 50 rows" in call(tenant)
        assert photos.one("SELECT count(*) FROM photos WHERE (label IS NOT NULL) <> (id BETWEEN 50 AND 99)") == 0
        assert tenant.rows("SELECT * FROM susx.label_column") == []
        call(photos)
        assert wrong(photos) == 0
        # The tenant's call forgets no record of a row that the tenant does not see.
        photos.run("SELECT susx.alter_classifier('kinds', logit_scale => 3)")
        call(tenant)
        assert len(records(photos)) == 300
    finally:
        photos.run("DROP OWNED BY tenant; DROP ROLE tenant")


def test_triggers_of_the_table(photos):
    """A trigger that suppresses an UPDATE leaves the row unlabelled; one that writes another label has corrected it."""
    photos.run(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 1 THEN RETURN NULL; END IF; "
        "IF NEW.id = 2 THEN NEW.label = upper(NEW.label); END IF; RETURN NEW; END $$; "
        "CREATE TRIGGER t BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION f()"
    )
    call(photos)
    assert photos.column("SELECT id FROM photos WHERE label IS NULL") == [1]
    assert photos.one("SELECT label = upper(label) FROM photos WHERE id = 2")
    assert wrong(photos, where="id > 2") == 0
