"""Python for the model: what a program prints comes back; what it must not do, it cannot."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from nemotron_gguf.ui.tools import ToolBox, python
from nemotron_gguf.ui.tools.python import Holds, PythonTool, holds

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="taken away on Linux alone")


def run(code: str, stopped: threading.Event | None = None) -> str:
    return ToolBox([PythonTool()]).call("run_python", {"code": code}, stopped)


def test_what_is_printed_comes_back_and_the_last_value_too() -> None:
    assert run("print('你好')\nx = 6\nx * 7") == "你好\n42"
    assert run("x = 1") == "The program ended and printed nothing."
    assert run("import sys; print(__name__, len(sys.argv)); None").startswith("__main__")


def test_errors_come_back_without_the_frames_of_ours() -> None:
    result = run("def f():\n    return 1 / 0\nf()")
    assert "ZeroDivisionError" in result
    assert "return 1 / 0" in result
    assert "sandbox" not in result
    assert "[exit status 1]" in result
    assert "SyntaxError" in run("x = (")


def test_it_starts_in_an_empty_folder_that_is_gone_afterwards() -> None:
    where = Path(run("import os; open('x', 'w').write('y'); print(os.listdir(), os.getcwd())").split()[1])
    assert where.name.startswith("nemotron-python-")
    assert not where.exists()
    secret = "NEMOTRON_TEST_SECRET"
    os.environ[secret] = "1"
    try:
        assert run(f"import os; print(os.environ.get('{secret}'))") == "None"
    finally:
        del os.environ[secret]


@LINUX
def test_no_network_no_files_of_others_no_endless_memory(tmp_path: Path) -> None:
    held = holds()
    assert held.network, "by seccomp at least"
    assert held.resources
    code = (
        "import socket\n"
        "for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):\n"
        "    try:\n        socket.socket(family)\n        print('OPEN')\n"
        "    except OSError:\n        print('closed')\n"
        "try:\n    'x' * (4 << 30)\n    print('OPEN')\nexcept MemoryError:\n    print('bounded')\n"
        "import os\ntry:\n    os.setsid()\n    print('OPEN')\nexcept OSError:\n    print('stays')"
    )
    assert run(code) == "closed\nclosed\nclosed\nbounded\nstays"
    if not held.files:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "secret").write_text("SECRET")
    (tmp_path / "made").mkdir()
    assert "PermissionError" in run(f"open({str(tmp_path / 'secret')!r}).read()")
    assert "PermissionError" in run(f"open({str(tmp_path / 'made' / 'x')!r}, 'w')")
    assert not list((tmp_path / "made").iterdir())


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "SECONDS", 2.0)
    assert "[the program was ended: it took longer than 2 seconds]" in run("import time; time.sleep(600)")


def test_output_is_bounded() -> None:
    result = run("while True: print('x' * 1000)")
    assert result.endswith("[the program was ended: it printed more than 64,000 bytes]")
    assert len(result) < 30_000


def test_a_person_can_stop_it() -> None:
    stopped = threading.Event()
    stopped.set()
    assert "the person stopped it" in run("import time; time.sleep(600)", stopped)


@LINUX
def test_what_it_started_ends_with_it() -> None:
    """A child that ignores the usual signals, and has long to go, is not there any more."""
    if not holds().processes:
        pytest.skip("no process can be started in it here")
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "    os.close(1), os.close(2), time.sleep(600)\n"
        "print(os.getcwd())"
    )
    folder = run(code)
    assert "nemotron-python-" in folder
    assert not [one for one in Path("/proc").glob("[0-9]*/environ") if folder.encode() in _bytes(one)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_person_is_told_what_is_not_held() -> None:
    told = Holds(network=True, files=False, processes=False, resources=True).describe()
    assert told.startswith("here it can reach no network; use only so much memory")
    assert "NOT held here: open no files but its own and Python's" in told
