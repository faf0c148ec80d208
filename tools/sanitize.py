"""Runs the Rust tests under AddressSanitizer and LeakSanitizer, which also watch the native code they call."""

from __future__ import annotations

import os
import platform

from . import fixtures, model, onnxruntime, test_models, toolchain
from .check import CRATES
from .console import main, run, say
from .paths import BUILD, ONNXRUNTIME

TARGET = f"{platform.machine()}-unknown-linux-gnu"


def sanitize() -> None:
    onnxruntime.ensure()
    model.ensure()
    test_models.ensure()
    env = {
        **fixtures.environment(required=True),
        **os.environ,
        **toolchain.environment(),
        "ORT_DYLIB_PATH": str(ONNXRUNTIME),
        # Lets a stable compiler use sanitizers.
        "RUSTC_BOOTSTRAP": "1",
        "RUSTFLAGS": "-Zsanitizer=address",
        "CARGO_TARGET_DIR": str(BUILD / "sanitizer"),
    }
    say("running the Rust tests under AddressSanitizer")
    # An explicit target keeps the flags away from build scripts and macros. Doc tests would be compiled without them.
    lines = run(["cargo", "test", "--target", TARGET, "--lib", "--bins", "--tests", *CRATES], env, echo=True)
    for line in lines:
        if line.startswith("test result:"):
            say(f"  {line}")


if __name__ == "__main__":
    main(sanitize)
