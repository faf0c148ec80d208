"""Runs the targets of fuzz/ under libFuzzer and AddressSanitizer.

build/fuzz keeps the findings: inputs that reach new code in corpus/, and inputs that fail in artifacts/.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path

from . import model, test_models, toolchain
from .console import Failure, main, run, say
from .paths import BUILD, ROOT
from .pins import CARGO_FUZZ

HOME = BUILD / "fuzz"
SEEDS = ROOT / "fuzz" / "seeds"
TARGETS = tuple(sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs")))
PICTURES = ROOT / "crates" / "susx-core" / "tests" / "clip" / "images"

# Bytes of the longest input: a small image fits whole, and a text is several times what a model reads.
_LONGEST = {"pixel_values": 1 << 15, "tokenizer": 1 << 9}

# The thread that writes a connection's replies may outlive the run; what it still holds is not a leak.
_LEAVES_THREADS = {"server_messages"}


def fuzz(targets: list[str], minutes: float) -> None:
    test_models.ensure()
    model.ensure()
    command, env = _cargo_fuzz()
    say("building the fuzz targets")
    run([*command, "build", *_OPTIONS], env)
    results = [_run(target, minutes, command, env) for target in targets]
    say("")
    for result in results:
        say(result)
    if any("FAILED" in result for result in results):
        raise Failure(f"inputs that fail are in {HOME / 'artifacts'}")


_OPTIONS = ("--fuzz-dir", "fuzz", "--features", "libfuzzer")


def _cargo_fuzz() -> tuple[list[str], dict[str, str]]:
    program = toolchain.cargo_program("cargo-fuzz", CARGO_FUZZ)
    return [str(program)], {
        **os.environ,
        # Lets a stable compiler use sanitizers.
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": str(HOME / "target"),
        # Coverage is counted per crate, so optimising across crates gains nothing.
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    }


def _run(target: str, minutes: float, command: list[str], env: dict[str, str]) -> str:
    corpus, artifacts = HOME / "corpus" / target, HOME / "artifacts" / target
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    seeds = [SEEDS / target] if (SEEDS / target).exists() else []
    if target == "pixel_values":
        seeds.append(PICTURES)
    options = [
        f"-max_total_time={round(60 * minutes)}",
        f"-max_len={_LONGEST.get(target, 1 << 12)}",
        f"-artifact_prefix={artifacts}/",
        # An image within the limits takes a fraction of a second, and everything else less.
        "-timeout=10",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        f"-detect_leaks={int(target not in _LEAVES_THREADS)}",
    ]
    say(f"fuzzing {target} for {minutes:g} minutes")
    log = HOME / f"{target}.log"
    with log.open("w") as output:
        argv = [*command, "run", *_OPTIONS, target, corpus, *seeds, "--", *options]
        process = subprocess.run(argv, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
    text = log.read_text(errors="replace")
    return f"{target}: {_outcome(text, process.returncode, log)}"


def _outcome(log: str, status: int, path: Path) -> str:
    executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", log)
    covered = re.findall(r"cov: (\d+)", log)
    figures = f"{int(executions[1]) if executions else 0:,} executions, {covered[-1] if covered else 0} edges"
    return f"{figures}, nothing found" if status == 0 else f"{figures}, FAILED: see {path}"


def arguments() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--only", default="", help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    targets = [target for target in options.only.split(",") if target] or list(TARGETS)
    unknown = [target for target in targets if target not in TARGETS]
    if unknown:
        raise Failure(f"there is no fuzz target {unknown[0]}; there are {', '.join(TARGETS)}")
    fuzz(targets, options.minutes)


if __name__ == "__main__":
    main(arguments)
