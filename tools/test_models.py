"""Models with random weights for the tests, in every layout that real models come in.

build/test-models has CLIPs and image encoders, and build/test-generators Stable Diffusions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence

from . import python_env
from .console import main, run, say
from .paths import PYTHON, ROOT, TEST_GENERATORS, TEST_MODELS
from .steps import digest, replace, scratch, step

VARIANTS = ("split", "fused", "no_mask", "siglip", "fp16", "external", "fixed", "sees_padding", "own_pad", "immich")
VISION_VARIANTS = ("dinov2", "dinov3", "vit", "convnext", "efficientnet", "classifier", "tokens")
GENERATORS = ("pndm", "velocity", "half", "fixed", "checked", "ancestral", "lcm")

_BUILDER = ROOT / "tests" / "models" / "tiny_clip.py"
# It imports the layers of a transformer from the other script.
VISION_BUILDER = ROOT / "tests" / "models" / "tiny_vision.py"
# It imports the text encoder and the tokenizer from the first script.
GENERATOR_BUILDER = ROOT / "tests" / "models" / "tiny_diffusion.py"


def ensure() -> None:
    _ensure(TEST_MODELS, {_BUILDER: VARIANTS, VISION_BUILDER: VISION_VARIANTS})
    _ensure(TEST_GENERATORS, {GENERATOR_BUILDER: GENERATORS, _BUILDER: ()})


def _ensure(product: Path, builders: Mapping[Path, Sequence[str]]) -> None:
    """Builds the variants of each builder. One without variants is imported by another."""

    def build() -> None:
        python_env.with_requirements()
        say(f"building the tests' models in build/{product.name}")
        with scratch() as directory:
            for builder, variants in builders.items():
                for variant in variants:
                    run([PYTHON, builder, directory / "models" / variant, "--variant", variant])
            replace(directory / "models", product)

    step(product.name, digest([*builders, *python_env.REQUIREMENTS]), product, build)


if __name__ == "__main__":
    main(ensure)
