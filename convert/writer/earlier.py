"""What an earlier run left, and how much of it still counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.convert.writer.chunks import Chunk
from nemotron_gguf.convert.writer.journal import Journal, State
from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.convert.writer.read_back import Count, damaged_chunks

Say = Callable[[str], None]


def find(journal: Journal, parts: Sequence[PartFile], chunks: Iterable[Chunk], say: Say) -> State | None:
    """What the journal says, where the files it speaks of are there; changes nothing, says why it does not count."""
    found, why = journal.read()
    if found is not None:
        if len(found.sealed or ()) != len(parts) or not all(_is_claimed(chunk, found) for chunk in chunks):
            found.sealed = None
        why = _missing(found, parts)
    if why:
        say(f"starting afresh: {why}")
        return None
    return found


def _missing(found: State, parts: Iterable[PartFile]) -> str | None:
    for part in parts:
        if found.sealed is None and not part.is_whole:
            what = "is not what an earlier run left" if part.there else "of an earlier run is gone"
            return f"{part.path} {what}"
        if found.sealed is not None and not part.is_finished:
            return f"{part.target}, which an earlier run had finished, is gone or another file"
    return None


def still_good(parts: Sequence[PartFile], chunks: Sequence[Chunk], found: State, say: Say, count: Count) -> State:
    """The chunks that the open parts really hold, by their checksums."""
    claimed = [chunk for chunk in chunks if _is_claimed(chunk, found)]
    say(f"going on where an earlier run ended, at {percent(chunks, found.done)} %")
    bad = damaged_chunks(parts, claimed, found.done, count)
    if bad:
        say(f"{len(bad)} chunks of it are damaged and made again")
    return State({chunk.number: found.done[chunk.number] for chunk in claimed if chunk.number not in bad})


def _is_claimed(chunk: Chunk, found: State) -> bool:
    return len(found.done.get(chunk.number, ())) == len(chunk.wanted)


def percent(chunks: Iterable[Chunk], done: Mapping[int, object]) -> int:
    """How much of the work is done, by the bytes to be read."""
    sizes = [(chunk.source_bytes, chunk.number in done) for chunk in chunks]
    return 100 * sum(size for size, is_done in sizes if is_done) // max(sum(size for size, _ in sizes), 1)


def frame(plan: FilePlan) -> Iterator[tuple[int, bytes]]:
    """All of a file that is in no chunk, by offset: the header, and the zeros between tensors and after the last."""
    header = plan.header
    yield 0, header.data
    end = len(header.data)
    places = [(offset, tensor.nbytes) for tensor, offset in zip(plan.tensors, header.offsets, strict=True)]
    for offset, size in (*sorted(places), (header.file_size, 0)):
        if offset > end:
            yield end, bytes(offset - end)
        end = offset + size
