"""The licences of every crate that is linked into susx, as one text for packages."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Mapping

from .console import Failure
from .paths import ROOT

_FILES = re.compile(r"(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def text(features: list[str], env: Mapping[str, str]) -> str:
    """Each crate with its SPDX expression, then each licence text once, with the crates it comes from."""
    crates = sorted(_linked(features, env), key=lambda crate: (crate["name"], crate["version"]))
    texts: dict[str, list[str]] = defaultdict(list)
    lines = []
    for crate in crates:
        label = f"{crate['name']} {crate['version']}"
        if not crate.get("license") and not crate.get("license_file"):
            raise Failure(f"the crate {label} states no licence")
        lines.append(f"{label}: {crate.get('license') or crate['license_file']}")
        for file in sorted(Path(crate["manifest_path"]).parent.iterdir()):
            if file.is_file() and _FILES.match(file.name):
                texts[file.read_text(errors="replace").strip()].append(label)
    parts = ["susx contains these crates:\n", "\n".join(lines), "\nThe texts that they come with:\n"]
    parts += [f"{'=' * 80}\n{', '.join(users)}\n{'-' * 80}\n{licence}\n" for licence, users in texts.items()]
    return "\n".join(parts)


def _linked(features: list[str], env: Mapping[str, str]) -> list[dict]:
    """The packages from registries that susx and susx-server depend on, without build and test dependencies."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *features]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failure(f"cargo metadata failed:\n{result.stderr}")
    metadata = json.loads(result.stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    dependencies = {
        node["id"]: [
            dependency["pkg"]
            for dependency in node["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
        for node in metadata["resolve"]["nodes"]
    }
    waiting = [package["id"] for package in packages.values() if package["name"] in ("susx", "susx-server")]
    found = set()
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += dependencies[current]
    return [packages[identity] for identity in found if packages[identity]["source"]]
