"""What the Hub's cache on this machine holds of a repository: found, never written, by its documented layout.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.byte_source import INDEX, SINGLE
from nemotron_gguf.convert.source.json_files import read_object


def cached_folder(repo_id: str, revision: str | None) -> Path | None:
    """The folder of a revision (None: the main branch) as it was when last looked up, whatever is in it."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo_id, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def is_complete(folder: Path) -> bool:
    """Whether all the weights are there that a checkpoint's folder calls for."""
    if not folder.joinpath(INDEX).is_file():
        return folder.joinpath(SINGLE).is_file()
    try:
        weight_map = read_object(folder / INDEX).get("weight_map")
    except ConvertError:
        return False
    names = {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else {""}
    return all(name and "\0" not in name and folder.joinpath(name).is_file() for name in names)


def cached_file(repo_id: str, commit: str, name: str, size: int | None, etag: str | None) -> Path | None:
    """A file of a commit that lies in the cache with the right size.

    Also where another commit brought it: content is kept by its ETag.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, name, revision=commit)
    places = [Path(found)] if isinstance(found, str) else []
    if etag is not None and etag.isalnum():
        places.append(Path(constants.HF_HUB_CACHE, "models--" + repo_id.replace("/", "--"), "blobs", etag))
    return next((path for path in places if path.is_file() and size in (None, path.stat().st_size)), None)


def cached_etag(path: Path) -> str | None:
    """The ETag of a cached file, where the cache keeps content by it; None where it holds plain copies."""
    content = path.resolve()
    return content.name if content.parent.name == "blobs" else None
