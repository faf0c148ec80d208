"""Generating images: our pipeline against its graphs alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tools.console import run
from tools.harness import THREADS
from tools.paths import ONNXRUNTIME, PYTHON
from tools.test_models import GENERATOR_BUILDER

from .report import Disagreement, Row, Section, duration
from .timing import alternate

TEXT = """\
This generates images of 256 x 256 pixels with PNDM and guidance. The model is a Stable Diffusion with random weights and a
small U-Net, created by tests/models/tiny_diffusion.py. `ours` is the library without PostgreSQL, from prompts to pixels. The
reference only runs the same graphs equally often, with the same threads, on tensors of the same shapes that are created
once. This is the minimum for any pipeline on ONNX Runtime. Each side is a separate process that loads the graphs and runs
them once before the measurement starts."""

LIMIT = 0.03


def measure(program: Path, folder: Path, quick: bool) -> Section:
    generator = folder / "generator"
    run([PYTHON, GENERATOR_BUILDER, generator, "--variant", "bench"])
    steps, batches = (3, (1,)) if quick else (20, (1, 4))
    section = Section("Image generation", TEXT)
    for pictures in batches:
        arguments = ["--generator", generator, "--steps", steps, "--images", pictures]

        def side(*more: object) -> float:
            return seconds(program, pictures, *arguments, *more)

        least = alternate(1 if quick else 5, warm_up=False, bare=lambda: side("--bare"), ours=side)
        overhead = least["ours"] / least["bare"] - 1
        section.rows.append(
            Row(
                "one image: its graphs alone",
                f"{steps} steps, {pictures} together, {THREADS} threads",
                duration(least["bare"] / pictures),
                duration(least["ours"] / pictures),
                f"{overhead:+.1%}",
                f"≤ {LIMIT:+.0%}",
                overhead <= LIMIT,
            )
        )
    return section


def seconds(program: Path, pictures: int, *arguments: object) -> float:
    words = [program, "--onnxruntime", ONNXRUNTIME, "--threads", THREADS, *arguments]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the program that paints failed: {done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["images"] != pictures:
        raise Disagreement(f"the program generated {answer['images']} of {pictures} pictures")
    return answer["seconds"]
