"""The KL term, depending on the number of support images."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from .data import Data
from .library import Library
from .reference import CLIP, Published
from .report import Row, Section, agree, duration, times
from .timing import alternate, seconds

TEXT = """\
This measures zero-shot plus KL term (`tip-x` with alpha = 0). Its cost should not depend on the size of the support set.
`ours` is the time for all queries. The ratio compares it with the time for the smallest support set. The reference
computes the divergence of each pair, as published. It is timed on some queries and extrapolated, for small support sets only."""

# Rows of the largest support set for which the reference takes the divergences of every pair.
LITERAL_ROWS = 10_000


def measure(library: Library, folder: Path, quick: bool) -> Section:
    params = replace(CLIP, alpha=0.0)
    categories, queries, dimensions, part = (10, 40, 32, 4) if quick else (100, 1000, 512, 10)
    sizes = (50, 500) if quick else (1_000, 10_000, 100_000, 1_000_000)
    path = folder / "queries.npy"
    agreements, measured, literal = {}, {}, {}
    for rows in sizes:
        # Only the reference needs files, and a million images would be 2 GB.
        small = rows <= LITERAL_ROWS
        library.do(
            "generate",
            name=f"kl{rows}",
            categories=categories,
            rows=rows,
            dimensions=dimensions,
            queries=queries,
            seed=3,
            params=asdict(params),
            folder=folder if small else None,
        )
        if not small:
            continue
        scale = library.do("fit", name="check", folder=folder, params=asdict(params))["affinity_scale"]
        data = Data.load(folder)
        published, some = Published(data, params), data.queries[:part]
        ours = library.result("logits", name="check", queries=path, method="tip-x")
        difference = np.abs(published.logits(some, published.kl_divs_sim(some), scale) - ours[:part]).max()
        agreements[rows] = agree(f"the KL term of {rows} images", difference, 0.1)
        spent = alternate(2, literal=lambda: seconds(lambda: published.kl_divs_sim(some)))["literal"]
        literal[rows], measured[rows] = spent / part * queries, f"{part} of {queries:,} queries timed"
    library.do("drop", name="check")

    ask = {"queries": path, "method": "tip-x"}
    sides = {f"{rows}": lambda rows=rows: library.seconds("logits", name=f"kl{rows}", **ask) for rows in sizes}
    spent = {int(rows): least for rows, least in alternate(2 if quick else 7, **sides).items()}
    for rows in sizes:
        library.do("drop", name=f"kl{rows}")

    section = Section("The KL term and the size of the support set", TEXT)
    for rows in sizes:
        ratio = spent[rows] / spent[sizes[0]]
        is_largest = rows == sizes[-1]
        section.rows.append(
            Row(
                f"M = {rows:,}",
                f"{queries:,} queries, C = {categories}, d = {dimensions}",
                f"{duration(literal[rows])} ({measured[rows]})" if rows in literal else "",
                duration(spent[rows]),
                times(ratio),
                "≤ 1.1 ×" if is_largest else "",
                ratio <= 1.1 if is_largest else None,
                agreements.get(rows, ""),
            )
        )
    return section
