"""A model in several files: the first, which people open, comes last, and a set without it is finished by a rerun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Writer

FIRST, SECOND, THIRD = (f"a-{number:05}-of-00003.gguf" for number in (1, 2, 3))


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD])
def test_killed_between_the_names(writer: Writer, place: Path, name: str, how: str) -> None:
    assert writer.run(place, "split", fault={"step": f"replace {name}.part", "at": 1, "how": how}).killed
    there = {path.name for path in place.glob("*.gguf")}
    assert (FIRST in there) == (name == FIRST and how == "after")
    if FIRST in there:
        assert {SECOND, THIRD} < there
    assert writer.finish(place, "split").reads == 0


def test_an_old_set_is_no_set_while_it_is_replaced(writer: Writer, place: Path) -> None:
    """At no time does a first part stand before parts of another model."""
    assert writer.run(place, "split", recipe="old").done
    old = {path.name: path.read_bytes() for path in place.glob("*.gguf")}
    options = {"force": True}
    for step in (f"replace {SECOND}.part", f"replace {THIRD}.part", f"replace {FIRST}.part"):
        for how in ("before", "after"):
            for name, data in old.items():
                (place / name).write_bytes(data)
            writer.run(place, "split", options=options, fault={"step": step, "at": 1, "how": how})
            found = {path.name: path.read_bytes() for path in place.glob("*.gguf")}
            new = {name: data for name, data in writer.truth("split").items() if name.endswith(".gguf")}
            assert FIRST not in found or found in (old, new), (step, how)
    writer.finish(place, "split", options=options)


def test_an_old_set_stays_until_the_new_one_is_written(writer: Writer, place: Path) -> None:
    assert writer.run(place, "split", recipe="old").done
    old = {path.name: path.read_bytes() for path in place.glob("*.gguf")}
    fault = {"step": f"pwrite {FIRST}.part", "at": 2, "how": "ENOSPC"}
    assert writer.run(place, "split", options={"force": True}, fault=fault).error == "Interrupted"
    assert {path.name: path.read_bytes() for path in place.glob("*.gguf")} == old
    writer.finish(place, "split", options={"force": True})
