"""build/venv: the Python environment that fetches wheels, builds the default model and runs the tests."""

from __future__ import annotations

import subprocess
import sys

from . import debs
from .console import Failure, main, run, say
from .paths import PYTHON, ROOT, VENV
from .steps import digest, lock, scratch, step

REQUIREMENTS = (ROOT / "demo" / "model" / "requirements.txt", ROOT / "tests" / "requirements.txt")


def with_pip() -> None:
    """Creates the environment with nothing but pip in it."""
    with lock("venv"):
        if _works():
            return
        say("making a Python environment in build/venv")
        try:
            from ensurepip import bootstrap  # noqa: F401
        except ImportError:
            _pip_from_debian()
        else:
            run([sys.executable, "-m", "venv", "--clear", VENV])


def _works() -> bool:
    # It stops working once the Python that created it is gone.
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode == 0


def _pip_from_debian() -> None:
    """For Debian's python3, which has neither pip nor ensurepip."""
    run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV])
    with scratch() as directory:
        debs.extract(debs.fetch("python3-pip-whl", "Install pip and venv for this Python."), directory)
        wheels = list(directory.glob("usr/share/python-wheels/pip-*.whl"))
        if not wheels:
            raise Failure("this Python has no pip: install it (on Debian and Ubuntu: apt-get install python3-venv)")
        run([PYTHON, wheels[0] / "pip", "install", "--no-index", wheels[0]])


def with_requirements() -> None:
    with_pip()
    version = "{}.{}".format(*sys.version_info)

    def install() -> None:
        say("installing the Python packages of the model builder and the tests")
        arguments = [word for path in REQUIREMENTS for word in ("-r", path)]
        run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])

    step("requirements", f"{version} {digest(REQUIREMENTS)}", PYTHON, install)


if __name__ == "__main__":
    main(with_requirements)
