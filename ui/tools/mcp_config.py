"""The file that names MCP servers, as other clients have it: {"mcpServers": {name: {"command", …} or {"url", …}}}."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nemotron_gguf.ui.tools.errors import ConfigError

LARGEST = 1 << 20  # bytes
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_KINDS = {"stdio": "command", "http": "url", "streamable-http": "url", "streamableHttp": "url"}


class _Entry(msgspec.Struct):
    """A server as the file has it; what other clients add besides is left alone."""

    command: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    type: str | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """A server: the program to start (a command and its words), or an address with headers."""

    name: str
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def read_config(path: str | Path) -> list[Server]:
    """The servers of a file, without those that are disabled; ${NAME} and ${NAME:-else} stand for variables.

    Raises ConfigError, with the entry's name, for what is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{path} has more than {LARGEST >> 20} MiB; expected a file of MCP servers")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {str(error)[:200]}") from error
    entries = whole.get("mcpServers") if isinstance(whole, dict) else None
    if not isinstance(entries, dict):
        raise ConfigError(f'{path} names no servers; expected {{"mcpServers": {{NAME: {{"command" or "url": …}}}}}}')
    return [server for name, entry in entries.items() if (server := _server(str(path), name, entry))]


def _server(path: str, name: str, value: Any) -> Server | None:
    """A server of the file, None where it is disabled."""
    where = f"{path}: the MCP server {name[:60]!r}"
    try:
        entry = msgspec.convert(_filled(value, where), _Entry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} is none: {error}") from error
    if entry.disabled:
        return None
    if (entry.command is None) == (entry.url is None):
        raise ConfigError(f'{where} has {"both" if entry.url else "neither"} "command" and "url"; expected one of them')
    wanted = _KINDS.get(entry.type) if entry.type else None
    if entry.type and (wanted is None or getattr(entry, wanted) is None):
        raise ConfigError(f'{where} is of type {entry.type!r}; expected "stdio" with a command, or "http" with a url')
    if entry.url is not None:
        if not entry.url.startswith(("http://", "https://")):
            raise ConfigError(f"{where} has the url {entry.url[:80]!r}; expected one with http:// or https://")
        return Server(name, url=entry.url, headers=tuple(entry.headers.items()))
    assert entry.command is not None
    return Server(name, (entry.command, *entry.args), tuple(entry.env.items()), entry.cwd)


def _filled(value: Any, where: str) -> Any:
    """The same value with the environment's variables in its texts. Raises ConfigError for one that is not set."""
    if isinstance(value, dict):
        return {key: _filled(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, where) for item in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        set_to = os.environ.get(found[1], found[2])
        if set_to is None:
            raise ConfigError(f"{where} wants the variable {found[1]}, which is not set; set it, or write the value")
        return set_to

    return _VARIABLE.sub(fill, value)
