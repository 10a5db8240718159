"""The verbs that make and read files: convert, quantize, build, inspect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.shelf import FILE_HELP, hint, look_at, resolve
from nemotron_gguf.ui.writing import Job, Wishes, digest_of, identity, make

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.quant import QuantizeOptions

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A folder with a checkpoint, or a Hub repository: org/name[@revision].")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads that work; all cores if not given.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written; read no weights.")]
Json = Annotated[
    bool, typer.Option("--json", help="For programs: lines of JSON, of progress and at last of the result.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Forget what an unfinished run left, begin anew.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Read back what was written and check it.")]
SplitSize = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Several files of at most this size, such as 20G or 500M.")
]
KeepSource = Annotated[
    bool, typer.Option("--keep-source", help="Download a Hub repository into the Hub's cache, and keep it there.")
]
Imatrix = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Importance matrix of llama.cpp (GGUF or .dat): weighs the errors.")
]
TensorType = Annotated[
    list[str] | None,
    typer.Option(metavar="REGEX=TYPE", help="Give tensors whose name matches a type of their own; may be repeated."),
]
OutputType = Annotated[str | None, typer.Option(metavar="TYPE", help="Type of the output matrix.")]
EmbeddingType = Annotated[str | None, typer.Option(metavar="TYPE", help="Type of the token embedding.")]
LeaveOutput = Annotated[bool, typer.Option("--leave-output-tensor", help="Leave the output matrix as it is.")]
Pure = Annotated[bool, typer.Option("--pure", help="One type for all tensors, no mixture.")]
Requantize = Annotated[
    bool, typer.Option("--allow-requantize", help="Accept a source that is already quantized; quality suffers.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line, in the order of the work."""
    for verb in (convert, quantize, build, inspect):
        app.command()(verb)


def convert(
    source: Source,
    out: Annotated[Path | None, typer.Argument(metavar="OUT.gguf", help="File or folder to write.")] = None,
    outtype: Annotated[
        Literal["auto", "f32", "f16", "bf16"], typer.Option(case_sensitive=False, help="auto keeps the precision.")
    ] = "auto",
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
    from nemotron_gguf.convert import default_name, open_checkpoint, plan_conversion

    with open_checkpoint(source, keep_source=keep_source, progress=not as_json) as checkpoint:
        plan = plan_conversion(checkpoint, outtype)
        target = _target(out, Path(), default_name(checkpoint, _main_type(plan)))
        _not_onto(target, checkpoint.folder.iterdir())
        bound = {"checkpoint": checkpoint.identity()}
        make([Job(plan, target)], _wishes("Converting", bound, plan.notes, chosen, checkpoint.in_flight))


def quantize(
    source: Annotated[str, typer.Argument(metavar="IN.gguf", help="A GGUF file in F32, F16 or BF16. " + FILE_HELP)],
    out: Annotated[Path | None, typer.Argument(metavar="OUT.gguf", help="File or folder to write.")] = None,
    file_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Q4_K_M, Q8_0, IQ4_XS, …")] = ...,  # type: ignore[assignment]
    imatrix: Imatrix = None,
    tensor_type: TensorType = None,
    output_tensor_type: OutputType = None,
    token_embedding_type: EmbeddingType = None,
    leave_output_tensor: LeaveOutput = False,
    pure: Pure = False,
    allow_requantize: Requantize = False,
    split_max_size: SplitSize = None,
    threads: Threads = None,
    force: Force = False,
    restart: Restart = False,
    verify: Verify = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Quantize a GGUF file, to the same bytes as llama.cpp's own quantizer.

    The types are llama.cpp's: Q8_0 is near lossless, Q4_K_M the usual choice, those below 4 bits want an `--imatrix`.
    A wrong name lists them all.

    Example: `nemotron quantize nano.gguf --type Q4_K_M`
    """
    chosen = locals()
    from nemotron_gguf.quant import files_of, plan_of_file, plan_quantization

    options = _quantize_options(file_type, chosen)
    path = resolve(source)
    plan = plan_quantization(plan_of_file(path), options)
    target = _target(out, path.parent, _quantized_name(path, options.type.name))
    _not_onto(target, [path, *([imatrix] if imatrix else [])])
    bound = {"file": identity(*files_of(path)), "imatrix": digest_of(imatrix)}
    make([Job(plan, target)], _wishes(f"Quantizing to {options.type.name}", bound, plan.notes, chosen))


def build(
    source: Source,
    file_types: Annotated[
        list[str], typer.Option("--type", metavar="TYPE", help="Q4_K_M, Q8_0, …; repeat it for several files.")
    ],
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
    allow_requantize: Requantize = False,
    split_max_size: SplitSize = None,
    threads: Threads = None,
    force: Force = False,
    restart: Restart = False,
    verify: Verify = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """From a checkpoint to quantized files in one pass, without a file in between.

    The files are the same, to the byte, as those of `convert` and then `quantize`.

    Example: `nemotron build nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 --type Q4_K_M --type Q8_0`
    """
    chosen = locals()
    from nemotron_gguf.convert import default_name, open_checkpoint, plan_conversion
    from nemotron_gguf.models.shelf import library
    from nemotron_gguf.quant import plan_quantization

    options = [_quantize_options(name, chosen) for name in file_types]
    names = [option.type.name for option in options]
    if len(set(names)) < len(names):
        raise typer.BadParameter("a type is given twice", param_hint="--type")
    folder = out_dir or library()
    with (
        open_checkpoint(source, keep_source=keep_source, progress=not as_json) as checkpoint,
        _folder(folder, wanted=not dry_run),
    ):
        converted = plan_conversion(checkpoint, "auto")
        plans = [plan_quantization(converted, option) for option in options]
        jobs = [Job(plan, folder / default_name(checkpoint, name)) for plan, name in zip(plans, names, strict=True)]
        notes = tuple(dict.fromkeys(note for plan in (converted, *plans) for note in plan.notes))
        bound = {"checkpoint": checkpoint.identity(), "imatrix": digest_of(imatrix)}
        make(jobs, _wishes(f"Building {', '.join(names)}", bound, notes, chosen, checkpoint.in_flight))
    if out_dir is None and not dry_run and not as_json:
        hint(jobs[0].path)


def inspect(
    file: Annotated[str, typer.Argument(metavar="MODEL", help=FILE_HELP)],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a GGUF file holds: architecture, keys, tensors, sizes. Reads no weights of it.

    Of a repository that is not in the library yet, only the header is read, over the network.

    Example: `nemotron inspect nano-Q4_K_M.gguf --tensors`
    """
    from nemotron_gguf.models.gguf_parts import SPLIT_NO, read_whole
    from nemotron_gguf.models.gguf_reader import read_gguf
    from nemotron_gguf.ui.describe import describe_file, print_file

    gguf = look_at(file)
    if gguf is None:
        path = resolve(file)
        gguf = read_gguf(path)
    # the first of several stands for the model as a whole, any other part for itself
    if gguf.get(SPLIT_NO) == 0 and gguf.path.is_file():
        gguf = read_whole(gguf.path)
    if as_json:
        console.print_json(describe_file(gguf, tensors))
    else:
        print_file(gguf, tensors)


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


def _quantize_options(name: str, chosen: Mapping[str, Any]) -> QuantizeOptions:
    """The options of a verb, `chosen` being its arguments; a name that is none is misuse."""
    from nemotron_gguf.models.imatrix import read_imatrix
    from nemotron_gguf.quant import QuantError, QuantizeOptions, file_type, parse_tensor_type, tensor_type

    output, embedding = chosen["output_tensor_type"], chosen["token_embedding_type"]
    try:
        return QuantizeOptions(
            type=file_type(name),
            tensor_types=tuple(parse_tensor_type(text) for text in chosen["tensor_type"] or ()),
            output_tensor_type=tensor_type(output) if output else None,
            token_embedding_type=tensor_type(embedding) if embedding else None,
            leave_output_tensor=chosen["leave_output_tensor"],
            pure=chosen["pure"],
            allow_requantize=chosen["allow_requantize"],
            imatrix=read_imatrix(chosen["imatrix"]) if chosen["imatrix"] else None,
            dry_run=chosen["dry_run"],
        )
    except QuantError as error:
        raise typer.BadParameter(str(error)) from error


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
