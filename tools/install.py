"""Builds susx in release mode, and installs its library, SQL, control file and server program into a PostgreSQL."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import toolchain
from .console import Failure, main, run, say
from .paths import BUILD, PACKAGES, ROOT, SUPPORTED_PG
from .steps import digest, lock, replace, scratch, step, write


# Beside src, crates and sql.
_SOURCES = ("Cargo.toml", "Cargo.lock", "susx.control", "rust-toolchain.toml", ".cargo/config.toml")
# Beginnings of the names of variables that change what is built.
_VARIABLES = ("AR", "CARGO_", "CC", "CFLAGS", "CXX", "LDFLAGS", "LIBCLANG_", "PGRX_", "RUSTC", "RUSTFLAGS", "RUSTUP_")


def install(pg_config: Path) -> None:
    _copy(package(pg_config, major_version(pg_config)), _destination())


def uninstall(pg_config: Path) -> None:
    """Removes what `install` has copied, of any version, and nothing else."""
    root = _destination()
    library = below(root, Path(ask(pg_config, "--pkglibdir"))) / "susx.so"
    server = below(root, Path(ask(pg_config, "--bindir"))) / "susx-server"
    scripts = below(root, Path(ask(pg_config, "--sharedir"))) / "extension"
    for path in [library, server, scripts / "susx.control", *sorted(scripts.glob("susx--*.sql"))]:
        if path.exists():
            path.unlink()
            say(f"    removed {path}")


def _destination() -> Path:
    return Path(os.environ.get("DESTDIR") or "/")


def major_version(pg_config: Path) -> str:
    version = ask(pg_config, "--version")
    found = re.match(r"PostgreSQL (\d+)", version)
    if not found or found[1] not in SUPPORTED_PG:
        raise Failure(f"{pg_config} belongs to {version}; susx supports PostgreSQL {', '.join(SUPPORTED_PG)}")
    if not Path(ask(pg_config, "--includedir-server"), "postgres.h").exists():
        raise Failure(
            f"{pg_config} belongs to {version}, whose server headers are not installed (on Debian and Ubuntu: "
            f"postgresql-server-dev-{found[1]}). For another PostgreSQL: PG_CONFIG=/path/to/pg_config"
        )
    return found[1]


def ask(pg_config: Path, question: str) -> str:
    try:
        return subprocess.run([pg_config, question], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"cannot run {pg_config}: {error}. Set PG_CONFIG=/path/to/pg_config")


def package(pg_config: Path, major: str) -> Path:
    """The files to install, in a directory that stands for /."""
    embedded = (BUILD / "pg") in pg_config.resolve().parents
    env = {**os.environ, **toolchain.environment(None if embedded else pg_config)}
    features = ["--no-default-features", "--features", f"pg{major}"]
    # One package at a time. For the whole workspace, Cargo would unite the features of the server's dependencies with
    # the extension's, and PostgreSQL would load ONNX Runtime's binding.
    build = ["cargo", "build", "--release", "--package"]
    product = PACKAGES / f"pg{major}"

    def build_and_assemble() -> None:
        say(f"building susx for PostgreSQL {major}")
        run([*build, "susx-server"], env)
        run([*build, "susx", "--lib", *features], env)
        release = _target_directory(env) / "release"
        with scratch() as directory:
            root = directory / "root"
            _place(release / "libsusx.so", below(root, Path(ask(pg_config, "--pkglibdir"))) / "susx.so")
            _place(release / "susx-server", below(root, Path(ask(pg_config, "--bindir"))) / "susx-server")
            scripts = below(root, Path(ask(pg_config, "--sharedir"))) / "extension"
            for script in ROOT.glob("sql/susx--*--*.sql"):
                _place(script, scripts / script.name)
            control = (ROOT / "susx.control").read_text().replace("@CARGO_VERSION@", version())
            write(scripts / "susx.control", control)
            write(scripts / f"susx--{version()}.sql", _schema(release / "libsusx.so", env))
            replace(root, product)

    with lock("package"):
        # All versions of PostgreSQL share target/, so that their dependencies are compiled once. But Cargo has one place for
        # the library, and would compile it again for every change from one version to another.
        key = f"{pg_config} {ask(pg_config, '--version')} {_inputs(env)}"
        step(f"package-pg{major}", key, product, build_and_assemble)
    return product


def _inputs(env: dict[str, str]) -> str:
    """A checksum of everything that decides what is built: the sources, the compiler, and what Cargo's own variables say."""
    sources = [path for folder in ("src", "crates", "sql") for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources += [path for name in _SOURCES if (path := ROOT / name).exists()]
    compiler = subprocess.run(["rustc", "-vV"], cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    variables = sorted(f"{name}={value}" for name, value in env.items() if name.startswith(_VARIABLES))
    return f"{digest(sources, ROOT)} {hashlib.sha256(repr((compiler, variables)).encode()).hexdigest()}"


def version() -> str:
    workspace = (ROOT / "Cargo.toml").read_text().split("[workspace.package]")[1]
    return re.search(r'^version = "(.*)"', workspace, re.MULTILINE)[1]


def _schema(library: Path, env: dict[str, str]) -> str:
    """The script that CREATE EXTENSION runs."""
    run(["cargo", "build", "--profile", "tool", "--package", "susx-schema"], env)
    program = _target_directory(env) / "tool" / "susx-schema"
    command = [program, library, ROOT / "susx.control", version()]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failure(f"cannot generate the extension's SQL: {result.stderr}")
    return result.stdout


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _target_directory(env: dict[str, str]) -> Path:
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True).stdout
    return Path(json.loads(metadata)["target_directory"])


def below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _copy(package: Path, destination: Path) -> None:
    pairs = [(path, destination / path.relative_to(package)) for path in sorted(package.rglob("*")) if path.is_file()]
    for _, target in pairs:
        folder = next(parent for parent in target.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise Failure(
                f"susx is built, but {folder} is not writable. "
                f"To install it: sudo cp --remove-destination -rT {package} {destination}"
            )
    for source, target in pairs:
        # An unchanged file stays, so that a running server need not restart. A new one is renamed into place, because
        # backends that have the old library mapped must not see it change.
        if not target.exists() or not filecmp.cmp(source, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(source, partial)
            partial.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
            partial.replace(target)
            say(f"    installed {target}")


def program(name: str) -> Path:
    """The program `pg_config` that the user means."""
    found = shutil.which(name)
    if not found:
        raise Failure(f"there is no {name}: set PG_CONFIG=/path/to/pg_config")
    return Path(found).absolute()


def run_install() -> None:
    commands = {"install": install, "uninstall": uninstall}
    command, *arguments = sys.argv[1:] if sys.argv[1:2] == ["uninstall"] else ["install", *sys.argv[1:]]
    if len(arguments) != 1:
        raise Failure("usage: python3 -m tools.install [uninstall] /path/to/pg_config")
    commands[command](program(arguments[0]))


if __name__ == "__main__":
    main(run_install)
