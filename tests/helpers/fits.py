"""A classifier that is large enough for its fit to be shared by sessions, and what they say of it."""

from __future__ import annotations

from pathlib import Path

from helpers.toy import create_points, create_random

DIMENSIONS = 64
# 1.5 MB of support images: more than the smallest size that is shared.
SIZE = {"categories": 20, "dimensions": DIMENSIONS, "per_class": 300}
ALL = """
    SELECT array_agg(c ORDER BY p.id, c.rank)
    FROM points p, susx.classify('toy', p.embedding, 20) c
"""
# Each changes the answers.
CHANGES = (
    "DELETE FROM toy WHERE kind = 'image' AND category < 'c05' AND id % 2 = 0",
    "UPDATE toy SET embedding = embedding - (embedding + embedding) WHERE category = 'c03' AND kind = 'prompt'",
    "SELECT susx.alter_classifier('toy', alpha => 7, temperature => 0.3)",
    "SELECT susx.add_support('toy', 'c01', (SELECT array_agg(embedding) FROM points))",
    "UPDATE susx.classifier SET logit_scale = 30 WHERE classifier = 'toy'::regclass",
)


def create_toy(sql) -> None:
    create_random(sql, "toy", **SIZE)
    create_points(sql, "points", rows=20, dimensions=DIMENSIONS)


def folder(cluster) -> Path:
    return cluster.data_dir / "base/pgsql_tmp/pgsql_tmp_susx"


def file_of(cluster, sql, name: str = "toy") -> Path:
    database = sql.one("SELECT oid FROM pg_database WHERE datname = current_database()")
    return folder(cluster) / f"{database}_{sql.one('SELECT %s::regclass::oid', name)}"


def mapped(session) -> list[str]:
    """The classifiers whose fits were mapped since the last call, and those that were fitted, in parentheses."""
    formats = {"mapped the fit of classifier ": "{}", "fitted classifier ": "({})"}
    found = [
        form.format(notice.split('"')[1])
        for notice in session.notices
        for start, form in formats.items()
        if notice.startswith(start)
    ]
    session.notices.clear()
    return found
