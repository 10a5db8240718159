"""`nemotron`: one command, its verbs in the order of the work.

Nothing heavy is imported here: `nemotron --help` answers at once, and a llama.cpp that cannot be loaded stops only the
verbs that need it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib.metadata import version as installed_version
from types import FrameType

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import bench, console, demo, doctor, evaluate, files, imatrix, inspect, pull, shelf, talk, verify
from nemotron_gguf.ui.fit import verb as fit

app = typer.Typer(
    name="nemotron",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`nemotron VERB --help` explains a verb, with examples. Exit status: 0 done, 1 failed, 2 misuse.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nemotron-gguf {installed_version('nemotron-gguf')}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Say which version."),
    debug: bool = typer.Option(False, "--debug", envvar="NEMOTRON_DEBUG", help="Show tracebacks and llama.cpp's log."),
) -> None:
    """From a Nemotron checkpoint on the Hugging Face Hub to a chat on your own GPU.

    **convert** → **quantize** → **chat**, or **build** for the first two in one pass. **demo** shows it all on a small
    model that comes with the program; **doctor** says what this machine has and lacks.
    """
    del version
    console.settings.debug = debug


files.register(app)
imatrix.register(app)
fit.register(app)
inspect.register(app)
verify.register(app)
pull.register(app)
shelf.register(app)
talk.register(app)
bench.register(app)
evaluate.register(app)
demo.register(app)
doctor.register(app)


def main() -> None:
    """Run the command line: one line for an error, a traceback only with --debug."""
    for name in ("SIGTERM", "SIGHUP"):  # a polite kill, and a terminal that was closed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminate)
    try:
        app()
    except NemotronError as error:
        words = "; ".join((str(error), *getattr(error, "__notes__", ())))
        _fail(error, words, status=2 if error.is_misuse else 1)
    except MemoryError as error:
        _fail(error, "out of memory; close other programs, or use fewer --threads or a smaller --ctx-size")
    except OSError as error:
        _fail(error, f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:
        _fail(
            error, f"a mistake of this program: {type(error).__name__}: {error}; --debug shows where, please report it"
        )


def _fail(error: BaseException, message: str, status: int = 1) -> None:
    if console.settings.debug:
        raise error
    if "--json" in sys.argv:  # a program reads lines of JSON; the words go to stderr as ever
        print(json.dumps({"event": "error", "message": " ".join(message.split())}, ensure_ascii=False))
    console.error(" ".join(message.split()))
    sys.stdout.flush()
    raise SystemExit(status)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
    """A polite kill ends like Ctrl-C: unfinished files are removed on the way out."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    main()
