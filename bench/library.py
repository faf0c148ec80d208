"""The library's side: crates/susx-core/benches/tip_x.rs, as one process for the whole run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np


class Library:
    def __init__(self, program: Path, folder: Path):
        self.program, self.folder = program, folder
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.output = folder / "library.npy"

    def do(self, command: str, **arguments: object) -> dict:
        self._ask(command, **arguments)
        return self._answer(command)

    @staticmethod
    def together(command: str, processes: tuple[Library, ...], **arguments: object) -> None:
        """The same command in several processes at the same time."""
        for process in processes:
            process._ask(command, **arguments)
        for process in processes:
            process._answer(command)

    def seconds(self, command: str, **arguments: object) -> float:
        """The seconds of one repetition."""
        return self.do(command, repetitions=1, **arguments)["seconds"][0]

    def result(self, command: str, **arguments: object) -> np.ndarray:
        """The result of the command."""
        self.do(command, repetitions=1, output=self.output, **arguments)
        return np.load(self.output)

    def another(self) -> Library:
        """Another process, without classifiers."""
        return Library(self.program, self.folder)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, command: str, **arguments: object) -> None:
        self.process.stdin.write(json.dumps({"command": command, **arguments}, default=str) + "\n")
        self.process.stdin.flush()

    def _answer(self, command: str) -> dict:
        answer = json.loads(self.process.stdout.readline() or '{"error": "it ended"}')
        if "error" in answer:
            raise RuntimeError(f"the library's program failed at {command}: {answer['error']}")
        return answer
