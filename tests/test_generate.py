"""Images that a generator makes, and support sets of them (SuS-SD), with a tiny pipeline of random weights."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from PIL import Image

from conftest import GENERATOR, copy_model
from helpers.processes import PROMPTLY, eventually, servers
from helpers.session import array, cosine, in_background
from helpers.settings import reloaded
from tools.paths import TEST_GENERATORS

pytestmark = pytest.mark.same_everywhere

MODEL = "tiny_split"
CREATE = f"SELECT susx.create_classifier('kinds', '{{bird,fruit}}', model => '{MODEL}')"
CALL = "CALL susx.generate_support_set('kinds', steps => 2, per_class => {})"
GENERATED = "SELECT {} FROM kinds WHERE kind = 'image' AND origin = 'generated' ORDER BY category, id"
IMAGES = "SELECT image, error FROM susx.generate_images(%s, steps => 2) ORDER BY ord"
PROGRESS = "SELECT phase, done, total, relation::regclass::text FROM susx.stat_progress WHERE command = %s"

# As docs/generated.md has it, in SQL: that of image `index` of a category.
SEED = """
    SELECT ('x' || encode(substr(sha256(int8send(%s::bigint) || convert_to(%s, 'UTF8') || int8send(%s::bigint)), 1, 8),
                          'hex'))::bit(64)::bigint & 9223372036854775807"""


@pytest.fixture(scope="module")
def cluster(own_cluster):
    """A cluster of its own, because some of these tests kill its processes."""
    return own_cluster


@pytest.fixture
def kinds(sql):
    sql.run(CREATE)


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    assert image.format == "PNG" and image.mode == "RGB"
    return image


def recipes(sql):
    """Category and source_key, as JSON, of the images that a call has made."""
    rows = sql.rows(GENERATED.format("category, source_key"))
    return [(category, json.loads(key)) for category, key in rows if key]


class TestImages:
    def test_one_prompt_one_image(self, sql):
        rows = sql.rows("SELECT * FROM susx.generate_images('{a cat,NULL,a dog}', steps => 2)")
        assert [(ord, image is None, error) for ord, image, error in rows] == [
            (1, False, None),
            (2, True, None),
            (3, False, None),
        ]
        assert rows[0][1] != rows[2][1]
        size = sql.one("SELECT image_size FROM susx.models() WHERE name = %s", GENERATOR)
        assert opened(rows[0][1]).size == (size, size)

    def test_nothing(self, sql):
        assert sql.rows("SELECT * FROM susx.generate_images(NULL)") == []
        assert sql.rows("SELECT * FROM susx.generate_images('{}')") == []
        assert sql.rows("SELECT * FROM susx.generate_images('{NULL}', 'nobody')") == [(1, None, None)]

    def test_what_an_image_depends_on(self, sql):
        """Equal calls give equal images, also in other company; everything else gives others."""
        query = "SELECT image FROM susx.generate_images(ARRAY['a cat'], {})"
        first = sql.one(query.format("steps => 2"))
        assert sql.one(query.format("steps => 2, seed => 0, guidance_scale => 9.5")) == first
        assert sql.column(IMAGES, ["a cat", "a cat"])[0] == first
        # Element ord begins with the noise of the seed + ord - 1.
        assert sql.column(IMAGES, ["a dog", "a cat"])[1] == sql.one(query.format("steps => 2, seed => 1")) != first
        others = [
            query.format(arguments)
            for arguments in (
                "steps => 3",
                "steps => 2, guidance_scale => 1",
                "steps => 2, seed => -1",
                "steps => 2, negative_prompt => 'a dog'",
                "steps => 2, width => 32",
            )
        ]
        assert len({first, *(sql.one(query) for query in others)}) == 1 + len(others)

    def test_the_size(self, sql):
        file = sql.one("SELECT image FROM susx.generate_images('{x}', steps => 1, width => 48, height => 32)")
        assert opened(file).size == (48, 32)

    @pytest.mark.parametrize(
        "argument",
        ["steps => 0", "steps => 100000", "steps => NULL", "guidance_scale => 'NaN'", "guidance_scale => -1",
         "guidance_scale => 1e30", "width => 0", "width => 33", "height => 1000000", "seed => NULL"],
    )  # fmt: skip
    def test_what_makes_no_sense(self, sql, argument):
        refusal = sql.fails(f"SELECT * FROM susx.generate_images('{{x}}', {argument})")
        assert refusal.sqlstate in ("22023", "22004")
        assert argument.split()[0] in refusal.message

    def test_drivers_numbers(self, sql):
        """psycopg sends a float as double precision."""
        assert sql.rows("SELECT error FROM susx.generate_images('{x}', %s, %s, %s)", GENERATOR, 7.5, 1) == [(None,)]

    def test_rows_come_as_they_are_made(self, sql):
        """In a select list LIMIT ends the work."""
        started = time.monotonic()
        rows = sql.rows("SELECT (susx.generate_images(array_fill('x'::text, '{10000}'), steps => 2)).ord LIMIT 2")
        assert rows == [(1,), (2,)]
        assert time.monotonic() - started < PROMPTLY
        assert eventually(lambda: sql.one("SELECT queue_inputs FROM susx.stat_server") == 0)

    def test_what_the_server_counts(self, sql):
        before = sql.rows("SELECT generated, images, failed, batches FROM susx.stat_server")
        generated, images, failed, batches = before[0] if before else (0, 0, 0, 0)
        sql.rows(IMAGES, ["a", "b", "c"])
        sql.fails("SELECT * FROM susx.generate_images('{x,y}', 'nobody')")
        after = sql.rows("SELECT generated, images, batches, steps_per_second > 0 FROM susx.stat_server")
        assert after == [(generated + 3, images, batches, True)]
        assert GENERATOR in str(sql.one("SELECT models FROM susx.stat_server"))


class TestNames:
    def test_models(self, sql):
        sql.rows(IMAGES, ["x"])
        columns = "kind, dimensions, image_size > 0, provider, loaded, bytes > 1000, error"
        rows = sql.rows(f"SELECT {columns} FROM susx.models() WHERE name = %s", GENERATOR)
        assert rows == [("diffusion", None, True, "CPUExecutionProvider", True, True, None)]

    @pytest.mark.parametrize("name", ["nobody", "../" + GENERATOR, "", "/etc"])
    def test_unknown(self, sql, kinds, name):
        for query in ("SELECT * FROM susx.generate_images('{x}', %s)", "CALL susx.generate_support_set('kinds', %s)"):
            refusal = sql.fails(query, name)
            assert refusal.sqlstate == "42704"
            assert f'"{name}"' in refusal.message and GENERATOR in refusal.hint and MODEL not in refusal.hint

    def test_a_clip_is_no_generator(self, sql, kinds):
        for query in ("SELECT * FROM susx.generate_images('{x}', %s)", "CALL susx.generate_support_set('kinds', %s)"):
            refusal = sql.fails(query, MODEL)
            assert refusal.sqlstate == "42809"
            assert MODEL in refusal.message and GENERATOR in refusal.hint

    def test_a_generator_is_no_clip(self, sql):
        for query in (
            "SELECT susx.embed_text('x', %s)",
            "SELECT susx.embed_image('x', %s)",
            "SELECT susx.create_classifier('c', '{a,b}', model => %s)",
        ):
            refusal = sql.fails(query, GENERATOR)
            assert refusal.sqlstate == "42809"
            assert GENERATOR in refusal.message and MODEL in refusal.hint


class TestSupportSet:
    def test_two_calls_at_once(self, sql, kinds, connect, schema):
        """The second waits for the first, and keeps its images: hours of work are not done twice."""
        other, observer = connect(), connect()
        sql.run("SELECT susx.generate_images('{x}', steps => 1)")
        for session in (sql, other):
            session.run(f"SET search_path = {schema}, public; SET client_min_messages = notice")
        before = observer.one("SELECT generated FROM susx.stat_server")
        call = CALL.format(6).replace("steps => 2", "steps => 20")
        with in_background(lambda: sql.run(call), lambda: other.run(call)) as results:
            pass
        assert results == [None, None]
        assert observer.one("SELECT generated FROM susx.stat_server") - before == 12
        assert len(recipes(sql)) == 12
        waited = [any("waiting until it has ended" in notice for notice in session.notices) for session in (sql, other)]
        assert sorted(waited) == [False, True]

    def test_generate_and_classify(self, sql, kinds):
        sql.run("SET client_min_messages = notice")
        sql.run(CALL.format(3))
        assert any("6 images generated for 2 categories" in notice for notice in sql.notices)
        columns = "category, prompt, image, similarity, embedding::text"
        rows = sql.rows(GENERATED.format(columns))
        assert [row[:3] for row in rows] == [(c, f"a photo of a {c}.", None) for c in ("bird", "fruit") for _ in "123"]
        found = recipes(sql)
        for place, (category, recipe) in enumerate(found):
            seed = sql.one(SEED, 0, category, place % 3)
            assert recipe == {"generator": GENERATOR, "seed": seed, "steps": 2, "guidance_scale": 9.5}
        assert len({recipe["seed"] for _, recipe in found}) == 6
        # What is stored says how to make the image again: it is the one that was embedded.
        for (_, prompt, _, similarity, embedding), (_, recipe) in zip(rows, found):
            query = "SELECT susx.embed_image(image, %s)::text FROM susx.generate_images(ARRAY[%s], steps => 2, seed => %s)"
            again = array(sql.one(query, MODEL, prompt, recipe["seed"]))
            assert cosine(again, array(embedding)) > 0.9999
            text = array(sql.one("SELECT susx.embed_text(%s, %s)::text", prompt, MODEL))
            assert similarity == pytest.approx(cosine(again, text), abs=1e-4)
        # It is a support set like others.
        image = sql.one("SELECT image FROM susx.generate_images('{a bird}', steps => 2, seed => 5)")
        scores = {
            method: sql.rows("SELECT category, score FROM susx.classify('kinds', %s::bytea, 2, %s)", image, method)
            for method in ("zero-shot", "gated-tip-x", None)
        }
        assert {category for category, _ in scores["gated-tip-x"]} == {"bird", "fruit"}
        assert scores[None] == scores["gated-tip-x"] != scores["zero-shot"]
        assert sql.one("SELECT count(susx.label('kinds', embedding)) FROM kinds WHERE origin = 'generated'") == 6

    def test_a_second_call_does_nothing_again(self, sql, kinds):
        sql.run(CALL.format(2))
        rows = sql.rows(GENERATED.format("id, xmin::text"))
        generated = sql.one("SELECT generated FROM susx.stat_server")
        sql.run(CALL.format(2))
        assert sql.rows(GENERATED.format("id, xmin::text")) == rows
        assert sql.one("SELECT generated FROM susx.stat_server") == generated

    def test_what_is_missing_is_made_and_what_is_not_wanted_goes(self, sql, kinds):
        sql.run(CALL.format(3))
        sql.run("INSERT INTO kinds (category, image) SELECT 'bird', image FROM susx.generate_images('{x}', steps => 1)")
        sql.run(
            "INSERT INTO kinds (category, origin, embedding) SELECT 'bird', 'generated', embedding FROM kinds LIMIT 1"
        )
        rows = sql.rows(GENERATED.format("category, prompt, source_key"))
        sql.run("DELETE FROM kinds WHERE id IN (SELECT id FROM kinds WHERE source_key IS NOT NULL ORDER BY random() LIMIT 3)")
        kept = set(sql.rows(GENERATED.format("id, xmin::text")))
        sql.run(CALL.format(3))
        assert kept < set(sql.rows(GENERATED.format("id, xmin::text")))
        assert sorted(sql.rows(GENERATED.format("category, prompt, source_key")), key=str) == sorted(rows, key=str)
        # Fewer.
        sql.run(CALL.format(1))
        assert [recipe["seed"] for _, recipe in recipes(sql)] == [sql.one(SEED, 0, c, 0) for c in ("bird", "fruit")]
        # Others.
        sql.run(CALL.format("1, seed => 7"))
        assert [recipe["seed"] for _, recipe in recipes(sql)] == [sql.one(SEED, 7, c, 0) for c in ("bird", "fruit")]
        sql.run(CALL.format("1, negative_prompt => 'blurry', guidance_scale => 3"))
        assert [(r["negative_prompt"], r["guidance_scale"]) for _, r in recipes(sql)] == [("blurry", 3)] * 2
        # What somebody else has put there stays.
        assert sql.one("SELECT count(*) FROM kinds WHERE origin = 'labelled'") == 1
        assert sql.one("SELECT count(*) FROM kinds WHERE origin = 'generated' AND source_key IS NULL") == 1

    def test_keep_images(self, sql, kinds):
        sql.run(CALL.format(1))
        assert sql.column(GENERATED.format("image IS NULL")) == [True, True]
        sql.run(CALL.format("1, keep_images => true"))
        rows = sql.rows(GENERATED.format("image, embedding::text, prompt, source_key"))
        assert len(rows) == 2
        for image, embedding, prompt, key in rows:
            opened(image)
            assert cosine(array(sql.one("SELECT susx.embed_image(%s, %s)::text", image, MODEL)), array(embedding)) > 0.9999
            seed = json.loads(key)["seed"]
            assert image == sql.one("SELECT image FROM susx.generate_images(ARRAY[%s], steps => 2, seed => %s)", prompt, seed)
        # They stay where they are not asked for.
        sql.run(CALL.format("1"))
        assert sql.column(GENERATED.format("image IS NULL")) == [False, False]

    def test_sentences(self, sql, kinds):
        """All of them in turn, in an order that the seed decides; a category without any gets no images."""
        refusal = sql.fails(CALL.format("2, prompting => 'cupl'"))
        assert "cupl" in refusal.message and "add_prompts" in refusal.hint
        sentences = [f"A bird, number {i}." for i in range(5)]
        sql.run("SELECT susx.add_prompts('kinds', %s)", json.dumps({"bird": sentences}))
        sql.run("SET client_min_messages = notice")
        orders = []
        for seed in (1, 2):
            sql.run(CALL.format(f"7, prompting => 'cupl', seed => {seed}"))
            rows = sql.rows(GENERATED.format("category, prompt"))
            assert {category for category, _ in rows} == {"bird"}
            prompts = [prompt for _, prompt in rows]
            assert sorted(prompts[:5]) == sentences and prompts[5:] == prompts[:2]
            orders.append(prompts[:5])
        assert orders[0] != orders[1] and sentences not in orders
        assert any("fruit" in notice and "bird" not in notice for notice in sql.notices)
        refusal = sql.fails(CALL.format("1, prompting => 'haiku'"))
        assert refusal.sqlstate == "22023" and "cupl" in refusal.hint

    def test_several_templates(self, sql):
        templates = ["a photo of a {}.", "a {} outside."]
        sql.run("SELECT susx.create_classifier('kinds', '{bird}', %s, %s)", templates, MODEL)
        sql.run(CALL.format(3))
        assert sql.column(GENERATED.format("prompt")) == ["a photo of a bird.", "a bird outside.", "a photo of a bird."]

    def test_where_it_cannot_be_called(self, sql, kinds):
        sql.run("BEGIN")
        refusal = sql.fails(CALL.format(1))
        assert refusal.sqlstate == "2D000" and refusal.hint
        sql.run("ROLLBACK")
        sql.run("SET default_transaction_read_only = on")
        assert sql.fails(CALL.format(1)).sqlstate == "25006"
        sql.run("RESET default_transaction_read_only")
        refusal = sql.fails("CALL susx.generate_support_set('pg_class')")
        assert refusal.sqlstate == "42704" and "classifier" in refusal.message
        for argument in ("per_class => 0", "per_class => NULL", "steps => 0", "keep_images => NULL", "steps => 5000"):
            assert argument.split()[0] in sql.fails(f"CALL susx.generate_support_set('kinds', {argument})").message

    def test_without_a_model(self, sql):
        sql.run("SELECT susx.create_classifier('kinds', '{a,b}', text_embeddings => '{\"[1,0]\",\"[0,1]\"}'::vector[])")
        assert "has no model" in sql.fails(CALL.format(1)).message
        # With one, the names are the prompts.
        sql.run("DROP TABLE kinds")
        vectors = f"ARRAY[susx.embed_text('x', '{MODEL}'), susx.embed_text('y', '{MODEL}')]"
        sql.run(f"SELECT susx.create_classifier('kinds', '{{a,b}}', text_embeddings => {vectors})")
        sql.run(f"SELECT susx.alter_classifier('kinds', model => '{MODEL}')")
        sql.run(CALL.format(1))
        assert sql.column(GENERATED.format("prompt")) == ["a photo of a a.", "a photo of a b."]

    def test_rights(self, sql, kinds, connect, schema):
        """Those of build_support_set: to read the table, to insert and to delete."""
        sql.run("CREATE ROLE painter LOGIN")
        try:
            painter = connect(user="painter")
            sql.run(f"GRANT USAGE ON SCHEMA {schema} TO painter")
            call = f"CALL susx.generate_support_set('{schema}.kinds', steps => 1, per_class => 1)"
            for right in ("SELECT", "INSERT", "DELETE"):
                refusal = painter.fails(call)
                assert refusal.sqlstate == "42501" and "kinds" in refusal.message
                sql.run(f"GRANT {right} ON kinds TO painter")
            painter.run(call)
            assert sql.one("SELECT count(*) FROM kinds WHERE origin = 'generated'") == 2
            # Any text is for everybody, as an embedding is.
            assert painter.rows("SELECT error FROM susx.generate_images('{x}', steps => 1)") == [(None,)]
            painter.close()
        finally:
            sql.run("DROP OWNED BY painter; DROP ROLE painter")

    def test_what_the_safety_checker_blocks(self, sql, cluster, model_dir):
        """A blocked image is reported and counted, but not inserted. This checker blocks dark images."""
        with tempfile.TemporaryDirectory(prefix="susx-test-", dir="/tmp") as name:
            folder = Path(name)
            folder.chmod(0o755)
            shutil.copytree(model_dir / MODEL, folder / MODEL)
            copy_model(TEST_GENERATORS / "checked", folder / "checked")
            with reloaded(cluster, model_dir=folder):
                assert eventually(lambda: "checked" in sql.column("SELECT name FROM susx.models()"))
                sql.run(CREATE)
                seeds = [(c, i, sql.one(SEED, 0, c, i)) for c in ("bird", "fruit") for i in range(10)]
                blocked = []
                for category, place, seed in seeds:
                    query = "SELECT image, error FROM susx.generate_images(ARRAY[%s], steps => 2, seed => %s)"
                    ((image, error),) = sql.rows(query, f"a photo of a {category}.", seed)
                    assert (image is None) == (error is not None)
                    if error:
                        assert "safety checker" in error
                        blocked.append((category, place))
                assert 0 < len(blocked) < len(seeds)
                sql.run(CALL.format(10))
                found = {(category, recipe["seed"]) for category, recipe in recipes(sql)}
                assert found == {(c, seed) for c, place, seed in seeds if (c, place) not in blocked}
                (warning,) = [notice for notice in sql.notices if "safety checker" in notice]
                assert warning.startswith(f'{len(blocked)} images of "kinds" were not generated')
                for category in {category for category, _ in blocked}:
                    assert f"{category} ({sum(c == category for c, _ in blocked)})" in warning
            # Before the folder is gone, which would be an error.
            assert eventually(lambda: GENERATOR in sql.column("SELECT name FROM susx.models()"))


# Some seconds of work, in which each image takes its part of a second.
LONG = "CALL susx.generate_support_set('kinds', per_class => 6, steps => {})"


class TestInterruptions:
    @pytest.fixture
    def steps(self, sql):
        """So many that an image takes about a third of a second."""
        sql.rows(IMAGES, ["x"])
        started = time.monotonic()
        sql.rows("SELECT error FROM susx.generate_images('{x}', steps => 20)")
        return min(900, max(10, int(0.35 * 20 / (time.monotonic() - started))))

    def uninterrupted(self, sql, steps):
        """The rows that one call makes."""
        sql.run("CREATE TABLE saved AS SELECT * FROM kinds WHERE kind = 'image'; DELETE FROM kinds WHERE kind = 'image'")
        sql.run(LONG.format(steps))
        rows = sql.rows(GENERATED.format("category, prompt, source_key"))
        return sorted(rows)

    def test_cancelled_and_called_again(self, sql, connect, cluster, kinds, schema, steps):
        other = connect()
        other.run(f"SET search_path = {schema}, public")

        def call():
            try:
                sql.run(LONG.format(steps))
            except psycopg.errors.QueryCanceled:
                return time.monotonic()

        before = other.one("SELECT generated FROM susx.stat_server")
        with in_background(call) as results:
            # The first category is there for everybody while the second is being made.
            assert eventually(lambda: other.one("SELECT count(*) FROM kinds WHERE origin = 'generated'") >= 6)
            (phase, done, total, relation) = other.rows(PROGRESS, "generate_support_set")[0]
            assert (phase, total, relation) == ("generating", 12 * steps, "kinds") and 6 * steps <= done < total
            asked = time.monotonic()
            other.run("SELECT pg_cancel_backend(%s)", sql.pid)
        assert results[0] - asked < PROMPTLY
        # The server stopped within a step, with images waiting.
        assert eventually(lambda: other.one("SELECT queue_inputs FROM susx.stat_server") == 0)
        assert other.one("SELECT generated FROM susx.stat_server") < before + 12
        kept = set(sql.rows(GENERATED.format("id, xmin::text")))
        assert 6 <= len(kept) < 12
        sql.run(LONG.format(steps))
        assert kept < set(sql.rows(GENERATED.format("id, xmin::text")))
        seeds = [(c, json.loads(k)["seed"]) for c, k in sql.rows(GENERATED.format("category, source_key"))]
        assert sorted(seeds) == sorted((c, sql.one(SEED, 0, c, i)) for c in ("bird", "fruit") for i in range(6))

    def test_within_a_step(self, sql, connect, kinds):
        """Generation of a single image with many steps stops at once."""
        other = connect()
        sql.rows(IMAGES, ["x"])

        def call():
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                sql.rows("SELECT * FROM susx.generate_images('{x}', steps => 900, width => 128, height => 128)")
                return "it came to its end"

        with in_background(call) as results:
            assert eventually(lambda: any(row[1] > 5 for row in other.rows(PROGRESS, "generate_images")))
            phase, done, total, relation = other.rows(PROGRESS, "generate_images")[0]
            assert (phase, total, relation) == ("generating", 900, None) and done < 800
            generated = other.one("SELECT generated FROM susx.stat_server")
            other.run("SELECT pg_cancel_backend(%s)", sql.pid)
        assert results == [None]
        assert eventually(lambda: other.one("SELECT queue_inputs FROM susx.stat_server") == 0)
        time.sleep(0.3)
        assert other.one("SELECT generated FROM susx.stat_server") == generated

    def test_embedding_goes_on_meanwhile(self, sql, connect, kinds):
        other = connect()
        other.rows("SELECT susx.embed_text('x', %s)", MODEL)

        def call():
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                sql.rows("SELECT * FROM susx.generate_images(array_fill('x'::text, '{200}'), steps => 300)")
                return "it came to its end"

        with in_background(call) as results:
            assert eventually(lambda: any(row[1] > 5 for row in other.rows(PROGRESS, "generate_images")))
            started = time.monotonic()
            for i in range(20):
                other.one("SELECT susx.embed_text(%s, %s)::text", f"text {i}", MODEL)
            assert time.monotonic() - started < PROMPTLY
            # Another session has its turn before the fifty are done.
            third = connect()
            assert third.rows("SELECT error FROM susx.generate_images('{y}', steps => 1)") == [(None,)]
            other.run("SELECT pg_cancel_backend(%s)", sql.pid)
        assert results == [None]

    def test_the_server_is_killed(self, sql, connect, cluster, kinds, schema, steps):
        """The call goes on with the next one, and makes the same images."""
        other = connect()
        with in_background(lambda: sql.run(LONG.format(steps))) as results:
            assert eventually(lambda: any(row[1] > 2 * steps for row in other.rows(PROGRESS, "generate_support_set")))
            (pid,) = servers(cluster.data_dir)
            os.kill(pid, signal.SIGKILL)
        assert results == [None]
        assert servers(cluster.data_dir) != [pid]
        rows = sorted(sql.rows(GENERATED.format("category, prompt, source_key")))
        assert len(rows) == 12
        assert rows == self.uninterrupted(sql, steps)
        # To the last bit: noise and weights are the same.
        far = "SELECT max(a.embedding <=> b.embedding) FROM kinds a JOIN saved b USING (category, source_key)"
        assert sql.one(far) < 1e-6

    def test_a_prompt_that_kills_the_server(self, sql, connect, cluster):
        """It does so at every try. It costs one error, and the other prompt is not affected."""
        sql.rows(IMAGES, ["x"])
        # So large that each takes seconds: time to be killed in, however late it is seen.
        query = """SELECT ord, image IS NULL, error
            FROM susx.generate_images('{poison,fine}', steps => 900, width => 192, height => 192)"""
        other = connect()
        killed = set()
        with in_background(lambda: sql.rows(query)) as results:
            while len(killed) < 4 and results[0] is None:
                rate = other.rows("SELECT pid, steps_per_second > 0 FROM susx.stat_server")
                # A killed process may still answer once while it exits.
                if rate and rate[0][1] and rate[0][0] not in killed:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rate[0][0], signal.SIGKILL)
                        killed.add(rate[0][0])
                time.sleep(0.02)
        (poison, fine) = results[0]
        assert poison[:2] == (1, True) and poison[2].startswith("the inference process ended each of the 3 times")
        assert fine == (2, False, None)
