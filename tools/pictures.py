"""build/pictures: the images that the demo labels, from Debian's tuxpaint-stamps-default."""

from __future__ import annotations

from . import debs
from .console import main, say
from .paths import PICTURES
from .steps import replace, scratch, step

_PACKAGE = "tuxpaint-stamps-default"


def ensure() -> None:
    def unpack() -> None:
        deb = debs.fetch(_PACKAGE, "With pictures of your own: make demo IMAGES=/folder CATEGORIES='dog,cat'")
        say("unpacking the demo's pictures to build/pictures")
        with scratch() as directory:
            debs.extract(deb, directory)
            stamps = directory / "usr" / "share" / "tuxpaint" / "stamps"
            for path in stamps.rglob("*"):
                # The package also has thousands of sounds.
                if path.is_file() and path.suffix not in (".png", ".txt"):
                    path.unlink()
            replace(directory / "usr" / "share" / "doc" / _PACKAGE / "copyright", stamps / "copyright")
            replace(stamps, PICTURES)

    step("pictures", "png and txt", PICTURES, unpack)


if __name__ == "__main__":
    main(ensure)
