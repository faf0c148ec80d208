"""A classifier on several nodes, with a real Citus: set SUSX_TEST_CITUS to the prefix of a PostgreSQL that has Citus, susx
and pgvector installed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

import pytest

from conftest import DATABASE, PG
from helpers.pictures import encode, picture
from helpers.processes import eventually
from helpers.session import Session, vector
from helpers.toy import create_random
from tools.cluster import Cluster

CITUS = os.environ.get("SUSX_TEST_CITUS")

pytestmark = pytest.mark.skipif(not CITUS, reason="needs a PostgreSQL with Citus: SUSX_TEST_CITUS=/its/prefix")

ROWS = 120
WORKERS = 2
LABELS = "SELECT id, susx.label('kinds', embedding, 'tip-x') FROM points ORDER BY id"


class Nodes:
    """A coordinator and its workers."""

    def __init__(self, clusters: list[Cluster]):
        self.clusters = clusters
        self.sessions: list[Session] = []

    def connect(self, number: int = 0) -> Session:
        """A session on the coordinator (0) or on a worker."""
        self.sessions.append(Session(self.clusters[number].url(DATABASE)))
        return self.sessions[-1]


def port(cluster: Cluster) -> int:
    return int(cluster.port_file.read_text())


@pytest.fixture(scope="module")
def nodes(settings) -> Iterator[Nodes]:
    wanted = {**settings, "shared_preload_libraries": "citus", "wal_level": "logical", "max_prepared_transactions": 100}
    with contextlib.ExitStack() as stack:
        clusters = [stack.enter_context(Cluster.throwaway(PG, wanted, home=Path(CITUS))) for _ in range(1 + WORKERS)]
        for cluster in clusters:
            cluster.create_database(DATABASE)
            with contextlib.closing(Session(cluster.url(DATABASE))) as session:
                session.run("SET client_min_messages = warning; CREATE EXTENSION citus; CREATE EXTENSION susx CASCADE")
        nodes = Nodes(clusters)
        coordinator = nodes.connect()
        coordinator.run("SELECT citus_set_coordinator_host('127.0.0.1', %s)", port(clusters[0]))
        for worker in clusters[1:]:
            coordinator.run("SELECT citus_add_node('127.0.0.1', %s)", port(worker))
        create_random(coordinator, "kinds", categories=6, dimensions=12)
        coordinator.run("CREATE TABLE points (id int PRIMARY KEY, embedding vector(12))")
        coordinator.run("SELECT create_distributed_table('points', 'id')")
        coordinator.run(
            "INSERT INTO points SELECT i, array_agg(sin(i * 12 + j))::real[]::vector FROM generate_series(1, %s) i, "
            "generate_series(1, 12) j GROUP BY i", ROWS,
        )  # fmt: skip
        coordinator.run("SELECT susx.distribute_classifier('kinds')")
        yield nodes
        for session in nodes.sessions:
            session.close()


def expected(nodes: Nodes) -> list[tuple[int, str]]:
    """Labels that the coordinator finds one by one, outside of any query of Citus."""
    coordinator = nodes.connect()
    points = coordinator.rows("SELECT id, embedding::text FROM points ORDER BY id")
    return [(i, coordinator.one("SELECT susx.label('kinds', %s::vector, 'tip-x')", point)) for i, point in points]


def test_labels_where_the_rows_are(nodes):
    labels = nodes.connect().rows(LABELS)
    assert len(labels) == ROWS and len({label for _, label in labels}) > 1
    assert labels == expected(nodes)


def test_workers_answer_too(nodes):
    """Without a row of susx.classifier, and without any setting of Citus."""
    labels = expected(nodes)
    for number in range(1, 1 + WORKERS):
        assert nodes.connect(number).rows(LABELS) == labels
        assert nodes.connect(number).rows("SELECT count(*) FROM susx.classifier") == [(0,)]


CHANGES = (
    "SELECT susx.alter_classifier('kinds', alpha => 9, beta => 2)",
    "UPDATE kinds SET embedding = (SELECT embedding FROM kinds WHERE category = 'c01' AND kind = 'prompt') "
    "WHERE category = 'c00' AND kind = 'prompt'",
    "DELETE FROM kinds WHERE kind = 'image' AND category = 'c02'",
    "SELECT susx.add_support('kinds', 'c03', (SELECT array_agg(embedding) FROM points WHERE id < 20))",
    "UPDATE susx.classifier SET logit_scale = 3 WHERE classifier = 'kinds'::regclass",
)


@pytest.mark.parametrize("change", CHANGES)
def test_open_sessions_see_changes(nodes, change):
    """On every node, at once, and the same labels everywhere."""
    scores = "SELECT category, score FROM susx.classify('kinds', %s::vector, 6, method => 'tip-x')"
    point = vector([0.1 * i for i in range(12)])
    readers = [nodes.connect(number) for number in range(1 + WORKERS)]
    before = [reader.rows(scores, point) for reader in readers]
    assert before.count(before[0]) == len(before)
    nodes.connect().run(change)
    after = [reader.rows(scores, point) for reader in readers]
    assert after[0] != before[0]
    assert after.count(after[0]) == len(after)
    assert readers[0].rows(LABELS) == readers[1].rows(LABELS) == expected(nodes)


def test_prompts_are_embedded_once(nodes):
    """By add_prompts, on the node of the call: every copy has the same vector."""
    coordinator = nodes.connect()
    coordinator.run("SELECT susx.create_classifier('texts', '{cat,dog}', model => 'tiny_split')")
    coordinator.run("SELECT susx.distribute_classifier('texts')")
    coordinator.run("SELECT susx.add_prompts('texts', jsonb_build_object('cat', ARRAY['a cat asleep']))")
    copies = [
        nodes.connect(number).column("SELECT md5(string_agg(embedding::text, '' ORDER BY id)) FROM texts")
        for number in range(1 + WORKERS)
    ]
    assert copies.count(copies[0]) == len(copies)


def test_embed_and_label_tables(nodes):
    coordinator = nodes.connect()
    coordinator.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), label text)")
    coordinator.run("SELECT create_distributed_table('photos', 'id')")
    for i in range(24):
        coordinator.run("INSERT INTO photos (id, image) VALUES (%s, %s)", i, encode(picture(i, (40, 30))))
    for call in ("susx.embed_table('photos', model => 'tiny_split')", "susx.label_table('photos', 'kinds')"):
        refusal = coordinator.fails(f"CALL {call}")
        assert refusal.sqlstate == "0A000" and "run_command_on_shards('public.photos'" in refusal.hint
    assert coordinator.one("SELECT count(*) FROM susx.embedding_column WHERE relation = 'photos'::regclass") == 0
    shards = "SELECT bool_and(success) FROM run_command_on_shards('photos', $$CALL susx.{}$$)"
    assert coordinator.one(shards.format("embed_table('%s', model => 'tiny_split')"))
    assert coordinator.one("SELECT count(*) FROM photos WHERE embedding IS NULL") == 0
    # The same vectors as on one node.
    for i, embedding in coordinator.rows("SELECT id, embedding::text FROM photos WHERE id < 4"):
        image = encode(picture(i, (40, 30)))
        assert coordinator.one("SELECT susx.embed_image(%s, 'tiny_split')::text", image) == embedding
    coordinator.run("SELECT susx.create_classifier('shapes', '{cat,dog}', model => 'tiny_split')")
    coordinator.run("SELECT susx.distribute_classifier('shapes')")
    assert coordinator.one(shards.format("label_table('%s', 'shapes')"))
    wrong = "SELECT count(*) FROM photos WHERE label IS DISTINCT FROM susx.label('shapes', embedding)"
    assert coordinator.one(wrong) == 0


def test_a_shard_that_moves(nodes):
    """Its record stays on the old node, but it is not filled with embeddings of another model."""
    coordinator = nodes.connect()
    coordinator.run("CREATE TABLE moved (id int PRIMARY KEY, image bytea, embedding vector(32))")
    coordinator.run("SELECT create_distributed_table('moved', 'id', colocate_with => 'none', shard_count => 4)")
    embed = "SELECT success, result FROM run_command_on_shards('moved', $$CALL susx.embed_table('%s', model => '{}')$$)"
    for i in range(24):
        coordinator.run("INSERT INTO moved VALUES (%s, %s)", i, encode(picture(i, (40, 30))))
    assert all(success for success, _ in coordinator.rows(embed.format("tiny_split")))
    ports = [port(cluster) for cluster in nodes.clusters[1:]]
    shard, source = coordinator.rows(
        "SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'moved'::regclass ORDER BY 1"
    )[0]
    target = next(place for place in ports if place != source)
    move = "SELECT citus_move_shard_placement(%s, '127.0.0.1', %s, '127.0.0.1', %s, 'block_writes')"
    coordinator.run(move, shard, source, target)
    for i in range(24, 48):
        coordinator.run("INSERT INTO moved VALUES (%s, %s)", i, encode(picture(i, (40, 30))))
    refused = coordinator.rows(embed.format("tiny_fused"))
    assert len(refused) == 4
    assert all(not success and 'has embeddings of model "tiny_split"' in result for success, result in refused)
    assert all(success for success, _ in coordinator.rows(embed.format("tiny_split")))
    assert coordinator.one("SELECT count(*) FROM moved WHERE embedding IS NULL") == 0


def test_a_node_that_comes_later(nodes):
    """It gets the rows and the settings with the reference table."""
    coordinator = nodes.connect()
    labels = coordinator.rows(LABELS)
    place = port(nodes.clusters[-1])
    coordinator.run("SELECT citus_drain_node('127.0.0.1', %s)", place)
    coordinator.run("SELECT citus_remove_node('127.0.0.1', %s)", place)
    coordinator.run("SELECT citus_add_node('127.0.0.1', %s)", place)
    coordinator.run("SELECT rebalance_table_shards()")
    assert eventually(lambda: nodes.connect(WORKERS).rows(LABELS) == labels)
