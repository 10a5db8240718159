"""The options of the verbs that make files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

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


def _split_size(text: str | None) -> str | None:
    """The size as it was given, once it is known to be one."""
    from nemotron_gguf.convert.errors import ConvertError
    from nemotron_gguf.convert.writer.split import parse_size

    try:
        return text if text is None or parse_size(text) else None
    except ConvertError as error:
        raise typer.BadParameter(str(error)) from error


SplitSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Several files of at most this size, such as 20G or 500M.", callback=_split_size),
]
KeepSource = Annotated[
    bool, typer.Option("--keep-source", help="Download a Hub repository into the Hub's cache, and keep it there.")
]
FileTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="Q4_K_M, Q8_0, …; repeat it for several files. auto keeps each tensor as it is, NVFP4 bit for bit.",
    ),
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
Kernels = Annotated[
    Literal["auto", "avx2", "portable", "library"],
    typer.Option(
        case_sensitive=False,
        help="What quantizes: kernels of this package, with AVX2 or without (portable), or ggml's own (library)."
        " auto is what NEMOTRON_KERNELS says, else the fastest that runs here.",
    ),
]
Pad = Annotated[
    Literal["auto", "all", "none"],
    typer.Option(
        case_sensitive=False,
        help="Pad widths with zeros to multiples of 256, which types below 4 bits need: where it makes the file smaller"
        " (auto), each that is none (all), or never (none: the bytes of llama.cpp's quantizer).",
    ),
]
Trim = Annotated[
    bool,
    typer.Option(
        "--trim",
        help="Leave out the neurons of each expert that matter least, down to a multiple of 256; needs an --imatrix.",
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="The types of a recipe, such as `nemotron fit` writes, in place of --type."),
]
RecipeFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--recipe", metavar="FILE.toml", help="A file by a recipe, such as `nemotron fit` writes; may be repeated."
    ),
]
PadConverted = Annotated[
    Literal["auto", "all", "none"],
    typer.Option(
        case_sensitive=False,
        help="all pads widths with zeros to multiples of 256, for a quantizer that does not pad. auto pads nothing:"
        " F32, F16 and BF16 fit any width, and `quantize` pads by itself.",
    ),
]
