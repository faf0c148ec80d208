"""How many rows the planner expects of susx's functions."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass


def expected(sql, call: str, *arguments: object) -> int:
    ((plan,),) = sql.rows(f"EXPLAIN (FORMAT JSON) SELECT * FROM {call}", *arguments)
    return plan[0]["Plan"]["Plan Rows"]


@pytest.fixture
def compass(sql):
    create_compass(sql)
    return sql


CALLS = {
    "susx.classify('compass', '[1,0]'::vector)": 1,
    "susx.classify('compass', '[1,0]'::vector, 7)": 7,
    "susx.classify('compass', '[1,0]'::vector, k => 3 + 4)": 7,
    "susx.classify('compass', '[1,0]'::vector, k => NULL)": 1,
    "susx.classify('compass', '[1,0]'::vector, k => -3)": 1,
    "susx.classify('compass', '\\x00'::bytea, method => 'zero-shot')": 1,
    "susx.classify('compass', '\\x00'::bytea, 12)": 12,
    "susx.explain('compass', '[1,0]'::vector)": 9,
    "susx.explain('compass', '[1,0]'::vector, 2, support_rows => 10)": 20,
    "susx.explain('compass', '\\x00'::bytea, support_rows => 0)": 3,
    # The planner cannot know it.
    "susx.classify('compass', '[1,0]'::vector, (random() * 5)::int)": 5,
    "susx.models()": 5,
    "susx.stat_server": 1,
    "susx.evaluate('compass', 'SELECT 1')": 20,
}


@pytest.mark.parametrize("call", CALLS)
def test_rows(compass, call):
    assert expected(compass, call) == CALLS[call]


def test_a_join(compass):
    compass.run(
        "CREATE TABLE photos AS SELECT i AS id, '[1,0]'::vector AS embedding FROM generate_series(1, 2000) i; ANALYZE photos"
    )
    ((plan,),) = compass.rows(
        "EXPLAIN (FORMAT JSON) SELECT * FROM photos, LATERAL susx.classify('compass', embedding) c"
    )
    assert plan[0]["Plan"]["Plan Rows"] == 2000


def test_a_parameter(compass):
    compass.run(
        "SET plan_cache_mode = force_custom_plan; PREPARE p (int) AS SELECT * FROM susx.classify('compass', '[1,0]'::vector, $1)"
    )
    ((plan,),) = compass.rows("EXPLAIN (FORMAT JSON) EXECUTE p (4)")
    assert plan[0]["Plan"]["Plan Rows"] == 4
