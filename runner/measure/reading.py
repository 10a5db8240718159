"""Texts to measure on: files, folders of them, several mixed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemotron_gguf.runner.errors import RunnerError

MAX_BYTES = 256 << 20  # of one text; its tokens must fit a message to the engine's process


def read_texts(paths: Sequence[Path]) -> tuple[str, ...]:
    """A text for each path: a file's, or all files of a folder and its folders joined in the order of their names.

    As llama.cpp's tools read them: UTF-8, one line break at the end left out. Raises RunnerError for what is missing,
    no text, empty, or too large.
    """
    return tuple(_folder(path) if path.is_dir() else _file(path) for path in paths)


def _folder(path: Path) -> str:
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise RunnerError(f"{path} has no files, expected texts in it; name a folder of texts, or a text")
    return "\n".join(map(_file, files))


def _file(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RunnerError(
                f"{path} has {path.stat().st_size} bytes, at most {MAX_BYTES} are read; give a part of it"
            )
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RunnerError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RunnerError(f"{path} is no text in UTF-8 (byte {error.start}); convert it, or name another") from error
    text = text.removesuffix("\n")
    if not text.strip():
        raise RunnerError(f"{path} is empty, expected a text; name another")
    return text
