"""`nemotron demo`: the whole way on the demo model, from the checkpoint to an answer, and what to try next."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.writing import reporting

TYPES = ("Q4_K_M", "Q8_0")
QUESTIONS = (("What is 8 + 5?", True), ("What is GGUF?", False))  # and whether to think
REAL = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(demo)


def demo(
    out_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put the files; a cache folder if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist in DIR.")] = False,
) -> None:
    """Convert, quantize and ask the small model that comes with this program: the whole way in seconds.

    The demo model is a real Nemotron 3 in small, trained for this project on a little world in English and Chinese.

    Example: `nemotron demo`
    """
    from nemotron_gguf.runner import Client

    with Client() as engine:
        engine.devices()  # without llama.cpp there would be files and no answer: say so at once
    folder = out_dir or _cache()
    folder.mkdir(parents=True, exist_ok=True)
    files = make(folder, force or out_dir is None)
    ask(files["Q8_0"])
    _next(files["Q4_K_M"])


def make(folder: Path, force: bool = False) -> dict[str, Path]:
    """Convert the checkpoint to BF16 and quantize it, in one pass; returns the file of each type."""
    from nemotron_gguf.convert import Output, WriteOptions, default_name, open_checkpoint, plan_conversion, write_files
    from nemotron_gguf.models.demo import CHECKPOINT
    from nemotron_gguf.quant import QuantizeOptions, file_type, plan_quantization

    started = time.monotonic()
    with open_checkpoint(CHECKPOINT, name="Nemotron-Demo") as checkpoint:
        plan = plan_conversion(checkpoint)
        plans = {"BF16": plan}
        plans |= {name: plan_quantization(plan, QuantizeOptions(type=file_type(name))) for name in TYPES}
        outputs = {name: Output(planned, folder / default_name(checkpoint, name)) for name, planned in plans.items()}
        paths = [output.path for output in outputs.values()]
        with reporting("Converting and quantizing the demo model", paths, as_json=False) as report:
            write_files(tuple(outputs.values()), WriteOptions(force=force, report=report))
    console.say(f"From the checkpoint to three files in {time.monotonic() - started:.1f} seconds, in {folder}")
    for name, output in outputs.items():
        console.say(f"  {name:7} {console.size(output.plan.header.file_size):>8}  {output.path.name}")
    return {name: output.path for name, output in outputs.items()}


def ask(path: Path) -> None:
    """Ask a question with thinking and one without. Raises NemotronError where the model cannot be run."""
    from nemotron_gguf.runner import Settings, open_model
    from nemotron_gguf.ui import terminal

    with open_model(path, Settings(temperature=0, max_tokens=400), verbose=console.settings.debug) as model:
        for question, thinking in QUESTIONS:
            console.say(f"\n{'Thinking' if thinking else 'Not thinking'}: {question}")
            done = terminal.answer(model.conversation(thinking=thinking), question)
            if done.finish_reason != "stop":
                raise NemotronError(f"the demo model did not end its answer ({done.finish_reason}); please report it")


def _next(path: Path) -> None:
    shown = shlex.quote(str(path))
    console.say(
        f"""
Try next:
  nemotron chat {shown}
      talk with it: ask what Q4_K_M is, or tell it your name and ask for it later (中文也可以)
  nemotron ui {shown}
      the same in the browser
  nemotron doctor
      whether this machine is ready for the real model
  nemotron build {REAL} --type Q4_K_M
      the real one: 63 GB to download, 24.5 GB as Q4_K_M"""
    )


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("nemotron-gguf", appauthor=False) / "demo"
