"""Model files spoiled by lot: whatever passes the preflight, libllama must run or refuse, without a signal.

    python bench/fuzz_gguf.py [--seconds 600] [--seed 1] [--all] [--keep FOLDER]

Small models of five architectures get wrong numbers, types, lists, tokens, shapes and bytes. Each is looked over within
a second; what passes is loaded and run by the real library in a process of its own, and with --all what is refused is
put to it as well, which tells how often the preflight saved a process. Fails at the end if anything died that passed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "hostile" / "gguf"))

from mutate import write_mutant  # type: ignore[import-not-found]
from oracle import Oracle  # type: ignore[import-not-found]

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner import inspect_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    lot, table, slowest, found = random.Random(options.seed), Counter[tuple[str, str]](), 0.0, 0
    end = time.monotonic() + options.seconds
    with TemporaryDirectory(prefix="fuzz-") as scratch, Oracle() as oracle:
        path = Path(scratch) / "a.gguf"
        while time.monotonic() < end:
            said = write_mutant(lot, path)
            if not said:
                continue
            start = time.monotonic()
            verdict = verdict_on(path)
            slowest = max(slowest, time.monotonic() - start)
            outcome, why = oracle.ask(path) if verdict == "passes" or options.all else ("", "")
            table[verdict, outcome] += 1
            if verdict == "passes" and outcome in ("dies", "hangs"):
                found += 1
                print(f"{said}: {outcome}: {why}", flush=True)
                if options.keep:
                    shutil.copy(path, options.keep / f"{options.seed}-{found}.gguf")
    report(table, slowest)
    raise SystemExit(1 if found else 0)


def verdict_on(path: Path) -> str:
    """Whether the preflight lets a file pass."""
    try:
        inspect_model(path)
    except NemotronError as error:
        assert "\n" not in str(error), error
        return "is refused"
    return "passes"


def report(table: Counter[tuple[str, str]], slowest: float) -> None:
    """How many files went which way."""
    for (verdict, outcome), count in sorted(table.items()):
        print(f"{count:8} {verdict}{', and libllama ' + outcome + ' it' if outcome == 'refuses' else ''}"
              f"{', and libllama ' + outcome if outcome and outcome != 'refuses' else ''}")  # fmt: skip
    print(f"{table.total():8} files, the slowest preflight took {1000 * slowest:.0f} ms")


if __name__ == "__main__":
    main()
