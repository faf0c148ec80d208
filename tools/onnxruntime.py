"""build/onnxruntime/libonnxruntime.so, from the wheel onnxruntime."""

from __future__ import annotations

import zipfile

from . import wheels
from .console import main, say
from .paths import ONNXRUNTIME
from .pins import native_wheel
from .steps import replace, scratch, step


def ensure() -> None:
    wheel = native_wheel("onnxruntime")

    def unpack() -> None:
        say(f"unpacking ONNX Runtime {wheel.version} to build/onnxruntime")
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), "onnxruntime/capi", directory)
            replace(directory / f"libonnxruntime.so.{wheel.version}", ONNXRUNTIME)

    step("onnxruntime", wheel.sha256, ONNXRUNTIME, unpack)


def licence() -> str:
    """ONNX Runtime's licence, and those of what it contains."""
    with zipfile.ZipFile(wheels.fetch(native_wheel("onnxruntime"))) as wheel:
        return "\n".join(wheel.read(f"onnxruntime/{name}").decode() for name in ("LICENSE", "ThirdPartyNotices.txt"))


if __name__ == "__main__":
    main(ensure)
