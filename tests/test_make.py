"""The make targets as somebody meets them who has just cloned susx: what is wrong shows before anything is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import install
from tools.paths import ROOT

pytestmark = pytest.mark.same_everywhere


@pytest.fixture
def clone(tmp_path) -> Path:
    """The checkout as git has it, as far as the targets need it, with nothing built."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("tools", "demo"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def make(clone: Path, *arguments: str, path: str | None = None) -> tuple[int, str]:
    environment = {**os.environ, **({"PATH": path} if path else {}), "MAKEFLAGS": ""}
    made = subprocess.run(
        ["make", *arguments, f"PYTHON={sys.executable}"], cwd=clone, env=environment, capture_output=True, text=True
    )
    return made.returncode, made.stdout + made.stderr


def test_pictures_that_are_not_there(clone):
    for arguments, said in (
        (("IMAGES=/nope", "CATEGORIES=dog,cat"), "there is no folder /nope"),
        ((f"IMAGES={clone / 'tools'}", "CATEGORIES=dog,cat"), "there is no picture in"),
        ((f"IMAGES={clone}",), "set the categories"),
    ):
        code, output = make(clone, "demo", *arguments)
        assert code != 0 and said in output and "nothing was fetched or built" in output
        assert not (clone / "build").exists()


@pytest.mark.parametrize("target", ["demo", "up"])
def test_without_rust(clone, tmp_path_factory, target):
    programs = tmp_path_factory.mktemp("bin")
    for name in ("make", "sh", "cc", "env"):
        (programs / name).symlink_to(shutil.which(name))
    code, output = make(clone, target, path=str(programs))
    assert code != 0 and "`cargo` is not in PATH" in output and "rustup" in output
    assert not (clone / "build").exists()


LOCK = """
import sys, time
from tools.steps import lock
with lock("package"):
    print("has it", flush=True)
    sys.stdin.read()
"""


def test_a_second_make_says_that_it_waits(clone):
    def start(**streams) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", LOCK], cwd=clone, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **streams
        )

    first = start()
    assert first.stdout.readline() == "has it\n"
    second = start(stderr=subprocess.PIPE)
    assert second.stderr.readline() == f"waiting for another make (process {first.pid}), which is at this step: package\n"
    first.communicate("", timeout=60)
    assert second.stdout.readline() == "has it\n"
    second.communicate("", timeout=60)
    # A third one does not wait for those that have ended.
    third = start(stderr=subprocess.PIPE)
    assert third.stdout.readline() == "has it\n"
    assert third.communicate("", timeout=60)[1] == ""


def test_a_package_is_built_again_only_after_a_change(tmp_path, monkeypatch):
    """Its key follows from the sources, the compiler and the variables of the compilers."""
    for name in ("src/lib.rs", "crates/one/Cargo.toml", "sql/bootstrap.sql", "Cargo.lock", "README.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    env = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
    keys = [install._inputs(env)]
    (tmp_path / "README.md").write_text("other")
    assert install._inputs(dict(env, RUST_BACKTRACE="1")) == keys[0]
    keys.append(install._inputs(dict(env, RUSTFLAGS="")))
    (tmp_path / "Cargo.lock").write_text("other")
    keys.append(install._inputs(env))
    (tmp_path / "src/lib.rs").rename(tmp_path / "src/main.rs")
    keys.append(install._inputs(env))
    (tmp_path / "crates/one/new.rs").write_text("new")
    keys.append(install._inputs(env))
    assert len(set(keys)) == len(keys)
