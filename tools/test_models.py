"""Models with random weights for the tests, in every layout that real models come in.

build/test-models has CLIPs, and build/test-generators Stable Diffusions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from . import python_env
from .console import main, run, say
from .paths import PYTHON, ROOT, TEST_GENERATORS, TEST_MODELS
from .steps import digest, replace, scratch, step

VARIANTS = ("split", "fused", "no_mask", "siglip", "fp16", "external", "fixed")
GENERATORS = ("pndm", "velocity", "half", "fixed", "checked")

_BUILDER = ROOT / "tests" / "models" / "tiny_clip.py"
# It imports the text encoder and the tokenizer from the other script.
GENERATOR_BUILDER = ROOT / "tests" / "models" / "tiny_diffusion.py"


def ensure() -> None:
    _ensure(TEST_MODELS, [_BUILDER], VARIANTS)
    _ensure(TEST_GENERATORS, [GENERATOR_BUILDER, _BUILDER], GENERATORS)


def _ensure(product: Path, builders: list[Path], variants: Iterable[str]) -> None:
    def build() -> None:
        python_env.with_requirements()
        say(f"building the tests' models in build/{product.name}")
        with scratch() as directory:
            for variant in variants:
                run([PYTHON, builders[0], directory / "models" / variant, "--variant", variant])
            replace(directory / "models", product)

    step(product.name, digest([*builders, *python_env.REQUIREMENTS]), product, build)


if __name__ == "__main__":
    main(ensure)
