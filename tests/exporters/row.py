"""A row of the table: a model, who exports it, and what the exporting library's own pipeline makes of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np


@dataclass(frozen=True)
class GeneratedImage:
    prompt: str
    seed: int
    # Height × width × 3.
    pixels: np.ndarray


@dataclass(frozen=True)
class Generated:
    """What a generator's own pipeline makes of some prompts, and with which settings. Seeds are consecutive."""

    images: list[GeneratedImage]
    steps: int
    guidance_scale: float
    negative_prompt: str | None


@dataclass(frozen=True)
class Expected:
    """One embedding for each input, of any length; None if the model has none. Of a generator, its images instead."""

    images: np.ndarray | None = None
    texts: np.ndarray | None = None
    generated: Generated | None = None


@dataclass(frozen=True)
class Row:
    # The name of the model's directory.
    name: str
    # Of a generator, its scheduler.
    model: str
    exporter: str
    # Exports the model into a folder.
    make: Callable[[Path], Expected]
    # The least cosine of susx's embedding and the expected one.
    least: float = 0.99999
