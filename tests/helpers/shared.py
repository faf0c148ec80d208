"""Reference data in a folder beside the checkout. It is not part of the project; without it, its tests are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.paths import ROOT

SHARED = ROOT.parent / "shared"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips a test unless these exist."""
    missing = [name for name in names if not (SHARED / name).exists()]
    return pytest.mark.skipif(
        bool(missing), reason=f"needs {', '.join(missing)} in the folder `shared` beside the checkout"
    )


def folder(name: str) -> Path:
    """For fixtures: a folder of the reference data; skips the test if it is missing."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in the folder `shared` beside the checkout")
    return SHARED / name
