"""The verbs that make files: convert, quantize, build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nemotron_gguf.ui.file_options import (
    DryRun,
    EmbeddingType,
    FileTypes,
    Force,
    Imatrix,
    Json,
    KeepSource,
    Kernels,
    LeaveOutput,
    OutputType,
    Pad,
    PadConverted,
    Pure,
    RecipeFile,
    RecipeFiles,
    Requantize,
    Restart,
    Source,
    SplitSize,
    TensorType,
    Threads,
    Trim,
    Verify,
)
from nemotron_gguf.ui.options import with_groups
from nemotron_gguf.ui.quantizing import choose_kernels
from nemotron_gguf.ui.recipes import asked_for, settled
from nemotron_gguf.ui.reporting import Reporting, check_report, write_report
from nemotron_gguf.ui.shelf import FILE_HELP, hint, resolve
from nemotron_gguf.ui.writing import Job, Wishes, digest_of, identity, make, outputs_of

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line, in the order of the work."""
    for verb in (convert, quantize, with_groups(build)):
        app.command()(verb)


def convert(
    source: Source,
    out: Annotated[Path | None, typer.Argument(metavar="OUT.gguf", help="File or folder to write.")] = None,
    outtype: Annotated[
        Literal["auto", "f32", "f16", "bf16"], typer.Option(case_sensitive=False, help="auto keeps the precision.")
    ] = "auto",
    pad: PadConverted = "auto",
    keep_source: KeepSource = False,
    split_max_size: SplitSize = None,
    threads: Threads = None,
    force: Force = False,
    restart: Restart = False,
    verify: Verify = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint (safetensors) to GGUF, without quantizing it.

    To run a model on a consumer card you want `build`, which also quantizes and needs no intermediate file.

    Example: `nemotron convert nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 nano.gguf`
    """
    chosen = locals()
    from nemotron_gguf.convert import default_name, open_checkpoint, padded, plan_conversion

    with open_checkpoint(source, keep_source=keep_source, progress=not as_json) as checkpoint:
        plan = plan_conversion(checkpoint, outtype)
        plan = padded(plan) if pad == "all" else plan
        target = _target(out, Path(), default_name(checkpoint, _main_type(plan)))
        _not_onto(target, checkpoint.folder.iterdir())
        bound = {"checkpoint": checkpoint.identity()}
        make([Job(plan, target)], _wishes("Converting", bound, plan.notes, chosen, checkpoint.in_flight))


def quantize(
    source: Annotated[str, typer.Argument(metavar="IN.gguf", help="A GGUF file in F32, F16 or BF16. " + FILE_HELP)],
    out: Annotated[Path | None, typer.Argument(metavar="OUT.gguf", help="File or folder to write.")] = None,
    file_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Q4_K_M, Q8_0, IQ4_XS, …")] = None,
    recipe: RecipeFile = None,
    imatrix: Imatrix = None,
    tensor_type: TensorType = None,
    output_tensor_type: OutputType = None,
    token_embedding_type: EmbeddingType = None,
    leave_output_tensor: LeaveOutput = False,
    pure: Pure = False,
    pad: Pad = "auto",
    trim: Trim = False,
    allow_requantize: Requantize = False,
    kernels: Kernels = "auto",
    split_max_size: SplitSize = None,
    threads: Threads = None,
    force: Force = False,
    restart: Restart = False,
    verify: Verify = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Quantize a GGUF file, with `--pad none` to the same bytes as llama.cpp's own quantizer.

    The types are llama.cpp's: Q8_0 is near lossless, Q4_K_M the usual choice, those below 4 bits want an `--imatrix`.
    A wrong name lists them all. Widths that are no multiple of 256 are padded with zeros where that makes the file
    smaller; any llama.cpp runs the result.

    Example: `nemotron quantize nano.gguf --type Q4_K_M`
    """
    chosen = locals()
    from nemotron_gguf.quant import files_of, plan_of_file, plan_quantization

    bits = choose_kernels(kernels)
    asked = asked_for([file_type] if file_type else [], [recipe] if recipe else [], chosen)
    if len(asked) > 1:
        raise typer.BadParameter("say one of --type and --recipe", param_hint="--recipe")
    path = resolve(source)
    unquantized = plan_of_file(path)
    plan = plan_quantization(unquantized, *settled(asked, unquantized, chosen))
    target = _target(out, path.parent, _quantized_name(path, asked[0].name))
    _not_onto(target, [path, *(file for file in (imatrix, recipe) if file)])
    bound = {"file": identity(*files_of(path)), "imatrix": digest_of(imatrix), **bits}
    make([Job(plan, target)], _wishes(f"Quantizing to {asked[0].name}", bound, plan.notes, chosen))


def build(
    source: Source,
    reporting: Reporting,
    file_types: FileTypes = None,
    recipe: RecipeFiles = None,
    out_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the files; the library if not given.")
    ] = None,
    keep_source: KeepSource = False,
    imatrix: Imatrix = None,
    tensor_type: TensorType = None,
    output_tensor_type: OutputType = None,
    token_embedding_type: EmbeddingType = None,
    leave_output_tensor: LeaveOutput = False,
    pure: Pure = False,
    pad: Pad = "auto",
    trim: Trim = False,
    allow_requantize: Requantize = False,
    kernels: Kernels = "auto",
    split_max_size: SplitSize = None,
    threads: Threads = None,
    force: Force = False,
    restart: Restart = False,
    verify: Verify = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """From a checkpoint to quantized files in one pass, without a file in between.

    The files are the same, to the byte, as those of `convert` and then `quantize`. Each is padded, or not, as is best
    for its type.

    Example: `nemotron build nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 --type Q4_K_M --type Q8_0`
    """
    chosen = locals()
    from nemotron_gguf.convert import default_name, open_checkpoint, plan_conversion
    from nemotron_gguf.models.shelf import library
    from nemotron_gguf.quant import AUTO, plan_quantization

    bits = choose_kernels(kernels)
    asked = asked_for(file_types or [], recipe or [], chosen)
    names = [one.name for one in asked]
    folder = out_dir or library()
    with (
        open_checkpoint(source, keep_source=keep_source, progress=not as_json) as checkpoint,
        _folder(folder, wanted=not dry_run),
    ):
        page = check_report(reporting, folder, checkpoint, dry_run)
        converted = plan_conversion(checkpoint, "auto")
        plans = [plan_quantization(converted, option) for option in settled(asked, converted, chosen)]
        names = [_main_type(plan) if name == AUTO.name else name for plan, name in zip(plans, names, strict=True)]
        jobs = [Job(plan, folder / default_name(checkpoint, name)) for plan, name in zip(plans, names, strict=True)]
        notes = tuple(dict.fromkeys(note for plan in (converted, *plans) for note in plan.notes))
        bound = {"checkpoint": checkpoint.identity(), "imatrix": digest_of(imatrix), **bits}
        make(jobs, _wishes(f"Building {', '.join(names)}", bound, notes, chosen, checkpoint.in_flight))
        if page is not None:
            write_report(reporting, page, _first_parts(jobs, split_max_size), notes, as_json)
    if out_dir is None and not dry_run and not as_json:
        hint(jobs[0].path)


def _first_parts(jobs: Sequence[Job], split_max_size: str | None) -> dict[Path, FilePlan]:
    """The plan of each model by the file that opens it: the one, or the first of its parts."""
    return {outputs_of(job, split_max_size)[0].path: job.plan for job in jobs}


@contextmanager
def _folder(path: Path, wanted: bool) -> Iterator[None]:
    """Make a folder; where it comes to nothing, it goes again."""
    new = wanted and not path.exists()  # a file of that name is refused with the targets
    if new:
        path.mkdir(parents=True)
    try:
        yield
    finally:
        if new and not any(path.iterdir()):
            path.rmdir()


def _wishes(
    title: str, source: Mapping[str, Any], notes: Sequence[str], chosen: Mapping[str, Any], readers: int = 2
) -> Wishes:
    """How a verb wants its files written, `chosen` being its arguments."""
    names = ("threads", "split_max_size", "force", "restart", "verify", "dry_run", "as_json")
    return Wishes(title, source, notes, readers=readers, **{name: chosen[name] for name in names})


def _target(out: Path | None, folder: Path, name: str) -> Path:
    """The file to write: as given, inside a folder given, or by its default name."""
    if out is None:
        return folder / name
    return out / name if out.is_dir() else out


def _not_onto(target: Path, sources: Iterable[Path]) -> None:
    """What is read must not be written over, --force or not."""
    if target.exists() and any(target.samefile(source) for source in sources):
        raise typer.BadParameter(f"{target} is a file to be read; choose another name", param_hint="OUT.gguf")


def _main_type(plan: FilePlan) -> str:
    """The type that most of the weights have, which names the file."""
    weights: Counter[str] = Counter()
    for tensor in plan.tensors:
        weights[tensor.type.name] += tensor.n_rows * tensor.n_per_row
    return weights.most_common(1)[0][0]


def _quantized_name(source: Path, type_name: str) -> str:
    """`nano-BF16.gguf` becomes `nano-Q4_K_M.gguf`."""
    stem = source.name.removesuffix(".gguf")
    for suffix in ("-F32", "-F16", "-BF16", "-f32", "-f16", "-bf16"):
        stem = stem.removesuffix(suffix)
    return f"{stem}-{type_name}.gguf"
