"""Which GGUF of a repository is meant: its files by type, from the names that people give them.

Names in the wild: `Name-Q4_K_M.gguf`, `name.q4_k_m.gguf`, `Name.i1-IQ2_M.gguf`, `Name-UD-Q4_K_XL.gguf`, and in parts,
in a folder or not, `Q4_K_M/Name-Q4_K_M-00001-of-00003.gguf`. Projectors of images (`mmproj-…`), importance matrices and
vocabularies are GGUF files too, but no models.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hub.remote import Listed
from nemotron_gguf.models.gguf_parts import MAX_PARTS

USUAL = "Q4_K_M"  # what is taken where nothing is said

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.ASCII | re.DOTALL)
_TYPE = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d|TQ\d|BF16|FP?16|FP?32|MXFP\d|NVFP\d)(?:_[A-Z0-9]+)*)"
    r"(?:[-._](?:imat|imatrix|GGUF))?$",
    re.IGNORECASE | re.ASCII,
)
_NO_MODEL = re.compile(r"mmproj|(?:^|[-._])imatrix$|^ggml-vocab", re.IGNORECASE)
_SHOWN = 30  # models that are listed


@dataclass(frozen=True)
class Offer:
    """A model of a repository: its `type` as named (empty: not named), its parts in order, bytes (None: not told)."""

    type: str
    parts: tuple[str, ...]
    size: int | None

    @property
    def shown(self) -> str:
        """For a list: the type, or the name where that tells more, and the size."""
        size = "" if self.size is None else f" ({self.size / 1e9:.3g} GB)"
        return f"{self.type or self.parts[0]}{size}"


def offers(files: Mapping[str, Listed]) -> list[Offer]:
    """The models among a repository's files (paths), by their first names. Sets that lack parts are left out."""
    sets: defaultdict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for path in files:
        stem, number, count = _split(path)
        name = PurePosixPath(stem).name
        if path.lower().endswith(".gguf") and not _NO_MODEL.search(name) and 1 <= number <= count <= MAX_PARTS:
            sets[stem, count][number] = path
    found = []
    for (stem, count), parts in sets.items():
        if len(parts) == count:
            names = tuple(parts[number] for number in range(1, count + 1))
            sizes = [files[name].size for name in names]
            total = None if None in sizes else sum(size or 0 for size in sizes)
            found.append(Offer(_type(PurePosixPath(stem)), names, total))
    return sorted(found, key=lambda offer: offer.parts)


def choose(repo_id: str, files: Mapping[str, Listed], wanted: str | None) -> Offer:
    """The model that `wanted` (a type, or a file's name or path; None: the usual type) means.

    Where nothing is said and there is but one model, it is that. Raises ConvertError with the list of what there is
    where it is none or more than one.
    """
    there = offers(files)
    if not there:
        incomplete = any(name.lower().endswith(".gguf") for name in files)
        what = "no complete model in GGUF" if incomplete else "no GGUF file"
        raise ConvertError(f"{repo_id} has {what}; give another repository, or build from a checkpoint")
    if wanted is None and len(there) == 1:
        return there[0]
    exact = [offer for offer in there if wanted and wanted in _names(offer)]
    if len(exact) == 1:
        return exact[0]
    kind = (wanted or USUAL).upper()
    fitting = [offer for offer in there if offer.type.upper() == kind]
    fitting = fitting or [offer for offer in there if offer.type.upper().removeprefix("UD-") == kind]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConvertError(
            f"{repo_id} has {len(fitting)} models of type {kind}; name the file after a colon:"
            f" {_listed(offer.parts[0] for offer in fitting)}"
        )
    raise ConvertError(
        f"{repo_id} has no {_plain(wanted or USUAL)}; choose by {repo_id}:TYPE from {_listed(o.shown for o in there)}"
    )


def is_split_set(offer: Offer) -> bool:
    """Whether its names say that it is in parts, be it one."""
    return _PART.fullmatch(offer.parts[0][: -len(".gguf")]) is not None


def _split(path: str) -> tuple[str, int, int]:
    """A path without its ending, its number and the number of parts: 1 of 1 where it is whole."""
    stem = path[: -len(".gguf")]
    match = _PART.fullmatch(stem)
    return (match[1], int(match[2]), int(match[3])) if match else (stem, 1, 1)


def _type(stem: PurePosixPath) -> str:
    """The type that a name ends in, or that its folder is named by; the empty string where neither tells."""
    match = _TYPE.search(stem.name) or _TYPE.fullmatch(stem.parent.name)
    return match[1].upper() if match else ""


def _names(offer: Offer) -> set[str]:
    """All by which an offer may be called besides its type."""
    stem = PurePosixPath(_split(offer.parts[0])[0])
    first = PurePosixPath(offer.parts[0])
    return {str(first), first.name, str(stem), stem.name}


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(map(_plain, every[:_SHOWN])) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")


def _plain(text: str) -> str:
    return text if text.isprintable() else ascii(text)
