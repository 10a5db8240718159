"""The calculator, the clock and the folder: what they tell, and what they refuse."""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from nemotron_gguf.ui.tools import ToolBox
from nemotron_gguf.ui.tools.calculator import Calculator
from nemotron_gguf.ui.tools.clock import Clock
from nemotron_gguf.ui.tools.folder import LINES, Folder


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("0.1 + 0.2", "0.3"),
        ("2^10 - 2**10", "0"),
        ("7 / 2", "3.5"),
        ("1/3", "0.333333333333333"),
        ("-7 // 2", "-4"),
        ("10 ** 30", "1" + "0" * 30),
        ("10 ** -30", "1e-30"),
        ("sqrt(2)", "1.4142135623731"),
        ("factorial(20)", "2432902008176640000"),
        ("round(2.675, 2)", "2.68"),
        ("sin(pi/2) + max(1, 2, 3)", "4"),
        ("12 × 3 ÷ 4 − 1", "8"),
        ("2 ** 0.5", "1.4142135623731"),
        ("1e400", None),
    ],
)
def test_sums(expression: str, value: str | None) -> None:
    result = ToolBox([Calculator()]).call("calculator", {"expression": expression})
    assert result == value if value is not None else result.startswith("Error: ")


@pytest.mark.parametrize(
    "expression",
    [
        "", "1 +", "1/0", "5 % 0", "__import__('os')", "(1).__class__", "[1]", "'a' * 9", "x", "1 if 1 else 2",
        "9 ** 9 ** 9", "(2 ** 9999) ** 9999", "10 ** 5000", "2 ** (10 ** 9)", "factorial(10 ** 9)", "comb(5000, 2500)",
        "factorial(2.5)", "sqrt(-1)", "(-8) ** 0.5", "exp(1000)", "log(0)", "sqrt()", "sqrt(1, 2)", "round(1, x=1)",
        "(" * 400 + "1" + ")" * 400, "1" * 1001, "True + 1", "1j", "open('x')", "max()", "1 << 99",
        "0 ** -1", "round(1.5, 10 ** 9)", "round(1.5, -(10 ** 9))", "gcd(0.5, 1)", "9" * 990 + "**9", "lambda: 1",
        "1e308 * 10 ** 308 * sqrt(2) * 10 ** 300", "floor(sqrt(1e308) * 1e308)", "max(1, 'x')", "gcd(1, (2))()",
    ],
)  # fmt: skip
def test_what_is_no_sum_is_refused_at_once(expression: str) -> None:
    result = ToolBox([Calculator()]).call("calculator", {"expression": expression})
    assert result.startswith("Error: "), result
    assert "failed (" not in result, "foreseen"
    assert len(result) < 500


def at(zone: tzinfo | None) -> datetime:
    moment = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    return moment.astimezone(zone) if zone else moment.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("zone", "time", "name", "offset"),
    [
        ("Asia/Shanghai", "20:00", "Asia/Shanghai", "+08:00"),
        ("new york", "08:00", "America/New_York", "-04:00"),
        ("Paris", "14:00", "Europe/Paris", "+02:00"),
        ("utc", "12:00", "UTC", "+00:00"),
    ],
)
def test_the_clock_knows_time_zones_and_their_cities(zone: str, time: str, name: str, offset: str) -> None:
    told = json.loads(Clock(at).call({"timezone": zone}, threading.Event()))
    assert (told["time"], told["timezone"], told["utc_offset"]) == (time, name, offset)
    assert (told["date"], told["weekday"]) == ("2026-07-01", "Wednesday")


def test_the_clock_here_and_where_there_is_none() -> None:
    assert set(json.loads(Clock().call({}, threading.Event()))) >= {"time", "date", "weekday"}
    for zone in ("Nowhere", "../../etc/passwd", "/etc/passwd", "a\0b", "x" * 9999):
        assert "there is no time zone" in ToolBox([Clock()]).call("clock", {"timezone": zone})


@pytest.fixture
def box(tmp_path: Path) -> ToolBox:
    root = tmp_path / "open"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "a.txt").write_text("one\nTwo words\n", encoding="utf-8")
    (root / "sub" / "b.md").write_text("the two\n你好\n", encoding="utf-8")
    (root / ".hidden" / "c.txt").write_text("two", encoding="utf-8")
    (root / "d.bin").write_bytes(b"two\0")
    (tmp_path / "secret.txt").write_text("two SECRET", encoding="utf-8")
    return ToolBox(Folder(root).tools())


def test_a_folder_is_listed_read_and_searched(box: ToolBox, tmp_path: Path) -> None:
    assert box.call("list_folder", {}) == ".hidden/\nsub/\na.txt (14 bytes)\nd.bin (4 bytes)"
    assert box.call("list_folder", {"path": "sub"}) == "b.md (15 bytes)"
    assert box.call("read_file", {"path": "sub/b.md"}) == "the two\n你好\n"
    assert box.call("search_files", {"text": "TWO"}) == "a.txt:2: Two words\nsub/b.md:1: the two"
    assert box.call("search_files", {"text": "two", "path": "sub/b.md"}) == "sub/b.md:1: the two"
    assert box.call("search_files", {"text": "nothing such"}) == "Nothing was found."
    (tmp_path / "open" / "long").write_text("\n".join(map(str, range(1, LINES + 3))), encoding="utf-8")
    shown = box.call("read_file", {"path": "long"})
    assert shown.endswith(f"\n{LINES}\n[2 more lines follow; first_line={LINES + 1} shows them]")
    assert box.call("read_file", {"path": "long", "first_line": LINES + 2}) == str(LINES + 2)
    assert "none with the number" in box.call("read_file", {"path": "long", "first_line": LINES + 9})


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nothing_outside_of_a_folder_is_read(box: ToolBox, tmp_path: Path) -> None:
    root = tmp_path / "open"
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / "loop").symlink_to(root / "loop")
    (root / "inner").symlink_to(root / "a.txt")
    for path in ("../secret.txt", "link.txt", "up/secret.txt", "sub/../../secret.txt", f"{tmp_path}/secret.txt", "loop",
                 "up", "..", "~/.bashrc", "\0", "x" * 5000):  # fmt: skip
        for name in ("read_file", "list_folder"):
            result = box.call(name, {"path": path})
            assert result.startswith("Error: "), (name, path)
            assert "SECRET" not in result
        assert "SECRET" not in box.call("search_files", {"text": "two", "path": path})
    assert "SECRET" not in box.call("search_files", {"text": "two"})
    assert box.call("read_file", {"path": "inner"}).startswith("one"), "a link that stays inside"


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_what_is_no_file_does_not_hold_a_call_up(box: ToolBox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open" / "pipe")
    assert "no regular file" in box.call("read_file", {"path": "pipe"})
    assert box.call("read_file", {"path": "sub"}).startswith("Error: sub ")
    assert "binary" in box.call("read_file", {"path": "d.bin"})
    assert "cannot be listed" in box.call("list_folder", {"path": "a.txt"})
    assert "two" in box.call("search_files", {"text": "two"})


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="opened by its whole path there")
def test_a_link_that_appears_after_the_path_was_checked_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "open"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("inside")
    (tmp_path / "a.txt").write_text("SECRET")
    folder = Folder(root)
    path = folder._inside("sub/a.txt")
    (root / "sub").rename(root / "old")
    (root / "sub").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(Exception, match="cannot be read"):
        folder._open(path)
