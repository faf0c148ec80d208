"""Sessions that embed many inputs do not hold up those that embed few."""

from __future__ import annotations

import random

import pytest

from helpers.pictures import encode, picture
from helpers.session import array, cosine, in_background

pytestmark = pytest.mark.same_everywhere

BATCH = 32
# Those in flight, and the one that the single image is part of.
BATCHES = 2 + 1


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (80, 64)), "JPEG") for seed in range(40)]


def test_a_single_image_waits_for_the_batches_in_flight(sql, connect, images):
    """Counted, not timed: how many single images are answered, one after the other, during a bulk call."""
    query = "SELECT count(embedding) FROM susx.embed_images(%s, 'demo')"
    single = "SELECT susx.embed_image(%s, 'demo')::text"
    alone = array(sql.one(single, images[0]))
    bulk, other = images * 24, connect()
    answered = 0
    with in_background(lambda: other.one(query, bulk)) as results:
        while results == [None]:
            embedding = array(sql.one(single, images[0]))
            assert cosine(embedding, alone) > 0.99999
            answered += 1
    assert results == [len(bulk)]
    # The first one may have come before the bulk call and the last one after it.
    assert answered - 2 >= len(bulk) // (BATCHES * BATCH) - 1, f"{answered} during {len(bulk)}"


def test_texts_have_no_influence_on_each_other(sql):
    """Those of like length are run together: whatever the order, every text gets its own embedding."""
    shuffle = random.Random(1)
    words = "a photo of the old red bicycle near some tall trees".split()
    texts = [" ".join(shuffle.choices(words, k=shuffle.choice((1, 2, 3, 5, 8, 40, 90)))) for _ in range(300)]
    query = "SELECT ord, embedding::text FROM susx.embed_texts(%s, %s)"
    for model in ("demo", "tiny_split", "tiny_no_mask"):
        embeddings = {}
        for _ in range(2):
            shuffle.shuffle(texts)
            for ord, embedding in sql.rows(query, texts, model):
                embedding = array(embedding)
                assert cosine(embeddings.setdefault(texts[ord - 1], embedding), embedding) > 0.99999, texts[ord - 1]
        for text in texts[:20]:
            alone = array(sql.one("SELECT susx.embed_text(%s, %s)::text", text, model))
            assert cosine(embeddings[text], alone) > 0.99999, text
