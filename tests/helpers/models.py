"""Directories of models, and models in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.paths import ROOT


def new_model_dir() -> Path:
    """An empty directory for models that PostgreSQL's account, which may be another, can read. The caller removes it."""
    folder = Path(tempfile.mkdtemp(prefix="susx-models-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def remove_all_but(name: str, folder: Path) -> None:
    """Removes the models of a folder, except for one."""
    for model in folder.iterdir():
        if model.name != name:
            shutil.rmtree(model)


def make_tiny_clip(folder: Path, seed: int) -> None:
    """Writes a tiny CLIP whose random weights are those of the seed."""
    program = ROOT / "tests" / "models" / "tiny_clip.py"
    subprocess.run([sys.executable, program, folder, "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)
