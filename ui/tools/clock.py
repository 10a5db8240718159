"""A clock: the time here or in another time zone."""

from __future__ import annotations

import json
import threading
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from nemotron_gguf.ui.tools.errors import ToolError

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Clock:
    """Tells date and time."""

    name = "clock"
    description = "The current date, weekday and time: here, or in a time zone or its city."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "timezone": {
                "type": "string",
                "description": "An IANA time zone such as Asia/Shanghai, its city alone, or UTC; left out: here.",
            }
        },
        "additionalProperties": False,
    }
    acts = False

    def __init__(self, now: Callable[[tzinfo | None], datetime] = datetime.now) -> None:
        self._now = now

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """The time as an object: time, time zone, date, weekday, and what it is ahead of UTC."""
        del stopped
        wanted = str(arguments.get("timezone") or "").strip()
        zone = find_zone(wanted) if wanted else None
        time = self._now(zone) if zone else self._now(None).astimezone()
        offset = time.strftime("%z")
        told = {
            "time": f"{time:%H:%M}",
            "timezone": zone.key if zone else time.tzname(),
            "date": f"{time:%Y-%m-%d}",
            "weekday": WEEKDAYS[time.weekday()],
            "utc_offset": f"{offset[:3]}:{offset[3:5]}",
        }
        return json.dumps(told)


def find_zone(wanted: str) -> zoneinfo.ZoneInfo:
    """A time zone by its name, or by that of its city. Raises ToolError where there is none."""
    names = zoneinfo.available_timezones()
    key = wanted.replace(" ", "_").casefold()
    found = next((name for name in sorted(names) if name.casefold() == key), None)
    found = found or next((name for name in sorted(names) if name.casefold().rpartition("/")[2] == key), None)
    if found is None:
        raise ToolError(f"there is no time zone {wanted[:60]!r}; give an IANA name such as Europe/Berlin, or UTC")
    return zoneinfo.ZoneInfo(found)
