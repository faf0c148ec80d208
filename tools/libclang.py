"""libclang, with which pgrx reads PostgreSQL's headers: the system's own, or build/libclang from a wheel."""

from __future__ import annotations

import glob
import os
import subprocess
from pathlib import Path

from . import wheels
from .console import say
from .paths import LIBCLANG
from .pins import native_wheel
from .steps import replace, scratch, step


def environment() -> dict[str, str]:
    """The variables that show bindgen libclang and the compiler's own headers."""
    settings = {}
    if "LIBCLANG_PATH" not in os.environ:
        system = _on_the_system()
        if system is None:
            _ensure()
        settings["LIBCLANG_PATH"] = str(system or LIBCLANG)
    headers = Path(_output("gcc", "-print-file-name=include"))
    if "BINDGEN_EXTRA_CLANG_ARGS" not in os.environ and headers.is_absolute():
        # libclang alone comes without stddef.h and its like. Searched last, so that a complete clang uses its own.
        settings["BINDGEN_EXTRA_CLANG_ARGS"] = f"-idirafter {headers}"
    return settings


def _on_the_system() -> Path | None:
    folders = [_output("llvm-config", "--libdir")]
    folders += [
        os.path.dirname(line.split(" => ")[1])
        for line in _output("ldconfig", "-p").splitlines()
        if line.strip().startswith("libclang") and " => " in line
    ]
    folders += sorted(glob.glob("/usr/lib/llvm-*/lib"), reverse=True) + ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
    for folder in folders:
        # libclang-cpp.so is another library.
        if folder and any("-cpp" not in path for path in glob.glob(f"{folder}/libclang[.-]*so*")):
            return Path(folder)
    return None


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def _ensure() -> None:
    wheel = native_wheel("libclang")

    def unpack() -> None:
        say(f"no libclang on this system: unpacking libclang {wheel.version} to build/libclang")
        with scratch() as directory:
            folder = f"libclang-{wheel.version}.data/platlib/clang/native"
            wheels.extract(wheels.fetch(wheel), folder, directory)
            replace(directory / "libclang.so", LIBCLANG / "libclang.so")

    step("libclang", wheel.sha256, LIBCLANG / "libclang.so", unpack)
