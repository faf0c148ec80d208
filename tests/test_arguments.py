"""Every function with every unusual value of every argument: nothing leads to an internal error or a crash."""

from __future__ import annotations

import psycopg
import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.toy import create_compass

INTERNAL = "XX000"
# Some calls rightly take long.
TIMEOUT = "57014"

NUMBERS = ["NULL", "0", "1", "-1", "2147483647", "(-2147483648)"]
FLOATS = ["NULL", "'NaN'", "'Infinity'", "'-Infinity'", "0", "-1", "1e-308", "1e308", "3.4e38", "1e39", "1"]
TEXTS = [
    "NULL", "''", "' '", "'x'", "E'\\t\\n\\x1b[31m'", "'{{}}'", "'\"'", "''''", "'%s'", "'é\u202e'", "repeat('x', 2000000)",
    "E'\\x7f'", "'a.b.c'", "'pg_class'",
]  # fmt: skip
NAMES = ["NULL", "''", "'x'", "'ctid'", "repeat('x', 200)", "'\"'"]
FILES = ["NULL", "''", "'\\x00'", "'\\x89504e470d0a1a0a'", "convert_to('<svg/>', 'UTF8')", "{image}"]
VECTORS = ["NULL", "'[1,0]'", "'[0,0]'", "'[-0,-0]'", "'[1]'", "'[1,2,3]'", "'[3.4e38,3.4e38]'", "'[1e-45,1e-45]'",
           "array_fill(1, '{{16000}}')"]  # fmt: skip
QUERIES = [
    "NULL", "''", "';'", "'SELECT'", "'SELECT 1'", "'SELECT 1; SELECT 2'", "'DROP TABLE compass'", "'COMMIT'",
    "'SELECT NULL, NULL'", "'SELECT NULL::vector, NULL'", "'SELECT NULL::vector, ''east'''", "'SELECT ''[1,0]''::vector, NULL'",
    "'SELECT ''[1,0]''::vector, 1'", "'SELECT ''\\x00''::bytea, ''east'''", "'SELECT ''''::bytea, ''east'''",
    "'SELECT 1, ''[1,0]''::vector'", "'SELECT 1::bigint, ''[1,0]''::vector'", "'SELECT 1::bigint, NULL::bytea'",
    "'SELECT NULL::bigint, ''[1,2,3]''::vector'", "'SELECT ROW(1), ''[1,0]''::vector'", "'SELECT ''{{1}}''::int[], ''[1,0]''::vector'",
    "'SELECT 1::bigint, ''{{1}}''::real[]'", "'SELECT ''[1,0]''::vector, ROW(1,2)'", "'VALUES (''[1,0]''::vector, ''nowhere'')'",
    "'COPY compass TO STDOUT'", "'EXPLAIN SELECT 1'", "'SHOW ALL'", "'SELECT 1/0, ''east'''", "'WITH x AS (DELETE FROM compass RETURNING *) SELECT embedding, category FROM x'",
    "'SELECT embedding, category FROM compass FOR UPDATE'", "'SELECT $1, $2'", "'SELECT * INTO other FROM compass'",
    "'DECLARE c CURSOR FOR SELECT 1'", "'FETCH c'", "'LISTEN x'", "'DO $$BEGIN END$$'", "'CALL nothing()'",
    "'SELECT embedding, category FROM compass WHERE false'", "'TABLE compass'", "'SELECT susx.label(''compass'', embedding), 1 FROM compass'",
    "'SELECT embedding, susx.label(''compass'', embedding) FROM compass'", "repeat('x', 2000000)", "'SELECT ' || repeat('(', 20000)",
]  # fmt: skip
JSON = ["NULL", "'null'", "'{{}}'", "'[]'", "'1'", "'\"x\"'", "'{{\"east\": null}}'", "'{{\"east\": []}}'", "'{{\"cat\": [\"x\"]}}'",
        "'{{\"cat\": [1e400]}}'", "'{{\"\": [\"x\"]}}'", "'{{\"cat\": [\"\"]}}'", "('[' || repeat('[', 3000) || repeat(']', 3000) || ']')",
        "'{{\"cat\": \"x\"}}'", "'{{\"cat\": [\"\\u0001\"]}}'"]  # fmt: skip
BIGINTS = ["NULL", "0", "-1", "9223372036854775807", "(-9223372036854775808)"]
BOOLEANS = ["NULL", "true", "false"]


def arrays(kind, elements):
    """Of one and several dimensions, with odd bounds, empty, and with NULLs."""
    some = [element for element in elements if element != "NULL"][:6]
    whole = ", ".join(f"{element}::{kind}" for element in some)
    return [
        "NULL", f"'{{{{}}}}'::{kind}[]", f"ARRAY[NULL]::{kind}[]", f"ARRAY[{whole}, NULL]", f"ARRAY[NULL, {some[1]}::{kind}]",
        f"ARRAY[{some[1]}::{kind}]", f"ARRAY[ARRAY[{some[1]}::{kind}], ARRAY[{some[2]}::{kind}]]", f"ARRAY[ARRAY[NULL, NULL]]::{kind}[]",
        f"array_fill({some[1]}::{kind}, '{{{{3}}}}', '{{{{-5}}}}')", f"array_fill({some[2]}::{kind}, '{{{{2,2}}}}', '{{{{7,-7}}}}')",
        f"array_fill({some[1]}::{kind}, '{{{{2147483}}}}')", f"(ARRAY[{whole}])[2:3]",
    ]  # fmt: skip


MODELS = ["NULL", "''", "'tiny_split'", f"'{GENERATOR}'", "'nothing'", "'../x'", "E'\\x1b'"]
METHODS = ["NULL", "''", "'zero-shot'", "'tip-adapter'", "'tip-x'", "'gated-tip-x'", "'gda'", "'likeness'", "'auto'", "'x'"]
REGCLASS = ["NULL", "'compass'", "'pets'", "'pool'", "'pg_class'", "0", "4294967295"]

# Values for every argument of every function. The first value that is not NULL is a valid one.
V, I = "'[1,0]'::vector", "{image}"
FUNCTIONS = {
    "embed_image": [(FILES, "bytea", I), (MODELS, "text", "'tiny_split'")],
    "embed_text": [(TEXTS, "text", "'x'"), (MODELS, "text", "'tiny_split'")],
    "embed_images": [(arrays("bytea", FILES), "bytea[]", "ARRAY[{image}]"), (MODELS, "text", "'tiny_split'")],
    "embed_texts": [(arrays("text", TEXTS), "text[]", "ARRAY['x']"), (MODELS, "text", "'tiny_split'")],
    "embed_table": [(REGCLASS, "regclass", "'photos'"), (NAMES, "name", "'image'"), (NAMES, "name", "'embedding'"),
                    (NUMBERS, "int", "3"), (MODELS, "text", "'tiny_split'"), (TEXTS, "text", "'record'"), (BOOLEANS, "boolean", "false")],
    "add_embedding_column": [(REGCLASS, "regclass", "'photos'"), (NAMES, "name", "'embedding'"), (MODELS, "text", "'tiny_split'")],
    "forget_errors": [(REGCLASS, "regclass", "'photos'"), (NAMES, "name", "'embedding'"), (TEXTS, "text", "'1'")],
    "label_table": [(REGCLASS, "regclass", "'pool'"), (REGCLASS, "regclass", "'compass'"), (NAMES, "name", "'label'"),
                    (NAMES, "name", "NULL"), (NAMES, "name", "NULL"), (NAMES, "name", "'embedding'"), (NAMES, "name", "NULL"),
                    (METHODS, "text", "NULL"), (NUMBERS, "int", "3"), (BOOLEANS, "boolean", "false"), (TEXTS, "text", "NULL"),
                    (TEXTS, "text", "NULL")],
    "label_counts": [(REGCLASS, "regclass", "'pool'"), (NAMES, "name", "'label'")],
    "correct": [(REGCLASS, "regclass", "'compass'"), (REGCLASS, "regclass", "'pool'"), (["'1'", *TEXTS], "text", "'1'"),
                (TEXTS, "text", "'east'"), (NAMES, "name", "'label'"), (BOOLEANS, "boolean", "false")],
    "create_classifier": [(TEXTS, "text", "'new'"), (arrays("text", TEXTS), "text[]", "ARRAY['a', 'b']"),
                          (arrays("text", ["'a {{}}'", *TEXTS]), "text[]", "ARRAY['a {{}}']"), (MODELS, "text", "'tiny_split'"),
                          (MODELS, "text", "'tiny_split'")],
    "create_classifier of vectors": [(TEXTS, "text", "'new'"), (arrays("text", TEXTS), "text[]", "ARRAY['a']"),
                                     (arrays("vector", VECTORS), "vector[]", "ARRAY['[1,0]'::vector]")],
    "alter_classifier": [(REGCLASS, "regclass", "'pets'"), *[(FLOATS, "float8", "1")] * 5, (METHODS, "text", "'tip-x'"),
                         (MODELS, "text", "'tiny_split'"), *[(FLOATS, "float8", "1")] * 4, ([*MODELS, "'none'"], "text", "'tiny_split'"),
                         (FLOATS, "float8", "1")],
    "adopt_classifier": [(REGCLASS, "regclass", "'pets'")],
    "distribute_classifier": [(REGCLASS, "regclass", "'pets'")],
    "add_prompts": [(REGCLASS, "regclass", "'pets'"), (JSON, "jsonb", "'{{\"cat\": [\"x\"]}}'")],
    "add_support": [(REGCLASS, "regclass", "'compass'"), (TEXTS, "text", "'east'"),
                    (arrays("vector", VECTORS), "vector[]", "ARRAY['[1,0]'::vector]"),
                    (arrays("vector", VECTORS), "vector[]", "ARRAY['[1,0]'::vector]")],
    "add_support of images": [(REGCLASS, "regclass", "'pets'"), (TEXTS, "text", "'cat'"),
                              (arrays("bytea", FILES), "bytea[]", "ARRAY[{image}]")],
    "add_negatives": [(REGCLASS, "regclass", "'pets'"), (arrays("text", TEXTS), "text[]", "ARRAY['x', 'y']")],
    "add_negatives of vectors": [(REGCLASS, "regclass", "'compass'"), (arrays("text", TEXTS), "text[]", "ARRAY['x']"),
                                 (arrays("vector", VECTORS), "vector[]", "ARRAY['[1,0]'::vector]")],
    "suggest_reject": [(REGCLASS, "regclass", "'compass'"), (REGCLASS, "regclass", "'pool'"), (NAMES, "text", "'embedding'")],
    "build_support_set": [(REGCLASS, "regclass", "'compass'"), (REGCLASS, "regclass", "'pool'"), (NUMBERS, "int", "2"),
                          (TEXTS, "text", "'photo'"), (NAMES, "text", "'embedding'"), (NAMES, "text", "NULL"),
                          (NAMES, "text", "'id'"), (BOOLEANS, "boolean", "true"), (NAMES, "text", "'embedding'"),
                          (FLOATS, "float8", "1"), (BOOLEANS, "boolean", "NULL")],
    "duplicates": [(REGCLASS, "regclass", "'pool'"), (FLOATS, "float8", "0.9"), (NAMES, "name", "'embedding'"), (NAMES, "name", "'id'"),
                   (BOOLEANS, "boolean", "true")],
    "review_queue": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT 1::bigint, ''[1,0]''::vector'"),
                     (NUMBERS, "int", "2")],
    "review_queue with keys": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT ''x'', ''[1,0]''::vector'"),
                               (["NULL", "'x'", "''"], "text", "NULL"), (NUMBERS, "int", "2")],
    "generate_support_set": [(REGCLASS, "regclass", "'pets'"), (MODELS, "text", f"'{GENERATOR}'"), (NUMBERS, "int", "1"),
                             (TEXTS, "text", "'photo'"), (FLOATS, "float8", "1"), (NUMBERS, "int", "1"), (BIGINTS, "bigint", "0"),
                             (BOOLEANS, "boolean", "true"), (TEXTS, "text", "NULL")],
    "generate_images": [(arrays("text", TEXTS), "text[]", "ARRAY['x']"), (MODELS, "text", f"'{GENERATOR}'"), (FLOATS, "float8", "1"),
                        (NUMBERS, "int", "1"), (BIGINTS, "bigint", "0"), (TEXTS, "text", "NULL"), (NUMBERS, "int", "64"),
                        (NUMBERS, "int", "64")],
    "classify": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V), (NUMBERS, "int", "2"), (METHODS, "text", "NULL")],
    "classify of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I), (NUMBERS, "int", "2"), (METHODS, "text", "NULL")],
    "known": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V)],
    "known of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I)],
    "tags": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V), (FLOATS, "float8", "1"), (VECTORS, "vector", "NULL")],
    "tags of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I), (FLOATS, "float8", "1")],
    "tag_probabilities": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V), (VECTORS, "vector", "NULL")],
    "tag_probabilities of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I)],
    "label": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V), (METHODS, "text", "NULL")],
    "label of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I), (METHODS, "text", "NULL")],
    "explain": [(REGCLASS, "regclass", "'compass'"), (VECTORS, "vector", V), (NUMBERS, "int", "2"), (METHODS, "text", "NULL"),
                (NUMBERS, "int", "2")],
    "explain of an image": [(REGCLASS, "regclass", "'pets'"), (FILES, "bytea", I), (NUMBERS, "int", "2"), (METHODS, "text", "NULL"),
                            (NUMBERS, "int", "2")],
    "classify_rows": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT 1::bigint, ''[1,0]''::vector'"),
                      (NUMBERS, "int", "2"), (METHODS, "text", "NULL")],
    "classify_rows with keys": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT ''x'', ''[1,0]''::vector'"),
                                (["NULL", "'x'", "''"], "text", "NULL"), (NUMBERS, "int", "2"), (METHODS, "text", "NULL")],
    "evaluate": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT ''[1,0]''::vector, ''east'''"),
                 (METHODS, "text", "NULL")],
    "confusion_matrix": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT ''[1,0]''::vector, ''east'''"),
                         (METHODS, "text", "NULL")],
    "calibration": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT ''[1,0]''::vector, ''east'''"),
                    (METHODS, "text", "NULL"), (NUMBERS, "int", "15")],
    "report": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "'SELECT 1, ''[1,0]''::vector AS embedding'"),
               (TEXTS, "text", "'x'"), (NUMBERS, "int", "5"), (NUMBERS, "int", "64"), (METHODS, "text", "NULL")],
    "contact_sheet": [(QUERIES, "text", "'SELECT ''x''::bytea, 1'"),
                      (NUMBERS, "int", "2"), (NUMBERS, "int", "64")],
    "image_info": [(FILES, "bytea", I)],
    "thumbnail": [(FILES, "bytea", I), (NUMBERS, "int", "64"), (TEXTS, "text", "'png'")],
    "tune": [(REGCLASS, "regclass", "'compass'"), (QUERIES, "text", "NULL")],
    "check": [],
    "models": [],
    "library_version": [],
    "stat_get_server": [],
    "stat_get_progress": [],
}  # fmt: skip
PROCEDURES = ("embed_table", "generate_support_set", "label_table")


def test_no_function_is_left_out(sql):
    found = sql.column(
        """SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'susx'::regnamespace
           AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)"""
    )
    assert {name.split()[0] for name in FUNCTIONS} == set(found)


@pytest.fixture
def tables(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]', '[1,0.3]']::vector[])")
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[0.1,1]']::vector[])")
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector(2), label text); INSERT INTO pool VALUES (1, '[1,0]'), (2, '[0,1]')")
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32)); INSERT INTO photos VALUES (1, ''), (2, 'x')")
    sql.run("SET statement_timeout = '4s'")
    return sql


@pytest.mark.parametrize("function", FUNCTIONS)
def test_odd_values(tables, function):
    sql = tables
    image = "'\\x" + encode(picture(1, (32, 32))).hex() + "'"
    name, is_procedure = function.split()[0], function in PROCEDURES
    arguments = FUNCTIONS[function]

    def call(values):
        typed = (f"{value}::{kind}" for value, (_, kind, _) in zip(values, arguments))
        text = f"susx.{name}({', '.join(typed)})".format(image=image)
        return f"CALL {text}" if is_procedure else f"SELECT * FROM {text}"

    plain = [usual for *_, usual in arguments]
    trials = [plain]
    for place, (values, *_) in enumerate(arguments):
        trials += [plain[:place] + [value] + plain[place + 1 :] for value in values]
    # All NULL, and all at their ends.
    trials += [["NULL"] * len(arguments)]
    trials += [[values[i % len(values)] for values, *_ in arguments] for i in range(len(max((v for v, *_ in arguments), key=len, default=[])))]
    worked = told = 0
    for values in trials:
        statement = call(values)
        try:
            if not is_procedure:
                sql.run("BEGIN")
            sql.run(statement)
            worked += 1
        except psycopg.Error as error:
            assert error.sqlstate, f"the session was lost: {statement[:300]}: {error}"
            assert error.sqlstate != INTERNAL, f"{statement[:300]}: {error}"
            message = error.diag.message_primary
            assert message
            # PostgreSQL's own parser shows a query as it is.
            if (error.diag.source_file or "").endswith(".rs"):
                assert not any(ord(c) < 32 or ord(c) == 127 for c in message), message
                assert len(message) < 20_000
                told += 1
        if not is_procedure:
            sql.run("ROLLBACK")
    # Here there is no Citus.
    assert worked >= 1 or function == "distribute_classifier", f"nothing of {function} works"
    # image_info answers for every file.
    assert told >= 1 or len(arguments) == 0 or function == "image_info", f"{function} refuses nothing"
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
