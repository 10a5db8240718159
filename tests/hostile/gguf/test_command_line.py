"""The same files through the real command line: one line on stderr, status 1, in little memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from nemotron_gguf.models.gguf_values import string
from nemotron_gguf.tests.hostile.gguf.container_cases import ADVISORIES, CASES
from nemotron_gguf.tests.hostile.gguf.draft import moe
from nemotron_gguf.tests.hostile.gguf.kinds import MUST_FAIL
from nemotron_gguf.tests.hostile.gguf.model_cases import CASES as MODELS

if sys.platform == "win32":
    pytest.skip("limits of memory are those of POSIX", allow_module_level=True)

# A second of processor time for the file, and one for the interpreter and its imports.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from nemotron_gguf.ui.cli import main
sys.argv = ["nemotron", *sys.argv[1:]]
try:
    main()
finally:
    peak = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0] if sys.platform == "linux" else "0"
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    open(__import__("os").environ["SPENT"], "w").write(f"{peak} {spent}")
"""
CONTAINERS = [
    "empty", "html", "string of 17 MiB", "array of 3 million empty strings", "2^32 x 2^32 in I8",
    "2^20 x 2^20 x 2^20 x 16 in F32", "past the end", "alignment 2^30", "43 bytes", "escape codes",
]  # fmt: skip
FILES: Mapping[str, bytes] = {
    **{name: CASES[name] for name in CONTAINERS if name in CASES},
    "CVE-2025-53630": next(data for name, data in ADVISORIES.items() if name.startswith("CVE-2025-53630")),
    "ggml's own: bytes that wrap": MUST_FAIL["tensors: bytes that wrap when padded"]().encode(),
}
CHAT = ["layers: no layers", "heads: a first entry of 0", "experts: more used than there are", "Mamba: no groups",
        "vocabulary: a token twice", "tensors: a norm in F16", "places: alignment 1"]  # fmt: skip


def run(folder: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Status, lines on stderr and stdout of a command; asserts that it took little."""
    spent = folder / "spent"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"SPENT": str(spent), "COLUMNS": "500"},
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    assert time.perf_counter() - start < 60
    peak, seconds = spent.read_text().split()
    assert int(peak) < 200_000, "kB"
    assert float(seconds) < 2.5, "interpreter and imports included"
    return done.returncode, done.stderr.strip().splitlines(), done.stdout


@pytest.mark.parametrize("name", FILES)
def test_inspect_refuses_a_container(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(FILES[name])
    status, said, _ = run(tmp_path, "inspect", str(path))
    assert (status, len(said)) == (1, 1), said
    assert said[0].startswith("nemotron: ")
    assert str(path) in said[0]


@pytest.mark.parametrize("name", CHAT)
def test_chat_refuses_a_model(tmp_path: Path, name: str) -> None:
    case = MODELS[name]
    path = case.make().write(tmp_path / "a.gguf")
    status, said, _ = run(tmp_path, "chat", str(path), "--message", "hi")
    (error,) = (line for line in said if line.startswith("nemotron: "))
    assert (status, error) == (1, said[-1])
    assert case.words in error


def test_inspect_describes_a_model_that_it_refuses(tmp_path: Path) -> None:
    case = MODELS["experts: none used"]
    path = case.make().write(tmp_path / "a.gguf")
    status, said, out = run(tmp_path, "inspect", str(path))
    assert (status, len(said)) == (1, 1)
    assert case.words in said[0]
    assert "nemotron_h_moe.expert_count = 4" in out
    status, said, out = run(tmp_path, "inspect", str(path), "--json")
    assert (status, len(said)) == (1, 1)
    assert case.words in json.loads(out)["problem"]


def test_inspect_finds_nothing_amiss(tmp_path: Path) -> None:
    path = moe().write(tmp_path / "a.gguf")
    status, said, out = run(tmp_path, "inspect", str(path))
    assert (status, said) == (0, [])
    assert "Sound" in out
    assert json.loads(run(tmp_path, "inspect", str(path), "--json")[2])["problem"] is None


@pytest.mark.parametrize(
    ("what", "words"),
    [("header", "a header alone"), ("vocabulary", "no weights"), ("adapter", "an adapter"), ("nothing", "no weights")],
)
def test_what_is_no_model_is_inspected_with_a_note(tmp_path: Path, what: str, words: str) -> None:
    draft, path = moe(), tmp_path / "a.gguf"
    if what == "adapter":
        draft.set(general__type=string("adapter"))
    if what in ("vocabulary", "nothing"):
        draft.tensors = {}
    if what == "nothing":
        draft.metadata = {}
    draft.write(path)
    if what == "header":
        path.write_bytes(draft.header()[0])
    status, said, out = run(tmp_path, "inspect", str(path))
    assert status == 0, said
    assert words in said[-1]
    assert "GGUF version 3" in out
    status, said, _ = run(tmp_path, "chat", str(path), "--message", "hi")
    assert status == 1
    assert sum(line.startswith("nemotron: ") for line in said) == 1
