"""Talks to the inference process over its socket, as a backend does: see crates/susx-server/src/protocol.rs."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Sequence

from helpers.processes import as_owner_of, servers
from tools.cluster import Cluster

PROTOCOL = 3
HELLO = bytes([0, PROTOCOL, 5]) + b"0.2.0"


def dial(cluster: Cluster) -> socket.socket:
    """A connection to the process, as PostgreSQL's account, after the greeting."""
    (server,) = servers(cluster.data_dir)
    path = str(Path(cluster.data_dir) / "susx" / "socket")
    ours, theirs = socket.socketpair()

    def connect_and_pass_on() -> None:
        # The server checks the account when it connects; any account can use the connection afterwards.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            socket.send_fds(theirs, [b"x"], [connection.fileno()])

    with ours, theirs:
        as_owner_of(server, connect_and_pass_on)
        (descriptor,) = socket.recv_fds(ours, 1, 1)[1]
    connection = socket.socket(fileno=descriptor)
    connection.settimeout(10)
    connection.sendall(frame(HELLO))
    assert read(connection)[:2] == bytes([0, PROTOCOL])
    return connection


def read(connection: socket.socket) -> bytes:
    """The next message; empty at the end."""
    prefix = connection.recv(4, socket.MSG_WAITALL)
    return connection.recv(struct.unpack("<I", prefix)[0], socket.MSG_WAITALL) if len(prefix) == 4 else b""


def drain(connection: socket.socket) -> None:
    """Reads until the end."""
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


def varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def octets(content: bytes) -> bytes:
    return varint(len(content)) + content


def some(name: str) -> bytes:
    return b"\x01" + octets(name.encode())


def embed(kind: str, model: str, contents: Sequence[bytes], number: int = 1) -> bytes:
    """A request for the embeddings of images or texts."""
    inputs = bytes([("images", "texts").index(kind)]) + varint(len(contents)) + b"".join(map(octets, contents))
    return b"\x01" + varint(number) + some(model) + inputs


def generate(
    generator: str,
    prompts: Sequence[bytes],
    steps: int = 1,
    guidance_scale: float = 1,
    width: int | None = None,
    number: int = 1,
) -> bytes:
    """A request for images of prompts."""
    side = b"\x00" if width is None else b"\x01" + varint(width)
    numbers = varint(0) + varint(steps) + struct.pack("<f", guidance_scale) + side + b"\x00"
    pictures = b"".join(octets(prompt) + octets(b"") + numbers for prompt in prompts)
    return b"\x02" + varint(number) + some(generator) + varint(len(prompts)) + pictures


def models(number: int = 1) -> bytes:
    return b"\x05" + varint(number)


def stats(number: int = 1) -> bytes:
    return b"\x06" + varint(number)


EMBEDDED, GENERATED, FAILED = 1, 2, 7
