"""The memory of the inference process is bounded, whatever is sent to it and by however many clients.

docs/operations.md has the formula. A flood of each kind goes on until nothing more is taken, over many connections that are not
backends: they send more than those would, and may refuse to read.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from pathlib import Path

import pytest

from conftest import GENERATOR
from helpers import wire
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, resident, servers

pytestmark = pytest.mark.same_everywhere

MODEL = "tiny_split"
LIKENESS = "tiny_siglip"
IMAGE = encode(picture(1, (64, 64)))
CONNECTIONS = 30
SECONDS = 3

QUEUE = 32 << 20
PIXELS = 4_000_000
THREADS = 2
TEXT = 64 << 10

# docs/operations.md, "Memory": what waits twice, for it is copied while it is read and written; what is decoded; what is
# tokenized; one message of each connection; and what the allocator keeps.
BOUND = (
    2 * QUEUE
    + 24 * PIXELS
    + THREADS * (32 << 20)
    + 2 * 4 * 120 * TEXT
    + CONNECTIONS * (1 << 20)
    + (48 << 20)
)


@pytest.fixture(scope="module")
def own_cluster(new_cluster):
    settings = {
        "susx.queue_memory": "32MB",
        "susx.max_image_pixels": PIXELS,
        "susx.max_text_bytes": f"{TEXT}B",
        "susx.threads": THREADS,
        "susx.model": MODEL,
    }
    with new_cluster(**settings) as cluster:
        yield cluster


@pytest.fixture
def cluster(own_cluster):
    return own_cluster


def peak(pid: int) -> int:
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def forget_peak(pid: int) -> None:
    # Where that is not allowed, the peak is one from before, and the test the stricter for it.
    with contextlib.suppress(PermissionError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.fixture
def flood(sql, cluster):
    """Sends a message over many connections, again and again; the process must bear it, and answer others meanwhile."""
    for model in ("demo", MODEL, LIKENESS):
        assert sql.one("SELECT susx.embed_image(%s, %s) IS NOT NULL", IMAGE, model)
        assert sql.one("SELECT count(embedding) FROM susx.embed_texts(array_fill('a'::text, ARRAY[256]), %s)", model) == 256
    assert sql.one("SELECT count(image) FROM susx.generate_images('{a,b}', steps => 1)") == 2
    (server,) = servers(cluster.data_dir)

    def send(message: bytes, reads: bool) -> None:
        before = resident(server)
        forget_peak(server)
        connections = [wire.dial(cluster) for _ in range(CONNECTIONS)]
        until = time.monotonic() + SECONDS
        sent = [0] * CONNECTIONS

        def work(place: int) -> None:
            connection = connections[place]
            connection.settimeout(1)
            content = wire.frame(message)
            rest = memoryview(content)
            # A connection that does not read may be closed.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        written = connection.send(rest)
                        sent[place] += written
                        rest = rest[written:] or memoryview(content)

        def read(place: int) -> None:
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    if not connections[place].recv(1 << 16):
                        return

        threads = [threading.Thread(target=work, args=(place,)) for place in range(CONNECTIONS)]
        if reads:
            threads += [threading.Thread(target=read, args=(place,)) for place in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = peak(server) - before
        for connection in connections:
            connection.close()
        assert sum(sent) > 0
        assert grown < BOUND, f"{grown >> 20} MB more, after {sum(sent) >> 20} MB: expected at most {BOUND >> 20} MB"
        # Nothing of it is left, and everybody is served.
        assert eventually(lambda: sql.one("SELECT queue_inputs + queue_bytes FROM susx.stat_server") == 0, 120)
        assert sql.one("SELECT vector_dims(susx.embed_image(%s))", IMAGE) == 32
        assert servers(cluster.data_dir) == [server]

    return send


LARGE = encode(picture(7, (2000, 2000)), "JPEG")
WORDS = b"a photo of a cat, " * 3600
WHOLE = "東京。".encode() * 7000

FLOODS = {
    "images": wire.embed("images", MODEL, [LARGE] * max(1, (4 << 20) // len(LARGE))),
    "one large image": wire.embed("images", MODEL, [LARGE]),
    "small images": wire.embed("images", MODEL, [IMAGE] * 64),
    "large images for two models": wire.embed_pairs(MODEL, LIKENESS, [LARGE] * max(1, (4 << 20) // len(LARGE))),
    "small images for two models": wire.embed_pairs(MODEL, "demo", [IMAGE] * 64),
    "texts": wire.embed("texts", "demo", [WORDS] * 64),
    "texts that are read as a whole": wire.embed("texts", "demo", [WHOLE] * 64),
    "texts beyond the limit": wire.embed("texts", "demo", [b"x" * (TEXT + 1)] * 64),
    "as many texts as a message may have": wire.embed("texts", MODEL, [b"a"] * 4096),
    "more texts than a message may have": wire.embed("texts", MODEL, [b""] * 100_000),
    "prompts": wire.generate(GENERATOR, [WORDS[:60_000]] * 64),
    "generated images": wire.generate(GENERATOR, [b"a cat"] * 4),
    "questions for the models": wire.models(),
    "questions for counters": wire.stats(),
    "unknown models": wire.embed("texts", "no such model", [b"a"]),
    "nothing": wire.embed("texts", MODEL, []),
}


@pytest.mark.parametrize("reads", [True, False], ids=["who reads", "who does not read"])
@pytest.mark.parametrize("kind", FLOODS)
def test_flood(flood, kind, reads):
    flood(FLOODS[kind], reads)


def test_who_does_not_read_is_in_nobodys_way(sql, cluster, connect):
    """Replies fill the budget: clients that do not read theirs lose their connections in favour of others."""
    message = wire.embed("texts", MODEL, [b"a"] * 4096)
    assert sql.one("SELECT vector_dims(susx.embed_text('a'))") == 32
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(wire.dial(cluster)) for _ in range(50)]
        for connection in connections:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                for _ in range(20):
                    connection.sendall(wire.frame(message))
        calls = "SELECT count(embedding) FROM susx.embed_texts(array_fill(repeat('cat ', 1000), ARRAY[2000]))"
        started = time.monotonic()
        assert sql.one(calls) == 2000
        assert connect().one(calls) == 2000
        assert time.monotonic() - started < PROMPTLY


def test_a_request_for_nothing_is_answered(cluster, sql):
    assert sql.one("SELECT vector_dims(susx.embed_text('a'))") == 32
    for message, kind in (
        (wire.embed("images", MODEL, [], 9), wire.EMBEDDED),
        (wire.embed("texts", "no such model", [], 9), wire.EMBEDDED_TEXTS),
        (wire.embed_pairs("no such model", "no such model", [], 9), wire.EMBEDDED_PAIRS),
        (wire.generate(GENERATOR, [], number=9), wire.GENERATED),
    ):
        with wire.dial(cluster) as connection:
            connection.sendall(wire.frame(message))
            assert wire.read(connection) == bytes([kind, 9, 0])


@pytest.mark.parametrize(
    "message",
    [
        wire.generate(GENERATOR, [b"a"], steps=0),
        wire.generate(GENERATOR, [b"a"], steps=1001),
        wire.generate(GENERATOR, [b"a"], steps=0xFFFFFFFF),
        wire.generate(GENERATOR, [b"a"], guidance_scale=1e30),
        wire.generate(GENERATOR, [b"a"], guidance_scale=float("nan")),
        wire.generate(GENERATOR, [b"a"], width=1 << 31),
        wire.generate(GENERATOR, [b"a"], width=0),
        wire.generate(GENERATOR, [b"a"] * 65),
        wire.generate(GENERATOR, [b"a" * (TEXT + 1)]),
        wire.embed("texts", MODEL, [b"a"] * 4097),
        wire.embed("texts", "m" * 1000, [b"a"]),
        wire.embed_pairs(MODEL, LIKENESS, [b"a"] * 4097),
        wire.embed_pairs(MODEL, "m" * 1000, [IMAGE]),
    ],
    ids=range(13),
)
def test_what_is_out_of_the_limits_is_refused(cluster, sql, message):
    """By the process too, whoever sends it."""
    assert sql.one("SELECT vector_dims(susx.embed_text('a'))") == 32
    with wire.dial(cluster) as connection:
        connection.sendall(wire.frame(message))
        assert wire.read(connection)[:2] == bytes([wire.FAILED, 1])
        # It goes on.
        connection.sendall(wire.frame(wire.embed("texts", MODEL, [b"a"], 2)))
        assert wire.read(connection)[:2] == bytes([wire.EMBEDDED_TEXTS, 2])
