"""Where things lie. All that is fetched or built is below build/, apart from Cargo's own target/."""

import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

DOWNLOADS = BUILD / "downloads"
STAMPS = BUILD / "stamps"
TEMPORARY = BUILD / "tmp"
VENV = BUILD / "venv"
PYTHON = VENV / "bin" / "python"
TOOLS = BUILD / "tools"
PGRX_HOME = BUILD / "pgrx"
LIBCLANG = BUILD / "libclang"
ONNXRUNTIME = BUILD / "onnxruntime" / "libonnxruntime.so"
MODELS = BUILD / "models"
TEST_MODELS = BUILD / "test-models"
TEST_GENERATORS = BUILD / "test-generators"
PICTURES = BUILD / "pictures"
PACKAGES = BUILD / "package"

# What susx is for, and of these the ones that are embedded and tested: PyPI has a build with pgvector and headers of
# them. Of 15 it has none for aarch64, and of 17 none at all.
SUPPORTED_PG = ("15", "16", "17", "18")
PG_VERSIONS = ("15", "16", "18") if platform.machine() == "x86_64" else ("16", "18")


def pg_home(pg: str) -> Path:
    return BUILD / "pg" / pg


def pg_bin(pg: str, program: str) -> Path:
    return pg_home(pg) / "bin" / program


def cluster_home(pg: str) -> Path:
    return BUILD / "cluster" / pg
