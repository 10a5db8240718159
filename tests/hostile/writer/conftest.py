"""The writer in a process that can be killed, and what must be true after it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest

from nemotron_gguf.convert.writer.digest import sha256_of

Item = TypeVar("Item")
Result = TypeVar("Result")
WARM = Path(__file__).with_name("warm.py")
AT_ONCE = 4
REST = (".part", ".journal", ".lock", ".new")


@dataclass(frozen=True)
class Answer:
    """What came of a run: whether it was killed, how many calls it made and which was the last, its error."""

    killed: bool
    calls: int
    last: str
    error: str | None = None
    message: str = ""
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    reads: int = 0
    seconds: float = 0.0  # since a signal came

    @property
    def done(self) -> bool:
        return not self.killed and self.error is None


class Writer:
    """Runs the writer's jobs, each in a process of its own, and knows what undisturbed runs make of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command, pipe = [sys.executable, str(WARM)], subprocess.PIPE
        self.processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) for _ in range(AT_ONCE)
        ]
        self.idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for process in self.processes:
            self.idle.put(process)
        self._known: dict[str, Mapping[str, bytes]] = {}
        self._knowing = threading.Lock()

    def run(self, folder: Path, job: str = "tiny", **request: Any) -> Answer:
        """One run; see `warm.Request`."""
        folder.mkdir(parents=True, exist_ok=True)
        process = self.idle.get()
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps({"job": job, "folder": str(folder), **request}) + "\n")
            process.stdin.flush()
            return Answer(**json.loads(process.stdout.readline()))
        finally:
            self.idle.put(process)

    def each(self, what: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Several at once, since most of the time they wait."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(what, items))

    def truth(self, job: str) -> Mapping[str, bytes]:
        """The files, by name, that an undisturbed run leaves."""
        with self._knowing:
            if job not in self._known:
                self._known[job] = self._truth(job)
            return self._known[job]

    def steps(self, job: str, folder: Path) -> list[tuple[str, int]]:
        """Every call that an undisturbed run makes: its step, and which of this step's calls it is."""
        seen: Counter[str] = Counter()
        steps = []
        for step in self.run(folder, job).seen:
            seen[step] += 1
            steps.append((step, seen[step]))
        return steps

    def _truth(self, job: str) -> Mapping[str, bytes]:
        folder = self.folder / f"truth-{job}"
        assert self.run(folder, job).done
        for path in folder.glob("*.gguf"):
            assert path.with_name(path.name + ".sha256").read_text() == f"{sha256_of(path)}  {path.name}\n"
        return contents(folder)

    def check_names(self, folder: Path, job: str = "tiny", old: bytes | None = None) -> None:
        """No final name holds a partial file: it is absent, or the old file, or complete."""
        for name, data in self.truth(job).items():
            if name.endswith(".gguf") and folder.joinpath(name).exists():
                assert folder.joinpath(name).read_bytes() in (data, old), name

    def finish(self, folder: Path, job: str = "tiny", **request: Any) -> Answer:
        """Run undisturbed; everything is then as if it always had been, and nothing else is left."""
        answer = self.run(folder, job, **request)
        if answer.error == "Interrupted" and "exists and is kept" in answer.message:
            assert not [path for path in folder.iterdir() if path.name.endswith(REST)]  # all was done already
        else:
            assert answer.done, (answer.error, answer.message)
        found, expected = contents(folder), self.truth(job)
        assert sorted(found) == sorted(expected)
        assert found == expected
        return answer

    def close(self) -> None:
        for process in self.processes:
            assert process.stdin
            process.stdin.close()
            process.wait(20)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    made = Writer(tmp_path_factory.mktemp("writer"))
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not outlive its test: there are many."""
    folder = tmp_path / "place"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
