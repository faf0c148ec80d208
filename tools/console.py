"""Output for the user: what is being done, what failed, and programs whose output is shown only if they fail."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from typing import Callable, Mapping, Sequence

from .paths import ROOT


class Failure(Exception):
    """An error to show to the user without a traceback."""


def say(text: str) -> None:
    # On stderr, because the output of `make -s url` and `make -s env` is for programs.
    print(text, file=sys.stderr, flush=True)


def run(argv: Sequence[object], env: Mapping[str, str] | None = None, echo: bool = False) -> list[str]:
    """Runs a program in the checkout and returns its output. Shows that at once (`echo`), or only if it fails."""
    argv = [str(word) for word in argv]
    lines: list[str] = []
    shown = time.monotonic()
    try:
        process = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except FileNotFoundError:
        raise Failure(f"`{argv[0]}` is not installed")
    with process:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if echo:
                say(lines[-1])
            elif time.monotonic() - shown > 15 and line.strip():
                # A compilation takes minutes: show that it is still going.
                shown = time.monotonic()
                say(f"    … {line.strip()[:100]}")
    if process.returncode != 0:
        if not echo:
            say("\n".join(lines))
        raise Failure(f"this failed with exit status {process.returncode}: {shlex.join(argv)}")
    return lines


def main(command: Callable[[], None]) -> None:
    try:
        command()
    except (Failure, OSError) as failure:
        say(f"error: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
