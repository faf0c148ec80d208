"""Settings that only the administrator may change, given by others before the library is loaded: PostgreSQL takes any value
then, refuses it when the library defines the setting, and the session has the administrator's."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from conftest import DATABASE, PG
from helpers.pictures import encode, picture
from helpers.processes import eventually
from helpers.session import Session
from helpers.settings import reloaded
from tools.paths import ONNXRUNTIME, pg_bin

IMAGE = encode(picture(1, (64, 64)))
DENIED = "42501"

# What the administrator has set in the cluster of these tests, and what somebody else would like.
SETTINGS = {
    "model_dir": None,
    "onnxruntime_library": None,
    "server_program": None,
    "execution_provider": ("cpu", "cuda"),
    "require_gpu": ("off", "on"),
    "scaled_decoding": ("on", "off"),
    "gpu_device": ("3", "4"),
    "threads": ("2", "7"),
    "batch_size": ("16", "1"),
    "batch_delay": ("3ms", "9ms"),
    "queue_memory": ("128MB", "1GB"),
    "max_image_bytes": ("1MB", "512MB"),
    "max_image_pixels": ("1000000", "2000000000"),
    "startup_timeout": ("20s", "1ms"),
    "hang_timeout": ("30s", "0"),
}


@pytest.fixture(scope="module")
def cluster(new_cluster, model_dir):
    program = pg_bin(PG, "susx-server")
    values = {name: pair[0] for name, pair in SETTINGS.items() if pair}
    values |= {"model_dir": model_dir, "onnxruntime_library": ONNXRUNTIME, "server_program": program}
    with new_cluster(**{f"susx.{name}": value for name, value in values.items()}) as cluster:
        with contextlib.closing(Session(cluster.url(DATABASE))) as admin:
            admin.run("CREATE ROLE mallory LOGIN")
        yield cluster


@pytest.fixture
def expected(cluster):
    """The values of the configuration file, as an ordinary session's SHOW prints them."""
    with contextlib.closing(Session(cluster.url(DATABASE))) as session:
        session.run("LOAD 'susx'")
        values = {name: session.one(f"SHOW susx.{name}") for name in SETTINGS}
    assert values["threads"] == "2" and values["max_image_bytes"] == "1MB" and values["server_program"]
    return values


def wanted(name: str) -> str:
    return (SETTINGS[name] or ("", "/tmp/evil"))[1]


class Tricked(Session):
    """A session with options of its own."""

    def __init__(self, url: str, user: str, options: str = ""):
        self.connection = psycopg.connect(url, autocommit=True, user=user, options=options)
        self.notices = []
        self.connection.add_notice_handler(lambda notice: self.notices.append(notice.message_primary or ""))


@contextlib.contextmanager
def tricked(cluster, user: str, options: str = ""):
    with contextlib.closing(Tricked(cluster.url(DATABASE), user, options)) as session:
        yield session


def loaded(session: Session) -> list[str]:
    """Loads the library as any call does; the warnings."""
    session.notices.clear()
    session.one("SELECT susx.library_version()")
    return session.notices


@pytest.mark.parametrize("user", ["mallory", "postgres"])
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "startup_timeout"])
def test_an_option_of_the_connection(cluster, expected, user, name):
    with tricked(cluster, user, f"-c susx.{name}={wanted(name)}") as session:
        warnings = loaded(session)
        assert any(f'"susx.{name}" cannot be changed now' in warning for warning in warnings), warnings
        assert session.one(f"SHOW susx.{name}") == expected[name]
        # All others keep their values, and susx works with them.
        assert {name: session.one(f"SHOW susx.{name}") for name in SETTINGS} == expected
        assert session.one("SELECT source FROM pg_settings WHERE name = %s", f"susx.{name}") == "configuration file"


def test_all_options_at_once(cluster, expected):
    options = " ".join(f"-c susx.{name}={wanted(name)}" for name in SETTINGS)
    with tricked(cluster, "mallory", options) as session:
        assert len(loaded(session)) == len(SETTINGS)
        assert {name: session.one(f"SHOW susx.{name}") for name in SETTINGS} == expected
        assert session.one("SELECT vector_dims(susx.embed_image(%s))", IMAGE) == 512


def test_a_setting_for_superusers(cluster, expected):
    with tricked(cluster, "mallory", "-c susx.startup_timeout=1ms") as session:
        assert any('permission denied to set parameter "susx.startup_timeout"' in warning for warning in loaded(session))
        assert session.one("SHOW susx.startup_timeout") == expected["startup_timeout"] == "20s"
    with tricked(cluster, "postgres", "-c susx.startup_timeout=15s") as session:
        assert loaded(session) == [] and session.one("SHOW susx.startup_timeout") == "15s"


def test_everybodys_settings_are_taken(cluster, expected):
    with tricked(cluster, "mallory", "-c susx.model=tiny_split -c susx.classifier_cache=7MB") as session:
        assert loaded(session) == []
        assert [session.one(f"SHOW susx.{name}") for name in ("model", "classifier_cache")] == ["tiny_split", "7MB"]


@pytest.mark.parametrize("where", ["ROLE mallory", f"DATABASE {DATABASE}", f"ROLE mallory IN DATABASE {DATABASE}"])
@pytest.mark.parametrize("name", ["server_program", "max_image_bytes"])
def test_alter_role_and_database(cluster, expected, where, name):
    """Even by a superuser who has not loaded the library, and so is not told."""
    with tricked(cluster, "postgres") as admin:
        admin.run(f"ALTER {where} SET susx.{name} = '{wanted(name)}'")
        try:
            with tricked(cluster, "mallory") as session:
                assert any(f'"susx.{name}" cannot be changed now' in warning for warning in loaded(session))
                assert session.one(f"SHOW susx.{name}") == expected[name]
        finally:
            admin.run(f"ALTER {where} RESET ALL")
    with tricked(cluster, "mallory") as session:
        assert session.fails(f"ALTER ROLE mallory SET susx.{name} = '{wanted(name)}'").sqlstate == DENIED


@pytest.mark.parametrize("statement", ["SET susx.{} = '{}'", "SELECT set_config('susx.{}', '{}', false)"])
def test_set_before_the_library_is_loaded(cluster, expected, statement):
    with tricked(cluster, "mallory") as session:
        for name in SETTINGS:
            session.run(statement.format(name, wanted(name)))
        assert len(loaded(session)) == len(SETTINGS)
        assert {name: session.one(f"SHOW susx.{name}") for name in SETTINGS} == expected
    with tricked(cluster, "mallory") as session:
        session.run("BEGIN; SET LOCAL susx.max_image_bytes = '512MB'")
        assert len(loaded(session)) == 1
        assert session.one("SHOW susx.max_image_bytes") == "1MB"
        session.run("COMMIT")
        assert session.one("SHOW susx.max_image_bytes") == "1MB"


def test_the_last_value_of_the_files_counts(cluster, expected):
    with tricked(cluster, "postgres") as admin:
        admin.run("LOAD 'susx'")
        admin.run("ALTER SYSTEM SET susx.max_image_bytes = '3MB'")
        admin.run("SELECT pg_reload_conf()")
        try:
            with tricked(cluster, "mallory", "-c susx.max_image_bytes=512MB") as session:
                loaded(session)
                assert session.one("SHOW susx.max_image_bytes") == "3MB"
        finally:
            admin.run("ALTER SYSTEM RESET susx.max_image_bytes")
            admin.run("SELECT pg_reload_conf()")


def test_a_setting_that_no_file_has(cluster):
    with tricked(cluster, "mallory", "-c susx.model_idle_timeout=9") as session:
        assert len(loaded(session)) == 1
        assert session.one("SHOW susx.model_idle_timeout") == "0"


def test_a_reload_goes_on_to_work(cluster):
    with tricked(cluster, "mallory", "-c susx.max_image_bytes=512MB") as session:
        loaded(session)
        with reloaded(cluster, max_image_bytes="2MB"):
            assert eventually(lambda: session.one("SHOW susx.max_image_bytes") == "2MB")
        assert eventually(lambda: session.one("SHOW susx.max_image_bytes") == "1MB")
