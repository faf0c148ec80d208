"""Labels by two vectors per image: the method `likeness` is its formula in float64, and every function that labels takes
the second vector."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest

from helpers.gda import unit
from helpers.likeness import Likeness, Params
from helpers.session import array, vector
from helpers.shared import folder
from helpers.stored import stored, stored_likeness

pytestmark = pytest.mark.same_everywhere

CATEGORIES = [f"c{i:02}" for i in range(8)]
DIMENSIONS, LIKENESS = 24, 16


class Images:
    """Images of eight categories, whose embeddings are near their names, and whose likeness says more."""

    def __init__(self, seed: int = 3, per_category: int = 14):
        random = np.random.default_rng(seed)
        self.names = random.normal(size=(len(CATEGORIES), DIMENSIONS))
        centres = random.normal(size=(len(CATEGORIES), LIKENESS))
        self.labels = np.repeat(np.arange(len(CATEGORIES)), per_category)
        self.embeddings = self.names[self.labels] + 1.6 * random.normal(size=(len(self.labels), DIMENSIONS))
        self.likeness = centres[self.labels] + 0.7 * random.normal(size=(len(self.labels), LIKENESS))

    def load(self, sql) -> None:
        sql.run(
            f"CREATE TABLE photos (id int PRIMARY KEY, embedding vector({DIMENSIONS}), likeness vector({LIKENESS}),"
            " truth text)"
        )
        rows = zip(range(len(self.labels)), map(vector, self.embeddings), map(vector, self.likeness),
                   (CATEGORIES[y] for y in self.labels))  # fmt: skip
        sql.copy("photos", ["id", "embedding", "likeness", "truth"], rows)

    def create(self, sql, name: str = "kinds") -> None:
        vectors = [vector(row) for row in self.names]
        sql.run("SELECT susx.create_classifier(%s, %s, text_embeddings => %s::vector[])", name, CATEGORIES, vectors)
        sql.run("SELECT susx.alter_classifier(%s, logit_scale => 12)", name)


@pytest.fixture
def images(sql):
    images = Images()
    images.load(sql)
    images.create(sql)
    return images


def retrieve(sql, per_class: int = 6, where: str = "true") -> None:
    """A support set from the photographs of even numbers."""
    sql.run(f"CREATE TABLE pool AS SELECT * FROM photos WHERE id % 2 = 0 AND {where}; ALTER TABLE pool ADD PRIMARY KEY (id)")
    sql.run(
        "SELECT susx.build_support_set('kinds', 'pool', per_class => %s, likeness_column => 'likeness')", per_class
    )


def oracle(sql, name: str = "kinds") -> tuple[list[str], Likeness]:
    table = stored(sql, name)
    params = Params(*sql.rows("SELECT logit_scale, lambda, ridge FROM susx.classifier WHERE classifier = %s::regclass", name)[0])
    return table.categories, Likeness.fit(
        table.names, table.support, stored_likeness(sql, name), table.labels, table.labelled, params
    )


def queries(sql) -> tuple[np.ndarray, np.ndarray]:
    rows = sql.rows("SELECT embedding::text, likeness::text FROM photos ORDER BY id")
    return unit([array(x) for x, _ in rows]), unit([array(y) for _, y in rows])


SCORES = """
    SELECT array_agg(c.score ORDER BY c.category), array_agg(c.probability ORDER BY c.category)
    FROM photos p, susx.classify('kinds', p.embedding, 8, {method}, likeness => {likeness}) c
    GROUP BY p.id ORDER BY p.id"""


def scores(sql, likeness: str = "p.likeness", method: str = "NULL") -> tuple[np.ndarray, np.ndarray]:
    rows = sql.rows(SCORES.format(likeness=likeness, method=method))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@pytest.mark.parametrize("support", ["retrieved", "half", "labelled", "mixed", "one each", "one"])
def test_every_score_and_probability(sql, images, support):
    if support in ("retrieved", "half", "mixed"):
        retrieve(sql, where="truth < 'c04'" if support == "half" else "true")
    if support != "retrieved" and support != "half":
        most = {"labelled": 5, "mixed": 2, "one each": 1, "one": 1}[support]
        for c, name in enumerate(CATEGORIES if support != "one" else CATEGORIES[:1]):
            rows = np.flatnonzero(images.labels == c)[1 : 1 + most]
            x, y = ([vector(v) for v in vectors[rows]] for vectors in (images.embeddings, images.likeness))
            sql.run("SELECT susx.add_support('kinds', %s, %s::vector[], %s::vector[])", name, x, y)
    categories, expected = oracle(sql)
    assert categories == CATEGORIES
    found, probabilities = scores(sql)
    x, y = queries(sql)
    assert np.abs(found - expected.scores(x, y)).max() < 5e-3
    assert np.abs(probabilities - expected.probabilities(x, y)).max() < 5e-3
    if support == "half":
        assert expected.absent.any() and expected.claimed.max() > 0.1, "nothing tests absent and claimed names"


def test_it_is_the_default_where_there_is_likeness(sql, images):
    retrieve(sql)
    named = scores(sql, method="'likeness'")[0]
    assert (scores(sql)[0] == named).all()
    # Without a likeness vector, an image is labelled as if there were none.
    alone = scores(sql, "NULL")[0]
    assert (alone == scores(sql, "NULL", "'gated-tip-x'")[0]).all()
    assert np.abs(alone - named).max() > 0.1
    sql.run("UPDATE kinds SET likeness = NULL")
    assert (scores(sql)[0] == alone).all()


def test_every_function_gives_the_same_label(sql, images):
    retrieve(sql)
    label = dict(sql.rows("SELECT id, susx.label('kinds', embedding, likeness) FROM photos"))
    assert label == dict(sql.rows("SELECT id, susx.label('kinds', embedding, likeness => likeness) FROM photos"))
    assert label != dict(sql.rows("SELECT id, susx.label('kinds', embedding) FROM photos"))
    assert label == dict(sql.rows("SELECT key, category FROM susx.classify_rows('kinds', 'SELECT id, embedding, likeness FROM photos', key => NULL::int)"))  # fmt: skip
    assert label == dict(sql.rows("SELECT p.id, e.category FROM photos p, susx.explain('kinds', p.embedding, 1, support_rows => 1, likeness => p.likeness) e"))  # fmt: skip
    right = sum(label[i] == CATEGORIES[c] for i, c in enumerate(images.labels)) / len(label)
    evaluated = sql.one("SELECT top1 FROM susx.evaluate('kinds', 'SELECT embedding, truth, likeness FROM photos') WHERE category IS NULL")
    assert evaluated == pytest.approx(right)
    by_names = sql.one("SELECT top1 FROM susx.evaluate('kinds', 'SELECT embedding, truth FROM photos', 'zero-shot') WHERE category IS NULL")
    assert right > by_names + 0.03
    known = sql.rows("SELECT susx.known('kinds', embedding, likeness) FROM photos ORDER BY id")
    assert known == sql.rows("SELECT c.known FROM photos p, susx.classify('kinds', p.embedding, likeness => p.likeness) c ORDER BY p.id")


def test_suggest_reject_looks_at_both_vectors(sql, images):
    """At what `known` says of the images with their likeness; with a single one of them it is not the same."""
    retrieve(sql)
    both = sql.one("SELECT susx.suggest_reject('kinds', 'photos', likeness_column => 'likeness')")
    assert 0 < both < 1
    assert sql.one("SELECT susx.suggest_reject('kinds', 'photos')") is not None
    sql.run("CREATE TABLE known AS SELECT susx.known('kinds', embedding, likeness) AS known FROM photos")
    low, high = sql.rows("SELECT min(known), max(known) FROM known")[0]
    assert both == 0.5 or low < both < high
    refusal = sql.fails("SELECT susx.suggest_reject('kinds', 'photos', likeness_column => 'truth')")
    assert "truth" in refusal.message and "vector" in refusal.message


def test_rows_without_a_likeness_among_others(sql, images):
    """Each is labelled as it is alone."""
    retrieve(sql)
    sql.run("UPDATE photos SET likeness = NULL WHERE id % 3 = 0")
    alone = dict(sql.rows("SELECT id, susx.label('kinds', embedding, likeness) FROM photos"))
    rows = "SELECT key, category FROM susx.classify_rows('kinds', 'SELECT id, embedding, likeness FROM photos', key => NULL::int)"
    assert alone == dict(sql.rows(rows))
    # All are judged; tune, which compares settings on the same images, leaves them out.
    assert sql.rows("SELECT n, failed FROM susx.evaluate('kinds', 'SELECT embedding, truth, likeness FROM photos') WHERE category IS NULL") == [(112, 0)]
    assert sql.rows("SELECT n, failed FROM susx.tune('kinds', 'SELECT embedding, truth, likeness FROM photos')") == [(74, 38)]


def test_terms_and_contributions(sql, images):
    retrieve(sql, where="truth < 'c05'")
    categories, expected = oracle(sql)
    x, y = queries(sql)
    gates = expected.gates(x)[0]
    row = int(np.flatnonzero((gates > 0.2) & (gates < 0.95))[0])
    terms = expected.terms(x[row : row + 1], y[row : row + 1])
    rows = sql.dicts("SELECT e.* FROM photos p, susx.explain('kinds', p.embedding, 8, support_rows => 100, likeness => p.likeness) e WHERE p.id = %s", row)  # fmt: skip
    for found in rows:
        c = categories.index(found["category"])
        for name, term in terms.items():
            assert found[name] == pytest.approx(term[0, c], abs=1e-3), name
        assert found["kl"] == 0
        assert found["total"] == pytest.approx(sum(term[0, c] for term in terms.values()), abs=1e-3)
    for c, category in enumerate(categories):
        own = [found for found in rows if found["category"] == category]
        added = own[0]["cache"] + own[0]["discriminant"] + (0.5 * own[0]["gate"] if expected.absent[c] else 0)
        assert sum(found["contribution"] for found in own) == pytest.approx(added, abs=1e-3)
    by_id = dict(sql.rows("SELECT id, likeness::text FROM kinds WHERE kind = 'image'"))
    for found in rows:
        assert found["affinity"] == pytest.approx(float(unit([array(by_id[found["support_id"]])])[0] @ y[row]), abs=1e-5)


def test_a_label_depends_on_its_image_alone(sql, images):
    retrieve(sql)
    together = sql.rows("SELECT key, category FROM susx.classify_rows('kinds', 'SELECT id, embedding, likeness FROM photos', key => NULL::int) ORDER BY key")
    assert together == sql.rows("SELECT id, susx.label('kinds', embedding, likeness) FROM photos ORDER BY id")
    sql.run("CREATE TABLE more AS SELECT id + 1000 * n AS id, embedding, likeness FROM photos, generate_series(1, 40) n")
    rows = sql.rows("SELECT key % 1000, category FROM susx.classify_rows('kinds', 'SELECT id, embedding, likeness FROM more', key => NULL::int)")
    assert set(rows) == set(together) and len(rows) == 40 * len(together)


def test_tune_finds_the_weight(sql, images):
    retrieve(sql)
    sql.run("SELECT susx.alter_classifier('kinds', lambda => 0.01)")
    query = "SELECT embedding, truth, likeness FROM photos WHERE id % 2 = 1"
    (tuned,) = sql.dicts("SELECT * FROM susx.tune('kinds', %s)", query)
    assert tuned["method"] == "likeness"
    # The accuracy that it returns is that of the labels.
    evaluated = sql.one("SELECT top1 FROM susx.evaluate('kinds', %s) WHERE category IS NULL", query)
    assert tuned["likeness"] == pytest.approx(evaluated)
    assert tuned["likeness"] > tuned["zero_shot"]
    (on_support,) = sql.dicts("SELECT * FROM susx.tune('kinds')")
    assert 0 < on_support["likeness"] <= 1


def test_bad_vectors(sql, images):
    retrieve(sql)
    short = "SELECT susx.label('kinds', embedding, '[1,2,3]'::vector) FROM photos LIMIT 1"
    refusal = sql.fails(short)
    assert refusal.sqlstate == "22000" and "16 dimensions, not 3" in refusal.message
    zeros = vector(np.zeros(LIKENESS))
    assert "zeros" in sql.fails("SELECT susx.label('kinds', embedding, %s::vector) FROM photos", zeros).message
    # In a table it costs its row.
    sql.run("UPDATE photos SET likeness = %s WHERE id = 5", zeros)
    failed = sql.rows("SELECT key, error FROM susx.classify_rows('kinds', 'SELECT id, embedding, likeness FROM photos', key => NULL::int) WHERE error IS NOT NULL")
    assert [key for key, _ in failed] == [5] and "zeros" in failed[0][1]
    assert sql.rows("SELECT n, failed FROM susx.evaluate('kinds', 'SELECT embedding, truth, likeness FROM photos') WHERE category IS NULL") == [(111, 1)]


def test_columns_of_queries(sql, images):
    retrieve(sql)
    for query in ("SELECT id, embedding, truth FROM photos", "SELECT id, ''::bytea, likeness FROM photos"):
        refusal = sql.fails("SELECT * FROM susx.classify_rows('kinds', %s, key => NULL::int)", query)
        assert refusal.sqlstate == "42804" and "third column" in refusal.message
    refusal = sql.fails("SELECT * FROM susx.evaluate('kinds', 'SELECT embedding, truth, 1 FROM photos')")
    assert refusal.sqlstate == "42804" and "vector" in refusal.message
    # Tuning by embeddings would tune something else than what labels.
    refusal = sql.fails("SELECT * FROM susx.tune('kinds', 'SELECT embedding, truth FROM photos')")
    assert "likeness" in refusal.message and "third column" in refusal.hint


def test_support_images_without_likeness(sql, images):
    """A WARNING, and labels by embeddings alone."""
    retrieve(sql)
    plain = dict(sql.rows("SELECT id, susx.label('kinds', embedding) FROM photos"))
    sql.run("SELECT susx.add_support('kinds', 'c00', ARRAY[embedding]) FROM photos WHERE id = 1")
    sql.notices.clear()
    sql.run("SELECT susx.label('kinds', embedding, likeness) FROM photos")
    assert [notice for notice in sql.notices if "no likeness vector" in notice and "1 of " in notice]
    sql.run("DELETE FROM kinds WHERE likeness IS NULL AND kind = 'image'")
    assert plain == dict(sql.rows("SELECT id, susx.label('kinds', embedding) FROM photos"))


def test_real_photographs(sql):
    """CLIP's vectors of Caltech's photographs, and a second pair of eyes. The names alone have 96.8 % right."""
    path = folder("clip-vectors") / "caltech101"
    lines = [line.split("\t") for line in (path / "text_subset_classes.tsv").read_text().splitlines()[:28]]
    place = {int(number): name for number, name, *_ in lines}
    rows = np.load(path / "likeness_test_rows.i4.npy")
    x, y = np.load(path / "test_f.f16.npy")[rows], np.load(path / "likeness_test_f.f16.npy")
    truth = [place[int(c)] for c in np.load(path / "test_y.i2.npy")[rows]]
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, embedding vector, likeness vector, truth text)")
    copied = zip(range(len(rows)), (vector(v.astype(float)) for v in x), (vector(v.astype(float)) for v in y), truth)
    sql.copy("photos", ["id", "embedding", "likeness", "truth"], copied)
    names = [vector(v) for v in np.load(path / "text_subset.f32.npy")[:28]]
    sql.run("SELECT susx.create_classifier('kinds', %s, text_embeddings => %s::vector[])", list(place.values()), names)
    sql.run("SELECT susx.build_support_set('kinds', 'photos', likeness_column => 'likeness')")
    (zero_shot, alone, likeness) = sql.rows(
        """SELECT avg((susx.label('kinds', embedding, 'zero-shot') = truth)::int)::float,
                  avg((susx.label('kinds', embedding) = truth)::int)::float,
                  avg((susx.label('kinds', embedding, likeness) = truth)::int)::float FROM photos"""
    )[0]
    assert likeness > zero_shot + 0.01 and likeness > alone


def test_a_column_of_that_name_that_is_something_else(sql, images):
    """A table of an older version may have one of its owner's."""
    sql.run("ALTER TABLE kinds DROP COLUMN likeness; ALTER TABLE kinds ADD COLUMN likeness text")
    sql.run("SELECT susx.add_support('kinds', truth, ARRAY[embedding]) FROM photos WHERE id % 3 = 0")
    assert sql.one("SELECT count(susx.label('kinds', embedding, likeness)) FROM photos") == 112
    assert sql.fails("SELECT susx.add_support('kinds', 'c00', ARRAY[embedding], ARRAY[likeness]) FROM photos").sqlstate == "42701"
