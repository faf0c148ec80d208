"""Where files are. Everything fetched or built is below build/, except for Cargo's own target/."""

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
LIBHEIF = BUILD / "libheif"
JDBC = BUILD / "jdbc" / "postgresql.jar"
NASM = BUILD / "nasm" / "nasm"
ONNXRUNTIME = BUILD / "onnxruntime" / "libonnxruntime.so"
MODELS = BUILD / "models"
TEST_MODELS = BUILD / "test-models"
TEST_GENERATORS = BUILD / "test-generators"
PICTURES = BUILD / "pictures"
PACKAGES = BUILD / "package"

# The versions that susx supports, and those that are embedded and tested: PyPI has them with pgvector and headers. It
# has no 15 and no 17 for aarch64.
SUPPORTED_PG = ("15", "16", "17", "18")
PG_VERSIONS = SUPPORTED_PG if platform.machine() == "x86_64" else ("16", "18")


def pg_home(pg: str) -> Path:
    return BUILD / "pg" / pg


def pg_bin(pg: str, program: str) -> Path:
    return pg_home(pg) / "bin" / program


def cluster_home(pg: str) -> Path:
    return BUILD / "cluster" / pg
