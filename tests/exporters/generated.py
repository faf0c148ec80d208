"""Compares the images of susx.generate_images with those of the generator's own pipeline."""

from __future__ import annotations

import io

import numpy as np
import psycopg
from PIL import Image

from tools.console import Failure

from .row import Generated

# Float arithmetic in another order may round a value otherwise: by one grey level, of 255.
ROUNDING = 1
# Images of noise or of one colour would look alike whatever susx did: different images are further apart.
DIFFERENT = 8.0

QUERY = """
    SELECT image, error FROM susx.generate_images(%s, generator => %s, guidance_scale => %s, steps => %s, seed => %s,
                                                  negative_prompt => %s)
    ORDER BY ord"""


def difference(expected: Generated, generator: str, sql: psycopg.Connection) -> int:
    """The largest difference of a pixel, in grey levels."""
    images = [image.pixels.astype(int) for image in expected.images]
    for one, other in zip(images, images[1:]):
        if np.abs(one - other).mean() < DIFFERENT:
            raise Failure("two different images are almost the same: the comparison would prove nothing")
    prompts = [image.prompt for image in expected.images]
    settings = expected.guidance_scale, expected.steps, expected.images[0].seed, expected.negative_prompt
    largest = 0
    for wanted, (file, error) in zip(images, sql.execute(QUERY, (prompts, generator, *settings)).fetchall(), strict=True):
        if error is not None:
            raise Failure(error)
        found = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)
        if found.shape != wanted.shape:
            raise Failure(f"the image is {found.shape}, not {wanted.shape}")
        largest = max(largest, int(np.abs(found - wanted).max()))
    return largest
