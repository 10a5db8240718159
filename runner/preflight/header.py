"""What the rules ask a file for: its tensors by name, and its keys as libllama reads them."""

from __future__ import annotations

import re
from functools import cached_property

from nemotron_gguf.models.errors import printable
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo
from nemotron_gguf.models.gguf_values import Scalar, Value, ValueType
from nemotron_gguf.runner.errors import RunnerError

_LAYER = re.compile(r"blk\.(\d{1,9})\.")


def same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether shapes are the same but for outer dimensions of 1, which llama.cpp does not see."""
    n = max(len(one), len(other))
    return (1,) * (n - len(one)) + one == (1,) * (n - len(other)) + other


class Header:
    """A file's keys and tensors. Keys of the architecture are named without it: `block_count`."""

    def __init__(self, file: GGUFFile) -> None:
        self.file, self.architecture = file, file.architecture

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """The tensors by their names."""
        return {tensor.name: tensor for tensor in self.file.tensors}

    @cached_property
    def layers(self) -> frozenset[int]:
        """The layers that have tensors."""
        found = {match[1] for tensor in self.file.tensors if (match := _LAYER.match(tensor.name))}
        return frozenset(map(int, found))

    @cached_property
    def n_layers(self) -> int:
        """All layers, those that predict further tokens included."""
        return self.number("block_count")

    @cached_property
    def n_predicting(self) -> int:
        """Layers at the end that predict further tokens (MTP)."""
        return self.number("nextn_predict_layers", 0)

    def fail(self, message: str) -> RunnerError:
        """The error that tells what is wrong with the model, on one line without control characters."""
        return RunnerError(f"{self.file.path} cannot be run: {printable(message)}; convert or download it again")

    def name(self, key: str) -> str:
        """A key of the architecture in full."""
        return f"{self.architecture}.{key}"

    def key(self, key: str) -> Value | None:
        """The value of a key of the architecture."""
        return self.file.metadata.get(self.name(key))

    def scalar(self, name: str, kind: ValueType) -> Scalar | None:
        """A key, named in full, that libllama takes as one value of one type alone."""
        value = self.file.metadata.get(name)
        if value is None:
            return None
        if value.is_array or value.type is not kind:
            found = f"{'an array of ' if value.is_array else ''}{value.type.name}"
            raise self.fail(f"{name} is {found}, expected {kind.name}")
        data = value.data
        assert isinstance(data, bool | int | float | str)
        return data

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number of the architecture; without a default it must be there."""
        found = self.scalar(self.name(key), ValueType.UINT32)
        if found is None and default is None:
            raise self.fail(f"{self.name(key)} is missing")
        return int(default if found is None else found)  # type: ignore[arg-type]

    def per_layer(self, key: str, default: int | list[int] = 0) -> list[int]:
        """A number for each layer: one for all, or a list with an item for each (get_key_or_arr of the loader)."""
        value = self.key(key)
        if value is None:
            return [default] * self.n_layers if isinstance(default, int) else default
        if not value.is_array:
            return [self.number(key)] * self.n_layers
        if value.type not in (ValueType.INT32, ValueType.UINT32, ValueType.BOOL):
            raise self.fail(f"{self.name(key)} is a list of {value.type.name}, expected INT32 or UINT32")
        items = [int(item) for item in value.plain()]  # type: ignore[union-attr]
        if len(items) != self.n_layers:
            raise self.fail(f"{self.name(key)} has {len(items)} items for {self.n_layers} layers")
        if any(item < 0 for item in items):
            raise self.fail(f"{self.name(key)} has {min(items)} for layer {items.index(min(items))}")
        return items
