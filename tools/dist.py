"""build/dist/susx-VERSION.zip: the committed sources, as PGXN takes them. Cargo fetches the crates when it builds them."""

from __future__ import annotations

from .console import main, run, say
from .install import version
from .paths import BUILD, ROOT
from .steps import replace, scratch


def build() -> None:
    name = f"susx-{version()}"
    file = BUILD / "dist" / f"{name}.zip"
    with scratch() as directory:
        run(["git", "archive", "--format=zip", f"--prefix={name}/", "--output", directory / file.name, "HEAD"])
        replace(directory / file.name, file)
    say(f"packed {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main(build)
