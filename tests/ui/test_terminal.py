"""The terminal chat in pipes and scripts: one answer to stdout, words to stderr, an exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CHAT = [sys.executable, "-m", "nemotron_gguf.ui.cli", "chat"]
SCRIPTED = [sys.executable, str(Path(__file__).parent / "scripted_talk.py")]
OPTIONS = ["--threads", "1", "--temperature", "0"]


def one_shot(
    arguments: list[str], piped: bytes = b"", command: list[str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*(command or CHAT), *arguments], input=piped, capture_output=True, timeout=120, check=False)


def scripted(*arguments: str, piped: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return one_shot(list(arguments), piped, SCRIPTED)


def test_one_answer_of_the_real_model_goes_to_stdout_alone(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--message", "What does the convert room do?", *OPTIONS])
    words, beside = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, beside
    assert words.strip()
    assert "think" not in words
    assert "\x1b" not in words + beside
    assert "context 4096 · on the CPU · " in beside
    assert "1 thread · temperature 0" in beside
    assert re.search(r"\d+ tokens, \d+ thought · [\d.]+ tokens/s · first after [\d.]+ s · context \d+/4096", beside)
    again = one_shot([str(demo_q8), "-m", "What does the convert room do?", *OPTIONS])
    assert again.stdout == done.stdout


def test_an_object_of_the_real_model(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--json", "-m", "What is 8 + 5?", *OPTIONS])
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert "13" in found["answer"]
    assert found["reasoning"]
    assert (found["tool_calls"], found["finish_reason"], found["context_size"]) == ([], "stop", 4096)
    assert 0 < found["usage"]["reasoning_tokens"] < found["usage"]["completion_tokens"]
    assert found["context_used"] >= found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"] - 1
    assert found["timings"]["generated_per_second"] > 0
    off = one_shot([str(demo_q8), "--json", "-m", "What is 8 + 5?", "--budget", "0", *OPTIONS])
    assert json.loads(off.stdout)["reasoning"] == ""


def test_an_answer_has_the_form_that_a_file_says(demo_q8: Path, tmp_path: Path) -> None:
    schema, gbnf = tmp_path / "sum.json", tmp_path / "sum.gbnf"
    schema.write_text(
        '{"type": "object", "properties": {"sum": {"type": "integer", "maximum": 99}}, "required": ["sum"]}'
    )
    gbnf.write_text('root ::= "The sum is " [0-9]{2}')
    ask = [str(demo_q8), "-m", "What is 8 + 5?", *OPTIONS]
    done = one_shot([*ask, "--json-schema", str(schema), "--json", "--logprobs", "2"])
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert json.loads(found["answer"])["sum"] <= 99
    assert "8 + 5 = 13" in found["reasoning"]
    assert len(found["logprobs"]) == found["usage"]["completion_tokens"]
    assert [len(token["top"]) for token in found["logprobs"]] == [2] * len(found["logprobs"])
    done = one_shot([*ask, "--grammar", str(gbnf)])
    assert re.fullmatch(r"The sum is \d\d\s*", done.stdout.decode())


def test_several_answers_to_one_message(demo_q8: Path) -> None:
    """Drawn with different seeds, behind a prompt that is read once."""
    hot = ["--temperature", "2.5", "--top-p", "1", "--top-k", "0", "--min-p", "0", "--budget", "8", "--threads", "1"]
    done = one_shot([str(demo_q8), "-m", "Tell me about Paris. " * 20, *hot, "--seed", "7", "--json", "--answers", "3"])
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)["answers"]
    assert len({one["answer"] + one["reasoning"] for one in found}) == 3
    read = [one["usage"]["prompt_tokens"] - one["usage"]["cached_tokens"] for one in found]
    assert sum(read) < 2 * found[0]["usage"]["prompt_tokens"]
    alone = one_shot([str(demo_q8), "-m", "Hello.", "--answers", "3"])
    assert alone.returncode == 2
    assert "--json" in alone.stderr.decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"not": {}}', "'not' cannot be kept to"), ("[1", "the schema is no JSON"), ("5", "expected a mapping")],
)
def test_a_form_that_cannot_be_kept_is_said_before_anything_is_loaded(tmp_path: Path, text: str, words: str) -> None:
    schema = tmp_path / "form.json"
    schema.write_text(text)
    done = one_shot([str(tmp_path / "none.gguf"), "-m", "Hello.", "--json-schema", str(schema)])
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (1, 1)
    assert f"{schema}: the schema" in said
    assert words in said


def test_a_pipe_is_a_message_and_thinking_can_be_off(demo_q8: Path) -> None:
    done = one_shot([str(demo_q8), "--no-thinking", *OPTIONS], piped="你好，你是谁？\n".encode())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip()
    assert "thought" not in done.stderr.decode()


def test_a_pipe_beside_a_message_is_attached() -> None:
    done = scripted("-m", "what broke?", "--no-thinking", piped="line 1\n```\nline 2 中文\n".encode())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "You said what broke?\n\n````\nline 1\n```\nline 2 中文\n````.\n"


def test_files_are_attached(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("alpha\r\n".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(b"beta")
    done = scripted("-m", "look", "-f", str(tmp_path / "a.txt"), "-f", str(tmp_path / "b.txt"), "--no-thinking")
    assert done.stdout.decode() == "You said look\n\n`a.txt`:\n```\nalpha\n```\n\n`b.txt`:\n```\nbeta\n```.\n"
    missing = scripted("-m", "look", "-f", str(tmp_path / "none.txt"))
    assert missing.returncode == 1
    assert missing.stderr.decode().count("\n") == 1


@pytest.mark.parametrize(
    ("piped", "words"),
    [(b"\0\1\2", "binary"), (b"\0caf\xe9", "binary"), (b"", "--message"), (b"  \n", "--message")],
)
def test_what_is_no_text_is_one_line(piped: bytes, words: str) -> None:
    done = scripted(piped=piped)
    assert (done.returncode, done.stdout) == (1, b"")
    assert words in done.stderr.decode()
    assert done.stderr.decode().count("\n") == 1


def test_a_log_with_odd_bytes_is_read() -> None:
    done = scripted("--no-thinking", piped=b"caf\xe9 broke\n")
    assert (done.returncode, done.stdout.decode()) == (0, "You said caf\ufffd broke.\n")
    assert "no text in UTF-8 throughout" in done.stderr.decode()


def test_an_answer_in_a_pipe_has_its_own_bytes() -> None:
    done = scripted("-m", "table please")
    assert done.stdout.decode().startswith("Here are the types:\n\n| type | bits a weight | use |\n")
    assert "weighing table please\n\n" in done.stderr.decode()
    hostile = scripted("-m", "hostile call", "--json")
    assert json.loads(hostile.stdout)["tool_calls"] == [{"name": "look", "arguments": {"where": "here\x1b"}}]
    for stream in (scripted("-m", "hostile call").stdout, hostile.stdout):
        assert b"\x1b" not in stream
        assert b"\xc2\x9b" not in stream


def test_a_json_object_needs_a_message() -> None:
    with subprocess.Popen([*SCRIPTED, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["event"] == "error"
    assert process.returncode == 1


def test_an_error_is_one_line() -> None:
    done = scripted("-m", "this is refused")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines()[-1].startswith("nemotron: the engine's process ended by signal 9")


def test_a_pipe_that_stays_open_is_said() -> None:
    with subprocess.Popen([*SCRIPTED, "-m", "hi"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=-1) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        assert "waiting for the end" in process.stderr.readline().decode()
        process.stdin.close()
        assert process.stdout is not None
        assert process.stdout.read().decode() == "You said hi.\n"


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


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_a_single_answer_with_the_shells_status(as_json: bool, tmp_path: Path) -> None:
    command, begun = [*SCRIPTED, "-m", "a long one", *(["--json"] if as_json else [])], tmp_path / "begun"
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | {"SCRIPTED_BEGUN": str(begun)}, **pipes) as process:
        assert process.stdout is not None
        if as_json:  # which shows nothing before its end
            while not begun.exists():
                assert process.poll() is None
                time.sleep(0.05)
        else:
            assert process.stdout.read(9) == b"word word"
        process.send_signal(signal.SIGINT)
        rest, beside = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(rest) < 10_000
    assert "Traceback" not in beside.decode()
    if as_json:
        assert json.loads(rest)["finish_reason"] == "cancelled"
    else:
        assert "stopped" in beside.decode()


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    read, write = os.pipe()
    with subprocess.Popen([*SCRIPTED, "-m", "a long one"], stdin=-3, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        os.read(read, 20)
        os.close(read)
        _, beside = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in beside.decode()
    assert "mistake of this program" not in beside.decode()
