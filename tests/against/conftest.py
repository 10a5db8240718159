"""llama.cpp's own converter, from the source package of the llama-cpp-python that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

VARIABLE = "NEMOTRON_LLAMA_CPP_SOURCE"
WANTED = ("conversion/", "gguf-py/", "convert_hf_to_gguf.py", "models/ggml-vocab-", "models/templates/")
DRIVER = Path(__file__).with_name("llama_convert.py")


def llama_cpp_source() -> Path:
    """The folder of llama.cpp's converter: named by the environment, from the cache, or fetched into it (a minute)."""
    if os.environ.get(VARIABLE):
        named = Path(os.environ[VARIABLE])
        if not named.joinpath("convert_hf_to_gguf.py").is_file():
            pytest.fail(f"{VARIABLE} is {named}, which has no convert_hf_to_gguf.py; name llama.cpp's source folder")
        return named
    release = version("llama-cpp-python").partition("+")[0]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron-gguf"
    folder = home / f"llama.cpp-{release}-source"
    if not folder.joinpath("convert_hf_to_gguf.py").is_file():
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home, prefix="llama.cpp-") as scratch:
            unpacked = unpack(download(release, Path(scratch)), Path(scratch) / "source")
            if not folder.exists():
                unpacked.rename(folder)
    return folder


def download(release: str, folder: Path) -> Path:
    """The source package of llama-cpp-python, which carries llama.cpp."""
    package = f"llama-cpp-python=={release}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    found = next(folder.glob("*.tar.gz"), None)
    if found is None:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        pytest.fail(
            f"llama.cpp's converter is needed to compare with, and the source package {package} could not be"
            f" downloaded ({reason[0]}); connect, or point {VARIABLE} to llama.cpp's source folder"
        )
    return found


def unpack(archive: Path, target: Path) -> Path:
    """The converter's files out of the package."""
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition("/vendor/llama.cpp/")[2]
            if member.isfile() and name.startswith(WANTED):
                member.name = name
                tar.extract(member, target, filter="data")
    return target


class Reference:
    """llama.cpp's converter; the jobs of a test module run in one process."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder

    def convert(self, jobs: Sequence[tuple[Path, str, str]]) -> Mapping[tuple[Path, str], Path]:
        """Convert (checkpoint, outtype, pre-tokenizer's name) each; the files by (checkpoint, outtype)."""
        files = {
            (model, outtype): self.folder / f"{index}-{model.name}-{outtype}.gguf"
            for index, (model, outtype, _) in enumerate(jobs)
        }
        listed = [
            {"model": str(model), "outtype": outtype, "pre": pre, "outfile": str(files[model, outtype])}
            for model, outtype, pre in jobs
        ]
        plan = self.folder / "jobs.json"
        plan.write_text(json.dumps(listed), encoding="utf-8")
        command = [sys.executable, str(DRIVER), str(self.source), str(plan)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"llama.cpp's converter failed:\n{done.stderr[-3000:]}"
        return files


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(llama_cpp_source(), tmp_path_factory.mktemp("reference"))
