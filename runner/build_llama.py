"""Build llama-cpp-python for this machine, once per choice of backend.

    python runner/build_llama.py                    choose, build if need be, install here
    python runner/build_llama.py --print            only say what would be chosen
    python -m nemotron_gguf.runner.build_llama      the same, where the package is installed

Needs nothing but the standard library and pip, since it may run before the package is installed. pip caches wheels that
it built without regard to CMAKE_ARGS, so a CUDA build asked for after a CPU build would silently be the CPU one; this
script keeps wheels of its own in a cache, one folder for each choice, and never builds the same one twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

VERSION = "0.3.36"
RPC = "-DGGML_RPC=on"  # several machines as one, and an offload device that needs no GPU
COMPILERS = ("CC", "CXX", "CUDACXX", "CFLAGS", "CXXFLAGS", "CUDAFLAGS", "LDFLAGS", "CUDAARCHS", "CMAKE_GENERATOR")
CORE_MINUTES = {"CPU": 22, "Metal": 15, "CUDA": 150}  # CPU measured on two cores, the others estimated from it


@dataclass(frozen=True)
class Choice:
    """What is built: everything that changes the binary. Two equal choices are one build."""

    backend: str
    cmake_args: str
    reason: str
    version: str
    python: str
    machine: str

    @property
    def key(self) -> str:
        """A short name of the build; the reason for it does not matter."""
        fields = {name: value for name, value in asdict(self).items() if name not in {"reason", "backend"}}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def choose() -> Choice:
    """CMAKE_ARGS as the user set it; else CUDA where nvidia-smi and nvcc answer, Metal on Apple silicon, else CPU."""
    given = os.environ.get("CMAKE_ARGS", "").strip()
    if given:
        backend, args, reason = _named(given), given, "CMAKE_ARGS is set"
    elif _answers("nvidia-smi") and _answers("nvcc", "--version"):
        backend, args, reason = "CUDA", "-DGGML_CUDA=on", "nvidia-smi and nvcc answer"
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        backend, args, reason = "Metal", "-DGGML_METAL=on", "this is Apple silicon"
    else:
        backend, args, reason = "CPU", "", _why_no_gpu()
    if "GGML_RPC" not in args:
        args = f"{args} {RPC}".strip()
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    return Choice(backend, args, reason, VERSION, tag, _machine(backend))


def _named(args: str) -> str:
    """The backend that CMAKE_ARGS switches on: the last word on each counts, as in CMake."""
    words = re.findall(r"-D\s*GGML_(CUDA|METAL|VULKAN|HIP|SYCL)(?::\w+)?=(\w+)", args, re.IGNORECASE)
    last = {name.upper(): value.lower() in {"on", "1", "true", "yes", "y"} for name, value in words}
    name = next((name for name, wanted in last.items() if wanted), "CPU")
    return {"METAL": "Metal", "VULKAN": "Vulkan"}.get(name, name)


def _why_no_gpu() -> str:
    if _answers("nvidia-smi"):
        return "nvidia-smi answers but nvcc does not (to use the GPU, install the CUDA toolkit and run this again)"
    return "nvidia-smi does not answer here"


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _machine(backend: str) -> str:
    """What the compiler sees of this machine: ggml builds for the very processor, and for the CUDA found."""
    parts = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        parts += sorted(set(re.findall(r"^(?:flags|Features)\s*:.*$", cpuinfo.read_text(), re.MULTILINE)))
    parts += [f"{name}={os.environ[name]}" for name in COMPILERS if name in os.environ]
    if backend == "CUDA" and _answers("nvcc", "--version"):
        parts.append(subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout.strip()[-60:])
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def cache_folder(choice: Choice) -> Path:
    """Where this choice's wheel is kept: the user's cache folder, which NEMOTRON_CACHE replaces."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("NEMOTRON_CACHE") or base / "nemotron-gguf") / "llama-cpp-python" / choice.key


def installed() -> str:
    """The key of the build in this environment, empty where there is none or another's."""
    try:
        stamp = json.loads(_stamp().read_text())
        if metadata.version("llama-cpp-python") != VERSION or stamp["files"] != _library_files():
            return ""  # somebody else installed another build, or files were lost
        return str(stamp["key"])
    except (metadata.PackageNotFoundError, OSError, ValueError, KeyError):
        return ""


def _library_files() -> dict[str, list[int]]:
    """Size and time of each compiled library, by which a build is told from another one in its place."""
    folder = Path(sysconfig.get_path("purelib")) / "llama_cpp" / "lib"
    found = ((path.name, path.stat()) for path in sorted(folder.glob("*")) if path.is_file())
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found}


def _stamp() -> Path:
    return Path(sysconfig.get_path("purelib")) / "llama_cpp_build.json"


def ensure(choice: Choice) -> None:
    """Install the chosen build, from the cache or after building it."""
    if installed() == choice.key:
        print(f"llama-cpp-python {VERSION} for {choice.backend} is in place ({choice.cmake_args})")
        return
    folder = cache_folder(choice)
    wheel = next(iter(folder.glob("*.whl")), None) or build(choice, folder)
    print(f"Installing {wheel.name} ({choice.backend})", flush=True)
    _pip("install", "--quiet", "--force-reinstall", "--no-deps", str(wheel))
    _pip("install", "--quiet", str(wheel))
    _stamp().write_text(json.dumps({"key": choice.key, "files": _library_files(), **asdict(choice)}, indent=1))


def build(choice: Choice, folder: Path) -> Path:
    """Compile a wheel and put it into `folder`, which appears only when the wheel is whole."""
    _need_compiler()
    cores = os.cpu_count() or 1
    minutes = CORE_MINUTES.get(choice.backend, 60) / cores
    print(
        f"Building llama.cpp for {choice.backend}, because {choice.reason}: CMAKE_ARGS='{choice.cmake_args}'\n"
        f"This takes about {max(1, round(minutes))} minutes on {cores} cores, once; the result is kept in {folder}",
        flush=True,
    )
    work = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    work.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-deps", "--wheel-dir", str(work)]
    command += ["--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"]
    env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(cores), **os.environ, "CMAKE_ARGS": choice.cmake_args, "FORCE_CMAKE": "1"}
    try:
        if _follow(command, env, log):
            raise SystemExit(f"The build failed; its last lines:\n{_tail(log)}\nThe whole log is {log}")
        wheel = next(iter(work.glob("*.whl")))
        if folder.exists():  # somebody else built it meanwhile, or a folder without a wheel was left
            shutil.rmtree(folder)
        work.rename(folder)
        return folder / wheel.name
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _follow(command: list[str], env: dict[str, str], log: Path) -> int:
    """Run the build, all output to the log, its `[done/all]` steps to the screen; returns the exit status."""
    started = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout, out):
                _show(line, time.monotonic() - started)
        except BaseException:
            process.terminate()
            raise
    if sys.stdout.isatty():
        print()
    return process.returncode


def _lines(source: IO[str], copy: IO[str]) -> Iterator[str]:
    for line in source:
        copy.write(line)
        yield line


_last_shown = -1


def _show(line: str, elapsed: float) -> None:
    """One line that moves on a terminal, one line every tenth elsewhere."""
    global _last_shown
    step = re.search(r"\[(\d+)/(\d+)\]", line)
    if step is None or int(step[2]) < 50:
        return
    done, total = int(step[1]), int(step[2])
    left = elapsed * (total - done) / max(done, 1) / 60
    text = f"  {done}/{total} steps, {elapsed / 60:.0f} min gone, about {left:.0f} min left"
    if sys.stdout.isatty():
        print(f"\r{text}  ", end="", flush=True)
    elif done * 10 // total > _last_shown:
        print(text, flush=True)
    _last_shown = done * 10 // total


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _need_compiler() -> None:
    candidates = [os.environ.get("CC", ""), "cc", "gcc", "clang", "cl"]
    if not any(name and shutil.which(name.split()[0]) for name in candidates):
        raise SystemExit(
            "No C compiler was found (cc, gcc, clang or cl); install one, for example with"
            " `sudo apt install build-essential`, `xcode-select --install` or the Visual Studio Build Tools"
        )


def _pip(*arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "pip", *arguments])
    if result.returncode:
        raise SystemExit(f"pip {arguments[0]} failed with exit status {result.returncode}; its words are above")


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--print", action="store_true", help="only say what would be built and whether it is there")
    arguments = parser.parse_args()
    choice = choose()
    if arguments.print:
        state = "installed" if installed() == choice.key else "not installed"
        print(json.dumps({**asdict(choice), "key": choice.key, "state": state}, indent=1))
        return
    ensure(choice)


if __name__ == "__main__":
    main()
