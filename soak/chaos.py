"""Kills processes, and records the memory of the others."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.helpers.processes import private, resident, servers
from tools.cluster import Cluster

from .worker import Worker

# Seconds between two kills, and between two readings of the memory.
PAUSE = (2.0, 8.0)
LOOK = 5.0


@dataclass
class Memory:
    """Bytes at one moment: the server's process id and resident memory, and the mean private memory of a session."""

    at: float
    server: tuple[int, int] | None
    session: float


@dataclass
class Chaos:
    cluster: Cluster
    workers: list[Worker]
    kills: Counter = field(default_factory=Counter)
    memory: list[Memory] = field(default_factory=list)

    def rage(self, seconds: float) -> None:
        """Kills the server and sessions, and in the last third of the time only sessions, so that a server lasts."""
        choice = random.Random(20261126)
        begin = time.monotonic()
        stop = threading.Event()
        watch = threading.Thread(target=self._watch, args=(begin, stop), daemon=True)
        watch.start()
        while (passed := time.monotonic() - begin) < seconds:
            time.sleep(min(choice.uniform(*PAUSE), seconds - passed))
            self._kill(choice, with_server=passed < seconds * 2 / 3)
        stop.set()
        watch.join()

    def _kill(self, choice: random.Random, with_server: bool) -> None:
        dice = choice.random()
        victims = [pid for worker in self.workers if (pid := worker.pid)]
        if with_server and dice < 0.5:
            for server in servers(self.cluster.data_dir):
                self._send("the server, killed", server, signal.SIGKILL)
        elif with_server and dice < 0.6:
            for server in servers(self.cluster.data_dir):
                self._send("the server, stopped (it hangs)", server, signal.SIGSTOP)
        elif with_server and dice < 0.64 and victims:
            self._send("a session, killed (PostgreSQL recovers)", choice.choice(victims), signal.SIGKILL)
        elif victims:
            self._send("a session, terminated", choice.choice(victims), signal.SIGTERM)

    def _send(self, what: str, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.kills[what] += 1

    def _watch(self, begin: float, stop: threading.Event) -> None:
        while not stop.wait(LOOK):
            server = next(iter(servers(self.cluster.data_dir)), None)
            sessions = [size for worker in self.workers if (pid := worker.pid) and (size := private(pid))]
            mean = sum(sessions) / len(sessions) if sessions else 0.0
            size = resident(server) if server else 0
            self.memory.append(Memory(time.monotonic() - begin, (server, size) if size else None, mean))
