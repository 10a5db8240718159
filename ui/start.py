"""Where `nemotron` begins: Ctrl-C while the program itself is being loaded ends it without a word."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130  # exit status of a program ended by Ctrl-C, as shells count it

signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(INTERRUPTED))  # before anything takes time


def main() -> None:
    """The command line (`ui.cli`)."""
    from nemotron_gguf.ui import cli

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
