"""What a server refuses, or how a connection ends, in a sentence with the way out."""

from __future__ import annotations

import json
from typing import Any

import httpx

from nemotron_gguf.runner import ContextOverflowError, EngineBusyError, RunnerError

_OVERFLOW = (
    "context length",
    "context size",
    "context window",
    "exceed_context_size",
    "too many tokens",
    "max_model_len",
)
LONGEST = 400  # characters of what a server says


def of_connection(error: Exception, url: str) -> RunnerError:
    """A server that cannot be reached, or does not answer."""
    if isinstance(error, httpx.ConnectTimeout):
        return RunnerError(f"{url} did not answer in time; see whether the server is there, and the address right")
    if isinstance(error, httpx.ConnectError):
        return RunnerError(f"nothing answers at {url} ({_first(error)}); start the server, or give another address")
    if isinstance(error, httpx.TimeoutException):
        return RunnerError(f"{url} said nothing for too long; it may be overloaded: try again, or look at its log")
    return RunnerError(f"the connection to {url} broke ({_first(error)}); what came so far is kept: ask again")


def of_status(status: int, body: bytes, url: str, model: str) -> RunnerError:
    """A server's refusal, by its status and what it says."""
    said = said_in(body)
    words = f": {said}" if said else ""
    if any(mark in said.lower() for mark in _OVERFLOW):
        return ContextOverflowError(f"the conversation does not fit the context of {model} at {url}{words}")
    if status in (401, 403):
        return RunnerError(f"{url} wants another API key (status {status}){words}")
    if status == 404:
        what = f"has no model {model!r}" if model else "has no list of models"
        return RunnerError(f"{url} {what}, or is no address of the API (it often ends in /v1){words}")
    if status in (429, 503):
        return EngineBusyError(f"{url} is busy (status {status}){words}; ask again in a moment")
    return RunnerError(f"{url} refused the request with status {status}{words}")


def said_in(body: bytes) -> str:
    """The sentence of an error's body, in whichever of the usual places it stands."""
    text = body.decode("utf-8", "replace").strip()
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else " ".join(text.split())[:LONGEST]
    return message_of(found)


def message_of(found: Any) -> str:
    """The same of what was read already."""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            return message_of(found[key])
    return " ".join(str(found).split())[:LONGEST] if found else ""


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:200]
