"""What tests of pulling share: the program in this process, a small model in one file and in three."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.convert import Output, write_files
from nemotron_gguf.convert.hub import fetch
from nemotron_gguf.convert.writer.split import split_files
from nemotron_gguf.quant import plan_of_file
from nemotron_gguf.tests.hub_server import REPO, Hub
from nemotron_gguf.ui import cli

CHUNK = 16 << 10


class Files(dict[str, bytes]):
    """A repository's files by their paths; the storage asks by the last name alone."""

    def __missing__(self, name: str) -> bytes:
        return next(data for path, data in self.items() if path.rpartition("/")[2] == name)


@dataclass(frozen=True)
class Ended:
    """How a run ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of words."""
        return self.err.splitlines()[-1] if self.err else ""


class Program:
    """The whole program in this process, in an empty folder, with small chunks."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.capsys, self.monkeypatch, self.folder = capsys, monkeypatch, folder
        self.library, self.cache = folder / "library", folder / "cache"
        monkeypatch.chdir(folder)
        for name, value in (
            ("NEMOTRON_HOME", str(self.library)),
            ("COLUMNS", "300"),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(fetch, "CHUNK", CHUNK)
        monkeypatch.setattr("nemotron_gguf.convert.hub.pull.CHUNK", CHUNK)

    def __call__(self, *arguments: str | Path, patience: float = 20) -> Ended:
        """Run a verb; `patience` are the seconds that nothing may come over the network."""
        self.monkeypatch.setenv("NEMOTRON_NETWORK_PATIENCE", str(patience))
        self.monkeypatch.setattr(sys, "argv", ["nemotron", *map(str, arguments)])
        self.capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        printed = self.capsys.readouterr()
        return Ended(status, printed.out, printed.err)

    def names(self) -> list[str]:
        """What is in the library."""
        return sorted(path.name for path in self.library.iterdir()) if self.library.exists() else []


def small_model(folder: Path, name: str = "Small-Q8_0.gguf", seed: int = 0) -> Path:
    """A GGUF of some 300 kB, with a header of a few chunks."""
    from gguf import GGMLQuantizationType, GGUFWriter

    path = folder / name
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(str(path), "nemotron_h_moe")
    writer.add_file_type(7)
    writer.add_token_list([f"token {number}" for number in range(2000)])
    for index in range(6):
        writer.add_tensor(f"blk.{index}.ffn_up.weight", rng.standard_normal((64, 192), dtype=np.float32))
    writer.add_tensor(
        "output.weight", rng.integers(0, 99, (16, 34), dtype=np.uint8), raw_dtype=GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def in_parts(path: Path, max_size: int = 120_000) -> list[Path]:
    """The same model in three files."""
    files = split_files(plan_of_file(path), path, max_size)
    write_files([Output(plan, part, last=index == 0) for index, (plan, part) in enumerate(files)])
    return [part for _, part in files]


def offer(hub: Hub, files: Mapping[str, bytes | Path]) -> None:
    """Let these be all that the repository has; GGUF files and weights are large."""
    hub.files = Files({name: data if isinstance(data, bytes) else data.read_bytes() for name, data in files.items()})
    hub.large = lambda name: name.lower().endswith((".gguf", ".safetensors"))


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = ["CHUNK", "REPO", "Ended", "Files", "Program", "in_parts", "offer", "sha256", "small_model"]
