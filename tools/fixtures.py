"""The variables that tell the Rust tests where to find files outside the repository.

A test whose variables are not set counts as ignored. One whose variables name missing files fails. See
crates/susx-core/build.rs.
"""

from __future__ import annotations

from pathlib import Path

from .paths import LIBHEIF, ONNXRUNTIME, ROOT, TEST_GENERATORS, TEST_MODELS

# Built or fetched by `make`.
_OWN = {
    "SUSX_TEST_ONNXRUNTIME": ONNXRUNTIME,
    "SUSX_TEST_LIBHEIF": LIBHEIF,
    "SUSX_TEST_MODELS": TEST_MODELS,
    "SUSX_TEST_GENERATORS": TEST_GENERATORS,
}
# Reference data beside some checkouts. Without it, tests/golden remains.
_OUTSIDE = {"SUSX_TEST_SHARED": ROOT.parent / "shared"}


def environment(*, required: bool) -> dict[str, str]:
    """The variables of existing files; if `required`, also of those that `make` builds, so that no test is left out."""
    # libheif is not named to the code under test: the dynamic linker finds it.
    own = {**_OWN, "LD_LIBRARY_PATH": LIBHEIF}
    found = {name: path for name, path in {**own, **_OUTSIDE}.items() if path.exists()}
    return _texts({**found, **own} if required else found)


def _texts(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}
