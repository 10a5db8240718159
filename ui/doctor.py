"""`nemotron doctor`: what this machine has, what is missing and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import console

PACKAGES = ("nemotron-gguf", "llama-cpp-python", "gguf", "gradio", "huggingface_hub", "numpy")
MEMORY_WANTED = 12 << 30  # bytes; to quantize needs little, to run the 30B on a 16 GB card needs room for what spills
DISK_WANTED = 90 * 10**9  # bytes; the 30B in BF16 is 63 GB, its Q4_K_M 24.5 GB


KERNELS = {
    "avx2": "kernels of this package, with AVX2",
    "portable": "kernels of this package, without AVX2",
    "library": "ggml's own, as NEMOTRON_KERNELS says",
    "missing": "ggml's own, as no kernels were compiled",
}


@dataclass(frozen=True)
class DeviceReport:
    """A device that llama.cpp computes on; bytes, 0 where it does not tell."""

    name: str
    description: str
    kind: str
    memory_free: int
    memory_total: int


@dataclass(frozen=True)
class Report:
    """Everything that `doctor` found; sizes in bytes, 0 where this system does not tell."""

    python: str
    system: str
    packages: dict[str, str]
    llama_cpp: str
    kernels: str
    devices: tuple[DeviceReport, ...]
    memory_total: int
    memory_available: int
    disk_free: int
    disk_folder: str
    hub_cache: str
    hub_cache_free: int
    advice: tuple[str, ...]


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Say what this machine has (llama.cpp, devices, memory, disk) and what to do about what is missing.

    Example: `nemotron doctor`
    """
    report = examine()
    if as_json:
        console.print_json(asdict(report))
    else:
        show(report)


def examine() -> Report:
    """Look at everything; nothing is changed."""
    from nemotron_gguf.runner.placement.memory import available_memory

    devices, trouble = _devices()
    available, total = available_memory()
    hub = _hub_cache()
    folder = Path.cwd()
    report = Report(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        packages={name: _version(name) for name in PACKAGES},
        llama_cpp=trouble or "loads",
        kernels=_kernels(),
        devices=devices,
        memory_total=total,
        memory_available=available,
        disk_free=shutil.disk_usage(folder).free,
        disk_folder=str(folder),
        hub_cache=str(hub),
        hub_cache_free=shutil.disk_usage(_existing(hub)).free,
        advice=(),
    )
    return replace(report, advice=advise(report))


def advise(report: Report) -> tuple[str, ...]:
    """What to do, most important first; empty where nothing is missing."""
    advice = []
    if report.llama_cpp != "loads":
        advice.append(report.llama_cpp)
    elif not any(device.kind in ("GPU", "INTEGRATED_GPU") for device in report.devices):
        advice.append(_advise_gpu())
    if report.kernels not in KERNELS:
        advice.append(report.kernels)
    if report.kernels == "missing":
        advice.append(
            "The quantizing kernels were not compiled when this package was installed, ggml's own are several times"
            " slower: install a C compiler (gcc or clang), then this package again"
        )
    if 0 < report.memory_total < MEMORY_WANTED:
        advice.append(
            f"This machine has {console.size(report.memory_total)} of memory; the 30B wants 16 GB beside the GPU's"
        )
    if min(report.disk_free, report.hub_cache_free) < DISK_WANTED:
        advice.append(
            "The disk is short for the 30B: 63 GB in the Hub's cache (HF_HOME moves it) and 24.5 GB as Q4_K_M"
            " (--out-dir moves it)"
        )
    return tuple(advice)


def _advise_gpu() -> str:
    if shutil.which("nvidia-smi"):
        return (
            "There is an NVIDIA driver but llama.cpp sees no GPU: it was built without CUDA. Install the CUDA toolkit"
            " (nvcc) and run `python -m nemotron_gguf.runner.build_llama`"
        )
    return "No GPU was found: models run on the processor, slowly; the 30B needs 32 GB of memory then"


def show(report: Report) -> None:
    """The report for people."""
    console.say(f"Python      {report.python} on {report.system}")
    console.say("Packages    " + ", ".join(f"{name} {found}" for name, found in report.packages.items()))
    console.say(f"llama.cpp   {'loads' if report.llama_cpp == 'loads' else 'cannot be used'}")
    console.say(f"Quantizers  {KERNELS.get(report.kernels, 'none')}")
    for device in report.devices:
        memory = f", {console.size(device.memory_free)} of {console.size(device.memory_total)} free"
        kind = device.kind.replace("_", " ")
        console.say(f"  {kind:9} {device.name}: {device.description}{memory if device.memory_total else ''}")
    if report.memory_total:
        console.say(
            f"Memory      {console.size(report.memory_available)} of {console.size(report.memory_total)} available"
        )
    console.say(f"Disk        {console.size(report.disk_free)} free in {report.disk_folder}")
    console.say(f"Hub cache   {console.size(report.hub_cache_free)} free in {report.hub_cache}")
    for line in report.advice:
        console.say(f"! {line}")
    if not report.advice:
        console.say("All is well.")


def _devices() -> tuple[tuple[DeviceReport, ...], str]:
    """The devices, or the one sentence that says why llama.cpp cannot be loaded."""
    from nemotron_gguf.runner import Client

    try:
        with Client() as engine:  # a driver that dies takes another process with it
            found = engine.devices()
    except NemotronError as error:
        return (), str(error)
    reports = (DeviceReport(d.name, d.description, d.kind.name, d.memory_free, d.memory_total) for d in found)
    return tuple(reports), ""


def _kernels() -> str:
    """What turns weights into blocks: a key of KERNELS, or the one sentence that says why nothing would."""
    from nemotron_gguf.quant.kernels import chosen, instruction_sets

    try:
        found = chosen()
    except NemotronError as error:
        return str(error)
    return found if instruction_sets() else "missing"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
