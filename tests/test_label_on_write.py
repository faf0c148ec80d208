"""The trigger susx.label_on_write: after a statement, the rows that it wrote have the labels of their embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.labels import DIMENSIONS, call, counts, create_kinds, records, rewritten, writers, wrong
from helpers.pictures import encode, picture
from helpers.session import vector

INSERT = """
    CREATE TRIGGER {2}_insert AFTER INSERT ON {0} REFERENCING NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.label_on_write({1})"""
UPDATE = """
    CREATE TRIGGER {2}_update AFTER UPDATE ON {0} REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.label_on_write({1})"""


def declare(sql, table="photos", arguments: str = "'kinds'", name: str = "label") -> None:
    sql.run(INSERT.format(table, arguments, name))
    sql.run(UPDATE.format(table, arguments, name))


def points(rows: int, seed: int = 1) -> list[str]:
    random = np.random.default_rng(seed)
    return [vector(random.normal(size=DIMENSIONS)) for _ in range(rows)]


@pytest.fixture
def photos(sql):
    create_kinds(sql)
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, embedding vector, label text, known real, note text)")
    declare(sql)
    return sql


def test_inserts(photos):
    one, two, three = points(3)
    photos.run("INSERT INTO photos (id, embedding) VALUES (1, %s), (2, %s)", one, two)
    photos.run("INSERT INTO photos (id, embedding, label) VALUES (3, NULL, NULL), (4, %s, 'mine')", three)
    assert wrong(photos, where="id <> 4") == 0
    assert photos.one("SELECT label FROM photos WHERE id = 4") == "mine"
    assert [key for key, *_ in records(photos)] == ["1", "2"]
    assert counts(photos) == (2, 0, 0, 1, 1)
    # label_table finds them up to date.
    before = writers(photos)
    assert "labelled" not in call(photos)
    assert rewritten(photos, before) == set()


def test_many_rows(photos):
    """More than one batch of them."""
    photos.copy("photos", ["id", "embedding"], enumerate(points(5000)))
    assert wrong(photos) == 0
    photos.run("INSERT INTO photos (id, embedding) SELECT id + 10000, embedding FROM photos WHERE id < 3000")
    assert wrong(photos) == 0 and counts(photos) == (8000, 0, 0, 0, 0)


def test_updates(photos):
    old, new = points(10), points(10, seed=2)
    photos.copy("photos", ["id", "embedding"], enumerate(old))
    photos.run("UPDATE photos SET note = 'x'")
    # Other columns: only the statement itself writes.
    assert photos.one("SELECT count(DISTINCT xmin::text || cmin::text) FROM photos") == 1
    photos.run("UPDATE photos SET embedding = %s WHERE id = 3", new[3])
    photos.run("UPDATE photos SET embedding = %s, label = 'mine' WHERE id = 4", new[4])
    photos.run("UPDATE photos SET embedding = NULL WHERE id = 5")
    photos.run("UPDATE photos SET label = NULL WHERE id = 6")
    photos.run("UPDATE photos SET label = 'mine, too' WHERE id = 7")
    photos.run("UPDATE photos SET embedding = %s WHERE id = 7", new[7])
    assert wrong(photos, where="id NOT IN (4, 7)") == 0
    assert photos.column("SELECT label FROM photos WHERE id IN (4, 5, 7) ORDER BY id") == ["mine", None, "mine, too"]
    assert counts(photos) == (7, 0, 0, 2, 1)
    before = writers(photos)
    call(photos)
    assert rewritten(photos, before) == set()


def test_the_classifier_waits_for_a_row_to_label(photos):
    """A statement that leaves no row to label does not look it up."""
    photos.run("INSERT INTO photos (id, embedding) VALUES (1, %s)", points(1)[0])
    photos.run("ALTER TABLE kinds RENAME TO elsewhere")
    photos.run("UPDATE photos SET note = 'x'; INSERT INTO photos (id, label) VALUES (2, 'mine'); DELETE FROM photos WHERE id = 2")
    photos.run("UPDATE photos SET embedding = embedding WHERE id = 9; INSERT INTO photos SELECT * FROM photos WHERE false")
    assert photos.fails("INSERT INTO photos (id, embedding) VALUES (3, %s)", points(1)[0]).sqlstate == "42P01"
    assert photos.fails("UPDATE photos SET embedding = %s", points(1, seed=2)[0]).sqlstate == "42P01"
    # Any column of vectors may be that of the likeness vectors.
    photos.run("ALTER TABLE photos ADD other vector")
    assert photos.fails("UPDATE photos SET other = '[1]'").sqlstate == "42P01"


def test_a_classifier_that_changed(photos):
    """Writing other columns labels nothing again: label_table does."""
    photos.copy("photos", ["id", "embedding"], enumerate(points(50)))
    photos.run("SELECT susx.alter_classifier('kinds', logit_scale => 3)")
    assert counts(photos) == (0, 50, 0, 0, 0)
    photos.run("UPDATE photos SET note = 'x'")
    assert counts(photos) == (0, 50, 0, 0, 0)
    call(photos)
    assert counts(photos) == (50, 0, 0, 0, 0) and wrong(photos) == 0


def test_rejected_and_known(sql):
    create_kinds(sql)
    sql.run("SELECT susx.alter_classifier('kinds', reject => 0.999)")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, embedding vector, label text, known real)")
    declare(sql, arguments="'kinds', 'label', 'embedding', '', '', 'known'")
    sql.copy("photos", ["id", "embedding"], enumerate(points(40)))
    assert wrong(sql) == 0 and sql.one("SELECT count(label) FROM photos") < 40
    assert sql.one("SELECT count(*) FROM photos WHERE abs(known - susx.known('kinds', embedding)) < 1e-5") == 40
    before = writers(sql)
    assert "labelled" not in call(sql, known_column="known")
    assert rewritten(sql, before) == set()


def test_vectors_that_cannot_be_classified(photos):
    """They are recorded, and the statement goes on."""
    photos.run("INSERT INTO photos (id, embedding) VALUES (1, '[1,2]'), (2, %s)", points(1)[0])
    assert photos.rows("SELECT id FROM photos WHERE label IS NULL") == [(1,)]
    assert photos.column("SELECT key FROM susx.errors WHERE relation = 'photos'::regclass") == ["1"]
    assert wrong(photos, where="id = 2") == 0


def test_a_transaction_that_fails(photos):
    photos.run("BEGIN")
    photos.copy("photos", ["id", "embedding"], enumerate(points(5)))
    photos.run("UPDATE photos SET embedding = %s WHERE id = 1", points(1, seed=3)[0])
    assert wrong(photos) == 0
    photos.run("ROLLBACK")
    assert records(photos) == []


@pytest.mark.parametrize("name", ["a", "z"])
def test_beside_embed_on_write(sql, name):
    """Whichever of the two triggers fires first."""
    images = [encode(picture(seed, (40, 30))) for seed in range(12)]
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog,bird}', model => 'tiny_split')")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), label text)")
    sql.run(
        "CREATE TRIGGER m_insert AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
        "EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split'); "
        "CREATE TRIGGER m_update AFTER UPDATE ON photos REFERENCING OLD TABLE AS old NEW TABLE AS new "
        "FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split')"
    )
    declare(sql, name=name)
    sql.copy("photos", ["id", "image"], enumerate(images[:10]))
    right = "SELECT count(*) FROM photos WHERE label = susx.label('kinds', image)"
    assert sql.one(right) == 10
    sql.run("UPDATE photos SET image = %s WHERE id = 3", images[10])
    sql.run("UPDATE photos SET image = %s, label = 'mine' WHERE id = 4", images[11])
    sql.run("UPDATE photos SET image = NULL WHERE id = 5")
    assert sql.one(right) == 8
    assert sql.rows("SELECT id, label FROM photos WHERE id IN (4, 5) ORDER BY id") == [(4, "mine"), (5, None)]
    before = writers(sql)
    assert "labelled" not in call(sql)
    assert rewritten(sql, before) == set()


def test_wrong_declarations(sql):
    create_kinds(sql)
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, embedding vector, label text)")
    insert = "INSERT INTO photos (id, embedding) VALUES (1, %s)"
    for declaration in (
        "AFTER INSERT ON photos FOR EACH STATEMENT EXECUTE FUNCTION susx.label_on_write('kinds')",
        "BEFORE INSERT ON photos FOR EACH STATEMENT EXECUTE FUNCTION susx.label_on_write('kinds')",
        "AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION susx.label_on_write('kinds')",
        "AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION susx.label_on_write()",
    ):
        sql.run(f"CREATE TRIGGER t {declaration}")
        refusal = sql.fails(insert, points(1)[0])
        assert refusal.sqlstate == "39P01" and "REFERENCING NEW TABLE AS new" in refusal.hint
        sql.run("DROP TRIGGER t ON photos")
    # The hint works.
    sql.run(refusal.hint.replace("'classifier'", "'kinds'"))
    sql.run(insert, points(1)[0])
    assert wrong(sql) == 0
