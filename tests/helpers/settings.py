"""Changes the settings of a running cluster, as an administrator would."""

from __future__ import annotations

import contextlib
from typing import Iterator

from helpers.processes import eventually, servers
from helpers.session import Session, session_of
from tools.cluster import Cluster


@contextlib.contextmanager
def reloaded(cluster: Cluster, **values: object) -> Iterator[None]:
    """Inside the block, the settings susx.NAME have these values in every process."""
    with session_of(cluster) as session:
        # Loads the library, which defines the settings.
        session.run("LOAD 'susx'")
        for name, value in values.items():
            # ALTER SYSTEM takes no parameters.
            literal = session.one("SELECT quote_literal(%s)", str(value))
            session.run(f"ALTER SYSTEM SET susx.{name} = {literal}")
        _reload(session, values)
        try:
            yield
        finally:
            for name in values:
                session.run(f"ALTER SYSTEM RESET susx.{name}")
            _reload(session, {})


@contextlib.contextmanager
def restarted(cluster: Cluster, **values: object) -> Iterator[None]:
    """Like `reloaded`, for settings that restart susx-server: waits until the old process no longer answers."""
    with contextlib.ExitStack() as stack:
        with _another_server(cluster):
            stack.enter_context(reloaded(cluster, **values))
        yield
        with _another_server(cluster):
            stack.close()


@contextlib.contextmanager
def _another_server(cluster: Cluster) -> Iterator[None]:
    """Waits until the present process, if any, has been replaced."""
    before = servers(cluster.data_dir)
    yield
    assert not before or eventually(lambda: servers(cluster.data_dir) not in ([], before))


def _reload(session: Session, values: dict[str, object]) -> None:
    session.run("SELECT pg_reload_conf()")
    for name, value in values.items():
        assert eventually(lambda: session.one(f"SHOW susx.{name}") == str(value)), f"susx.{name} did not change"
