"""tune() finds what a loop over the grid finds, stores it, and never does worse than the names alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.caltech import Caltech
from helpers.gda import Gda
from helpers.pictures import encode
from helpers.session import vector
from helpers.toy import create_compass, create_random

pytestmark = pytest.mark.same_everywhere

QUERY = "SELECT embedding, truth FROM validation_vectors"
TUNE = "SELECT alpha, beta, gamma, zero_shot, tip_adapter, tip_x, n, failed FROM susx.tune({})"
SETTINGS = "SELECT alpha, beta, gamma FROM susx.classifier WHERE classifier = %s::regclass"

# The grid of the published code, with 0.
ALPHA = np.float32([0, *(0.1 + 49.9 * i / 20 for i in range(20))])
BETA = np.float32([1 + 49 * j / 200 for j in range(200)])
GAMMA = np.float32([0, *(0.1 + 29.9 * k / 50 for k in range(50))])


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


def right(caltech, beta):
    """How many validation images are right, alphas x gammas, in float64 by the oracle's terms."""
    unit = caltech.oracle.unit
    zero_shot, cache, kl = caltech.oracle.logits(
        unit(caltech.validation),
        unit(caltech.support),
        caltech.support_labels,
        unit(caltech.prototypes),
        alpha=1,
        beta=float(beta),
        gamma=1,
    )
    counts = np.empty((len(ALPHA), len(GAMMA)), int)
    for i, alpha in enumerate(ALPHA):
        for k, gamma in enumerate(GAMMA):
            best = (zero_shot + float(alpha) * cache + float(gamma) * kl).argmax(1)
            counts[i, k] = (best == caltech.validation_labels).sum()
    return counts


def test_the_winner_is_that_of_the_loop(sql, caltech):
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    ((alpha, beta, gamma, zero_shot, tip_adapter, tip_x, n, failed),) = sql.rows(TUNE.format("'caltech', %s"), QUERY)
    assert (n, failed) == (len(caltech.validation), 0)
    assert sql.rows(SETTINGS, "caltech") == [(alpha, beta, gamma)]
    place = [int(np.flatnonzero(np.isclose(grid, x))[0]) for grid, x in ((ALPHA, alpha), (BETA, beta), (GAMMA, gamma))]
    most = round(tip_x * n)
    own = right(caltech, BETA[place[1]])
    # A row whose two best logits agree to the sixth digit may fall either way.
    assert abs(own[place[0], place[2]] - most) <= 1
    assert abs(own[0, 0] - round(zero_shot * n)) <= 1
    assert zero_shot < tip_adapter <= tip_x
    # Before the winner nothing is better, and nothing is elsewhere.
    assert own[: place[0]].max(initial=0) <= most and own[place[0], : place[2]].max(initial=0) <= most
    for j in (0, 30, 77, 140, 199):
        other = right(caltech, BETA[j])
        assert other.max() <= most + 1
        assert other[:, 0].max() <= round(tip_adapter * n) + 1


def test_what_is_stored_is_what_evaluate_finds(sql, caltech):
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    ((*_, zero_shot, _, tip_x, n, _),) = sql.rows(TUNE.format("'caltech', %s"), QUERY)
    accuracy = "SELECT top1 FROM susx.evaluate('caltech', %s, %s) WHERE category IS NULL"
    assert sql.one(accuracy, QUERY, "tip-x") == pytest.approx(tip_x, abs=1.5 / n)
    assert sql.one(accuracy, QUERY, "zero-shot") == pytest.approx(zero_shot, abs=1e-12)


LAMBDA = (2, 3, 1, 5, 0.5, 8, 0.25, 16, 32, 0)
RIDGE = (3, 1, 10, 0.3, 30)
TUNE_GDA = "SELECT lambda, ridge, gda, tip_x, zero_shot, n, method FROM susx.tune({})"
SETTINGS_GDA = "SELECT lambda, ridge, method FROM susx.classifier WHERE classifier = %s::regclass"


def test_lambda_and_ridge_are_those_of_the_loop(sql, caltech):
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    ((lambda_, ridge, gda, tip_x, _, n, method),) = sql.rows(TUNE_GDA.format("'caltech', %s"), QUERY)
    unit = caltech.oracle.unit
    counts = {}
    for r in RIDGE:
        for value in LAMBDA:
            fit = Gda.fit(
                unit(caltech.prototypes),
                unit(caltech.support),
                caltech.support_labels,
                np.ones(len(caltech.support), bool),
                100,
                value,
                r,
            )
            counts[value, r] = (fit.scores(unit(caltech.validation)).argmax(1) == caltech.validation_labels).sum()
    place = min(counts, key=lambda pair: abs(pair[0] - lambda_) + abs(pair[1] - ridge))
    assert place == pytest.approx((lambda_, ridge))
    # A row whose two best scores agree to the sixth digit may fall either way.
    assert abs(counts[place] - gda * n) <= 1 and max(counts.values()) <= gda * n + 1
    # The method that is right more often answers, and only where that is not the default it is written down. With labels
    # the gate is open, so gated TIP-X is TIP-X.
    assert method == ("gda" if gda > tip_x else "gated-tip-x")
    assert sql.rows(SETTINGS_GDA, "caltech") == [(lambda_, ridge, None if method == "gated-tip-x" else method)]
    accuracy = "SELECT top1 FROM susx.evaluate('caltech', %s) WHERE category IS NULL"
    assert sql.one(accuracy, QUERY) == pytest.approx(max(gda, tip_x), abs=1.5 / n)


def test_a_method_that_somebody_has_set_stays(sql, caltech):
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    sql.run("SELECT susx.alter_classifier('caltech', method => 'zero-shot'); SET client_min_messages = notice")
    ((*_, gda, tip_x, zero_shot, _, method),) = sql.rows(TUNE_GDA.format("'caltech', %s"), QUERY)
    assert max(gda, tip_x) > zero_shot and method == "zero-shot"
    assert sql.rows(SETTINGS_GDA, "caltech")[0][2] == "zero-shot"
    assert any("than zero-shot, the method that is set" in notice for notice in sql.notices)


def test_the_discriminant_without_labels(sql):
    """Nearly what classifiers are right about that lack one row each: see the library's tests for the closed form."""
    create_random(sql, "toy", categories=4, dimensions=6, per_class=12, seed=3)
    ((lambda_, ridge, gda, _, zero_shot, n, _),) = sql.rows(TUNE_GDA.format("'toy'"))
    assert sql.rows(SETTINGS_GDA, "toy")[0][:2] == (lambda_, ridge)
    assert n == 48 and gda >= zero_shot
    right = 0
    for id, category, embedding in sql.rows("SELECT id, category, embedding FROM toy WHERE kind = 'image'"):
        sql.run("BEGIN")
        sql.run("DELETE FROM toy WHERE id = %s", id)
        right += sql.one("SELECT susx.label('toy', %s::vector, 'gda')", embedding) == category
        sql.run("ROLLBACK")
    assert abs(right - gda * n) <= 2


def test_a_support_set_that_misleads_gets_no_weight(sql):
    """Every support image is of the other category: only alpha = gamma = 0 is as right as the names alone."""
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[0.1,1]', '[0.2,1]']::vector[])")
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[1,0.1]', '[1,0.2]']::vector[])")
    query = "VALUES ('[1,0.98]'::vector, 'east'), ('[0.98,1]', 'north'), ('[1,0.3]', 'east'), ('[0.2,1]', 'north')"
    assert sql.rows(TUNE.format("'compass', %s"), query) == [(0, 1, 0, 1, 1, 1, 4, 0)]
    assert sql.rows(SETTINGS, "compass") == [(0, 1, 0)]


def test_without_labels_every_support_image_is_labelled_without_itself(sql, caltech):
    """The accuracies are those of classifiers that lack one row each."""
    create_random(sql, "toy", categories=4, dimensions=6, per_class=5, seed=3)
    sql.run("SELECT susx.alter_classifier('toy', logit_scale => 2)")
    ((alpha, beta, gamma, zero_shot, _, tip_x, n, failed),) = sql.rows(TUNE.format("'toy'"))
    assert (n, failed) == (20, 0) and tip_x > zero_shot
    assert sql.rows(SETTINGS, "toy") == [(alpha, beta, gamma)]
    found = {"zero-shot": 0, "tip-x": 0}
    for id, category, embedding in sql.rows("SELECT id, category, embedding FROM toy WHERE kind = 'image'"):
        sql.run("BEGIN")
        sql.run("DELETE FROM toy WHERE id = %s", id)
        for method in found:
            found[method] += sql.one("SELECT susx.label('toy', %s::vector, %s)", embedding, method) == category
        sql.run("ROLLBACK")
    assert found == {"zero-shot": round(zero_shot * n), "tip-x": round(tip_x * n)}


@pytest.fixture
def retrieved(sql):
    create_compass(sql)
    sql.run(
        "CREATE TABLE pool (id int PRIMARY KEY, embedding vector(2)); "
        "INSERT INTO pool VALUES (1, '[1,0.1]'), (2, '[1,0.4]'), (3, '[0.1,1]'), (4, '[0.5,1]')"
    )
    sql.run("SELECT * FROM susx.build_support_set('compass', 'pool')")
    sql.run("SELECT susx.alter_classifier('compass', alpha => 2, beta => 3, gamma => 0.5)")


def test_images_retrieved_by_their_names_prove_nothing(sql, retrieved):
    sql.run("SET client_min_messages = notice")
    assert sql.rows(TUNE.format("'compass'")) == [(2, 3, 0.5, 1, 1, 1, 4, 0)]
    assert "nothing was changed" in sql.notices[0]
    assert sql.rows(SETTINGS, "compass") == [(2, 3, 0.5)]
    # One that somebody has chosen is a reason to go by it.
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0]']::vector[])")
    sql.notices.clear()
    sql.rows(TUNE.format("'compass'"))
    assert not sql.notices and sql.rows(SETTINGS, "compass") == [(0, 1, 0)]


def test_what_cannot_be_used_is_counted(sql, retrieved):
    query = "VALUES ('[1,0.2]'::vector, 'east'), (NULL, 'east'), ('[0,0]', 'north'), ('[0.3,1]', 'north')"
    assert sql.rows(TUNE.format("'compass', %s"), query)[0][-2:] == (2, 2)
    assert "2 rows of the query could not be used" in sql.notices[-1]


def test_it_is_undone_with_its_transaction(sql, retrieved):
    before = sql.rows(SETTINGS, "compass")
    sql.run("BEGIN")
    sql.rows(TUNE.format("'compass', %s"), "VALUES ('[1,0.2]'::vector, 'east')")
    assert sql.rows(SETTINGS, "compass") != before
    sql.run("ROLLBACK")
    assert sql.rows(SETTINGS, "compass") == before


@pytest.mark.parametrize(
    "call, sqlstate, message",
    [
        ("NULL", "22004", "classifier must not be NULL"),
        ("'names'", "55000", 'classifier "names" has no support images'),
        ("'pool'", "42704", '"pool" is not a classifier'),
        ("'compass', 'SELECT NULL::vector, NULL::text WHERE false'", "22023", "the query returned no image to tune on"),
        ("'compass', 'SELECT NULL::vector, ''east'''", "22023", "the query returned no image to tune on"),
        ("'compass', 'SELECT ''[1,0]''::vector, NULL::text'", "22023", "the query returned no image to tune on"),
        ("'compass', 'SELECT ''[1,0]''::vector, ''west'''", "42704", "west"),
        ("'compass', 'SELECT ''[1,0,0]''::vector, ''east'''", "22000", "expects 2 dimensions, not 3"),
        ("'compass', 'DELETE FROM pool RETURNING embedding, ''east'''", "0A000", "DELETE"),
    ],
)
def test_refusals(sql, retrieved, call, sqlstate, message):
    create_compass(sql, "names")
    refusal = sql.fails(TUNE.format(call))
    assert refusal.sqlstate == sqlstate and message in refusal.message
    assert sql.rows(SETTINGS, "compass") == [(2, 3, 0.5)] and sql.one("SELECT count(*) FROM pool") == 4


def test_a_read_only_transaction(sql, retrieved):
    sql.run("BEGIN READ ONLY")
    # This is refused before the query runs.
    assert sql.fails(TUNE.format("'compass', 'SELECT no_such_column, 1'")).sqlstate == "25006"
    sql.run("ROLLBACK")


def test_whoever_may_only_read_it(sql, connect, retrieved):
    sql.run("CREATE ROLE reader LOGIN; GRANT SELECT ON compass, pool TO reader")
    try:
        session = connect(user="reader")
        schema = sql.one("SELECT current_schema()")
        session.run(f'SET search_path = "{schema}", public')
        sql.run(f'GRANT USAGE ON SCHEMA "{schema}" TO reader')
        assert session.fails(TUNE.format("'compass'")).sqlstate == "42501"
        assert session.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
        session.close()
    finally:
        sql.run("DROP OWNED BY reader; DROP ROLE reader")


def test_it_can_be_cancelled(sql, caltech):
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    before = sql.rows(SETTINGS, "caltech")
    sql.run("SET statement_timeout = 250")
    # Ten times the images take seconds.
    query = QUERY + ", generate_series(1, 10)"
    assert sql.fails(TUNE.format("'caltech', %s"), query).sqlstate == "57014"
    sql.run("RESET statement_timeout")
    assert sql.rows(SETTINGS, "caltech") == before


def test_image_files(sql):
    """A query of images, embedded as they come; one is no image."""
    sql.run("SET susx.model = 'tiny_split'; SELECT susx.create_classifier('shades', '{dark,light}')")
    sql.run("CREATE TABLE pictures (image bytea, truth text)")
    for truth, level in (("dark", 20), ("light", 230)):
        image = encode(Image.new("RGB", (40, 40), (level, level, level)))
        sql.run("INSERT INTO pictures VALUES (%s, %s)", image, truth)
    for truth in ("dark", "light"):
        sql.run(
            "SELECT susx.add_support('shades', %s, (SELECT array_agg(image) FROM pictures WHERE truth = %s))",
            truth,
            truth,
        )
    query = "SELECT image, truth FROM pictures UNION ALL SELECT 'no image'::bytea, 'dark'"
    ((*_, tip_x, n, failed),) = sql.rows(TUNE.format("'shades', %s"), query)
    assert (n, failed, tip_x) == (2, 1, 1)


def test_rows_of_several_categories_alike(sql):
    """Unsupported categories, and a single support image: what leaving one out leaves."""
    sql.run(
        "SELECT susx.create_classifier('three', '{a,b,c}', "
        "text_embeddings => ARRAY['[1,0,0]', '[0,1,0]', '[0,0,1]']::vector[])"
    )
    sql.run("SELECT susx.add_support('three', 'a', ARRAY[%s]::vector[])", vector([1, 0.2, 0]))
    ((*_, zero_shot, tip_adapter, tip_x, n, _),) = sql.rows(TUNE.format("'three'"))
    assert (zero_shot, tip_adapter, tip_x, n) == (1, 1, 1, 1)


def test_the_method_that_answers_is_the_best(sql, caltech):
    """A support set retrieved by the names: gated TIP-X has parameters of its own."""
    caltech.load_validation(sql)
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", np.array([], int))
    sql.run("SELECT susx.build_support_set('caltech', 'test_vectors')")
    ((zero_shot, tip_x, gda, gated, method),) = sql.rows(
        "SELECT zero_shot, tip_x, gda, gated_tip_x, method FROM susx.tune('caltech', %s)", QUERY
    )
    best = max(tip_x, gda, gated)
    assert best >= zero_shot
    assert {"gda": gda, "tip-x": tip_x, "gated-tip-x": gated}[method] == best
    found = sql.one("SELECT top1 FROM susx.evaluate('caltech', %s) WHERE category IS NULL", QUERY)
    assert found == pytest.approx(best, abs=1.5 / len(caltech.validation))


def test_the_temperature_is_the_most_likely_one(sql, caltech):
    """Beside a search by steps for the temperature at which the labels are most likely, in float64."""
    caltech.load_validation(sql)
    caltech.create_classifier(sql, "caltech")
    sql.run("SELECT susx.alter_classifier('caltech', method => 'zero-shot')")
    ((before, after, temperature),) = sql.rows(
        "SELECT calibration_error_before, calibration_error, probability_temperature FROM susx.tune('caltech', %s)", QUERY
    )
    unit = caltech.oracle.unit
    logits = 100 * unit(caltech.validation) @ unit(caltech.prototypes).T
    n, truth = len(logits), caltech.validation_labels

    def likelihood(t: float) -> float:
        log_p = logits / t - np.log(np.exp((logits - logits.max(1, keepdims=True)) / t).sum(1, keepdims=True)) - logits.max(1, keepdims=True) / t
        # Of n images, 1/(n + 2) of each belongs to all categories alike.
        return ((1 - 1 / (n + 2)) * log_p[np.arange(n), truth] + log_p.mean(1) / (n + 2)).sum()

    steps = np.exp(np.linspace(np.log(0.3), np.log(3), 400))
    assert temperature == pytest.approx(steps[np.argmax([likelihood(t) for t in steps])], rel=0.01)
    assert sql.one("SELECT probability_temperature FROM susx.classifier WHERE classifier = 'caltech'::regclass") == temperature
    found = sql.one("SELECT calibration_error FROM susx.evaluate('caltech', %s) WHERE category IS NULL", QUERY)
    assert found == pytest.approx(after, abs=1e-3) and after < before
    sql.run("SELECT susx.alter_classifier('caltech', probability_temperature => 1)")
    found = sql.one("SELECT calibration_error FROM susx.evaluate('caltech', %s) WHERE category IS NULL", QUERY)
    assert found == pytest.approx(before, abs=1e-3)
    # A temperature changes no label.
    assert sql.one("SELECT count(DISTINCT susx.label('caltech', embedding)) FROM validation_vectors") > 50


def test_without_labels_the_temperature_stays(sql, retrieved):
    sql.run("SELECT susx.alter_classifier('compass', probability_temperature => 2)")
    row = sql.rows("SELECT probability_temperature, calibration_error_before, calibration_error FROM susx.tune('compass')")
    assert row == [(2, None, None)]
