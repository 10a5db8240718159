"""kill -9 of a build, many times: the same command then always ends in the bytes of a build that nothing disturbed.

    python bench/kills.py [--kills 200] [--seed 1]

Builds the demo checkpoint to Q4_K_M and Q8_0 in one pass. Half of the kills come by the clock, half at a call of the
system drawn by lot; every third time the run that goes on is killed, too, up to four times. After each kill no final
name may hold anything but a whole file. Prints where the kills hit, and fails at the first difference.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WARM = Path(__file__).parent.parent / "tests" / "hostile" / "writer" / "warm.py"


class Builder:
    """A process that forks for every build, and what builds that nothing disturbed made."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(WARM)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        start = time.monotonic()
        self.calls: int = self.build(folder / "truth")["calls"]
        self.seconds = time.monotonic() - start
        self.truth = contents(folder / "truth")

    def build(self, folder: Path, **request: Any) -> dict[str, Any]:
        """One build in a process of its own."""
        assert self.process.stdin
        assert self.process.stdout
        folder.mkdir(exist_ok=True)
        self.process.stdin.write(json.dumps({"job": "demo", "folder": str(folder), **request}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def killed(self, folder: Path, chance: random.Random, by_clock: bool) -> str | None:
        """Kill a build; returns the last call that it made, None where it was done before."""
        fault = {"at": chance.randint(1, self.calls), "how": chance.choice(("before", "torn", "after"))}
        moment = chance.uniform(0, self.seconds)
        answer = self.build(folder, **({"kill_after": moment} if by_clock else {"fault": fault}))
        for name, data in contents(folder).items():
            if name.endswith(".gguf") and data != self.truth[name]:
                raise SystemExit(f"{name} is not whole after a kill at: {answer['last']}")
        return str(answer["last"]) if answer["killed"] else None

    def finish(self, folder: Path) -> int:
        """Build undisturbed; returns how much percent it found done."""
        answer = self.build(folder)
        all_was_done = "exists and is kept" in answer.get("message", "")
        if ("error" in answer and not all_was_done) or contents(folder) != self.truth:
            raise SystemExit(
                f"not the bytes of an undisturbed build: {answer.get('message')} {sorted(contents(folder))}"
            )
        said = " ".join(answer["said"])
        return 100 if all_was_done else int(said.partition("ended, at ")[2].partition(" ")[0] or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kind(step: str) -> str:
    """What a build was doing, in the words of the table."""
    call, _, name = step.partition(" ")
    for ending, words in (
        (".lock", "locks"),
        (".lock.TOKEN", "locks"),
        ("sha256", "checksums"),
        ("sha256.new", "checksums"),
    ):
        if name.endswith(ending):
            return words
    if "journal" in name:
        return "journal"
    return {"pwrite": "data written", "fdatasync": "data flushed", "replace": "names given"}.get(
        call, "files made, folder flushed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance, hits, rounds, found = random.Random(options.seed), Counter[tuple[bool, str]](), 0, list[int]()
    start = time.monotonic()
    with TemporaryDirectory(prefix="kills-") as scratch:
        builder = Builder(Path(scratch))
        while hits.total() < options.kills:
            rounds += 1
            folder = Path(scratch) / str(rounds)
            for _ in range(chance.choice((1, 1, chance.randint(2, 5)))):
                by_clock = hits.total() % 2 == 0
                if step := builder.killed(folder, chance, by_clock):
                    hits[by_clock, kind(step)] += 1
            found.append(builder.finish(folder))
            shutil.rmtree(folder)
    print(f"{'last call of the killed build':32}{'by the clock':>14}{'at a call':>14}")
    for name in sorted({name for _, name in hits}, key=lambda name: -hits[True, name] - hits[False, name]):
        print(f"{name:32}{hits[True, name]:14}{hits[False, name]:14}")
    print(f"{hits.total()} kills in {rounds} builds ({time.monotonic() - start:.0f} s):"
          f" all {rounds} ended in the same bytes, going on at {sum(found) / len(found):.0f} % on average")  # fmt: skip


if __name__ == "__main__":
    main()
