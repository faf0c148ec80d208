"""build/libheif, a folder with libheif.so.1 and what it needs, from the wheel pillow-heif: for the tests."""

from __future__ import annotations

from . import wheels
from .console import main, say
from .paths import LIBHEIF
from .pins import native_wheel
from .steps import replace, scratch, step


def ensure() -> None:
    wheel = native_wheel("pillow-heif")

    def unpack() -> None:
        say(f"unpacking the libheif of pillow-heif {wheel.version} to build/libheif")
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), "pillow_heif.libs", directory)
            # The wheel's own name of the library has a checksum in it.
            (library,) = directory.glob("libheif-*.so*")
            library.rename(directory / "libheif.so.1")
            for path in directory.iterdir():
                replace(path, LIBHEIF / path.name)

    step("libheif", wheel.sha256, LIBHEIF / "libheif.so.1", unpack)


if __name__ == "__main__":
    main(ensure)
