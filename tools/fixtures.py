"""Where the Rust tests find what is no part of the repository.

A test whose variables are not set is shown as ignored; one whose variables lead nowhere fails. See
crates/susx-core/build.rs.
"""

from __future__ import annotations

from pathlib import Path

from .paths import ONNXRUNTIME, ROOT, TEST_GENERATORS, TEST_MODELS

# What `make` builds or fetches.
_OWN = {
    "SUSX_TEST_ONNXRUNTIME": ONNXRUNTIME,
    "SUSX_TEST_MODELS": TEST_MODELS,
    "SUSX_TEST_GENERATORS": TEST_GENERATORS,
}
# What lies beside some checkouts.
_OUTSIDE = {"SUSX_TEST_SHARED": ROOT.parent / "shared"}


def environment(*, required: bool) -> dict[str, str]:
    """What there is; if `required`, also what must be there, so that no test that needs it is left out."""
    found = {name: path for name, path in {**_OWN, **_OUTSIDE}.items() if path.exists()}
    return _texts({**found, **_OWN} if required else found)


def _texts(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}
