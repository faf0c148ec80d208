"""Images that two models embed: in one request, against each model by itself."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.helpers.processes import resident, servers
from tools.cluster import Cluster
from tools.harness import LIKENESS_MODEL, MODEL, THREADS, cluster_with_models, session

from .embed import rate
from .encoders import fill, photos
from .report import Disagreement, Row, Section, megabytes, times
from .timing import alternate, seconds

TEXT = """\
This labels photographs with `classify_rows('kinds', 'SELECT id, image FROM photos')`. The classifier has a model for names and
a likeness model, and each image is sent and decoded only once. It is compared with one call per model, and with the model
for names alone. All models run on the CPU. Memory is the server's resident memory."""

CALL = "SELECT count(category) FROM susx.classify_rows(%s, 'SELECT id, image FROM photos')"


def measure(folder: Path, quick: bool, pg: str) -> Section:
    images = photos(60 if quick else 1200)
    section = Section("Two models", TEXT)
    with cluster_with_models(pg, folder) as cluster, session(cluster) as sql:
        fill(sql, "photos", images)
        # The names' model is there already.
        sql.execute("SELECT susx.embed_image(image) FROM photos LIMIT 1")
        one = memory(cluster)
        sql.execute("SELECT susx.embed_image(image, %s) FROM photos LIMIT 1", [LIKENESS_MODEL.name])
        two = memory(cluster)
        create(sql)
        sizes = f"{len(images):,} JPEGs, {THREADS} threads"
        of_time(sql, section, len(images), sizes, quick)
    section.rows.append(
        Row(
            "the server's memory with both models: with the one for names",
            f"{MODEL.name} (512 dimensions), {LIKENESS_MODEL.name} (128)",
            megabytes(one),
            megabytes(two),
            f"+{megabytes(two - one)}",
        )
    )
    return section


def of_time(sql: psycopg.Connection, section: Section, images: int, sizes: str, quick: bool) -> None:
    def labelled(classifier: str) -> float:
        found: list[int] = []
        spent = seconds(lambda: found.extend(sql.execute(CALL, [classifier]).fetchone()))
        if found != [images]:
            raise Disagreement(f"classify_rows labelled {found[0]} of {images} images by {classifier}")
        return spent

    least = alternate(
        1 if quick else 3,
        names=lambda: labelled("by_names"),
        likeness=lambda: labelled("by_likeness"),
        both=lambda: labelled("by_both"),
    )
    for what, reference, target in (
        ("labels by both models: a call for each", least["names"] + least["likeness"], 1.0),
        ("labels by both models: by the one for names", least["names"], None),
    ):
        ratio = reference / least["both"]
        section.rows.append(
            Row(
                what,
                sizes,
                rate(images, reference),
                rate(images, least["both"]),
                times(ratio),
                f"≥ {target:g} ×" if target else "",
                ratio >= target if target else None,
                f"{images:,} labels each",
            )
        )


def create(sql: psycopg.Connection) -> None:
    """Classifiers by both models and by either, with the same support images."""
    sql.execute("SET client_min_messages = error")
    sql.execute("CALL susx.embed_table('photos')")
    sql.execute("ALTER TABLE photos ADD COLUMN likeness vector")
    sql.execute("CALL susx.embed_table('photos', embedding_column => 'likeness', model => %s)", [LIKENESS_MODEL.name])
    sql.execute("SELECT susx.create_classifier('by_both', %s, likeness_model => %s)", [CATEGORIES, LIKENESS_MODEL.name])
    sql.execute("SELECT count(*) FROM susx.build_support_set('by_both', 'photos')")
    sql.execute("SELECT susx.create_classifier('by_names', %s)", [CATEGORIES])
    sql.execute("SELECT count(*) FROM susx.build_support_set('by_names', 'photos')")
    # A model of images alone has no names. Its own vectors of some images stand for them.
    sql.execute(
        "SELECT susx.create_classifier('by_likeness', %s, text_embeddings => "
        "(SELECT array_agg(likeness ORDER BY id) FROM (SELECT * FROM photos ORDER BY id LIMIT %s) p))",
        [CATEGORIES, len(CATEGORIES)],
    )
    sql.execute("SELECT susx.alter_classifier('by_likeness', model => %s)", [LIKENESS_MODEL.name])
    sql.execute("SELECT count(*) FROM susx.build_support_set('by_likeness', 'photos', embedding_column => 'likeness')")


CATEGORIES = ["butterfly", "chair", "elephant", "lamp"]


def memory(cluster: Cluster) -> int:
    return sum(resident(pid) for pid in servers(cluster.data_dir))
