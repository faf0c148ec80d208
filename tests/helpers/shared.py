"""Data that lies beside the checkout, where there is any. It is no part of the project: tests that need it skip."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.paths import ROOT

SHARED = ROOT.parent / "shared"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips a test, saying why, unless these are there."""
    missing = [name for name in names if not (SHARED / name).exists()]
    return pytest.mark.skipif(
        bool(missing), reason=f"needs {', '.join(missing)} in the folder `shared` beside the checkout"
    )


def folder(name: str) -> Path:
    """For fixtures: the folder, or a skip."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in the folder `shared` beside the checkout")
    return SHARED / name
