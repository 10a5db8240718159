"""Fitted files against llama.cpp's named recipes, at equal size, with and without importance.

    python bench/fit.py FOLDER [--checkpoint FOLDER_OF_SECOND_MODEL] [--plain] [--budgets 10] [--tokens 50000]

Without --checkpoint it is the demo model and conversations of its world; with it the model of bench/second_model.py and
its texts. Files are searched for as `nemotron fit --calibrate` does: the table of divergences and the files tried are
measured on the calibration text, which the importance is taken from as well. Then the fitted files and llama.cpp's
recipes are compared on the held-out text, on at least --tokens predictions. Everything lies in FOLDER and is gone on
with.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert import FilePlan, Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.divergences import Divergence, Divergences, Setting, read_divergences
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import Imatrix, fill, read_imatrix, write_imatrix
from nemotron_gguf.quant import FILE_TYPES, QuantError, QuantizeOptions, plan_quantization
from nemotron_gguf.quant.fit.alternative import Alternative, alternatives
from nemotron_gguf.quant.fit.choice import Choice, Problem, problem_of
from nemotron_gguf.quant.fit.predict import Prediction
from nemotron_gguf.quant.fit.sampled import relative_errors, sample
from nemotron_gguf.quant.fit.types import QUANTIZED
from nemotron_gguf.quant.fit.variants import InParts
from nemotron_gguf.quant.widths import paddable
from nemotron_gguf.runner.measure.evaluation import Reference
from nemotron_gguf.runner.measure.importance import Goal, collect
from nemotron_gguf.runner.measure.measurer import Measurer
from nemotron_gguf.runner.measure.texts import Text
from nemotron_gguf.runner.measure.values import KL
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.runner.preflight.check import inspect_model
from nemotron_gguf.ui.fit.calibrate import Bench
from nemotron_gguf.ui.fit.measuring import Laboratory
from nemotron_gguf.ui.fit.search import Found, search

SCORED = 255  # of the 512 tokens of a chunk
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subject:
    """A model and its texts, in a folder of its own."""

    folder: Path
    checkpoint: Path
    calibration: Text
    held_out: Text
    chunks: int  # of the calibration text that table and search are measured on

    @property
    def reference(self) -> Path:
        return self.folder / "F32.gguf"


def demo_text(seed: int, count: int) -> Text:
    """Conversations of the demo model's world, drawn anew, in its own format."""
    from nemotron_gguf.models.demo.training.held_out import draw
    from nemotron_gguf.models.demo.training.tokenizer import Renderer

    render, drawn = Renderer(CHECKPOINT / "chat_template.jinja"), list(draw(seed, count))
    random.Random(seed).shuffle(drawn)
    said = (
        render(
            [*case.messages, case.expected],
            list(case.tools),
            enable_thinking=case.thinking,
            add_generation_prompt=False,
        )
        for case in drawn
    )
    return Text(f"demo {seed}", "\n".join(said), special=True)


def subject_of(folder: Path, checkpoint: Path | None, tokens: int, chunks: int) -> Subject:
    if checkpoint is None:
        count = max(60, tokens // 600)  # a conversation has 1500 tokens, of which half are scored
        return Subject(folder, CHECKPOINT, demo_text(11, 60), demo_text(12, count), chunks)
    calibration, held_out = (
        Text(name, (checkpoint.parent / f"{name}.txt").read_text("utf-8")) for name in ("calibration", "held_out")
    )
    return Subject(folder, checkpoint, calibration, held_out, chunks)


def importance(subject: Subject, measurer: Measurer) -> Imatrix:
    """The importance of the calibration text, once."""
    target = subject.folder / "imatrix.gguf"
    if not target.exists():
        file = inspect_model(subject.reference)
        chunks = measurer.read(subject.reference, [subject.calibration]).chunks
        partial = subject.folder / "imatrix.part"
        found = collect(measurer.engine, file, chunks, Window(threads=1, batch=512).placement(), partial, Goal())
        shown, filled = fill(found.partial.entries)
        write_imatrix(target, shown, datasets=["calibration"], chunk_count=chunks.count, chunk_size=512, filled=filled)
    return read_imatrix(target)


def laboratory(subject: Subject, source: FilePlan, imatrix: Imatrix | None, measurer: Measurer) -> Laboratory:
    """What `nemotron fit --calibrate` works with, on the calibration text."""
    kind = "imatrix" if imatrix else "plain"
    path = subject.folder / f"{kind}.divergences.jsonl"
    material = measurer.read(subject.reference, [subject.calibration], subject.chunks)
    reference = measurer.reference(subject.reference, material, subject.folder / "calibration.logits")
    setting = Setting(subject.checkpoint.name, "", kind, subject.calibration.name, 512, subject.chunks)
    table = read_divergences(path) if path.exists() else Divergences(setting)
    whole = Alternative(source, paddable(source, 256))
    bench = Bench(subject.folder / f"work-{kind}", InParts(whole, imatrix, GGMLType.F32), measurer, reference)
    bench.prepare()
    return Laboratory(bench, path, table, lambda title, done, total: print(f"{title} {done}/{total}", flush=True))


@dataclass(frozen=True)
class Made:
    """A file and the divergence of each token of the held-out text, `(n,) float64` nats."""

    name: str
    nbytes: int
    kl: Floats

    @property
    def mean(self) -> float:
        return float(self.kl.mean())

    @property
    def error(self) -> float:
        return float(self.kl.std() / math.sqrt(len(self.kl) - 1))


class Contest:
    """Files of one source on one machine: written, measured on either text, what was measured is kept."""

    def __init__(self, subject: Subject, source: FilePlan, imatrix: Imatrix | None, measurer: Measurer, tokens: int):
        self.subject, self.source, self.imatrix, self.measurer = subject, source, imatrix, measurer
        self.kind = "imatrix" if imatrix else "plain"
        self.folder = subject.folder / f"files-{self.kind}"
        self.folder.mkdir(exist_ok=True)
        self.n_weights = sum(math.prod(tensor.shape) for tensor in source.tensors)
        plain = Alternative(source)
        self.errors = relative_errors(sample(plain.tensors, plain.cells, imatrix), QUANTIZED)
        self.layers = {cell: len(names) for cell, names in plain.cells.items()}
        self.alternatives = alternatives(source)
        self.short = self._reference(subject.calibration, subject.chunks, "calibration.logits")
        self.long = self._reference(subject.held_out, -(-tokens // SCORED), f"held-out-{tokens}.logits")

    def _reference(self, text: Text, chunks: int, cache: str) -> Reference:
        material = self.measurer.read(self.subject.reference, [text], chunks)
        if material.chunks.count < chunks:
            raise SystemExit(f"{text.name}: {material.n_predicted} predictions in all; ask for fewer --tokens")
        return self.measurer.reference(self.subject.reference, material, self.subject.folder / cache)

    def measure(self, name: str, plan: FilePlan, reference: Reference) -> Made:
        """The file of a plan, written if it is not there, against a reference."""
        path = self.folder / f"{name.replace(' ', '-')}-{plan.fingerprint[:12]}.gguf"
        if not path.exists():
            write_files([Output(plan, path)], WriteOptions(verify=False))
        keep = path.with_suffix(".long" if reference is self.long else ".short")
        kl = self.measurer.evaluate(path, reference, keep=keep).values[:, KL]
        print(f"  {name} {8 * plan.header.file_size / self.n_weights:.3f} bits: {kl.mean():.5g}", flush=True)
        return Made(name, plan.header.file_size, kl)

    def stock(self, most: float) -> Iterator[tuple[str, FilePlan]]:
        """llama.cpp's named recipes, as it makes them and padded where that is smaller, of at most so many bits."""
        seen = set()
        for kind in FILE_TYPES:
            for pad in ("none", "auto"):
                options = QuantizeOptions(kind, imatrix=self.imatrix, pad=pad)
                try:
                    plan = plan_quantization(self.source, options)
                except QuantError:
                    continue
                if plan.fingerprint not in seen and plan.header.file_size * 8 <= most * self.n_weights:
                    seen.add(plan.fingerprint)
                    yield f"{kind.name}{'' if pad == 'none' else f' pad {pad}'}", plan


def near_the_best(found: Sequence[Made], slack: float) -> list[Made]:
    """Those that no smaller one beats by more than `slack`."""
    return [
        one for one in found if all(one.mean <= slack * other.mean for other in found if other.nbytes <= one.nbytes)
    ]


def at_size(stock: Sequence[Made], nbytes: int) -> float | None:
    """What the stock files' frontier has at a size: its log-divergence interpolated over size."""
    frontier = sorted(near_the_best(stock, 1.0), key=lambda one: one.nbytes)
    sizes, logs = [one.nbytes for one in frontier], [math.log(one.mean) for one in frontier]
    if not sizes or not sizes[0] <= nbytes <= sizes[-1]:
        return None
    return math.exp(float(np.interp(nbytes, sizes, logs)))


def known_of(contest: Contest, measured: Mapping[str, Divergence]) -> list[Problem]:
    """What the solver chooses from, as `nemotron fit` has it."""
    prediction = Prediction(contest.errors, contest.layers, measured)
    return [problem_of(one, prediction.of, contest.imatrix) for one in contest.alternatives]


def compare(contest: Contest, lab: Laboratory, budgets: int, bits: tuple[float, float]) -> None:
    """Print, for each budget, the fitted file beside the stock files."""
    least = min(problem.least for problem in known_of(contest, lab.table.cells))
    low = max(bits[0], 8 * least / contest.n_weights * 1.02)
    found: list[Found] = []
    for step in range(budgets):
        bpw = low * (bits[1] / low) ** (step / (budgets - 1))
        one = search(lab, lambda measured: known_of(contest, measured), int(bpw * contest.n_weights / 8))
        assert one
        print(
            f"{bpw:.3f} bits: {describe(one.choice)}, measured {lab.table.cells[one.choice.key].mean:.5g}", flush=True
        )
        found.append(one)
    plans = dict(contest.stock(bits[1] * 1.1))
    short = [contest.measure(name, plan, contest.short) for name, plan in plans.items()]
    worst = 1.5 * max(lab.table.cells[one.choice.key].mean for one in found)  # what is worse beats none of them
    close = [one for one in near_the_best(short, 1.1) if one.mean < worst]
    stock = [contest.measure(one.name, plans[one.name], contest.long) for one in close]
    rows = [(one.choice, contest.measure("fit", one.choice.plan(contest.imatrix), contest.long)) for one in found]
    show(contest, rows, stock)


def describe(choice: Choice) -> str:
    """A named recipe's name, or the types of the middle of each class; and the widths."""
    widths = "+".join(sorted(choice.alternative.pad)) or "none"
    types = {f"{cell.name} {kind.name}" for cell, kind in choice.types.items() if cell.part == "middle"}
    return f"{choice.named.name if choice.named else ', '.join(sorted(types))}; padded: {widths}"


def show(contest: Contest, rows: Sequence[tuple[Choice, Made]], stock: Sequence[Made]) -> None:
    """The figures, as a table in Markdown."""
    print(f"\n{contest.subject.checkpoint.name}, {contest.kind}, {len(rows[0][1].kl)} predictions\n")
    print("| bits | fitted | predicted | best stock of that size or smaller | difference | stock at that size | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    gains = []
    for choice, made in rows:
        smaller = [one for one in stock if one.nbytes <= made.nbytes]
        rival = min(smaller, key=lambda one: one.mean, default=None)
        paired = "" if rival is None else _paired(made.kl - rival.kl)
        equal = at_size(stock, made.nbytes)
        gains += [] if equal is None else [1 - made.mean / equal]
        print(
            f"| {8 * made.nbytes / contest.n_weights:.3f} | {made.mean:.5f} ± {made.error:.5f} | {choice.loss:.5f} |"
            f" {f'{rival.name} {rival.mean:.5f}' if rival else '–'} | {paired} |"
            f" {f'{equal:.5f}' if equal else '–'} | {f'{gains[-1]:.0%}' if equal else '–'} |"
        )
    print(f"\nmedian gain at equal size: {np.median(gains) if gains else math.nan:.1%} over {len(gains)} budgets")
    listed = ", ".join(f"{one.name} {8 * one.nbytes / contest.n_weights:.2f} {one.mean:.5f}" for one in stock)
    print(f"stock near its frontier: {listed}")


def _paired(difference: Floats) -> str:
    return f"{difference.mean():+.5f} ± {difference.std() / math.sqrt(len(difference) - 1):.5f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--plain", action="store_true", help="without importance")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budgets", type=int, default=10, help="0 calibrates only")
    parser.add_argument("--least", type=float, default=2.5)
    parser.add_argument("--most", type=float, default=6.3)
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--chunks", type=int, default=32, help="of the calibration text, for table and search")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    subject = subject_of(args.folder, args.checkpoint, args.tokens, args.chunks)
    with (
        Lock(args.folder / "run"),
        open_checkpoint(subject.checkpoint) as checkpoint,
        Measurer(Window(threads=args.threads)) as measurer,
    ):
        source = plan_conversion(checkpoint, "f32")
        if not subject.reference.exists():
            write_files([Output(source, subject.reference)])
        imatrix = None if args.plain else importance(subject, measurer)
        lab = laboratory(subject, source, imatrix, measurer)
        lab.calibrate(imatrix, args.depth)
        if args.budgets:
            contest = Contest(subject, source, imatrix, measurer, args.tokens)
            compare(contest, lab, args.budgets, (args.least, args.most))


if __name__ == "__main__":
    main()
