"""susx.check(): what is missing and what to do, as somebody sees it whose first call has failed."""

from __future__ import annotations

import os
import re

import pytest

from conftest import DATABASE
from helpers.session import session_of

CHECK = "SELECT item, ok, detail, hint FROM susx.check()"


def items(session) -> dict[str, dict]:
    found = session.dicts(CHECK)
    assert len({row["item"] for row in found}) == len(found)
    # What is missing always comes with something to do.
    assert all(row["hint"] for row in found if row["ok"] is not True), found
    return {row["item"]: row for row in found}


def test_everything_is_there(sql, model_dir):
    found = items(sql)
    assert [row for row in found.values() if row["ok"] is not True] == []
    assert found["extension"]["detail"].startswith(f"version {sql.one('SELECT susx.library_version()')}")
    assert sql.one("SELECT extversion FROM pg_extension WHERE extname = 'vector'") in found["pgvector"]["detail"]
    assert found["encoding"]["detail"] == "UTF8"
    assert found["susx.model_dir"]["detail"] == str(model_dir)
    models = sql.column("SELECT name FROM susx.models()")
    assert {f"model {name}" for name in models} == {item for item in found if item.startswith("model ")}
    assert "512 dimensions" in found["model demo"]["detail"]


def test_the_version_of_onnx_runtime(sql):
    """As ONNX Runtime's own Python package says it, which has the same library."""
    import onnxruntime

    assert f"version {onnxruntime.__version__}, " in items(sql)["ONNX Runtime"]["detail"]


def test_no_model_is_loaded(new_cluster):
    with new_cluster() as cluster, session_of(cluster) as sql:
        assert "not loaded yet" in items(sql)["model demo"]["detail"]
        assert "no model is loaded yet" in items(sql)["execution provider"]["detail"]
        assert sql.one("SELECT bool_or(loaded) FROM susx.models()") is False
        sql.run("SELECT susx.embed_text('x')")
        assert "CPUExecutionProvider" in items(sql)["model demo"]["detail"]
        assert "CPUExecutionProvider" in items(sql)["execution provider"]["detail"]


def test_an_installation_without_its_files(new_cluster):
    """No model directory, no library, and then ones that are not what they should be."""
    with new_cluster(**{"susx.model_dir": None, "susx.onnxruntime_library": "/nowhere/libonnxruntime.so", "susx.model": None}) as cluster:
        with session_of(cluster) as sql:
            found = items(sql)
            assert {"ONNX Runtime", "susx.model_dir"} < {item for item, row in found.items() if row["ok"] is False}
            assert "No such file" in found["ONNX Runtime"]["detail"] and "susx.onnxruntime_library" in found["ONNX Runtime"]["hint"]
            assert found["susx.model_dir"]["detail"] == "not set" and "LOAD 'susx'" in found["susx.model_dir"]["hint"]
            # As the hint says.
            empty = cluster.directory / "models"
            empty.mkdir()
            other = cluster.directory / "library.so"
            other.write_bytes(b"\x7fELF of something else")
            for path in (empty, other):
                path.chmod(0o755)
            sql.run(f"ALTER SYSTEM SET susx.model_dir = '{empty}'")
            sql.run(f"ALTER SYSTEM SET susx.onnxruntime_library = '{other}'")
            sql.run("SELECT pg_reload_conf()")
        with session_of(cluster) as sql:
            found = items(sql)
            assert found["susx.model_dir"]["ok"] is True
            assert "does not look like ONNX Runtime" in found["ONNX Runtime"]["detail"]
            assert found["susx.model"]["detail"] == "there is no model"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a directory from PostgreSQL's account")
def test_a_directory_that_only_root_can_read(new_cluster, model_dir):
    with new_cluster() as cluster, session_of(cluster) as sql:
        hidden = cluster.directory / "hidden"
        hidden.mkdir()
        hidden.chmod(0o700)
        sql.run(f"ALTER SYSTEM SET susx.model_dir = '{hidden}'")
        sql.run("SELECT pg_reload_conf()")
        with session_of(cluster) as other:
            found = items(other)["susx.model_dir"]
            assert found["ok"] is False and "denied" in found["detail"] and "operating system user" in found["hint"]


def test_a_program_that_is_not_there(new_cluster):
    with new_cluster(**{"susx.server_program": "/nowhere/susx-server", "susx.startup_timeout": "500ms"}) as cluster:
        with session_of(cluster) as sql:
            found = items(sql)
            assert found["susx-server"]["ok"] is False and "susx.server_program" in found["susx-server"]["hint"]
            assert found["inference process"]["ok"] is False and "does not exist" in found["inference process"]["detail"]
            # The rest is there all the same.
            assert found["pgvector"]["ok"] is True and found["susx.model_dir"]["ok"] is True


def test_a_model_that_is_named_and_is_not_there(sql):
    sql.run("SET susx.model = 'no such model'")
    found = items(sql)["susx.model"]
    assert found["ok"] is False and "no such model" in found["detail"]
    sql.run("SET susx.model = ''")
    found = items(sql)["susx.model"]
    assert found["ok"] is False and re.search("several: .*demo", found["detail"])


def test_a_role_with_few_rights(sql, connect):
    sql.run("CREATE ROLE guest LOGIN; REVOKE EXECUTE ON FUNCTION susx.embed_image(bytea, text) FROM PUBLIC")
    try:
        guest = connect(user="guest")
        found = items(guest)
        assert found["rights"]["ok"] is False and "embed_image" in found["rights"]["detail"]
        assert [item for item, row in found.items() if row["ok"] is not True] == ["rights"]
        guest.close()
    finally:
        sql.run("GRANT EXECUTE ON FUNCTION susx.embed_image(bytea, text) TO PUBLIC; DROP ROLE guest")


def test_it_is_read_by_anything(sql):
    """In a read-only transaction, in a view, and in part."""
    sql.run("CREATE VIEW missing AS SELECT * FROM susx.check() WHERE ok IS NOT TRUE")
    sql.run("BEGIN READ ONLY")
    assert sql.rows("SELECT * FROM missing") == []
    sql.run("COMMIT")
    assert sql.one("SELECT ok FROM susx.check() WHERE item = 'pgvector' LIMIT 1") is True
    assert DATABASE == sql.one("SELECT current_database()")
