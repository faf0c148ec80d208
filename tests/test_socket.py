"""Peers that speak to the inference process without being a backend, or to a backend without being the process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import struct
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import psycopg
import pytest

from helpers import wire
from helpers.logs import log_of
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, as_owner_of, eventually, has_started, one_of_each, resident, servers
from helpers.settings import reloaded
from tools.paths import ROOT

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"

# Messages in postcard's format: see crates/susx-server/src/protocol.rs.
PROTOCOL = 8
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"].encode()
HELLO = bytes([0, PROTOCOL, len(VERSION)]) + VERSION
STATS = bytes([7, 1])


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


def path_of(cluster) -> Path:
    return cluster.data_dir / "susx" / "socket"


@pytest.fixture
def dial(cluster, sql):
    """Connects to the process as PostgreSQL's account; the same process must answer sessions afterwards."""
    assert sql.one(EMBED, IMAGE) == 512
    (server,) = servers(cluster.data_dir)
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            ours, theirs = socket.socketpair()

            def connect_and_pass_on() -> None:
                # The server checks the account when it connects; any account can use the connection afterwards.
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(path_of(cluster)))
                    socket.send_fds(theirs, [b"x"], [connection.fileno()])

            with ours, theirs:
                as_owner_of(server, connect_and_pass_on)
                (descriptor,) = socket.recv_fds(ours, 1, 1)[1]
            connection = stack.enter_context(socket.socket(fileno=descriptor))
            connection.settimeout(10)
            return connection

        yield connect
        assert sql.one(EMBED, IMAGE) == 512
    assert servers(cluster.data_dir) == [server]
    # Threads and descriptors of closed connections are gone as well.
    assert eventually(lambda: len(os.listdir(f"/proc/{server}/fd")) < 64)
    assert eventually(lambda: len(os.listdir(f"/proc/{server}/task")) < 64)


def read(connection: socket.socket) -> bytes:
    """The next message; empty at the end."""
    prefix = connection.recv(4, socket.MSG_WAITALL)
    return connection.recv(struct.unpack("<I", prefix)[0], socket.MSG_WAITALL) if len(prefix) == 4 else b""


def hung_up(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def greet(connection: socket.socket) -> None:
    connection.sendall(frame(HELLO))
    assert read(connection)[:2] == bytes([0, PROTOCOL])


def test_another_operating_system_user(sql, cluster, dial):
    """Root can open the socket, but is not PostgreSQL's account."""
    if os.stat(path_of(cluster)).st_uid == os.geteuid():
        pytest.skip("PostgreSQL runs as the account of the tests")
    with log_of(cluster) as log, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path_of(cluster)))
        # It may be refused before it has said anything.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(frame(HELLO))
        assert hung_up(connection)
        assert eventually(lambda: f"connection from uid {os.geteuid()} refused" in log())


@pytest.mark.parametrize(
    "message", [b"", b"\xff" * 40, STATS, bytes([0]), bytes([0, PROTOCOL, 200]) + VERSION, IMAGE], ids=range(6)
)
def test_no_greeting(dial, message):
    connection = dial()
    connection.sendall(frame(message))
    assert hung_up(connection)


def test_another_version(dial):
    """It is told the version, and no more."""
    connection = dial()
    connection.sendall(frame(bytes([0, 99, 5]) + b"9.9.9") + frame(STATS))
    assert read(connection)[:2] == bytes([0, PROTOCOL])
    assert hung_up(connection)


def test_a_question_after_the_greeting(dial):
    """That the others are refused for what is wrong with them shows here: this is how it is done."""
    connection = dial()
    greet(connection)
    connection.sendall(frame(STATS))
    assert read(connection)[1:2] == bytes([1])


NAMES, LIKENESS = "tiny_split", "tiny_siglip"


@pytest.fixture
def asked(dial):
    """The reply to a request."""
    connection = dial()
    greet(connection)

    def ask(message: bytes) -> bytes:
        connection.sendall(frame(message))
        return wire.read(connection)

    return ask


@pytest.mark.parametrize(
    "images",
    [
        [picture(seed, (60 + seed, 90)) for seed in range(8)],
        # Many batches of both models at the same time.
        [picture(seed, (16, 16)) for seed in range(1000)],
    ],
    ids=len,
)
def test_pairs_are_what_each_model_makes_alone(asked, images):
    files = [encode(image) for image in images]
    names, likeness = (wire.answers(asked(wire.embed("images", model, files))) for model in (NAMES, LIKENESS))
    pairs = wire.answers(asked(wire.embed_pairs(NAMES, LIKENESS, files)))
    assert len(pairs) == len(files)
    assert pairs == [one + other for one, other in zip(names, likeness)]
    assert all(one != other for one, other in pairs)


def test_one_model_may_be_both(asked):
    files = [encode(picture(seed, (60, 90))) for seed in range(5)]
    pairs = wire.answers(asked(wire.embed_pairs(NAMES, NAMES, files)))
    for (one, other), (alone,) in zip(pairs, wire.answers(asked(wire.embed("images", NAMES, files)))):
        # The batches are others, and so may be the last bits.
        assert np.allclose([np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")], np.frombuffer(alone, "<f4"), atol=1e-6)


def test_a_broken_image_among_good_ones(asked):
    files = [encode(picture(seed, (60, 90))) for seed in range(5)]
    files[2] = files[2][:100]
    names, likeness = (wire.answers(asked(wire.embed("images", model, files))) for model in (NAMES, LIKENESS))
    pairs = wire.answers(asked(wire.embed_pairs(NAMES, LIKENESS, files)))
    assert isinstance(names[2], str)
    assert pairs[2] == names[2] == likeness[2]
    good = [0, 1, 3, 4]
    assert [pairs[place] for place in good] == [names[place] + likeness[place] for place in good]


@pytest.mark.parametrize("models", [(NAMES, "nothing"), ("nothing", LIKENESS)])
def test_pairs_of_an_unknown_model(asked, models):
    reader = wire.Reader(asked(wire.embed_pairs(*models, [IMAGE])))
    assert (reader.varint(), reader.varint()) == (wire.FAILED, 1)
    assert '"nothing"' in reader.failure()
    # It goes on.
    assert len(wire.answers(asked(wire.embed_pairs(NAMES, LIKENESS, [IMAGE])))) == 1


@pytest.mark.parametrize("length", [0xFFFFFFFF, (1 << 30) + (1 << 20) + 1])
def test_a_frame_that_is_too_long(sql, cluster, dial, length):
    (server,) = servers(cluster.data_dir)
    before = resident(server)
    connection = dial()
    greet(connection)
    with log_of(cluster) as log:
        connection.sendall(struct.pack("<I", length))
        assert hung_up(connection)
        assert eventually(lambda: f"a message of {length} bytes is longer than the largest allowed" in log())
    assert resident(server) - before < 64 << 20


def test_frames_that_only_claim_to_be_long(sql, cluster, dial):
    """A gigabyte each, of which ten bytes come: no memory is used, and sessions get their turn."""
    (server,) = servers(cluster.data_dir)
    before = resident(server)
    for _ in range(8):
        connection = dial()
        greet(connection)
        connection.sendall(struct.pack("<I", 1 << 30) + b"0123456789")
    started = time.monotonic()
    assert sql.one(EMBED, IMAGE) == 512
    assert time.monotonic() - started < PROMPTLY
    assert resident(server) - before < 64 << 20


@pytest.mark.parametrize("after_greeting", [False, True])
def test_half_a_frame(dial, after_greeting):
    connection = dial()
    if after_greeting:
        greet(connection)
    connection.sendall(frame(HELLO)[:7])
    connection.shutdown(socket.SHUT_WR)
    assert hung_up(connection)


def test_who_says_nothing(sql, dial):
    connections = [dial() for _ in range(50)]
    for connection in connections[::2]:
        greet(connection)
    assert sql.one(EMBED, IMAGE) == 512


def test_noise(dial):
    """Bytes at random, alone and after a greeting."""
    noise = random.Random(5)
    for number in range(60):
        connection = dial()
        if number % 2:
            greet(connection)
        content = noise.randbytes(noise.randrange(1, 300))
        # Hanging up on it may come first.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(frame(content) if number % 3 else content)
            connection.shutdown(socket.SHUT_WR)


ANSWERS = {
    "too long": (struct.pack("<I", 0xFFFFFFFF), "08P01"),
    "garbage": (frame(b"\xff" * 40), "08P01"),
    "empty": (frame(b""), "08P01"),
    "a list that is longer than its message": (frame(bytes([1, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F])), "08P01"),
    "no vector": (frame(bytes([1, 1, 0])), "XX000"),
    "a failure of another request": (frame(bytes([8, 99, 0, 1]) + b"x" + bytes([0])), "XX000"),
}


def test_a_server_that_breaks_the_protocol(sql, cluster, script):
    """The session gets an error, and goes on."""
    with reloaded(cluster, server_program=script("exec sleep 1000")):
        # Before it starts a server, the supervisor removes what has the socket's name.
        assert eventually(lambda: has_started("sleep", cluster.data_dir))
        path = path_of(cluster)
        with socket.socket(socket.AF_UNIX) as listener:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            shutil.chown(path, path.parent.stat().st_uid)
            listener.listen(64)
            wrong = []
            threading.Thread(target=answer, args=(listener, wrong), daemon=True).start()
            for what, (message, sqlstate) in ANSWERS.items():
                wrong[:] = [message]
                refusal = sql.fails(EMBED, IMAGE)
                assert refusal.sqlstate == sqlstate, (what, refusal)
                assert sql.one("SELECT 1") == 1
            listener.shutdown(socket.SHUT_RDWR)

    def works() -> bool:
        try:
            return sql.one(EMBED, IMAGE) == 512
        except psycopg.Error:  # Until the process is back.
            return False

    assert eventually(works)
    assert one_of_each(cluster.data_dir)


def answer(listener: socket.socket, wrong: list[bytes]) -> None:
    """Answers every greeting correctly, and every request with the present content of `wrong`."""
    # Until the listener is closed.
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                read(connection)
                connection.sendall(frame(HELLO))
                if read(connection):
                    connection.sendall(wrong[0])
                    connection.recv(1)
