"""How much memory this machine has for us."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def available_memory() -> tuple[int, int]:
    """Bytes that programs can still have, and all; zero for what this system does not tell.

    A limit of the control group that we are in (a container's) counts as well.
    """
    free, total = _machine()
    limit, used = _group()
    if limit and (not total or limit < total):
        return min(free or limit, max(limit - used, 0)), limit
    return free, total


def _machine() -> tuple[int, int]:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total, available = (int(values[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable"))
        return available, total
    if sys.platform == "win32":
        return _windows()
    if "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return 0, 0


def _windows() -> tuple[int, int]:
    """GlobalMemoryStatusEx (sysinfoapi.h)."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "page_total", "page_free", "virtual", "v_free")),
            ("extended", ctypes.c_uint64),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - mypy knows it on Windows only
    found = kernel.GlobalMemoryStatusEx(ctypes.byref(status))
    return (int(status.free), int(status.total)) if found else (0, 0)


def _group() -> tuple[int, int]:
    """Limit and use of the control group, version 2; a limit of 0 is none. What can be dropped is no use."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        if not limit.isdecimal():
            return 0, 0
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(limit), used - int(stat.get("inactive_file", 0)) - int(stat.get("active_file", 0))
    except (OSError, ValueError):
        return 0, 0
