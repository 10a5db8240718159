"""A checkpoint in a folder: its config, its tensors by name, its other files. Nothing in it is executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Self

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hub.place import open_place, parse_source
from nemotron_gguf.convert.source.byte_source import INDEX, SINGLE, Files
from nemotron_gguf.convert.source.fp8_scales import with_scales
from nemotron_gguf.convert.source.json_files import Object, read_object, read_optional
from nemotron_gguf.convert.source.nvfp4_scales import with_blocks
from nemotron_gguf.convert.source.safetensors import Shard
from nemotron_gguf.convert.source.scheme import HF_QUANT_CONFIG, Scheme, read_scheme
from nemotron_gguf.convert.source.tensor import Tensor
from nemotron_gguf.models.ggml import GGMLType

MAX_SHARDS = 10_000
HEADERS_AT_ONCE = 8


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose headers are all read and checked; its weights are read on demand.

    `name` is the repository's or the folder's name, `repo_id` the Hub's `org/name` where it came from there. The
    shards, in the order of their file names, stay open until `close`, or until the last reader is gone. `scheme` says
    how the weights were quantized, where they were; `tensors` are bound to their scales.
    """

    folder: Path
    name: str
    repo_id: str | None
    config: Object
    tensors: Mapping[str, Tensor]
    shards: tuple[Shard, ...] = ()
    scheme: Scheme | None = None

    def file(self, name: str) -> Path:
        """Path of another file of the checkpoint, whether it exists or not."""
        return self.folder / name

    def precision(self) -> GGMLType:
        """The storage type that most weights have."""
        counts: Counter[GGMLType] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.type] += prod(tensor.shape)
        return counts.most_common(1)[0][0]

    def identity(self) -> list[dict[str, object]]:
        """What binds a run to this checkpoint: the identities of its shards, in the order of their file names."""
        return [shard.identity() for shard in self.shards]

    @property
    def in_flight(self) -> int:
        """How many reads are worth having under way at once: more where the weights come over a network."""
        return max((shard.source.in_flight for shard in self.shards), default=1)

    def close(self) -> None:
        """Give the files back."""
        for shard in self.shards:
            shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    name: str | None = None,
    progress: bool = True,
    keep_source: bool = False,
) -> Checkpoint:
    """Open a local folder, or a Hub repository `org/name[@revision]`, whose weights are read over the network.

    `name` is what to call the model, by default its repository or folder; `progress` shows the bars of downloads;
    `keep_source` brings a repository's weights into the Hub's cache first, from where they are read then and later.
    Raises ConvertError, in one line, for everything that is not as it must be: a missing file, a header that does not
    fit its file, quantized weights, pickled weights.
    """
    place = parse_source(source, revision)
    found = open_place(place, progress=progress, keep_source=keep_source)
    folder, files = found.folder, found.files
    repo_id = place.repo_id
    name = name or (repo_id.rpartition("/")[2] if repo_id else folder.resolve().name)
    if not folder.joinpath("config.json").is_file():
        raise ConvertError(
            f"{files.name} has no config.json; give the folder of a checkpoint, or a Hub repository org/name"
        )
    config = read_object(folder / "config.json")
    scheme = read_scheme(config, read_optional(folder / HF_QUANT_CONFIG), files.name)
    shards, tensors = _open_weights(folder, files)
    try:
        scaled = with_scales(with_blocks(tensors, scheme), scheme)
    except BaseException:
        for shard in shards.values():
            shard.close()
        raise
    return Checkpoint(folder, name, repo_id, config, scaled, tuple(shards.values()), scheme)


def _open_weights(folder: Path, files: Files) -> tuple[dict[str, Shard], dict[str, Tensor]]:
    """The shards by file name and the tensors by name; `folder` has the index, `files` the weights."""
    if folder.joinpath(INDEX).is_file():
        weight_map = read_object(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ConvertError(f"{folder / INDEX} has no weight_map, expected an object of tensor to file name")
        shards = _open_shards(files, sorted(_shard_names(weight_map)))
        return shards, _listed_tensors(shards, weight_map)
    names = list(files.names())
    if SINGLE not in names:
        raise _no_weights(files.name, names)
    shards = _open_shards(files, [SINGLE])
    tensors = {name: Tensor(entry, shards[SINGLE]) for name, entry in shards[SINGLE].entries.items()}
    if not tensors:
        raise ConvertError(f"{shards[SINGLE].source.name} holds no tensors")
    return shards, tensors


def _no_weights(where: str, names: list[str]) -> ConvertError:
    pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
    if pickled:
        return ConvertError(
            f"{where} holds its weights in {pickled}, which could run code when read; expected {SINGLE}."
            " Save it with transformers' save_pretrained(safe_serialization=True)"
        )
    loose = next((name for name in names if name.endswith(".safetensors")), None)
    if loose:
        return ConvertError(f"{where} has {loose} but neither {SINGLE} nor {INDEX}; its download is incomplete")
    return ConvertError(f"{where} has no weights, expected {SINGLE} or {INDEX} with its shards")


def _open_shards(files: Files, names: Sequence[str]) -> dict[str, Shard]:
    """Open files and check their headers, several at once."""
    there = set(files.names())
    for name in names:
        if name not in there:
            raise ConvertError(f"{files.name} lacks the shard {name} that {INDEX} names; download the checkpoint again")
    with ThreadPoolExecutor(HEADERS_AT_ONCE, thread_name_prefix="headers") as pool:
        try:
            return dict(zip(names, pool.map(lambda name: Shard(files.open(name)), names), strict=True))
        except BaseException:
            files.close()  # others may be waiting for a network
            raise


def _listed_tensors(shards: Mapping[str, Shard], weight_map: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of all shards, each in the shard where the index says it is."""
    tensors: dict[str, Tensor] = {}
    for file, shard in shards.items():
        for name, entry in shard.entries.items():
            if weight_map.get(name) != file:
                listed = f"lists it in {weight_map[name]}" if name in weight_map else "does not list it"
                raise ConvertError(f"tensor {name} is in {file}, but {INDEX} {listed}; download the checkpoint again")
            tensors[name] = Tensor(entry, shard)
    missing = [name for name in weight_map if name not in tensors]
    if missing:
        raise ConvertError(
            f"{len(missing)} tensors that {INDEX} lists are in no shard ({name_some(missing)}); download it again"
        )
    return tensors


def _shard_names(weight_map: Mapping[str, object]) -> set[str]:
    names: set[str] = set()
    for tensor, name in weight_map.items():
        plain = isinstance(name, str) and name.endswith(".safetensors") and not set("/\\:\0") & set(name)
        if not plain or not isinstance(name, str) or name.startswith("."):
            raise ConvertError(f"{INDEX} places {tensor} in {str(name)[:80]!r}, expected a .safetensors file beside it")
        names.add(name)
        if len(names) > MAX_SHARDS:
            raise ConvertError(f"{INDEX} names more than {MAX_SHARDS} shards; this is no sound checkpoint")
    return names


def name_some(names: list[str], limit: int = 3) -> str:
    """The first few names, and an ellipsis where there are more."""
    return ", ".join(islice(names, limit)) + (", …" if len(names) > limit else "")
