"""Guesses from the text (`--lookup`) against none: tokens a second, in turn in one process on the same file.

    python bench/lookup.py MODEL.gguf [--lookup 3] [--tokens 64] [--rounds 3] [--threads N]

First a task in which the text repeats: ten lines are there twice and the answer goes on with the third time. Then the
same answer with guesses of which a given share is right, whatever the model: that shows from where on it pays, and what
guesses that are always wrong cost. The engine leaves out what it found not to pay, as always; `--all` has it make every
guess. `python bench/generation.py --make MODEL.gguf` makes a model with the 30B's widths.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from nemotron_gguf.runner import Done, Sampling
from nemotron_gguf.runner.engine.loaded import LoadedModel
from nemotron_gguf.runner.engine.lookup import Guess, Lookup
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.messages import Generate

WORDS = (Path(__file__).parent / "calibration_text" / "words_en.txt").read_text(encoding="utf-8").split()
SHARES = (None, 0.0, 0.5, 0.75, 0.9, 1.0)  # of guessed tokens that are right; None: as the text has them


class Known(Lookup):
    """Guesses from a text that is known already, each token right with some probability."""

    def __init__(self, text: Sequence[int], share: float) -> None:
        super().__init__()
        self.text, self.share, self.random = text, share, random.Random(1)

    def guess(self, text: Sequence[int], last: int, most: int) -> Guess:
        """The next tokens, or others."""
        del last
        behind = self.text[len(text) + 1 : len(text) + 1 + most]
        return Guess([token if self.random.random() < self.share else 9 for token in behind], 3)


class Engine:
    """A model in this process, that answers once."""

    def __init__(self, options: argparse.Namespace, lookup: int) -> None:
        placement = Placement(2048, options.threads, kv_unified=True, lookup=lookup)
        words: Any = SimpleNamespace(cancelled=set(), thought_enough=set())
        self.ends: list[Done] = []
        queue: SimpleQueue[Any] = SimpleQueue()
        self.model = LoadedModel(str(options.model), placement, lambda _: True, words, self._take, queue.put, 1 << 30)
        if options.all:
            self.model.scheduler.guessing.worth.length = lambda size, most: most * bool(size)  # type: ignore[method-assign]

    def _take(self, _number: int, event: object) -> None:
        if isinstance(event, Done):
            self.ends.append(event)

    def ask(self, options: argparse.Namespace, prompt: str, guesses: Lookup | None) -> tuple[Done, list[int]]:
        """The end of an answer, and all its tokens."""
        self.model.generate(1, Generate(prompt, Sampling(temperature=0), max_tokens=options.tokens, ignore_end=True))
        if guesses:
            self.model.scheduler.queue.waiting[0].lookup = guesses
        while self.model.has_work:
            self.model.step()
        return self.ends[-1], list(self.model.sequences.all[0].tokens)


def task() -> str:
    """Ten lines twice, and the first words of a third time."""
    draw = random.Random(3)
    lines = [" ".join(draw.choice(WORDS) for _ in range(8)) for _ in range(10)]
    text = "\n".join(lines)
    return f"{text}\n\n{text}\n\n{lines[0].rpartition(' ')[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--lookup", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--all", action="store_true", help="make every guess")
    options = parser.parse_args()
    without, guessing, prompt = Engine(options, 0), Engine(options, options.lookup), task()
    without.ask(options, prompt, None)
    guessing.ask(options, prompt, None)  # warm
    for share in SHARES:
        ratios, rates = list[float](), list[float]()
        for _ in range(options.rounds):
            plain, text = without.ask(options, prompt, None)
            found, other = guessing.ask(options, prompt, None if share is None else Known(text, share))
            rates.append(plain.timings.generated_per_second)
            ratios.append(found.timings.generated_per_second / rates[-1])
        usage, what = found.usage, "the text's own" if share is None else f"{share:.0%} right"
        same = "the same tokens" if text == other else "other tokens"
        print(f"{what}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times"
              f" {statistics.median(rates):.1f} tokens/s; {usage.guessed_tokens} guessed, {usage.right_tokens} right,"
              f" {same}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
