"""Debian packages of susx for one version of PostgreSQL, laid out like those of Debian and of PostgreSQL's own archive.

postgresql-NN-susx has the extension, susx-server with its man page, and the licences; postgresql-NN-susx-onnxruntime has ONNX Runtime for
CPUs, from the wheel that the tests use.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import install, licences, onnxruntime, toolchain
from .console import Failure, main, run, say
from .paths import BUILD, ONNXRUNTIME, ROOT
from .pins import native_wheel
from .steps import replace, scratch

DEBS = BUILD / "deb"
# As Debian's own tools have it.
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'susx authors')} <{os.environ.get('DEBEMAIL', 'root@localhost')}>"
LONGEST_LINE = 78
MAN_PAGE = ROOT / "packaging" / "susx-server.8"


def build(pg_config: Path) -> list[Path]:
    """Both packages, below build/deb."""
    if not shutil.which("dpkg-deb"):
        raise Failure("`dpkg-deb` is not installed: packages can be built on Debian and Ubuntu")
    major = install.major_version(pg_config)
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return [
        _extension(pg_config, major, architecture.stdout.strip()),
        _onnxruntime(major, architecture.stdout.strip()),
    ]


def _extension(pg_config: Path, major: str, architecture: str) -> Path:
    package = f"postgresql-{major}-susx"
    with scratch() as root:
        for place, directory in _places(root, major).items():
            source = install.below(install.package(pg_config, major), Path(install.ask(pg_config, f"--{place}")))
            if source.is_dir():
                shutil.copytree(source, directory, dirs_exist_ok=True)
        binaries = [path for path in root.rglob("*") if path.name in ("susx.so", "susx-server")]
        for binary in binaries:
            run(["strip", "--strip-unneeded", binary])
        features = ["--no-default-features", "--features", f"susx/pg{major}"]
        environment = {**os.environ, **toolchain.environment(None)}
        _document(root, package, f"{licences.text(features, environment)}\n")
        _man_page(root, major)
        control = {
            "Depends": f"libc6 (>= {_glibc(binaries)}), libgcc-s1, libstdc++6, postgresql-{major}, "
            f"postgresql-{major}-pgvector (>= 0.5.1)",
            "Recommends": f"{package}-onnxruntime",
            "Description": "label a table of images from category names alone\n"
            "susx is a PostgreSQL extension that labels a table of images from a list of category names, without "
            "labels and without training. It embeds images and texts with CLIP models, builds a support set from "
            "unlabelled images, and classifies with TIP-X (SuS-X, arXiv 2211.16198).",
        }
        return _pack(root, package, install.version(), architecture, control)


def _onnxruntime(major: str, architecture: str) -> Path:
    onnxruntime.ensure()
    package = f"postgresql-{major}-susx-onnxruntime"
    with scratch() as root:
        library = _places(root, major)["pkglibdir"] / "libonnxruntime.so"
        library.parent.mkdir(parents=True)
        shutil.copyfile(ONNXRUNTIME, library)
        notice = "ONNX Runtime is copyright Microsoft Corporation and licensed under the MIT License.\n"
        _document(root, package, notice + onnxruntime.licence())
        control = {
            "Depends": f"libc6 (>= {_glibc([library])}), libgcc-s1, libstdc++6",
            "Enhances": f"postgresql-{major}-susx",
            "Description": "ONNX Runtime for susx, on CPUs\n"
            "The library with which susx runs its models, beside the extension, where susx looks for it first.",
        }
        return _pack(root, package, native_wheel("onnxruntime").version, architecture, control)


def _places(root: Path, major: str) -> dict[str, Path]:
    """Where Debian has what `pg_config` calls so."""
    return {
        "bindir": root / f"usr/lib/postgresql/{major}/bin",
        "pkglibdir": root / f"usr/lib/postgresql/{major}/lib",
        "sharedir": root / f"usr/share/postgresql/{major}",
    }


def _glibc(binaries: list[Path]) -> str:
    """The newest version of the C library whose symbols the files use."""
    found = {
        tuple(map(int, number.split(b".")))
        for binary in binaries
        for number in re.findall(rb"GLIBC_(\d+\.\d+)\b", binary.read_bytes())
    }
    return ".".join(map(str, max(found)))


def _document(root: Path, package: str, third_parties: str) -> None:
    folder = root / "usr/share/doc" / package
    folder.mkdir(parents=True)
    (folder / "copyright").write_text(f"{(ROOT / 'LICENSE').read_text()}\n{third_parties}")
    (folder / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))


def _man_page(root: Path, major: str) -> None:
    """`man susx-server` finds it. The suffix of its section keeps packages for several versions of PostgreSQL apart."""
    folder = root / "usr/share/man/man8"
    folder.mkdir(parents=True)
    page = MAN_PAGE.read_text().replace("@VERSION@", install.version())
    (folder / f"susx-server.8pg{major}.gz").write_bytes(gzip.compress(page.encode(), mtime=0))


def _pack(root: Path, package: str, number: str, architecture: str, control: dict[str, str]) -> Path:
    for path in [root, *root.rglob("*")]:
        executable = path.is_dir() or path.name == "susx-server"
        path.chmod(0o755 if executable else 0o644)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    fields = {
        "Package": package,
        "Version": f"{number}-1",
        "Architecture": architecture,
        "Maintainer": MAINTAINER,
        "Section": "database",
        "Priority": "optional",
        "Installed-Size": str(size // 1024),
        **control,
    }
    (root / "DEBIAN").mkdir(mode=0o755)
    (root / "DEBIAN" / "control").write_text("".join(f"{key}: {_folded(value)}\n" for key, value in fields.items()))
    file = DEBS / f"{package}_{number}-1_{architecture}.deb"
    with scratch() as directory:
        run(["dpkg-deb", "--build", "--root-owner-group", root, directory / file.name])
        replace(directory / file.name, file)
    say(f"built {file.relative_to(ROOT)}")
    return file


def _folded(value: str) -> str:
    """The first line, and further ones as a paragraph of the control file."""
    first, _, paragraph = value.partition("\n")
    lines, line = [first], ""
    for word in paragraph.split():
        if line and len(line) + len(word) >= LONGEST_LINE:
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\n".join([*lines, *([line] if line else [])])


def run_build() -> None:
    if len(sys.argv) != 2:
        raise Failure("usage: python3 -m tools.deb /path/to/pg_config")
    build(install.program(sys.argv[1]))


if __name__ == "__main__":
    main(run_build)
