"""What the inference process of a cluster has done."""

from __future__ import annotations

from .processes import eventually
from .session import Session


def images_embedded(session: Session) -> int:
    """How many images it has embedded so far. Waits until none are queued: it finishes the batch of a call that was
    cancelled, which may be one of the previous test."""
    assert eventually(lambda: session.one("SELECT queue_inputs FROM susx.stat_server") == 0)
    return session.one("SELECT images FROM susx.stat_server")
