"""The memory of sessions that have used susx, and of the server over many images."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg

from tests.helpers.pictures import encode, picture
from tests.helpers.processes import private, resident, servers
from tools.cluster import Cluster
from tools.harness import TINY, cluster_with_models, session

from .encoders import fill, photos
from .report import Disagreement, Row, Section, megabytes

TEXT = """\
The first row is the private memory of backends (`Private_Clean` and `Private_Dirty` in `smaps_rollup`): of idle sessions,
and of the same sessions after each has embedded and classified one image. The second row is the resident memory of the
server while it embeds small JPEGs of many sizes with a tiny model, a thousand per call, at ten equal steps."""

# Bytes that a session may need beyond an idle one.
MOST = 10 * 2**20
# Growth allowed to the server, from the middle to the end.
GROWTH = 0.02
STEPS = 10


def measure(folder: Path, quick: bool, pg: str) -> Section:
    section = Section("Memory", TEXT)
    with cluster_with_models(pg, folder) as cluster:
        of_sessions(cluster, section, 5 if quick else 100, quick)
        of_the_server(cluster, section, 400 if quick else 50_000, 20 if quick else 1000)
    return section


def of_sessions(cluster: Cluster, section: Section, count: int, quick: bool) -> None:
    images = photos(60 if quick else 600)
    categories = ["butterfly", "chair", "elephant", "lamp"] if quick else CATEGORIES
    with contextlib.ExitStack() as stack:
        sql = stack.enter_context(session(cluster))
        fill(sql, "photos", images)
        sql.execute("UPDATE photos SET embedding = susx.embed_image(image)")
        sql.execute("SELECT susx.create_classifier('kinds', %s)", [categories])
        sql.execute("SET client_min_messages = error")
        sql.execute("SELECT count(*) FROM susx.build_support_set('kinds', 'photos')")
        (support,) = sql.execute("SELECT count(*) FROM kinds WHERE kind = 'image'").fetchone()
        sessions = [stack.enter_context(session(cluster)) for _ in range(count)]
        for one in sessions:
            one.execute("SELECT 1")
        idle = private_memory(sessions)
        for place, one in enumerate(sessions):
            row = "SELECT susx.label('kinds', susx.embed_image(image)) FROM photos WHERE id = %s"
            (label,) = one.execute(row, [place % len(images)]).fetchone()
            if label not in categories:
                raise Disagreement(f"a session's label is {label!r}")
        used = private_memory(sessions)
        more = (used - idle) / count
    section.rows.append(
        Row(
            "a session that has embedded and classified: an idle one",
            f"{count} sessions, C = {len(categories)}, M = {support}, d = 512",
            megabytes(idle / count),
            megabytes(used / count),
            f"+{megabytes(more)}",
            f"≤ +{megabytes(MOST)}",
            more <= MOST,
        )
    )


def of_the_server(cluster: Cluster, section: Section, count: int, per_call: int) -> None:
    # With many sizes, every buffer that depends on them reaches its largest size early.
    files = [encode(picture(seed, (64 + 7 * seed % 160, 64 + 11 * seed % 160)), "JPEG") for seed in range(200)]
    curve = []
    with session(cluster) as sql:
        fill(sql, "small", files)
        many = (
            "SELECT count(embedding) FROM susx.embed_images((SELECT array_agg(image ORDER BY n) "
            f"FROM generate_series(1, {per_call}) n JOIN small ON id = n % 200), '{TINY}')"
        )
        server = the_server(cluster)
        calls = count // per_call
        for call in range(1, calls + 1):
            (done,) = sql.execute(many).fetchone()
            if done != per_call:
                raise Disagreement(f"the server embedded {done} of {per_call} images")
            if call % (calls // STEPS) == 0:
                curve.append(resident(server))
        if the_server(cluster) != server:
            raise Disagreement("the server was restarted meanwhile")
    middle, end = curve[len(curve) // 2 - 1], curve[-1]
    growth = end / middle - 1
    section.rows.append(
        Row(
            "the server after all images: after half of them",
            f"{count:,} JPEGs in calls of {per_call:,}",
            megabytes(middle),
            megabytes(end),
            f"{100 * growth:+.1f} %",
            f"≤ +{100 * GROWTH:g} %",
            growth <= GROWTH,
        )
    )
    steps = ", ".join(f"{size / 2**20:.0f}" for size in curve)
    section.notes.append(f"The server's resident memory in MB, after each tenth of the images: {steps}.")


def private_memory(sessions: list[psycopg.Connection]) -> int:
    """Bytes that belong to these backends alone."""
    return sum(private(one.info.backend_pid) for one in sessions)


def the_server(cluster: Cluster) -> int:
    (pid,) = servers(cluster.data_dir)
    return pid


CATEGORIES = """\
accordion ant anchor airplane barrel bonsai brain butterfly camera cannon car chair chandelier cup dolphin dragonfly
elephant ferry flamingo hedgehog helicopter kangaroo lamp laptop leopard lotus motorcycle piano starfish
sunflower""".split()
