"""Where a checkpoint is: a local folder, or a repository of the Hugging Face Hub and its download."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError

# What a conversion reads; weights in other formats and images stay where they are.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "README.md"]

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"  # the Hub's rule for organisations and repositories
_REPO = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}))?")


@dataclass(frozen=True)
class Place:
    """A local `folder`, or the Hub's `repo_id` at `revision` (None: its main branch)."""

    folder: Path | None = None
    repo_id: str | None = None
    revision: str | None = None


def parse_source(source: str | Path, revision: str | None = None) -> Place:
    """Tell a folder from a repository; an existing folder comes first. Raises ConvertError for what is neither."""
    try:
        path = Path(source).expanduser()
        if path.is_dir() and source != "":
            if revision:
                raise ConvertError(f"{source} is a local folder, which has no revision {revision}; leave it out")
            return Place(folder=path)
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConvertError(f"{str(source)[:200]!r} is no usable path: {reason}") from None
    if is_file:
        raise ConvertError(f"{source} is a file, expected the checkpoint's folder or a Hub repository org/name")
    match = _REPO.fullmatch(str(source))
    if match is None or ".." in str(source) or "--" in match[1]:
        raise ConvertError(
            f"{str(source)[:200]!r} is neither a folder here nor a Hub repository;"
            " expected a path or org/name[@revision]"
        )
    if match[2] and revision and match[2] != revision:
        raise ConvertError(f"{source} names the revision {match[2]}, but {revision} is asked for; give one")
    return Place(repo_id=match[1], revision=match[2] or revision)


def download(place: Place, progress: bool) -> Path:
    """Bring a repository's files into the Hub's cache and return their folder; finished files are kept.

    `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` are honoured, as by every program of the Hub.
    """
    import httpx
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    assert place.repo_id is not None
    what = f"{place.repo_id}{'@' + place.revision if place.revision else ''}"
    try:
        (enable_progress_bars if progress else disable_progress_bars)()
        return Path(huggingface_hub.snapshot_download(place.repo_id, revision=place.revision, allow_patterns=PATTERNS))
    except errors.GatedRepoError:
        raise ConvertError(
            f"{what} is gated: accept its licence on its page on the Hub, then log in with `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise ConvertError(
            f"{place.repo_id} has no revision {place.revision}; look at its branches on the Hub"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ConvertError(
            f"the Hub has no repository {what}, or it is private: check the name, or log in with `hf auth login`"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError, ConnectionError):
        raise ConvertError(
            f"the Hub could not be reached and {what} is not complete in the cache; check the network,"
            " HF_ENDPOINT and HF_HUB_OFFLINE, and run it again: finished files are kept"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, ValueError, OSError) as error:
        raise ConvertError(f"downloading {what} failed: {' '.join(str(error).split())[:300]}") from None
