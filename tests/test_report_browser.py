"""The page of `susx.report` in a browser: no overflow at any width, no complaint, and nothing that axe-core finds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.browser import axe_script, browser, needs_chromium
from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_random

pytestmark = [pytest.mark.same_everywhere, needs_chromium]

WIDTHS = (360, 800, 1400)


@pytest.fixture
def page(sql, tmp_path):
    """A page with everything on it: forty categories, one of them with a long name, mistakes, rejected and broken images."""
    create_random(sql, "random", 40, 12)
    sql.run("UPDATE random SET category = repeat('a_long_name', 12) WHERE category = 'c07'")
    sql.run("UPDATE random SET image = %s WHERE kind = 'image'", encode(picture(3, (120, 80))))
    sql.run("SELECT susx.alter_classifier('random', reject => 0.1)")
    sql.run("CREATE TABLE points (id text, image bytea, embedding vector, truth text)")
    embeddings = np.random.default_rng(5).normal(size=(600, 12))
    files = [encode(picture(seed, (60 + 10 * seed, 90))) for seed in range(12)] + [b"broken"]
    sql.copy(
        "points",
        ["id", "image", "embedding"],
        ((f"photos/{i}" + "x" * (i % 90), files[i % 13], vector(it)) for i, it in enumerate(embeddings)),
    )
    sql.run("UPDATE points SET truth = CASE WHEN hashtext(id) % 3 = 0 THEN 'c03' ELSE susx.label('random', embedding) END")
    sql.run("INSERT INTO points VALUES ('no direction', NULL, '[0,0,0,0,0,0,0,0,0,0,0,0]', 'c01')")
    path = tmp_path / "report.html"
    path.write_text(sql.one("SELECT susx.report('random', 'SELECT id, image, embedding, truth FROM points')"))
    return path


def test_in_a_browser(page):
    with browser() as window:
        for width in WIDTHS:
            window.open(page, width)
            assert window.run("innerWidth") == width
            assert window.run("document.documentElement.scrollWidth") <= width
            # What is wider scrolls by itself.
            assert window.run("document.querySelector('.matrix').parentElement.scrollWidth") > 300
            # Every image is drawn, and the style is allowed.
            assert window.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert window.run("getComputedStyle(document.querySelector('.grid')).display") == "grid"
        assert window.complaints == []

        wrong = ".matrix td[class^=wrong] a"
        target = window.run(f"document.querySelector('{wrong}').getAttribute('href')")
        window.click(wrong)
        assert window.run("location.hash") == target
        assert window.run(f"document.querySelector('{target} img, {target} .broken').getBoundingClientRect().top") < 900
        # The first stop of the keyboard leads past the header.
        window.open(page, 800)
        window.press("Tab", 9)
        assert window.run("document.activeElement.className") == "skip"
        assert window.run("document.activeElement.getBoundingClientRect().top") >= 0
        assert window.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(page, dark):
    with browser() as window:
        for width in (360, 1400):
            window.open(page, width, dark)
            window.run("document.querySelectorAll('details').forEach(details => details.open = true)")
            window.run(axe_script() + "; 0")
            found = json.loads(window.run("axe.run().then(found => JSON.stringify(found.violations))"))
            problems = [(it["id"], it["impact"], [node["html"][:200] for node in it["nodes"][:3]]) for it in found]
            assert problems == []
            assert window.run("getComputedStyle(document.body.parentElement).backgroundColor") == (
                "rgb(19, 21, 24)" if dark else "rgb(246, 246, 243)"
            )
