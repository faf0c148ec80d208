"""The Debian packages work where they are unpacked, and nothing of susx is left when they are removed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import tomllib

import pytest

from conftest import LIKENESS_MODEL, PG
from helpers.installation import copied
from helpers.session import session_of
from tools import deb, install
from tools.cluster import Cluster
from tools.paths import MODELS, ROOT, pg_bin

pytestmark = [pytest.mark.same_everywhere, pytest.mark.slow]

DOCKERFILE = ROOT / "packaging" / "Dockerfile"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def field(package, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", package, name], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def packages():
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    return deb.build(pg_bin(PG, "pg_config"))


@pytest.fixture(scope="module")
def installation(packages, tmp_path_factory):
    """A PostgreSQL from which susx was removed, and to which the packages were added."""
    with copied(PG) as installation:
        install.uninstall(installation.home / "bin" / "pg_config")
        assert leftovers(installation) == []
        root = tmp_path_factory.mktemp("root")
        for package in packages:
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        places = {
            f"usr/lib/postgresql/{PG}/bin": installation.home / "bin",
            f"usr/lib/postgresql/{PG}/lib": installation.library.parent,
            f"usr/share/postgresql/{PG}/extension": installation.scripts,
        }
        found = set()
        for place, target in places.items():
            for file in (root / place).iterdir():
                shutil.copy(file, target / file.name)
                found.add(file.name)
        assert {"susx.so", "susx-server", "libonnxruntime.so", "susx.control", f"susx--{VERSION}.sql"} <= found
        # Debian's own places, and the documentation: nothing else.
        documentation = [root / "usr/share/doc", root / "usr/share/man"]
        others = [path for path in root.rglob("*") if path.is_file() and str(path.parent.relative_to(root)) not in places]
        assert all(any(path.is_relative_to(place) for place in documentation) for path in others), others
        yield installation


def leftovers(installation) -> list[str]:
    names = [path.name for path in installation.home.rglob("*") if "susx" in path.name]
    return sorted(names)


def test_the_quick_start(installation, model_dir):
    """By a role that is no superuser, with ONNX Runtime and susx-server from the packages."""
    settings = {"susx.model_dir": model_dir, "susx.model": "demo"}
    with Cluster.throwaway(PG, settings, home=installation.home) as cluster:
        cluster.create_database("susx")
        with session_of(cluster) as session:
            session.run("CREATE EXTENSION susx CASCADE; CREATE ROLE analyst LOGIN; GRANT CREATE ON SCHEMA public TO analyst")
            session.run("SET ROLE analyst")
            assert session.one("SELECT extversion FROM pg_extension WHERE extname = 'susx'") == VERSION
            session.run("SELECT susx.create_classifier('kinds', '{bird,flower}')")
            assert session.one("SELECT susx.label('kinds', susx.embed_text('a photo of a bird.'))") == "bird"
            assert session.one("SELECT count(*) FROM susx.models() WHERE error IS NULL AND name = %s", LIKENESS_MODEL) == 1


def test_what_the_packages_say(packages):
    extension, runtime = packages
    assert field(extension, "Version").strip() == f"{VERSION}-1"
    depends = field(extension, "Depends")
    assert f"postgresql-{PG}," in depends and f"postgresql-{PG}-pgvector" in depends
    assert re.search(r"libc6 \(>= 2\.\d+\)", depends)
    assert field(runtime, "Package").strip() in field(extension, "Recommends")
    # Lines of a description begin with a space, and none is empty.
    assert all(re.match(r" \S", line) for line in field(extension, "Description").strip().splitlines()[1:])


def test_the_licences_of_all_crates(packages, tmp_path):
    subprocess.run(["dpkg-deb", "--extract", packages[0], tmp_path], check=True)
    text = (tmp_path / "usr/share/doc" / f"postgresql-{PG}-susx" / "copyright").read_text()
    assert (ROOT / "LICENSE").read_text() in text
    for crate in ("pgrx", "ort", "tokenizers", "image", "ndarray", "serde"):
        assert re.search(rf"^{crate} \d.*: .*(MIT|Apache)", text, re.MULTILINE), crate
    # What only the tests need is not shipped.
    assert not re.search(r"^proptest \d", text, re.MULTILINE)


def test_the_man_page(packages, tmp_path):
    """man finds it in the package, and groff has nothing to complain about."""
    subprocess.run(["dpkg-deb", "--extract", packages[0], tmp_path], check=True)
    (page,) = (tmp_path / "usr/share/man/man8").iterdir()
    text = gzip.decompress(page.read_bytes()).decode()
    assert f'"susx {VERSION}"' in text and "@" not in text
    if shutil.which("groff"):
        groff = ["groff", "-man", "-Tutf8", "-ww", "-z"]
        assert subprocess.run(groff, input=text, capture_output=True, text=True, check=True).stderr == ""
    if shutil.which("man"):
        found = ["man", "--manpath", tmp_path / "usr/share/man", "--where", "susx-server"]
        assert subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip() == str(page)


@pytest.mark.parametrize("command", ["fetch", "check", "server"])
def test_the_man_page_has_the_options_of_the_program(command):
    """Those that --help shows, in the same order, each with the same name of its value."""
    words = [] if command == "server" else [command]
    shown = subprocess.run([pg_bin(PG, "susx-server"), *words, "--help"], check=True, capture_output=True, text=True).stdout
    options = re.findall(r"^\s+(?:-\w, )?(--[\w-]+)(?: <(\w+)>)?", shown, re.MULTILINE)
    (section,) = re.findall(rf"^\.SH {command.upper()}\n(.*?)^\.SH", deb.MAN_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    written = re.findall(r'^\.TP\n\.BI? (\\-\\-[\w\\-]+)(?: " (\w+)")?$', section, re.MULTILINE)
    common = [("--help", ""), ("--version", "")]
    assert [(name.replace("\\", ""), value) for name, value in written] == [it for it in options if it not in common]


def test_the_version_of_the_metadata():
    """For PGXN: the keys that its specification asks for, and the version of everything else."""
    meta = json.loads((ROOT / "META.json").read_text())
    assert {"name", "abstract", "version", "maintainer", "license", "provides", "meta-spec"} <= set(meta)
    assert meta["version"] == meta["provides"]["susx"]["version"] == VERSION
    for key in ("file", "docfile"):
        assert (ROOT / meta["provides"]["susx"][key]).exists()


def test_the_image_copies_what_is_there():
    """Every stage and every file that the Dockerfile copies exists; no container engine runs in the tests."""
    dockerfile = DOCKERFILE.read_text()
    stages = set()
    for base, stage in re.findall(r"^FROM (\S+)(?: AS (\w+))?$", dockerfile, re.MULTILINE):
        assert base == "scratch" or ":" in base or base in stages
        stages.add(stage)
    copies = re.findall(r"^COPY (?:--from=(\w+) )?(\S+) \S+$", dockerfile, re.MULTILINE)
    assert len(copies) == dockerfile.count("\nCOPY ")
    for stage, source in copies:
        assert stage in stages if stage else (ROOT / source).exists()
    rust = re.search(r"^FROM rust:([\d.]+)-", dockerfile, re.MULTILINE)[1]
    assert tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"] == rust
    assert deb.DEBS.relative_to(ROOT).as_posix() in dockerfile
    assert MODELS.parent.name in (ROOT / ".dockerignore").read_text().split()


@pytest.mark.skipif(int(PG) < 18, reason="extension_control_path is a setting of PostgreSQL 18")
def test_the_extension_image(packages, model_dir):
    """The image for CloudNativePG, with the manual's parameters: the installation itself has no file of susx.

    The image is made by its stage's COPY lines, because no container engine runs in the tests.
    """
    stage = re.search(r"^FROM scratch AS extension\n(.*?)^FROM ", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL)[1]
    copies = re.findall(r"^COPY --from=unpacked /unpacked/(\S+)/ /(\S+)/$", stage, re.MULTILINE)
    assert len(copies) == stage.count("COPY ")
    parameters = re.findall(r"^ +(susx\.\w+): (/\S+)$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    with copied(PG) as installation:
        install.uninstall(installation.home / "bin" / "pg_config")
        assert leftovers(installation) == []
        # Beside the installation, where the account of PostgreSQL can read.
        unpacked, extensions = installation.home.parent / "unpacked", installation.home.parent / "extensions"
        for package in packages:
            subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
        for source, target in copies:
            shutil.copytree(unpacked / source.replace("${PG}", PG), extensions / "susx" / target)
        shutil.rmtree(unpacked)
        assert (extensions / "susx" / "licenses" / f"postgresql-{PG}-susx" / "copyright").exists()
        (extensions / "susx-models").mkdir()
        (extensions / "susx-models" / "models").symlink_to(model_dir)
        # A directory that an image lacks does no harm.
        places = [extensions / name for name in ("susx", "susx-models")]
        settings = {
            "extension_control_path": ":".join(["$system", *(f"{place}/share" for place in places)]),
            "dynamic_library_path": ":".join(["$libdir", *(f"{place}/lib" for place in places)]),
            **{name: path.replace("/extensions", str(extensions), 1) for name, path in parameters},
            "susx.model": "demo",
        }
        with Cluster.throwaway(PG, settings, home=installation.home) as cluster:
            cluster.create_database("susx")
            with session_of(cluster) as session:
                session.run("CREATE EXTENSION vector; CREATE EXTENSION susx")
                assert session.rows("SELECT item, detail FROM susx.check() WHERE NOT ok") == []
                session.run("SELECT susx.create_classifier('kinds', '{bird,flower}')")
                assert session.one("SELECT susx.label('kinds', susx.embed_text('a photo of a bird.'))") == "bird"
