"""build/test-models: CLIPs with random weights in every layout that real ones come in, for the tests."""

from __future__ import annotations

from . import python_env
from .console import main, run, say
from .paths import PYTHON, ROOT, TEST_MODELS
from .steps import digest, replace, scratch, step

VARIANTS = ("split", "fused", "no_mask", "siglip", "fp16", "external", "fixed")

_BUILDER = ROOT / "tests" / "models" / "tiny_clip.py"


def ensure() -> None:
    step("test-models", digest([_BUILDER, *python_env.REQUIREMENTS]), TEST_MODELS, _build)


def _build() -> None:
    python_env.with_requirements()
    say("building the tests' models in build/test-models")
    with scratch() as directory:
        for variant in VARIANTS:
            run([PYTHON, _BUILDER, directory / "models" / variant, "--variant", variant])
        replace(directory / "models", TEST_MODELS)


if __name__ == "__main__":
    main(ensure)
