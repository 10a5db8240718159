"""Whether the disks have room for what is to be written."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError


def check_room(needs: Iterable[tuple[Path, int]]) -> None:
    """Raise ConvertError where a file system has less free than the folders on it need; folders may not exist yet."""
    needed: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    for folder, size in needs:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        device = existing.stat().st_dev
        needed[device] += size
        places.setdefault(device, existing)
    for device, size in needed.items():
        free = shutil.disk_usage(places[device]).free
        if size > free:
            raise ConvertError(
                f"{places[device]} has {free / 1e9:.2f} GB free, {size / 1e9:.2f} GB are needed; free some or write"
                " elsewhere"
            )
