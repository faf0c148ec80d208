"""Fetches and unpacks Debian packages without root and without installing them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .console import Failure, run, say
from .paths import BUILD, DOWNLOADS
from .steps import lock, replace, scratch

APT_STATE = BUILD / "apt"

# As root, apt would download as the user _apt, who cannot write to the checkout.
_AS_ME = ("-o", "APT::Sandbox::User=root")


def fetch(package: str, otherwise: str) -> Path:
    """The package's file in build/downloads. apt verifies it against the archive's signature.

    `otherwise` is the advice for systems without apt-get.
    """
    with lock(f"deb-{package}"):
        for path in DOWNLOADS.glob(f"{package}_*.deb"):
            return path
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise Failure(f"{package} is a Debian package, and there is no apt-get here to fetch it with. {otherwise}")
        say(f"fetching Debian's {package}")
        with scratch() as directory:
            _download(package, directory)
            for file in directory.glob("*.deb"):
                replace(file, DOWNLOADS / file.name)
                return DOWNLOADS / file.name
    raise Failure(f"apt-get download {package} left no file")


def _download(package: str, directory: Path) -> None:
    # The system's package lists may be missing, as in a container image, or outdated, and only root can update them. In
    # that case this fetches lists of its own from the same sources.
    own = _own_state()
    if _apt_download(package, directory, []).returncode == 0:
        return
    if APT_STATE.exists() and _apt_download(package, directory, own).returncode == 0:
        return
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (APT_STATE / folder).mkdir(parents=True, exist_ok=True)
    say("reading the Debian package lists")
    run(["apt-get", "update", "--quiet", *_AS_ME, *own])
    result = _apt_download(package, directory, own)
    if result.returncode != 0:
        raise Failure(f"apt-get download {package} failed:\n{result.stdout}{result.stderr}")


def _apt_download(package: str, directory: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    argv = ["apt-get", "download", "--quiet", *_AS_ME, *options, package]
    return subprocess.run(argv, cwd=directory, capture_output=True, text=True)


def _own_state() -> list[str]:
    settings = {
        "Dir::State": APT_STATE / "state",
        "Dir::State::lists": APT_STATE / "state" / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": APT_STATE / "cache",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def extract(deb: Path, directory: Path) -> None:
    run(["dpkg", "-x", deb, directory])
