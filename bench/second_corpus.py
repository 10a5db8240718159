"""Ordinary text that lies on any machine with Python: what `second_model.py` trains, calibrates and measures with.

Code of the standard library, its help topics, the docstrings and the licences of what is installed under sys.prefix. A
document belongs to one part alone, and no paragraph occurs twice.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.models.demo.training.tokenizer import SPECIAL

SKIPPED = frozenset({"test", "tests", "idlelib", "encodings", "pydoc_data", "lib2to3", "site-packages", "__pycache__"})
LONGEST = 24_000  # characters of one document
PART = 345_000  # characters of a part to measure with: some 105,000 tokens
SHORT = 60  # shorter paragraphs may occur again: `else:`, `Returns`

MARKERS = re.compile("|".join(map(re.escape, SPECIAL)))  # what a text about models says must stay plain text


@dataclass(frozen=True)
class Corpus:
    """Three parts; the documents of each lie in no other."""

    training: tuple[str, ...]
    calibration: str
    held_out: str


def gather(most: int = 14_000_000) -> Corpus:
    """This machine's corpus, up to `most` characters for training; the same each time while nothing is installed."""
    documents = sorted(_all(), key=lambda named: hashlib.sha256(named[0].encode()).digest())
    seen: set[bytes] = set()
    texts = (text for _, whole in documents if len(text := _unseen(whole, seen)[:LONGEST]) > 400)
    held_out, calibration = _take(texts, PART), _take(texts, PART)
    return Corpus(tuple(_take(texts, most)), "\n\n".join(calibration), "\n\n".join(held_out))


def _take(texts: Iterator[str], size: int) -> list[str]:
    taken: list[str] = []
    count = 0
    for text in texts:
        taken.append(text)
        count += len(text)
        if count >= size:
            break
    return taken


def _unseen(text: str, seen: set[bytes]) -> str:
    """The text without the paragraphs that came before."""
    kept = []
    for paragraph in MARKERS.sub("", text).split("\n\n"):
        key = hashlib.sha256("".join(paragraph.split()).encode()).digest()[:16]
        if len(paragraph) < SHORT or key not in seen:
            kept.append(paragraph)
            seen.add(key)
    return "\n\n".join(kept).strip()


def _all() -> Iterator[tuple[str, str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    yield from ((f"topic {name}", text) for name, text in topics.items())
    for path in _files(library):
        text = _read(path)
        yield f"code {path.relative_to(library)}", text
        yield f"words {path.relative_to(library)}", _words(text)
    for place in sorted({path for path in sys.path if path.endswith("site-packages")}):
        for path in _files(Path(place)):
            yield f"words {path.relative_to(place)}", _words(_read(path))
        for path in sorted(Path(place).glob("*.dist-info/**/*LICEN*")):
            yield f"licence {path.relative_to(place)}", _read(path) if path.is_file() else ""


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not SKIPPED & set(path.relative_to(folder).parts) and path.stat().st_size < 300_000:
            yield path


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="ignore")
    return text if text.isprintable() or "\x00" not in text else ""


def _words(code: str) -> str:
    """The docstrings of some length, one after the other."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(text for text in found if text and len(text) > 150)
