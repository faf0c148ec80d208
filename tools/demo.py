"""`make demo`: builds what is missing, starts the embedded cluster, and labels pictures in it."""

from __future__ import annotations

import os
import subprocess
import sys

from . import embedded, pictures, toolchain
from .console import Failure, main, say
from .paths import ROOT, cluster_home

_RUN = ROOT / "demo" / "run.py"


def run() -> None:
    if len(sys.argv) != 2:
        raise Failure("usage: python3 -m tools.demo 18")
    pg = sys.argv[1]
    folder, categories = os.environ.get("IMAGES", ""), os.environ.get("CATEGORIES", "")
    own = ["--images", folder, "--categories", categories] if folder else []
    # Before anything is fetched or built: a wrong path, or no compiler, should not take ten minutes to show.
    if own and subprocess.run([sys.executable, _RUN, "--check", *own]).returncode != 0:
        raise Failure("nothing was fetched or built")
    toolchain.prerequisites()
    steps = embedded.steps(pg)
    if not own:
        steps.append(("the demo's pictures", pictures.ensure))
    url = embedded.cluster(pg).url
    steps.append(("loading and labelling pictures", lambda: _label(url(embedded.DATABASE), own)))
    if not cluster_home(pg).exists():
        say("the first time takes ten minutes or more, and 2.4 GB below build/ and target/; `make clean` removes it")
    embedded.in_steps(steps)


def _label(url: str, own: list[str]) -> None:
    if subprocess.run([sys.executable, _RUN, "--url", url, *own]).returncode != 0:
        raise Failure("the demo has failed")


if __name__ == "__main__":
    main(run)
