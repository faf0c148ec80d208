"""What a client sees when the inference process cannot start, or its program changes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time

import psycopg
import pytest

from conftest import PG
from helpers.logs import log_of
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, one_of_each, servers, sleeps, supervisors
from helpers.session import in_background, session_of
from helpers.settings import reloaded
from tools.paths import pg_bin

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def works_in_the_end(session):
    def works():
        try:
            return session.one(EMBED, IMAGE) == 512
        except psycopg.Error as error:
            assert error.sqlstate == "57P03", error
            return False

    assert eventually(works)


def test_there_is_no_such_program(sql, cluster):
    for wrong in ("/nowhere/susx-server", str(cluster.directory)):
        with reloaded(cluster, server_program=wrong):
            # The running process must be gone, or it would still answer.
            assert eventually(lambda: servers(cluster.data_dir) == [])
            refusal = sql.fails(EMBED, IMAGE)
            assert refusal.sqlstate == "57P03"
            assert wrong in refusal.message
            assert "susx.server_program" in refusal.hint
    works_in_the_end(sql)


@pytest.mark.parametrize(
    "text, mode", [("exit 1", 0o755), ("kill -9 $$", 0o755), ("exec sleep 1000", 0o755), ("", 0o644)]
)
def test_a_program_that_does_not_serve(sql, cluster, script, text, mode):
    program = script(text)
    program.chmod(mode)
    sql.run("SET susx.startup_timeout = '1500ms'")
    with reloaded(cluster, server_program=program):
        assert eventually(lambda: servers(cluster.data_dir) == [])
        started = time.monotonic()
        refusal = sql.fails(EMBED, IMAGE)
        assert time.monotonic() - started < 1.5 + PROMPTLY
        assert refusal.sqlstate == "57P03"
        assert "did not start" in refusal.message
        assert "log" in refusal.hint and "susx.startup_timeout" in refusal.hint
    sql.run("RESET susx.startup_timeout")
    works_in_the_end(sql)


def test_cancel_while_the_program_does_not_start(sql, connect, cluster, script):
    sql.run("SET susx.startup_timeout = '1min'")
    other = connect()
    with reloaded(cluster, server_program=script("exec sleep 1000")):
        assert eventually(lambda: servers(cluster.data_dir) == [])
        with in_background(lambda: (sql.fails(EMBED, IMAGE), time.monotonic())) as results:
            time.sleep(1)
            asked = time.monotonic()
            other.run("SELECT pg_cancel_backend(%s)", sql.pid)
        refusal, ended = results[0]
        assert refusal.sqlstate == "57014"
        assert ended - asked < PROMPTLY
    works_in_the_end(sql)


def test_no_background_worker_is_free(new_cluster):
    with new_cluster(max_worker_processes=0) as cluster, session_of(cluster) as session:
        session.run("SET susx.startup_timeout = '1s'")
        refusal = session.fails(EMBED, IMAGE)
        assert refusal.sqlstate == "57P03"
        assert "background worker" in refusal.message
        assert "max_worker_processes" in refusal.hint and "shared_preload_libraries" in refusal.hint
        # What needs no model still works.
        session.run("SELECT susx.create_classifier('c', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])")
        assert session.one("SELECT susx.label('c', '[1,2]'::vector)") == "b"


@pytest.fixture
def program(cluster, sql):
    """A copy of the program, which the cluster runs."""
    path = cluster.directory / "susx-server"
    shutil.copy(pg_bin(PG, "susx-server"), path)
    with reloaded(cluster, server_program=path):
        assert sql.one(EMBED, IMAGE) == 512
        assert eventually(lambda: servers(cluster.data_dir) and runs(cluster, path))
        yield path
    path.unlink(missing_ok=True)
    works_in_the_end(sql)


def runs(cluster, path):
    """Whether the server runs the program that is at this path now."""
    (pid,) = servers(cluster.data_dir) or [0]
    try:
        return os.path.samefile(f"/proc/{pid}/exe", path)
    except OSError:
        return False


def test_an_upgrade(sql, cluster, program):
    """A new program that is renamed into place starts without any request, and only once."""
    restarts = sql.one("SELECT restarts FROM susx.stat_server")
    with log_of(cluster) as log:
        # The second upgrade takes two more checks of the program. If the first one repeated itself, they would show it.
        for _ in range(2):
            (before,) = servers(cluster.data_dir)
            new = program.with_name("new")
            shutil.copy2(program, new)
            new.replace(program)
            assert not runs(cluster, program)
            assert eventually(lambda: runs(cluster, program))
            assert before not in servers(cluster.data_dir)
        assert log().count("restarting the inference process with a new program") == 2
    assert sql.one("SELECT restarts FROM susx.stat_server") == restarts + 2
    assert sql.one(EMBED, IMAGE) == 512
    assert one_of_each(cluster.data_dir)


def test_an_upgrade_that_takes_its_time(sql, cluster, program):
    """While the program's file is missing or grows, the old program keeps running."""
    (before,) = servers(cluster.data_dir)
    (supervisor,) = supervisors(cluster.data_dir)
    content = program.read_bytes()
    program.unlink()
    with log_of(cluster) as log:
        # The supervisor sleeps between checks of the file, and starts a program that two checks found unchanged.
        missing = sleeps(supervisor)
        assert eventually(lambda: sleeps(supervisor) >= missing + 3)
        assert servers(cluster.data_dir) == [before] and sql.one(EMBED, IMAGE) == 512
        with open(program, "wb", buffering=0) as file:
            program.chmod(0o755)
            growing, written = sleeps(supervisor), 0
            while sleeps(supervisor) < growing + 4:
                written += file.write(content[written : written + 4096])
                assert written < len(content) and servers(cluster.data_dir) == [before]
                time.sleep(0.05)
            file.write(content[written:])
        assert eventually(lambda: runs(cluster, program))
        assert "cannot start" not in log() and "the inference process ended" not in log()
        assert log().count("restarting the inference process with a new program") == 1
    assert sql.one(EMBED, IMAGE) == 512
    assert one_of_each(cluster.data_dir)


def test_a_program_of_another_version(sql, cluster, script):
    """The error names both versions, and the right program works again."""
    sql.one(EMBED, IMAGE)
    with log_of(cluster) as log, reloaded(cluster, server_program=script("echo here; exec sleep 1000")):
        assert eventually(lambda: "susx-server: here" in log())
        path = cluster.data_dir / "susx" / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(64)
            threading.Thread(target=answer_as_another_version, args=(listener,), daemon=True).start()
            for query, arguments in ((EMBED, (IMAGE,)), ("SELECT * FROM susx.stat_server", ())):
                refusal = sql.fails(query, *arguments)
                assert refusal.sqlstate == "55000"
                assert "9.9.9" in refusal.message and "same version" in refusal.hint
            # Closing alone would leave the thread in accept(), and the socket open.
            listener.shutdown(socket.SHUT_RDWR)
    works_in_the_end(sql)
    assert one_of_each(cluster.data_dir)


def answer_as_another_version(listener):
    """Answers every greeting with protocol 99 of version 9.9.9."""
    message = bytes([0, 99, 5]) + b"9.9.9"
    # Until the listener is closed.
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(len(message).to_bytes(4, "little") + message)
