"""llama.cpp's own programs, to measure against: of the source and with the libraries that llama-cpp-python has here.

    python bench/llama_tools.py [llama-bench] [llama-imatrix] [llama-perplexity] [llama-server] [--jobs 2]

They are compiled once (some minutes) from the source package of the installed llama-cpp-python, by its own CMake files
with the CMAKE_ARGS given, into the user's cache folder, and are started with the libraries of the installed package in
front of their own: both sides of a comparison then compute with the same code. Paths are printed; the other scripts
here find them by themselves, after the PATH and a variable such as LLAMA_BENCH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

TOOLS = ("llama-bench", "llama-imatrix", "llama-perplexity", "llama-server")
SWITCHES = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DGGML_RPC=on",
            "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DBUILD_SHARED_LIBS=ON",
            "-DLLAMA_OPENSSL=OFF")  # fmt: skip


def find_tool(name: str) -> str:
    """The program's path: named by its variable (LLAMA_BENCH …), in the PATH, or built earlier. Ends where none is."""
    named = os.environ.get(name.upper().replace("-", "_")) or shutil.which(name)
    if named:
        return named
    if _starter(name).exists():
        return str(_starter(name))
    sys.exit(f"{name} is needed: `python bench/llama_tools.py {name}` builds it")


def build(names: tuple[str, ...], jobs: int) -> None:
    """Compile what is missing; each program gets a starter that puts the installed libraries in front."""
    if all(_starter(name).exists() for name in names):
        return
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(folder)
    arguments = (*SWITCHES, *os.environ.get("CMAKE_ARGS", "").split())
    subprocess.run(["cmake", "-S", source, "-B", folder / "build", *arguments], check=True, stdout=sys.stderr)
    targets = [word for name in names for word in ("--target", name)]
    subprocess.run(
        ["cmake", "--build", folder / "build", "--parallel", str(jobs), *targets], check=True, stdout=sys.stderr
    )
    for name in names:
        _write_starter(name, folder / "build" / "bin" / name)


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron-gguf"
    return cache / f"llama.cpp-{version('llama-cpp-python')}-tools"


def _starter(name: str) -> Path:
    return _folder() / name


def _write_starter(name: str, program: Path) -> None:
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        sys.exit("llama-cpp-python is not installed here")
    libraries = Path(spec.origin).parent / "lib"
    starter = _starter(name)
    starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{program}" "$@"\n', encoding="utf-8")
    starter.chmod(0o755)


def _source(folder: Path) -> Path:
    """llama.cpp's source, unpacked from the package."""
    target = folder / "source"
    if target.exists():
        return target
    release = version("llama-cpp-python").partition("+")[0]
    with TemporaryDirectory(dir=folder) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
        subprocess.run([*pip, "--dest", scratch, f"llama-cpp-python=={release}"], check=True)
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (root,) = Path(scratch).glob("*/vendor/llama.cpp")
        root.rename(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", metavar="TOOL", default=TOOLS, help=", ".join(TOOLS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    for name in set(chosen.tools) - set(TOOLS):
        parser.error(f"{name} is none of {', '.join(TOOLS)}")
    build(tuple(chosen.tools), chosen.jobs)
    for name in chosen.tools:
        print(_starter(name))


if __name__ == "__main__":
    main()
