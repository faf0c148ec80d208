"""How programs call label and classify, with what their drivers make of an image, a vector and a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.session import vector

NODE_MODULES = os.environ.get("SUSX_TEST_NODE_MODULES")


@pytest.fixture
def kinds(sql, schema):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
    sql.run("SET client_min_messages = error")
    return f"{schema}.kinds"


@pytest.fixture(scope="module")
def image() -> bytes:
    return encode(picture(3, (40, 30)))


def test_literals_in_psql(sql, kinds, image):
    """Without a type, a literal may be an image or an embedding; naming the argument tells which."""
    expected = sql.one("SELECT susx.label('kinds', %s::bytea)", image)
    literal = "\\x" + image.hex()
    ambiguous = sql.fails(f"SELECT susx.label('kinds', '{literal}')")
    assert ambiguous.sqlstate == "42725" and "type cast" in ambiguous.hint
    assert sql.one(f"SELECT susx.label('kinds', image => '{literal}')") == expected
    assert sql.one(f"SELECT susx.label('kinds', '{literal}'::bytea)") == expected
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    assert sql.one(f"SELECT susx.label('kinds', embedding => '{embedding}')") == expected
    for function in ("label", "known", "classify", "explain"):
        call = f"SELECT count(*) FROM susx.{function}('kinds', {{}} => '{{}}')"
        assert sql.one(call.format("image", literal)) == sql.one(call.format("embedding", embedding)) >= 1


def test_psycopg(sql, kinds, image, cluster):
    """bytes are bytea; a str has no type, as a literal has none."""
    expected = sql.one("SELECT susx.label('kinds', %s::bytea)", image)
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    assert sql.one("SELECT susx.label(%s, %s)", kinds, image) == expected
    assert sql.one("SELECT susx.label(%s, embedding => %s)", kinds, embedding) == expected
    assert sql.one("SELECT susx.label(%s, %s::vector)", kinds, embedding) == expected
    with psycopg.connect(cluster.url("susx"), autocommit=True) as connection:
        connection.prepare_threshold = 0
        row = connection.execute("SELECT susx.label(%s, %s)", (kinds, image), binary=True).fetchone()
        assert row == (expected,)


def test_sqlalchemy(sql, kinds, image, cluster):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.dialects.postgresql import REGCLASS

    expected = sql.one("SELECT susx.label('kinds', %s::bytea)", image)
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    engine = sqlalchemy.create_engine(cluster.url("susx").replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        by_text = sqlalchemy.text("SELECT susx.label(:kinds, image => :image)")
        assert connection.execute(by_text, {"kinds": kinds, "image": image}).scalar() == expected
        by_text = sqlalchemy.text("SELECT susx.label(:kinds, embedding => CAST(:embedding AS vector))")
        assert connection.execute(by_text, {"kinds": kinds, "embedding": embedding}).scalar() == expected
        regclass = sqlalchemy.cast(kinds, REGCLASS)
        by_function = sqlalchemy.select(sqlalchemy.func.susx.label(regclass, image))
        assert connection.execute(by_function).scalar() == expected
    engine.dispose()


NODE = """
const { Client } = require('pg');
(async () => {
  const [url, kinds, file, embedding] = process.argv.slice(2);
  const image = require('fs').readFileSync(file);
  const client = new Client({ connectionString: url });
  await client.connect();
  const one = async (text, values) => {
    try { return Object.values((await client.query(text, values)).rows[0])[0]; } catch (error) { return error.code; }
  };
  console.log(JSON.stringify([
    await one('SELECT susx.label($1, $2)', [kinds, image]),
    await one('SELECT susx.label($1, image => $2)', [kinds, image]),
    await one('SELECT susx.label($1, $2::bytea)', [kinds, image]),
    await one('SELECT susx.label($1, embedding => $2)', [kinds, embedding]),
    await one('SELECT susx.label($1::regclass, $2::vector)', [kinds, embedding]),
  ]));
  await client.end();
})();
"""


@pytest.mark.skipif(NODE_MODULES is None, reason="set SUSX_TEST_NODE_MODULES to a node_modules with the package pg")
def test_node_postgres(sql, kinds, image, cluster, tmp_path: Path):
    """Its parameters have no type: PostgreSQL finds it from the name of the argument, or from a cast."""
    node = shutil.which("node")
    assert node, "node is not installed"
    expected = sql.one("SELECT susx.label('kinds', %s::bytea)", image)
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    (tmp_path / "image").write_bytes(image)
    (tmp_path / "call.js").write_text(NODE)
    argv = [node, tmp_path / "call.js", cluster.url("susx"), kinds, tmp_path / "image", embedding]
    run = subprocess.run(
        argv, env={**os.environ, "NODE_PATH": NODE_MODULES}, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == ["42725", *[expected] * 4]


def test_a_prepared_statement(sql, kinds, image):
    """PREPARE without types is what drivers do that describe a statement first: node-postgres, asyncpg, JDBC."""
    assert sql.fails("PREPARE p AS SELECT susx.label($1, $2)").sqlstate == "42725"
    sql.run("PREPARE p AS SELECT susx.label($1, image => $2)")
    types = sql.one("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'p'")
    assert types == ["regclass", "bytea"]
    sql.run("PREPARE q AS SELECT susx.label($1, embedding => $2)")
    types = sql.one("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'q'")
    assert types == ["regclass", "vector"]
    # The third argument is a likeness vector or a method, unless it is named.
    unit = vector([1.0] + [0.0] * 31)
    named = f"EXECUTE q('{kinds}', '{unit}')"
    assert sql.one(named) == sql.one(f"SELECT susx.label('{kinds}', '{unit}'::vector)")
