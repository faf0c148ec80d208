"""nasm, which assembles the fast code of libjpeg-turbo: the system's own, or Debian's below build/."""

from __future__ import annotations

import os
import platform
import shutil

from . import debs
from .console import Failure, say
from .paths import NASM
from .steps import replace, scratch, step


def environment() -> dict[str, str]:
    """A PATH with nasm. Where it cannot be fetched, JPEGs are decoded by plain C code: the same pixels, more slowly."""
    # Only x86 needs it: on other machines the C compiler does.
    if platform.machine() != "x86_64" or shutil.which("nasm"):
        return {}
    try:
        step("nasm", "1", NASM, _unpack)
    except Failure as failure:
        say(f"{failure}")
        return {}
    return {"PATH": f"{NASM.parent}:{os.environ.get('PATH', os.defpath)}"}


def _unpack() -> None:
    with scratch() as directory:
        deb = debs.fetch("nasm", "Without nasm the build goes on, and susx decodes JPEGs more slowly: install it.")
        debs.extract(deb, directory)
        replace(directory / "usr" / "bin" / "nasm", NASM)
