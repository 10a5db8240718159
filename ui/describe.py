"""What `nemotron inspect` shows of a GGUF file."""

from __future__ import annotations

from collections import defaultdict

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.gguf_values import Value
from nemotron_gguf.models.widths import padded_from, trimmed_from
from nemotron_gguf.ui import console

LONGEST_NAME = 200  # characters of a name that are shown
LONG = 8  # items of an array that are shown before it is cut


def describe_file(file: GGUFFile, with_tensors: bool, problem: Exception | None) -> dict[str, object]:
    """The file for `--json`: every key whole; tensors by type, or one by one when asked for.

    `problem` is the preflight's, and null where llama.cpp could run the file.
    """
    described: dict[str, object] = {
        "path": str(file.path),
        "bytes": file.file_size,
        "version": file.version,
        "alignment": file.alignment,
        "architecture": file.architecture,
        "parameters": sum(tensor.n_elements for tensor in file.tensors),
        "types": {kind: {"tensors": n, "bytes": size} for kind, n, size in types(file)},
        "problem": None if problem is None else str(problem),
        "metadata": {key: value.plain() for key, value in file.metadata.items()},
    }
    if with_tensors:
        described["tensors"] = [
            {"name": t.name, "shape": list(t.shape), "type": t.type.name, "offset": t.offset, "bytes": t.nbytes}
            for t in file.tensors
        ]
    return described


def types(file: GGUFFile) -> list[tuple[str, int, int]]:
    """(type, tensors, bytes), the largest share first."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for tensor in file.tensors:
        counts[tensor.type.name][0] += 1
        counts[tensor.type.name][1] += tensor.nbytes
    return sorted(((kind, n, size) for kind, (n, size) in counts.items()), key=lambda row: -row[2])


def print_file(file: GGUFFile, with_tensors: bool) -> None:
    """The file for people: a summary, the keys, the tensors when asked for."""
    parameters = sum(tensor.n_elements for tensor in file.tensors)
    bits = 8 * sum(tensor.nbytes for tensor in file.tensors) / max(parameters, 1)
    console.say(f"{file.path}")
    console.say(
        f"{printable(file.architecture) or 'no architecture'}, {_count(parameters)} parameters,"
        f" {console.size(file.file_size)}, {bits:.2f} bits a weight, GGUF version {file.version}"
    )
    if history := widths_history(file):
        console.say(history)
    console.say("\nKeys")
    for key, value in file.metadata.items():
        console.say(f"  {printable(key)} = {_short(value)}")
    console.say("\nTypes")
    for kind, n, size in types(file):
        console.say(f"  {kind:8} {n:5} tensors  {console.size(size):>9}")
    if with_tensors:
        console.say("\nTensors")
        for tensor in file.tensors:
            shape = "×".join(map(str, tensor.shape))
            console.say(
                f"  {printable(tensor.name):40} {tensor.type.name:8} {shape:>20}  {console.size(tensor.nbytes):>9}"
            )


def widths_history(file: GGUFFile) -> str:
    """Which widths the file was given, and from which: `Widths: hidden 2816 (padded from 2688), …`; else nothing."""
    told = [(dimension, "padded", width) for dimension, width in padded_from(file.metadata).items()]
    told += [(dimension, "trimmed", width) for dimension, width in trimmed_from(file.metadata).items()]
    parts = []
    for dimension, what, old in told:
        value = file.get(f"{file.architecture}.{dimension.key}")
        now = max((item for item in value if isinstance(item, int)), default=0) if isinstance(value, list) else value
        parts.append(f"{dimension} {now} ({what} from {old})")
    return f"Widths: {', '.join(parts)}" if parts else ""


def _count(number: int) -> str:
    """A number of weights as model cards give it: 31.6 B, 5.19 M."""
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"


def printable(text: str) -> str:
    """A name from a file that may be hostile, without control characters."""
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}… ({len(text)} characters)"


def _short(value: Value) -> str:
    """A value on one line."""
    plain = value.plain()
    if isinstance(plain, list):
        shown = ", ".join(_quoted(item) for item in plain[:LONG])
        return f"[{shown}{', …' if len(plain) > LONG else ''}] ({len(plain)} items)"
    return _quoted(plain)


def _quoted(item: object, limit: int = 80) -> str:
    if not isinstance(item, str):
        return f"{item:.6g}" if isinstance(item, float) else str(item)
    text = ascii(item) if not item.isprintable() else repr(item)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(item)} characters)"
