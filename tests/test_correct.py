"""susx.correct: a row's right label stays, and the classifier learns from it."""

from __future__ import annotations

import pytest

from helpers.labels import DIMENSIONS, call, counts, create_kinds, create_photos, records, wrong

SUPPORT = "SELECT category, origin, source_key, embedding::text FROM kinds WHERE source_key IS NOT NULL ORDER BY id"


@pytest.fixture
def photos(sql):
    create_kinds(sql)
    create_photos(sql, 60)
    call(sql, probability_column="probability")
    return sql


def other_label(sql, row: int) -> str:
    """A category that the row does not have."""
    return sql.one("SELECT CASE label WHEN 'c01' THEN 'c02' ELSE 'c01' END FROM photos WHERE id = %s", row)


def embedding(sql, row: int) -> str:
    return sql.one("SELECT embedding::text FROM photos WHERE id = %s", row)


def test_a_label_that_stays(photos):
    new, old = other_label(photos, 7), photos.one("SELECT label FROM photos WHERE id = 7")
    said = photos.one("SELECT susx.correct('kinds', 'photos', '7', %s)", new)
    assert said == f'row 7 of "photos" is "{new}", not "{old}"; its image is now a labelled support image'
    assert photos.rows("SELECT label, probability FROM photos WHERE id = 7") == [(new, None)]
    assert photos.rows(SUPPORT) == [(new, "labelled", "7", embedding(photos, 7))]
    # The classifier has changed, so the others are labelled again.
    assert counts(photos) == (0, 59, 0, 1, 0)
    assert "1 left unchanged" in call(photos)
    assert photos.one("SELECT label FROM photos WHERE id = 7") == new
    assert wrong(photos, where="id <> 7") == 0


def test_corrected_again(photos):
    """The earlier support image is replaced. The label may be right already."""
    first = other_label(photos, 7)
    photos.run("SELECT susx.correct('kinds', 'photos', '7', %s)", first)
    second = photos.one("SELECT CASE %s WHEN 'c03' THEN 'c04' ELSE 'c03' END", first)
    photos.run("SELECT susx.correct('kinds', 'photos', '7', %s)", second)
    assert [row[:3] for row in photos.rows(SUPPORT)] == [(second, "labelled", "7")]
    assert "as before" in photos.one("SELECT susx.correct('kinds', 'photos', '7', %s)", second)
    assert [row[:3] for row in photos.rows(SUPPORT)] == [(second, "labelled", "7")]


def test_none_of_these(photos):
    photos.run("SELECT susx.correct('kinds', 'photos', '7', 'c01')")
    said = photos.one("SELECT susx.correct('kinds', 'photos', '7', NULL)")
    assert said.startswith('row 7 of "photos" is none of the categories') and "no longer a support image" in said
    assert photos.rows(SUPPORT) == []
    call(photos)
    assert photos.column("SELECT id FROM photos WHERE label IS NULL") == [7]
    assert counts(photos) == (59, 0, 0, 1, 0)


@pytest.mark.parametrize("category", ["'c01'", "NULL"])
def test_undo(photos, category):
    photos.run(f"SELECT susx.correct('kinds', 'photos', '7', {category})")
    assert "will be labelled again" in photos.one("SELECT susx.correct('kinds', 'photos', '7', NULL, undo => true)")
    assert photos.rows(SUPPORT) == [] and counts(photos) == (59, 0, 0, 0, 1)
    call(photos)
    assert wrong(photos) == 0 and counts(photos) == (60, 0, 0, 0, 0)


def test_undone_by_hand(photos):
    photos.run("SELECT susx.correct('kinds', 'photos', '7', %s)", other_label(photos, 7))
    photos.run("DELETE FROM kinds WHERE source_key = '7'; UPDATE photos SET label = NULL WHERE id = 7")
    call(photos)
    assert wrong(photos) == 0 and counts(photos) == (60, 0, 0, 0, 0)


def test_beside_retrieval(photos):
    """What was retrieved is replaced, and is not retrieved again."""
    photos.run(
        "UPDATE photos SET embedding = (SELECT embedding FROM kinds WHERE kind = 'prompt' AND category = 'c01') WHERE id = 7"
    )
    photos.run("SELECT * FROM susx.build_support_set('kinds', 'photos', 3)")
    of_7 = "SELECT category, origin FROM kinds WHERE source_key = '7'"
    assert photos.rows(of_7) == [("c01", "retrieved")]
    said = photos.one("SELECT susx.correct('kinds', 'photos', '7', 'c04')")
    assert "its support image is now labelled" in said
    assert photos.rows(of_7) == [("c04", "labelled")]
    for index in ("", "CREATE INDEX ON photos USING hnsw ((embedding::vector(12)) vector_cosine_ops)"):
        photos.run(index)
        assert dict(photos.rows("SELECT category, images FROM susx.build_support_set('kinds', 'photos', 3)")) == {
            f"c{i:02}": 3 for i in range(5)
        }
        assert photos.rows(of_7) == [("c04", "labelled")]


def test_before_the_first_call(sql):
    create_kinds(sql)
    create_photos(sql, 20)
    assert "where it had no label" in sql.one("SELECT susx.correct('kinds', 'photos', '3', 'c02')")
    assert records(sql) == [("3", "c02", True)]
    call(sql)
    assert sql.one("SELECT label FROM photos WHERE id = 3") == "c02"
    assert wrong(sql, where="id <> 3") == 0


def test_rows_that_teach_nothing(photos):
    photos.run("UPDATE photos SET embedding = NULL WHERE id = 1; UPDATE photos SET embedding = '[1,2]' WHERE id = 2")
    photos.run(f"UPDATE photos SET embedding = array_fill(0, '{{{DIMENSIONS}}}')::vector WHERE id = 3")
    for row in (1, 2, 3):
        assert "the classifier is unchanged" in photos.one("SELECT susx.correct('kinds', 'photos', %s::text, 'c01')", row)
    assert photos.rows(SUPPORT) == []
    call(photos)
    assert photos.column("SELECT DISTINCT label FROM photos WHERE id IN (1, 2, 3)") == ["c01"]


def test_keys_of_several_columns(photos):
    photos.run("CREATE TABLE pairs (a text, b int, embedding vector, label text, PRIMARY KEY (a, b))")
    photos.run("INSERT INTO pairs SELECT 'a ' || id % 3, id, embedding FROM photos")
    photos.run("SELECT susx.correct('kinds', 'pairs', '(\"a 1\",7)', 'c01')")
    assert photos.column("SELECT b FROM pairs WHERE label = 'c01'") == [7]
    assert [row[:3] for row in photos.rows(SUPPORT)] == [("c01", "labelled", '("a 1",7)')]


def test_wrong_arguments(photos):
    refusal = photos.fails("SELECT susx.correct('kinds', 'photos', '7', 'dog')")
    assert refusal.sqlstate == "42704" and "c00, c01, c02" in refusal.hint
    refusal = photos.fails("SELECT susx.correct('kinds', 'photos', '1000', 'c01')")
    assert refusal.sqlstate == "P0002" and "1000" in refusal.message
    assert photos.fails("SELECT susx.correct('kinds', 'photos', 'x', 'c01')").sqlstate == "22P02"
    assert photos.fails("SELECT susx.correct('kinds', 'photos', '7', 'c01', undo => true)").sqlstate == "22023"
    assert photos.fails("SELECT susx.correct('kinds', 'photos', '7', 'c01', 'known')").sqlstate == "42804"
    assert photos.rows(SUPPORT) == [] and counts(photos) == (60, 0, 0, 0, 0)


def test_rights(photos, connect, schema):
    """To update the label, and to insert into the classifier and delete from it; a policy hides rows."""
    photos.run("DROP ROLE IF EXISTS corrector; CREATE ROLE corrector LOGIN")
    photos.run(f"GRANT USAGE ON SCHEMA {schema} TO corrector")
    try:
        corrector = connect(user="corrector")
        corrector.run(f"SET search_path = {schema}, public")
        statement = "SELECT susx.correct('kinds', 'photos', '7', 'c01')"
        for grant in ("SELECT, INSERT, DELETE ON kinds", "SELECT ON photos", "UPDATE (label, probability) ON photos"):
            assert corrector.fails(statement).sqlstate == "42501"
            photos.run(f"GRANT {grant} TO corrector")
        corrector.run(statement)
        photos.run("ALTER TABLE photos ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON photos USING (id <> 7)")
        assert corrector.fails(statement).sqlstate == "P0002"
        corrector.run(statement.replace("'7'", "'8'"))
        assert [key for key, _, is_corrected in records(photos) if is_corrected] == ["7", "8"]
    finally:
        photos.run("DROP OWNED BY corrector; DROP ROLE corrector")
