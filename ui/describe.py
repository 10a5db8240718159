"""What `nemotron inspect` shows of a GGUF file."""

from __future__ import annotations

from collections import defaultdict

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.gguf_values import Value
from nemotron_gguf.ui import console

LONG = 8  # items of an array that are shown before it is cut


def describe_file(file: GGUFFile, with_tensors: bool) -> dict[str, object]:
    """The file for `--json`: every key whole; tensors by type, or one by one when asked for."""
    described: dict[str, object] = {
        "path": str(file.path),
        "bytes": file.file_size,
        "version": file.version,
        "alignment": file.alignment,
        "architecture": file.architecture,
        "parameters": sum(tensor.n_elements for tensor in file.tensors),
        "types": {kind: {"tensors": n, "bytes": size} for kind, n, size in types(file)},
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


def _count(number: int) -> str:
    """A number of weights as model cards give it: 31.6 B, 5.19 M."""
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"


def printable(text: str) -> str:
    """A name from a file that may be hostile, without control characters."""
    return text if text.isprintable() else ascii(text)


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
