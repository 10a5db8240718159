"""The terminal chat: one answer for a pipe, and a conversation at a keyboard (a pseudo-terminal)."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHAT = [sys.executable, "-m", "nemotron_gguf.ui.cli", "chat"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OPTIONS = ["--threads", "1", "--temperature", "0"]

SCRIPTED = """
import sys
sys.path.insert(0, sys.argv[1])
import conftest
from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import terminal

def script(prompt):
    question = prompt.rpartition("[user]")[2].partition("[assistant]")[0]
    if "long" in question:
        return "</think>" + "word " * 4000
    said = f"You said {question}, a\\x1b[31m colour."
    return f"weighing {question}</think>{said}" if prompt.endswith("<think>\\n") else said

terminal.open_model = lambda *rest, **more: conftest.scripted(script, 0.01)
try:
    terminal.chat("scripted.gguf", message=sys.argv[2] if len(sys.argv) > 2 else None)
except NemotronError as error:
    sys.exit("ERROR " + str(error))
"""


def one_shot(arguments: list[str], piped: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*CHAT, *arguments], input=piped.encode(), capture_output=True, timeout=120, check=False)


def test_one_answer_of_the_real_model_goes_to_stdout_alone(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--message", "What does the convert room do?", *OPTIONS])
    words, beside = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, beside
    assert words.strip()
    assert "think" not in words
    assert "\x1b" not in words
    assert "context 4096 · on the CPU · 1 thread · temperature 0" in beside
    assert "of them thought" in beside
    again = one_shot([str(demo_q8), "--message", "What does the convert room do?", *OPTIONS])
    assert again.stdout == done.stdout


def test_a_pipe_is_a_message_and_thinking_can_be_off(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--no-thinking", *OPTIONS], piped="你好，你是谁？\n")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip()
    assert "thought" not in done.stderr.decode()


@pytest.mark.parametrize("piped", ["", "  \n"])
def test_no_message_is_an_error(demo_q8: Path, piped: str) -> None:
    done = one_shot([str(demo_q8)], piped=piped)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "--message" in done.stderr.decode()


def test_a_message_that_does_not_fit_is_one_line(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--ctx-size", "64", *OPTIONS, "--message", "word " * 500])
    assert (done.returncode, done.stdout) == (1, b"")
    assert "--ctx-size" in done.stderr.decode().splitlines()[-1]


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF and nothing")
    done = one_shot([str(path), "--message", "hi"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert "Traceback" not in done.stderr.decode()


class Keyboard:
    """A program in a pseudo-terminal: type and read."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd, self.process, self.seen = fd, process, ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C as a person presses it: once the line editor waits for keys, a moment after its prompt is drawn.

        A signal in that moment is noted by Python and acted upon at the next key, so a key that does nothing follows.
        """
        time.sleep(0.5)
        self.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        with contextlib.suppress(OSError):  # the program may have left
            self.type("\x0c")

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Read until `text` appears; returns what came before it."""
        import select

        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come; seen: {self.seen!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen = COLOUR.sub("", self.seen + self.decoder.decode(os.read(self.fd, 65536)))
        before, _, self.seen = self.seen.partition(text)
        return before


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", SCRIPTED, str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, env=environment, start_new_session=True
    ) as process:
        os.close(side)
        try:
            yield Keyboard(main, process)
        finally:
            process.kill()
            os.close(main)


def test_a_conversation_at_the_keyboard() -> None:
    with keyboard() as keys:
        keys.wait_for("/help lists commands")
        keys.wait_for("> ")
        keys.type("hello 你好\n")
        keys.wait_for("weighing hello 你好")
        before = keys.wait_for("tokens/s")
        assert "You said hello 你好, a[31m colour." in before, "an answer cannot command the terminal"
        keys.type("/thinking off\n")
        keys.wait_for("thinking is off")
        keys.type("second\n")
        assert "weighing" not in keys.wait_for("You said second")
        keys.wait_for("> ")
        keys.type("/nonsense\n")
        keys.wait_for("is no command")
        keys.wait_for("/exit")
        keys.type("/clear\n")
        keys.wait_for("a new conversation begins")
        keys.type("/exit\n")
        assert keys.process.wait(30) == 0


def test_ctrl_c_stops_the_answer_and_then_the_program() -> None:
    with keyboard() as keys:
        keys.wait_for("> ")
        keys.type("a long one\n")
        keys.wait_for("word word")
        keys.process.send_signal(signal.SIGINT)
        keys.wait_for("stopped")
        keys.wait_for("> ")
        keys.type("again\n")
        keys.wait_for("You said again")
        keys.wait_for("> ")
        keys.interrupt()
        keys.wait_for("Ctrl-C again leaves")
        keys.wait_for("> ")
        keys.interrupt()
        assert keys.process.wait(30) == 0


def test_the_end_of_input_leaves() -> None:
    with keyboard() as keys:
        keys.wait_for("> ")
        keys.type("\x04")
        assert keys.process.wait(30) == 0


def test_ctrl_c_ends_a_single_answer_with_the_shells_status() -> None:
    command = [sys.executable, "-c", SCRIPTED, str(Path(__file__).parent), "a long one"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(9) == b"word word"
        process.send_signal(signal.SIGINT)
        rest, beside = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(rest) < 10_000
    assert "stopped" in beside.decode()
    assert "Traceback" not in beside.decode()
