"""What goes wrong between huggingface_hub's client and the Hub: what is worth another try, and a line for the rest."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.patience import Failed

PASSING = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}  # statuses that a later try may not meet
LIBRARY = "nemotron-gguf"  # how requests name themselves


def http_library() -> ModuleType:
    """httpx or its successor: whichever huggingface_hub's client and its errors are made with."""
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


def http_errors() -> tuple[type[Exception], ...]:
    """What a request may raise."""
    library = http_library()
    return (library.HTTPError, library.InvalidURL, library.StreamError, OSError, ValueError, RuntimeError)


def endpoint() -> str:
    """The Hub's address, as `HF_ENDPOINT` gives it."""
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


def passing(error: BaseException) -> Failed | None:
    """The failure where another try may succeed; None for what is final."""
    from huggingface_hub.errors import HfHubHTTPError

    library = http_library()
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status_failure(status, error.response.headers, "the Hub") if status in PASSING else None
    if _is_certificate(error):
        return None
    if isinstance(error, library.TransportError) and not isinstance(error, library.UnsupportedProtocol):
        return Failed(words(error))
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return Failed("the client was closed")  # by huggingface_hub, which makes a new one
    if isinstance(error, TimeoutError | ConnectionError):
        return Failed(words(error))
    return None


def offline(error: BaseException) -> Interrupted | None:
    """Where `HF_HUB_OFFLINE` forbids to ask the Hub."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return Interrupted("HF_HUB_OFFLINE is set") if isinstance(error, OfflineModeIsEnabled) else None


def status_failure(status: int, headers: Mapping[str, str], who: str) -> Failed:
    """A status of `PASSING`, with the wait that the server asks for."""
    return Failed(f"{who} answered {status}", wait=_asked_wait(headers))


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by Retry-After or by the Hub's RateLimit header (`"api";r=0;t=55`)."""
    after = headers.get("retry-after", "").strip()
    if after.isascii() and after.isdigit() and len(after) < 10:
        return float(after)
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})\b", headers.get("ratelimit", ""))
    return float(limit[1]) if limit else None


def refusal(error: BaseException, repo_id: str, revision: str | None) -> ConvertError:
    """The one line for an error that stays."""
    from huggingface_hub import errors

    what = f"{repo_id}@{revision}" if revision else repo_id
    page = f"{endpoint()}/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return ConvertError(f"{what} is gated: accept its licence at {page}, then log in with `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return ConvertError(f"{repo_id} has no revision {revision}; look at its branches at {page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ConvertError(
            f"the Hub has no repository {what}, or it is private: check the name, or log in with `hf auth login`"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _status_refusal(error, what)
    if _is_certificate(error):
        return ConvertError(f"the certificate of {endpoint()} is not accepted: {words(error)}; check SSL_CERT_FILE")
    return ConvertError(f"reading {what} from the Hub failed: {words(error)}")


def _status_refusal(error: Any, what: str) -> ConvertError:
    from huggingface_hub import errors

    status, said = error.response.status_code, plain(error.server_message or "")
    said = f" ({said})" if said else ""
    if isinstance(error, errors.EntryNotFoundError):
        return ConvertError(f"the Hub lists a file of {what} that it does not have (404); try another revision")
    if status == 401:
        return ConvertError(
            f"the Hub does not accept your token for {what}{said}: log in again with `hf auth login`, or correct"
            " HF_TOKEN"
        )
    if status == 403:
        return ConvertError(f"the Hub refuses {what} to you{said}: give your token the right to read it")
    return ConvertError(f"the Hub answered {status} to a request for {what}{said}")


def plain(text: str, limit: int = 200) -> str:
    """Words of a server or a library in one short line, without addresses, which may be signed."""
    return " ".join(re.sub(r"\S*://\S*", "an address", text).split())[:limit]


def words(error: BaseException) -> str:
    """What an error says, or its name."""
    return plain(str(error)) or type(error).__name__


def _is_certificate(error: BaseException) -> bool:
    """Whether a certificate that is not accepted is at the root of an error; that does not pass by waiting."""
    import ssl

    cause: BaseException | None = error
    for _ in range(8):
        if cause is None or isinstance(cause, ssl.SSLCertVerificationError):
            return cause is not None
        cause = cause.__cause__ or cause.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
