"""build/onnxruntime/libonnxruntime.so, from the wheel onnxruntime."""

from __future__ import annotations

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


if __name__ == "__main__":
    main(ensure)
