"""The demo: loads images into a table of the schema demo, runs demo.sql in psql, and writes a page to look at.

usage: run.py --url URL [--images DIR --categories 'dog,cat,…']
       run.py --check --images DIR --categories 'dog,cat,…'    (only says whether there is anything to label)

Without --images it uses those of build/pictures that tuxpaint.tsv says are photographs, and what is on them. An image's
`truth`, of your own ones the name of its folder, only serves to count the right labels.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "build" / "pictures"
PSQL = HERE.parent / "build" / "pg" / "18" / "bin" / "psql"
REPORT = HERE.parent / "build" / "demo.html"
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

# Everything of the demo comes first, and then what the user has.
SEARCH_PATH = "SELECT set_config('search_path', 'demo, ' || current_setting('search_path'), false) \\g /dev/null"

# susx and pgvector go where the user's search_path says; everything else lives in a schema that is the demo's own.
CREATE = """
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS susx CASCADE;
ALTER EXTENSION susx UPDATE;
DO $$
BEGIN
    IF to_regnamespace('demo') IS NULL THEN
        CREATE SCHEMA demo;
        COMMENT ON SCHEMA demo IS 'Made by the demo of susx';
    ELSIF obj_description('demo'::regnamespace, 'pg_namespace') IS DISTINCT FROM 'Made by the demo of susx' THEN
        RAISE 'there is a schema demo that the demo has not made' USING HINT = 'Rename it.';
    END IF;
END
$$;
SELECT set_config('search_path', 'demo, ' || current_setting('search_path'), false) \\g /dev/null
DROP TABLE IF EXISTS demo.photos, demo.kinds;
CREATE TABLE photos (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, path text NOT NULL, image bytea NOT NULL,
                     truth text, embedding vector, likeness vector);
COMMENT ON COLUMN photos.truth IS 'What is on the picture, if it is a category: to count right labels, never to label';
COPY photos (path, truth, image) FROM STDIN;
"""


def tuxpaint() -> tuple[list[str], list[tuple[Path, str | None]]]:
    """The categories, and the photographs of them and, without a truth, of other things."""
    lines = (HERE / "tuxpaint.tsv").read_text().splitlines()
    patterns = [line.split("\t") for line in lines if line and not line.startswith("#")]
    pictures = []
    for path in sorted(PICTURES.rglob("*.png")):
        place = path.relative_to(PICTURES).with_suffix("").as_posix()
        what = [what for pattern, what in patterns if fnmatchcase(place, pattern)]
        if what and what[-1] != "-":
            pictures.append((path, None if what[-1] == "none" else what[-1]))
    categories = dict.fromkeys(what for _, what in patterns if what not in ("none", "-"))
    return list(categories), pictures


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
    # psql ends at the first error, and says what it is.
    with contextlib.suppress(BrokenPipeError), psql.stdin:
        psql.stdin.write(CREATE)
        for done, (path, truth) in enumerate(pictures, 1):
            truth_field = "\\N" if truth is None else escape(truth)
            psql.stdin.write(f"{escape(str(path.relative_to(root)))}\t{truth_field}\t\\\\x{path.read_bytes().hex()}\n")
            if done % 100 == 0 or done == len(pictures):
                print(f"\rloading pictures: {done} of {len(pictures)}", end="", flush=True)
        print(flush=True)
        psql.stdin.write("\\.\n")
    if psql.wait() != 0:
        sys.exit("the pictures could not be loaded")


def report(url: str, title: str) -> None:
    """Writes the page with the labels of all pictures."""
    statement = f"""
{SEARCH_PATH}
SELECT susx.report('kinds', 'SELECT path, image, embedding, likeness, truth FROM photos ORDER BY path', :'title');
"""
    psql = [PSQL, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", f"title={title}", "-d", url, "-f", "-"]
    with open(REPORT, "w") as page:
        if subprocess.run(psql, input=statement, text=True, stdout=page).returncode != 0:
            sys.exit("the page could not be written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--categories", default="")
    arguments = parser.parse_args()
    if arguments.images:
        categories, pictures = users_own(arguments.images, arguments.categories)
        no_truth = "not known"
    else:
        categories, pictures = tuxpaint()
        no_truth = "none of the names"
    if arguments.check:
        return
    if not arguments.url:
        parser.error("--url is missing")
    load(arguments.url, arguments.images or PICTURES, pictures)
    array = "{" + ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in categories) + "}"
    variables = ["-v", "ON_ERROR_STOP=1", "-v", f"categories={array}", "-v", f"no_truth={no_truth}"]
    script = [PSQL, "-X", "-q", *variables, "-d", arguments.url, "-f", HERE / "demo.sql"]
    if subprocess.run(script).returncode != 0:
        sys.exit("the demo failed")
    report(arguments.url, "Labels of the demo's pictures")
    print(
        f"To see all labels, open this page:             {REPORT}\n"
        "The cluster keeps running. Look around with:    make psql\n"
        "The demo's tables are in the schema demo:       SET search_path = demo, public;\n"
        f"or with any client:                            {arguments.url}\n"
        "Stop it with:                                  make down"
    )


if __name__ == "__main__":
    main()
