"""Talks to the inference process over its socket, as a backend does: see crates/susx-server/src/protocol.rs."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Sequence

from helpers.processes import as_owner_of, servers
from tools.cluster import Cluster

PROTOCOL = 8
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
    rest = struct.unpack("<I", prefix)[0] if len(prefix) == 4 else 0
    message = bytearray()
    # A socket with a timeout does not wait for all of a long message.
    while rest > len(message) and (piece := connection.recv(rest - len(message))):
        message += piece
    return bytes(message)


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


def embed_pairs(model: str, likeness: str, images: Sequence[bytes], number: int = 1) -> bytes:
    """A request for the embeddings of images by two models."""
    models = some(model) + octets(likeness.encode())
    return b"\x02" + varint(number) + models + varint(len(images)) + b"".join(map(octets, images))


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
    return b"\x03" + varint(number) + some(generator) + varint(len(prompts)) + pictures


def models(number: int = 1) -> bytes:
    return b"\x06" + varint(number)


def stats(number: int = 1) -> bytes:
    return b"\x07" + varint(number)


EMBEDDED, EMBEDDED_PAIRS, GENERATED, FAILED, EMBEDDED_TEXTS = 1, 2, 3, 8, 12


class Reader:
    """Reads a message from its beginning."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.place = 0

    def bytes(self, count: int) -> bytes:
        taken = self.message[self.place : self.place + count]
        assert len(taken) == count, "the message is too short"
        self.place += count
        return taken

    def varint(self) -> int:
        number = shift = 0
        while True:
            (octet,) = self.bytes(1)
            number |= (octet & 0x7F) << shift
            if octet < 0x80:
                return number
            shift += 7

    def text(self) -> str:
        return self.bytes(self.varint()).decode()

    def vector(self) -> bytes:
        """The bytes of a vector's numbers."""
        return self.bytes(4 * self.varint())

    def failure(self) -> str:
        """The message of a failure, without its kind and its hint."""
        self.varint()
        message = self.text()
        if self.bytes(1) == b"\x01":
            self.text()
        return message


def answers(message: bytes) -> list[tuple[bytes, ...] | str]:
    """What a reply has for each input: the vectors of one model or of two, or the message of the failure."""
    reader = Reader(message)
    vectors = {EMBEDDED: 1, EMBEDDED_PAIRS: 2}[reader.varint()]
    reader.varint()  # The number of the request.
    found: list[tuple[bytes, ...] | str] = []
    for _ in range(reader.varint()):
        is_failure = reader.varint() == 1
        found.append(reader.failure() if is_failure else tuple(reader.vector() for _ in range(vectors)))
    assert reader.place == len(message)
    return found
