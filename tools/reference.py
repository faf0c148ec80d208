"""The tables of docs/reference.md, from PostgreSQL's catalogue: functions, relations and settings with their comments.

`make reference` writes them. tests/test_manual.py compares them with the installed extension.
"""

from __future__ import annotations

import json
import re

from . import install, onnxruntime, postgres
from .cluster import Cluster
from .console import Failure, main, say
from .paths import ROOT, pg_bin
from .steps import write

PAGE = ROOT / "docs" / "reference.md"
PG = "18"

GROUPS = {
    "Embed": (
        *("embed_image", "embed_text", "embed_images", "embed_texts", "embed_table", "embed_on_write"),
        *("add_embedding_column", "forget_errors"),
    ),
    "Classifiers": (
        *("create_classifier", "alter_classifier", "adopt_classifier", "distribute_classifier", "add_prompts"),
        *("add_negatives", "add_support", "build_support_set", "generate_support_set", "generate_images", "duplicates"),
    ),
    "Label": (
        *("label", "classify", "classify_rows", "known", "suggest_reject", "tags", "tag_probabilities", "label_table"),
        *("label_on_write", "label_counts", "correct", "review_queue"),
    ),
    "Review and measure": (
        *("report", "contact_sheet", "thumbnail", "image_info", "evaluate", "confusion_matrix", "calibration", "tune"),
        *("explain",),
    ),
    "Server": ("check", "models", "library_version", "stat_get_server", "stat_get_progress"),
}
# Only susx and PostgreSQL call these.
INTERNAL = ("classifier_changed", "classify_support", "embed_row", "forget_dropped", "settings_changed")

# With LOAD 'susx' before it, for the settings. The types of pgvector are not qualified, wherever it is.
QUERY = """
SELECT json_build_object(
    'functions', (
        SELECT json_agg(json_build_array(proname, prokind, pg_get_function_arguments(oid), pg_get_function_result(oid),
                                         obj_description(oid, 'pg_proc'))
                        ORDER BY proname, pg_get_function_arguments(oid))
        FROM pg_proc WHERE pronamespace = 'susx'::regnamespace),
    'relations', (
        SELECT json_agg(json_build_array(c.relname, obj_description(c.oid, 'pg_class'), (
                   SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod), col_description(c.oid, attnum))
                                   ORDER BY attnum)
                   FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)) ORDER BY c.relname)
        FROM pg_class c WHERE relnamespace = 'susx'::regnamespace AND relkind IN ('r', 'v')),
    'settings', (
        SELECT json_agg(json_build_array(name, boot_val, coalesce(unit, ''), context, short_desc, extra_desc) ORDER BY name)
        FROM pg_settings WHERE name LIKE 'susx.%'))
"""

CHANGED_BY = {"sighup": "reload", "user": "anyone", "superuser": "superuser"}
# The largest unit that gives a whole number is shown, as SHOW does.
LARGER_UNITS = {"B": ("kB", 1024), "kB": ("MB", 1024), "MB": ("GB", 1024), "ms": ("s", 1000), "s": ("min", 60)}


def update(page: str, catalogue: dict) -> str:
    """The page with its tables written anew from what QUERY returns."""
    for name, table in _tables(catalogue).items():
        begin, end = f"<!-- {name}: written by `make reference` -->\n", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        page, found = re.subn(pattern, lambda _: f"{begin}\n{table}\n{end}", page, flags=re.DOTALL)
        if found != 1:
            raise Failure(f"{PAGE.name} has {found} places for {name}, not one")
    return page


def _tables(catalogue: dict) -> dict[str, str]:
    return {
        "functions": _functions(catalogue["functions"]),
        "relations": _relations(catalogue["relations"]),
        "settings": _settings(catalogue["settings"]),
    }


def _functions(rows: list) -> str:
    grouped = [name for names in GROUPS.values() for name in names]
    names = {name for name, *_ in rows} - set(INTERNAL)
    if set(grouped) != names:
        raise Failure(f"GROUPS in tools/reference.py and the functions of susx differ: {set(grouped) ^ names}")
    lines = []
    for title, members in GROUPS.items():
        lines += [f"### {title}", "", "| function | returns | description |", "|---|---|---|"]
        for name, kind, arguments, result, comment in sorted(rows, key=lambda row: _place(grouped, row)):
            if name in members:
                returns = "procedure: `CALL`" if kind == "p" else f"`{_type(result)}`"
                lines.append(f"| `{name}({_type(arguments)})` | {returns} | {_cell(comment)} |")
        lines.append("")
    return "\n".join(lines)


def _place(grouped: list[str], row: list) -> int:
    return grouped.index(row[0]) if row[0] in grouped else -1


def _relations(rows: list) -> str:
    lines = []
    for name, comment, columns in rows:
        lines += [f"### susx.{name}", "", f"{_cell(comment)}.", "", "| column | type | description |", "|---|---|---|"]
        lines += [f"| `{column}` | `{_type(kind)}` | {_cell(text)} |" for column, kind, text in columns]
        lines.append("")
    return "\n".join(lines)


def _settings(rows: list) -> str:
    lines = ["| setting | default | changed by | description |", "|---|---|---|---|"]
    for name, value, unit, context, summary, details in rows:
        default = f"`{_quantity(value, unit)}`" if value else ""
        meaning = f"{summary} {details or ''}".strip()
        lines.append(f"| `{name}` | {default} | {CHANGED_BY[context]} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def _quantity(value: str, unit: str) -> str:
    if not unit or value == "0":
        return value
    number = int(value)
    while unit in LARGER_UNITS and number % LARGER_UNITS[unit][1] == 0:
        unit, size = LARGER_UNITS[unit]
        number //= size
    return f"{number}{unit}"


def _type(text: str) -> str:
    """As PostgreSQL shows arguments and types, without IN, the casts of defaults and schemas."""
    text = re.sub(r"\bIN (?=\w+ )", "", text)
    text = re.sub(r"::(?:[a-z_]+\.)?[a-z]+(?: [a-z]+)?(?:\[\])?", "", text)
    return re.sub(r"\b\w+\.vector\b", "vector", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_page() -> None:
    postgres.ensure(PG)
    onnxruntime.ensure()
    install.install(pg_bin(PG, "pg_config"))
    with Cluster.throwaway(PG) as cluster:
        cluster.create_database("susx")
        load = "SET client_min_messages = warning; CREATE EXTENSION susx CASCADE; LOAD 'susx'"
        answer = cluster.program("psql", "-XAtq", "-d", cluster.url("susx"), "-c", load, "-c", QUERY)
    page = PAGE.read_text()
    updated = update(page, json.loads(answer))
    if updated == page:
        say(f"{PAGE.relative_to(ROOT)} is up to date")
    else:
        write(PAGE, updated)
        say(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(write_page)
