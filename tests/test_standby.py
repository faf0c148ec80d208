"""A hot standby labels as its primary does, with an inference process of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from conftest import PG
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.session import session_of
from helpers.toy import create_compass
from tools.cluster import Cluster

SCORE = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, method => 'tip-adapter')"


@pytest.fixture
def pair(new_cluster):
    """A primary and its standby."""
    with new_cluster() as primary:
        folder = Path(tempfile.mkdtemp(prefix="susx-", dir="/tmp"))
        folder.chmod(0o711)
        standby = Cluster(PG, folder / "cluster", primary.settings, sync=False)
        try:
            standby.directory.mkdir()
            shutil.chown(standby.directory, primary.data_dir.stat().st_uid, primary.data_dir.stat().st_gid)
            primary.program(
                "pg_basebackup", "-R", "--checkpoint=fast", "-D", standby.data_dir, "-d", primary.url("postgres")
            )
            standby.start()
            yield primary, standby
        finally:
            standby.stop("immediate")
            shutil.rmtree(folder, ignore_errors=True)


def test_labels_on_a_standby(pair):
    primary, standby = pair
    image = encode(picture(1))
    with contextlib.ExitStack() as stack:
        writer, reader = (stack.enter_context(session_of(cluster)) for cluster in pair)
        assert reader.one("SELECT pg_is_in_recovery()")
        create_compass(writer)
        assert eventually(lambda: reader.one("SELECT to_regclass('compass')"))
        assert reader.rows(SCORE) == writer.rows(SCORE)

        # Changes arrive, in a session that has used the classifier before.
        for change in (
            "SELECT susx.add_support('compass', 'north', ARRAY['[1,1]']::vector[])",
            "SELECT susx.alter_classifier('compass', logit_scale => 7)",
            "DELETE FROM compass WHERE kind = 'image'",
        ):
            before = reader.rows(SCORE)
            writer.run(change)
            after = writer.rows(SCORE)
            assert after != before
            assert eventually(lambda: reader.rows(SCORE) == after), change

        rows = "SELECT * FROM susx.classify_rows('compass', 'SELECT 1::bigint, embedding FROM compass WHERE kind = ''prompt''', k => 2)"
        assert reader.rows(rows) == writer.rows(rows) and len(reader.rows(rows)) == 4
        assert reader.rows("SELECT * FROM susx.stat_progress") == []
        report = "SELECT susx.report('compass', 'SELECT id, embedding FROM compass WHERE kind = ''prompt''')"
        assert reader.one(report) == writer.one(report)

        embed = "SELECT susx.embed_image(%s)::text"
        assert reader.one(embed, image) == writer.one(embed, image)
        assert reader.one("SELECT pid FROM susx.stat_server") == servers(standby.data_dir)[0]
        assert len(servers(standby.data_dir)) == len(servers(primary.data_dir)) == 1
        # As PostgreSQL says it of any table.
        for query in (
            "SELECT susx.alter_classifier('compass', alpha => 2)",
            "SELECT susx.add_support('compass', 'north', ARRAY['[1,1]']::vector[])",
            "SELECT susx.build_support_set('compass', 'compass')",
            "CALL susx.label_table('compass', 'compass')",
            "SELECT susx.correct('compass', 'compass', '1', 'east')",
            "SELECT susx.create_classifier('new', '{a}', text_embeddings => ARRAY['[1,1]']::vector[])",
        ):
            assert reader.fails(query).sqlstate == "25006", query
