"""A folder that the model may read: list, read, search. Never outside it, and never to change anything."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from nemotron_gguf.ui import console
from nemotron_gguf.ui.attachments.encoding import decode
from nemotron_gguf.ui.attachments.errors import AttachmentError
from nemotron_gguf.ui.attachments.reading import read_open
from nemotron_gguf.ui.tools.errors import ToolError

ENTRIES = 500  # that a list shows
LINES = 400  # that are read at a time
HITS = 100  # that a search shows
FILES = 20_000  # that a search looks at
SEARCHED = 2 << 20  # bytes of a file, at most, that is searched
WIDTH = 300  # characters of a line that a search shows

_PATH = {"type": "string", "description": "A path inside the folder, with / between its parts."}


class Folder:
    """A folder whose files can be opened by paths inside it. Raises ToolError where there is no such folder."""

    def __init__(self, root: str | Path) -> None:
        try:
            self.root = Path(root).expanduser().resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ToolError(f"the folder {root} cannot be read: {error}; name one that is there") from error
        if not self.root.is_dir():
            raise ToolError(f"{root} is no folder; name the folder that the model may read")

    def tools(self) -> list[FolderTool]:
        """What the model can do with it."""
        return [
            FolderTool(
                "list_folder", "List what is in a folder that the person has opened for you.", {"path": _PATH}, (),
                self.list,
            ),
            FolderTool(
                "read_file",
                f"Read a file of that folder (text, PDF or DOCX), {LINES} lines at a time.",
                {"path": _PATH, "first_line": {"type": "integer", "minimum": 1}},
                ("path",),
                self.read,
            ),
            FolderTool(
                "search_files",
                "Find the lines that contain a text (no pattern; case does not matter) in that folder's text files.",
                {"text": {"type": "string", "minLength": 1}, "path": _PATH},
                ("text",),
                self.search,
            ),
        ]  # fmt: skip

    def list(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """A line for each entry, folders first."""
        del stopped
        path = self._inside(str(arguments.get("path") or "."))
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: (not _is_folder(entry), entry.name))
        except OSError as error:
            raise ToolError(f"{self._shown(path)} cannot be listed: {error.strerror}") from error
        lines = [_line(entry) for entry in entries[:ENTRIES]]
        if len(entries) > ENTRIES:
            lines.append(f"[and {len(entries) - ENTRIES:,} more]")
        return "\n".join(lines) or "The folder is empty."

    def read(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """The lines from `first_line` on, with a word about what follows."""
        del stopped
        path, first = self._inside(str(arguments["path"])), int(arguments.get("first_line") or 1)
        with self._open(path) as file:
            text = read_open(file, Path(self._shown(path))).text
        lines = text.split("\n")
        if first > len(lines):
            raise ToolError(f"{self._shown(path)} has {len(lines):,} lines, and none with the number {first:,}")
        shown = "\n".join(lines[first - 1 : first - 1 + LINES])
        rest = len(lines) - (first - 1 + LINES)
        return shown if rest <= 0 else f"{shown}\n[{rest:,} more lines follow; first_line={first + LINES} shows them]"

    def search(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """`path:line: text` for each hit."""
        wanted = str(arguments["text"]).casefold()
        hits: list[str] = []
        for number, path in enumerate(self._files(self._inside(str(arguments.get("path") or ".")))):
            if stopped.is_set() or number >= FILES:
                hits.append("[the search ended here; name a folder with fewer files]")
                break
            hits += self._hits(path, wanted)
            if len(hits) >= HITS:
                hits[HITS:] = ["[there are more; search for something rarer]"]
                break
        return "\n".join(hits) or "Nothing was found."

    def _hits(self, path: Path, wanted: str) -> Iterator[str]:
        with contextlib.suppress(ToolError, AttachmentError, OSError), self._open(path) as file:
            if os.fstat(file.fileno()).st_size > SEARCHED:
                return
            for number, line in enumerate(decode(file.read(SEARCHED), path.name)[0].split("\n"), 1):
                if wanted in line.casefold():
                    yield f"{self._shown(path)}:{number}: {line.strip()[:WIDTH]}"

    def _files(self, path: Path) -> Iterator[Path]:
        """The files below a folder, or the one that the path is; hidden folders are left out."""
        if path.is_file():
            yield path
        for folder, names, files in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(files))

    def _inside(self, path: str) -> Path:
        """Where a path leads, every link followed. Raises ToolError where that is outside the folder, or nowhere."""
        try:
            found = (self.root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ToolError(f"there is no {path[:200]!r} in the folder; list_folder shows what is there") from error
        if not found.is_relative_to(self.root):
            raise ToolError(f"{path[:200]!r} is outside of the folder, which cannot be read")
        return found

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _open(self, path: Path) -> IO[bytes]:
        """A regular file, to be read. Raises ToolError for another one, and where a link has appeared on its way."""
        try:
            file = os.fdopen(self._descriptor(path), "rb")
        except OSError as error:
            raise ToolError(f"{self._shown(path)} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ToolError(f"{self._shown(path)} is no regular file; list_folder shows what is in a folder")
        return file

    def _descriptor(self, path: Path) -> int:
        """Opened part by part from the folder on, so that no link that appears meanwhile leads out of it."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        if os.open not in os.supports_dir_fd:
            return os.open(path, flags | getattr(os, "O_BINARY", 0))
        at = os.open(self.root, os.O_RDONLY)
        for part in path.relative_to(self.root).parts:
            try:
                following = os.open(part, flags, dir_fd=at)
            finally:
                os.close(at)
            at = following
        return at


class FolderTool:
    """One thing that the model can do with a folder."""

    acts = False

    def __init__(
        self,
        name: str,
        description: str,
        properties: Mapping[str, Any],
        required: tuple[str, ...],
        work: Callable[[Mapping[str, Any], threading.Event], str],
    ) -> None:
        self.name, self.description = name, description
        self.parameters: Mapping[str, Any] = {
            "type": "object",
            "properties": dict(properties),
            "required": list(required),
            "additionalProperties": False,
        }
        self.call = work


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _line(entry: os.DirEntry[str]) -> str:
    if _is_folder(entry):
        return f"{entry.name}/"
    try:
        return f"{entry.name} ({console.size(entry.stat().st_size)})"
    except OSError:
        return f"{entry.name} (a link that leads nowhere)"
