"""The demo: loads images into a table, and runs demo.sql in psql.

usage: run.py --url URL [--images DIR --categories 'dog,cat,…']

Without --images it uses those of build/pictures, whose folders tuxpaint.tsv maps to categories. An image's folder is
its `truth`, which only serves to count the right labels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "build" / "pictures"
PSQL = HERE.parent / "build" / "pg" / "18" / "bin" / "psql"
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

CREATE = """
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS susx CASCADE;
ALTER EXTENSION susx UPDATE;
DROP TABLE IF EXISTS photos, kinds CASCADE;
CREATE TABLE photos (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, path text NOT NULL, image bytea NOT NULL,
                     truth text, embedding vector);
COMMENT ON COLUMN photos.truth IS 'The picture''s folder: for counting right labels, never for labelling';
COPY photos (path, truth, image) FROM STDIN;
"""


def tuxpaint() -> tuple[list[str], list[tuple[Path, str | None]]]:
    """The categories, and the images of all folders that belong to one."""
    lines = (HERE / "tuxpaint.tsv").read_text().splitlines()
    folders = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    pictures = []
    for path in sorted(PICTURES.rglob("*.png")):
        for folder in path.relative_to(PICTURES).parents:
            if str(folder) in folders:
                pictures.append((path, folders[str(folder)]))
                break
    return list(dict.fromkeys(folders.values())), pictures


def users_own(folder: Path, categories: str) -> tuple[list[str], list[tuple[Path, str | None]]]:
    """The user's categories and images. An image's truth is the name of its folder, if that is a category."""
    names = [name.strip() for name in categories.split(",") if name.strip()]
    if not names:
        sys.exit("set the categories: make demo IMAGES=/folder CATEGORIES='dog,cat'")
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}")
    known = {name.lower().replace(" ", "_"): name for name in names}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        sys.exit(f"there is no picture in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return names, [(path, known.get(path.parent.name.lower().replace(" ", "_"))) for path in paths]


def escape(text: str) -> str:
    """A value in COPY's text format."""
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text


def load(url: str, root: Path, pictures: list[tuple[Path, str | None]]) -> None:
    psql = subprocess.Popen(
        [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"], stdin=subprocess.PIPE, text=True
    )
    psql.stdin.write(CREATE)
    for done, (path, truth) in enumerate(pictures, 1):
        truth_field = "\\N" if truth is None else escape(truth)
        psql.stdin.write(f"{escape(str(path.relative_to(root)))}\t{truth_field}\t\\\\x{path.read_bytes().hex()}\n")
        if done % 100 == 0 or done == len(pictures):
            print(f"\rloading pictures: {done} of {len(pictures)}", end="", flush=True)
    print(flush=True)
    psql.stdin.write("\\.\n")
    psql.stdin.close()
    if psql.wait() != 0:
        sys.exit("the pictures could not be loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--categories", default="")
    arguments = parser.parse_args()
    if arguments.images:
        categories, pictures = users_own(arguments.images, arguments.categories)
    else:
        categories, pictures = tuxpaint()
    load(arguments.url, arguments.images or PICTURES, pictures)
    array = "{" + ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in categories) + "}"
    script = [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"categories={array}", "-d", arguments.url]
    if subprocess.run([*script, "-f", HERE / "demo.sql"]).returncode != 0:
        sys.exit("the demo failed")
    print(
        "The cluster keeps running. Look around with:    make psql\n"
        f"or with any client:                            {arguments.url}\n"
        "Stop it with:                                  make down"
    )


if __name__ == "__main__":
    main()
