"""Several labels per image: their probabilities are the formula's, in a column of tables too."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.labels import call, counts, records, rewritten, writers
from helpers.pictures import encode, picture
from helpers.session import Session, array, vector
from helpers.tags import Tags, unit
from helpers.toy import create_compass, create_random

pytestmark = pytest.mark.same_everywhere

DIMENSIONS = 24
PROBABILITIES = "SELECT category, probability FROM susx.tag_probabilities('toy', %s::vector)"


def rows(sql: Session, name: str, kind: str, column: str = "embedding") -> np.ndarray:
    query = f"SELECT {column} FROM {name} WHERE kind = %s ORDER BY category, id"
    found = [array(text) for text in sql.column(query, kind)]
    return np.array(found) if found else np.zeros((0, DIMENSIONS))


def twin(sql: Session, name: str = "toy", likeness: bool = False) -> Tags:
    """The formula for the classifier's rows. Its categories must be in alphabetical order."""
    names = sql.column(f"SELECT category FROM {name} WHERE kind = 'prompt' ORDER BY id")
    assert names == sorted(names)
    labels = [names.index(c) for c in sql.column(f"SELECT category FROM {name} WHERE kind = 'image' ORDER BY category, id")]
    negatives = [array(text) for text in sql.column(f"SELECT embedding FROM {name} WHERE kind = 'negative' ORDER BY id")]
    return Tags(
        rows(sql, name, "prompt"), negatives, rows(sql, name, "image"), labels,
        rows(sql, name, "image", "likeness") if likeness else None,
    )  # fmt: skip


def images(sql: Session, count: int = 20) -> np.ndarray:
    """Some that are of one category, and sums of two."""
    random = np.random.default_rng(6)
    names = rows(sql, "toy", "prompt")
    shown = [random.permutation(len(names))[: 1 + i % 2] for i in range(count)]
    return np.array([unit(names[c]).sum(axis=0) + 0.15 * random.normal(size=DIMENSIONS) for c in shown])


def check(sql: Session, expected: Tags) -> None:
    names = sql.column("SELECT category FROM toy WHERE kind = 'prompt' ORDER BY id")
    for image in images(sql):
        found = sql.rows(PROBABILITIES, vector(image))
        assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
        by_name = dict(found)
        assert [by_name[name] for name in names] == pytest.approx(expected.probabilities(image), abs=2e-4)


SUPPORT = {
    "a support set": "SELECT 1",
    "names alone": "DELETE FROM toy WHERE kind = 'image'",
    "images of one category": "DELETE FROM toy WHERE kind = 'image' AND category <> 'c03'",
    "images of two": "DELETE FROM toy WHERE kind = 'image' AND category NOT IN ('c03', 'c05')",
    "one image of each": "DELETE FROM toy t WHERE kind = 'image' AND EXISTS (SELECT FROM toy u WHERE u.kind = 'image' "
    "AND u.category = t.category AND u.id < t.id)",
    "unequal numbers": "DELETE FROM toy WHERE kind = 'image' AND (category = 'c00' OR category < 'c04' AND id % 3 > 0)",
}


@pytest.mark.parametrize("support", SUPPORT)
@pytest.mark.parametrize("negatives", [0, 7])
def test_the_formula(sql, support, negatives):
    create_random(sql, "toy", categories=9, dimensions=DIMENSIONS, per_class=6)
    sql.run(SUPPORT[support])
    if negatives:
        others = np.random.default_rng(3).normal(size=(negatives, DIMENSIONS))
        sql.run("SELECT susx.add_negatives('toy', %s, %s::vector[])", [f"n{i}" for i in range(negatives)], [vector(o) for o in others])
    check(sql, twin(sql))


@pytest.mark.parametrize("categories", [1, 2, 3])
def test_few_categories(sql, categories):
    create_random(sql, "toy", categories=categories, dimensions=DIMENSIONS, per_class=5)
    check(sql, twin(sql))
    sql.run("DELETE FROM toy WHERE kind = 'image'")
    check(sql, twin(sql))


def test_with_likeness_vectors(sql):
    create_random(sql, "toy", categories=6, dimensions=DIMENSIONS, per_class=5)
    random = np.random.default_rng(8)
    sql.run("CREATE TABLE seen AS SELECT id, category, embedding FROM toy WHERE kind = 'image'; DELETE FROM toy WHERE kind = 'image'")
    centres = random.normal(size=(6, 10))
    for place in range(6):
        own = sql.column("SELECT embedding FROM seen WHERE category = %s ORDER BY id", f"c{place:02}")
        likeness = [vector(centres[place] + 0.5 * random.normal(size=10)) for _ in own]
        sql.run("SELECT susx.add_support('toy', %s, %s::vector[], %s::vector[])", f"c{place:02}", own, likeness)
    expected = twin(sql, likeness=True)
    for place, image in enumerate(images(sql, 6)):
        seen = centres[place] + 0.5 * random.normal(size=10)
        found = dict(sql.rows("SELECT * FROM susx.tag_probabilities('toy', %s::vector, %s::vector)", vector(image), vector(seen)))
        assert list(dict(sorted(found.items())).values()) == pytest.approx(expected.probabilities(image, seen), abs=2e-4)
    # Images without a likeness vector are compared by their embeddings.
    check(sql, twin(sql))


def test_on_pictures_of_several_things(sql):
    """CLIP's vectors, two or three summed up: tags are better than a threshold on the cosines."""
    caltech = Caltech()
    caltech.create_classifier(sql, "things")
    random = np.random.default_rng(2)
    pictures, truth = [], []
    for i in range(200):
        shown = random.permutation(len(caltech.categories))[: 2 + i % 2]
        own = [random.choice(np.flatnonzero(caltech.labels == c)) for c in shown]
        pictures.append(unit(caltech.queries[own]).sum(axis=0))
        truth.append(shown)
    is_shown = np.zeros((200, len(caltech.categories)), bool)
    for row, shown in zip(is_shown, truth):
        row[shown] = True

    def f1(found: np.ndarray) -> float:
        return 2 * (found & is_shown).sum() / (found.sum() + is_shown.sum())

    place = {name: c for c, name in enumerate(caltech.categories)}
    found = np.zeros_like(is_shown)
    for row, image in zip(found, pictures):
        row[[place[tag] for tag in sql.one("SELECT susx.tags('things', %s::vector)", vector(image))]] = True
    cosines = unit(np.array(pictures)) @ unit(caltech.prototypes).T
    best = max(f1(cosines >= threshold) for threshold in np.quantile(cosines, np.linspace(0.8, 0.999, 100)))
    assert f1(found) > 0.7 > best


def test_thresholds(sql):
    create_random(sql, "toy", categories=9, dimensions=DIMENSIONS, per_class=6)
    for image in map(vector, images(sql)):
        probabilities = sql.rows(PROBABILITIES, image)
        for threshold in (0.0, 0.2, 0.5, 0.9, 1.0):
            expected = [category for category, p in probabilities if p >= threshold]
            assert sql.one("SELECT susx.tags('toy', %s::vector, %s)", image, threshold) == expected
            sql.run("SELECT susx.alter_classifier('toy', tag_threshold => %s)", threshold)
            assert sql.one("SELECT susx.tags('toy', %s::vector)", image) == expected
    for bad in ("-0.1", "1.1", "'NaN'", "'Infinity'"):
        assert sql.fails(f"SELECT susx.tags('toy', '[1]'::vector, {bad})").sqlstate == "22023"
        assert sql.fails(f"SELECT susx.alter_classifier('toy', tag_threshold => {bad})").sqlstate == "22003"


def test_images(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog,bird}', model => 'tiny_split')")
    image = encode(picture(1, (40, 30)))
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')", image)
    for functions in ("susx.tags('pets', {}, 0.1)", "susx.tag_probabilities('pets', {})"):
        of_image, of_vector = functions.format("%s::bytea"), functions.format("%s::vector")
        assert sql.rows(f"SELECT {of_image}", image) == sql.rows(f"SELECT {of_vector}", embedding)


def test_no_label_depends_on_the_threshold(sql):
    create_tagged(sql)
    sql.run("ALTER TABLE photos ADD label text")
    call(sql, classifier="toy")
    sql.run("SELECT susx.alter_classifier('toy', tag_threshold => 0.9)")
    assert counts(sql) == (300, 0, 0, 0, 0)


# Tables.


def create_tagged(sql: Session, type_: str = "text[]") -> None:
    """The classifier toy and photos(id, embedding, tags), of which some show several things and some none."""
    create_random(sql, "toy", categories=9, dimensions=DIMENSIONS, per_class=6)
    sql.run(f"CREATE TABLE photos (id int PRIMARY KEY, embedding vector, tags {type_}, known real)")
    sql.copy("photos", ["id", "embedding"], ((i, vector(image)) for i, image in enumerate(images(sql, 300))))


def tag(sql: Session, **options: object) -> str:
    return call(sql, classifier="toy", label_column="tags", **options)


def wrong(sql: Session, where: str = "true") -> int:
    return sql.one(f"SELECT count(*) FROM photos WHERE tags::text[] IS DISTINCT FROM susx.tags('toy', embedding) AND {where}")


def tag_counts(sql: Session) -> tuple:
    return sql.rows(
        "SELECT labelled, outdated, rejected, corrected, unlabelled FROM susx.label_column "
        "WHERE relation = 'photos'::regclass AND label_column = 'tags'"
    )[0]


@pytest.mark.parametrize("type_", ["text[]", "varchar(40)[]", "text[] NOT NULL DEFAULT '{}'"])
def test_a_table(sql, type_):
    create_tagged(sql, type_=type_)
    if "NOT NULL" in type_:
        # Tags that somebody else wrote stay; an empty array says that there are none.
        assert "300 left unchanged" in tag(sql)
        sql.run("ALTER TABLE photos ALTER tags DROP NOT NULL; UPDATE photos SET tags = NULL")
    assert "labelled 300 rows, 300 of them changed" in tag(sql)
    assert wrong(sql) == 0
    assert len(set(sql.column("SELECT cardinality(tags) FROM photos"))) > 1
    none = sql.one("SELECT count(*) FROM photos WHERE tags = '{}'")
    assert tag_counts(sql) == (300 - none, 0, none, 0, 0)
    before = writers(sql)
    assert tag(sql).endswith("all labels are up to date")
    assert rewritten(sql, before) == set()
    # A threshold that nothing reaches.
    sql.run("SELECT susx.alter_classifier('toy', tag_threshold => 1)")
    assert tag_counts(sql)[1] == 300
    assert "300 rejected: they show none of the categories" in tag(sql) and wrong(sql) == 0
    assert tag_counts(sql) == (0, 0, 300, 0, 0)
    sql.run("SELECT susx.alter_classifier('toy', tag_threshold => 0.25)")
    tag(sql)
    assert wrong(sql) == 0 and tag_counts(sql)[1] == 0


def test_what_changes(sql):
    create_tagged(sql)
    tag(sql)
    sql.run("UPDATE photos SET tags = '{mine,too}' WHERE id = 1; UPDATE photos SET tags = '{}' WHERE id = 2")
    sql.run("UPDATE photos SET tags = NULL WHERE id = 3; UPDATE photos SET embedding = NULL WHERE id = 4")
    sql.run("UPDATE photos p SET embedding = (SELECT embedding FROM photos WHERE id = 9) WHERE id = 5")
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category = 'c02'")
    assert "2 left unchanged" in tag(sql, known_column="known")
    assert sql.rows("SELECT tags FROM photos WHERE id IN (1, 2, 4) ORDER BY id") == [(["mine", "too"],), ([],), (None,)]
    assert wrong(sql, "id NOT IN (1, 2)") == 0
    assert sql.one("SELECT count(*) FROM photos WHERE abs(known - susx.known('toy', embedding)) > 1e-4") == 0


def test_odd_names(sql):
    """As PostgreSQL writes arrays: nothing is taken for somebody else's."""
    names = ["a,b", 'say "x"', "back\\slash", "{}", "NULL", "null", " spaces ", "tab\t", "é", "x" * 300]
    random = np.random.default_rng(4)
    vectors = random.normal(size=(len(names), DIMENSIONS))
    sql.run("SELECT susx.create_classifier('toy', %s, text_embeddings => %s::vector[])", names, [vector(v) for v in vectors])
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, embedding vector, tags text[])")
    sql.copy("photos", ["id", "embedding"], ((i, vector(v)) for i, v in enumerate(vectors)))
    tag(sql)
    assert wrong(sql) == 0
    assert {name for tags in sql.column("SELECT tags FROM photos") for name in tags} == set(names)
    assert tag(sql).endswith("all labels are up to date")


def test_what_tags_do_not_have(sql):
    create_tagged(sql)
    sql.run("ALTER TABLE photos ADD probability real; ALTER TABLE photos ADD many int[]")
    error = sql.fails("CALL susx.label_table('photos', 'toy', 'tags', probability_column => 'probability')")
    assert error.sqlstate == "22023" and "susx.tag_probabilities" in error.hint
    error = sql.fails("CALL susx.label_table('photos', 'toy', 'tags', method => 'zero-shot')")
    assert error.sqlstate == "22023" and "Omit method" in error.hint
    error = sql.fails("CALL susx.label_table('photos', 'toy', 'many')")
    assert "text[]" in str(error)
    tag(sql)
    for category in ("'c01'", "NULL"):
        error = sql.fails(f"SELECT susx.correct('toy', 'photos', '1', {category}, 'tags')")
        assert error.sqlstate == "22023" and ".photos SET tags = '{...}'" in error.hint
    assert not any(is_corrected for *_, is_corrected in records(sql))


def test_the_trigger(sql):
    create_tagged(sql)
    sql.run("""
        CREATE TRIGGER tag_insert AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT
        EXECUTE FUNCTION susx.label_on_write('toy', 'tags');
        CREATE TRIGGER tag_update AFTER UPDATE ON photos REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT
        EXECUTE FUNCTION susx.label_on_write('toy', 'tags')""")
    sql.run("INSERT INTO photos (id, embedding) SELECT id + 1000, embedding FROM photos")
    assert wrong(sql, "id >= 1000") == 0
    sql.run("UPDATE photos p SET embedding = (SELECT embedding FROM photos WHERE id = 1007) WHERE id < 1020")
    assert wrong(sql) == 0
    tag(sql)
    assert wrong(sql) == 0 and tag_counts(sql)[1] == 0


def test_one_at_a_time_and_together(sql):
    """At a threshold that is the probability of some row, rounding could go either way."""
    create_tagged(sql)
    for share in sql.column("SELECT (SELECT probability FROM susx.tag_probabilities('toy', embedding) OFFSET 1 LIMIT 1) FROM photos WHERE id % 60 = 0"):
        sql.run("SELECT susx.alter_classifier('toy', tag_threshold => %s)", share)
        tag(sql)
        assert wrong(sql) == 0


def test_the_compass(sql):
    """By the names alone, of two names one is a tag."""
    create_compass(sql)
    assert sql.one("SELECT susx.tags('compass', '[1,0.1]'::vector)") == ["east"]
    assert sql.one("SELECT susx.tags('compass', NULL::vector)") is None
