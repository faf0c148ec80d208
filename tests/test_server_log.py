"""PostgreSQL's log has what the inference process writes, with its level, up to its last line."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest

from conftest import PG
from helpers.logs import log_of
from helpers.pictures import encode, picture
from helpers.processes import eventually, one_of_each, servers, supervisors
from helpers.session import session_of
from helpers.settings import reloaded
from tools.paths import pg_bin

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"
PROGRAM = pg_bin(PG, "susx-server")


@pytest.fixture
def cluster(own_cluster):
    """With a process that runs, and is replaced when its program is set."""
    with session_of(own_cluster) as session:
        assert session.one(EMBED, IMAGE) == 512
    return own_cluster


@pytest.mark.parametrize("level", ["debug1", "warning"])
def test_every_message_has_its_level(new_cluster, level):
    """And log_min_messages decides what is kept."""
    with new_cluster(log_min_messages=level) as cluster, session_of(cluster) as session:
        assert session.one(EMBED, IMAGE) == 512
        text = cluster.log_file.read_text()
        assert re.search(r"LOG:  susx-server: version [\d.]+ is ready$", text, re.MULTILINE)
        assert re.search(r'LOG:  susx-server: loaded model "demo" on CPU', text)
        assert (re.search(r'DEBUG:  susx-server: loading model "demo"$', text, re.MULTILINE) is not None) == (
            level == "debug1"
        )
        # A client that does not speak the protocol.
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(cluster.data_dir / "susx" / "socket"))
            with contextlib.suppress(BrokenPipeError):
                client.sendall(b"\x05\x00\x00\x00hello")
            warning = re.compile(r"WARNING:  susx-server: (cannot accept a )?connection")
            assert eventually(lambda: warning.search(cluster.log_file.read_text()))


def test_what_comes_from_elsewhere(sql, cluster, script):
    """Native libraries write what they like: it is shown as well as can be, and long lines are cut."""
    program = script(
        "printf 'no \\377\\376 text\\000 \\033[1m here\\r\\n'; printf 'susx-server ERROR: one\\n\\n\\ntwo\\n' >&2; "
        f"head -c 200000 /dev/zero | tr '\\0' x; printf 'y\\nthree\\n'; exec {PROGRAM} \"$@\""
    )
    with log_of(cluster) as log, reloaded(cluster, server_program=program):
        assert eventually(lambda: "susx-server: three" in log())
        assert sql.one(EMBED, IMAGE) == 512
        text = log()
        assert "LOG:  susx-server: no \ufffd\ufffd text   [1m here\n" in text
        assert "WARNING:  susx-server: one\n" in text and "LOG:  susx-server: two\n" in text
        (long,) = re.findall(r"LOG:  susx-server: (x+)( \[cut\])?\n", text)
        assert 1000 < len(long[0]) < 10000 and long[1]


def test_last_words(sql, cluster, script):
    """Everything that was written is there, also without the end of a line, before the news of the death."""
    program = script("i=0; while [ $i -lt 500 ]; do echo word $i; i=$((i+1)); done; printf 'this is the end'; exit 3")
    with log_of(cluster) as log, reloaded(cluster, server_program=program):
        assert eventually(lambda: "the inference process ended" in log())
        text = log().split("the inference process ended")[0]
        assert re.findall(r"susx-server: word (\d+)\n", text)[:500] == [str(i) for i in range(500)]
        assert "susx-server: this is the end\n" in text
        assert "exit status: 3" in log()
    assert eventually(lambda: one_of_each(cluster.data_dir))
    assert sql.one(EMBED, IMAGE) == 512


def test_a_flood(sql, cluster, script):
    """It does not delay the supervisor or make it grow."""
    program = script(f"(yes noise | head -n 400000; echo dry) & exec {PROGRAM} \"$@\"")
    (supervisor,) = supervisors(cluster.data_dir)
    before = memory(supervisor)
    with log_of(cluster) as log, reloaded(cluster, server_program=program):
        assert eventually(lambda: "susx-server: noise" in log())
        assert sql.one(EMBED, IMAGE) == 512
        (flooded,) = servers(cluster.data_dir)
        with reloaded(cluster, threads=1):
            assert eventually(lambda: servers(cluster.data_dir) not in ([], [flooded]))
            assert sql.one(EMBED, IMAGE) == 512
        assert eventually(lambda: "susx-server: dry" in log())
        assert memory(supervisor) - before < 16 << 10
    # The next tests' log begins behind it.
    assert eventually(lambda: one_of_each(cluster.data_dir))


def memory(pid):
    """Kilobytes in use."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])
