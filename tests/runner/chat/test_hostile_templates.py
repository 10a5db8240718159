"""A template made to take the machine ends in one line, soon, in little memory, in whatever thread."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TypeAlias

import pytest

from nemotron_gguf.runner import ChatTemplate, RunnerError
from nemotron_gguf.tests.runner.chat import attacks

Outcome: TypeAlias = tuple[str, str, float, int]
"""The kind of an error, its words, seconds, and mebibytes."""

SECONDS = 0.25  # the limit that the attacks run under, so that all of them take a few seconds


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    command = [sys.executable, str(attacks.__file__), str(SECONDS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return {name: tuple(rest) for name, *rest in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("name", attacks.REFUSED)
def test_an_attack_is_refused_in_one_line(outcomes: dict[str, Outcome], name: str) -> None:
    kind, message, seconds, mebibytes = outcomes[name]
    assert kind == "RunnerError", (kind, message)
    assert "\n" not in message
    assert len(message) < 500
    assert mebibytes < 300
    assert seconds < 2.5


@pytest.mark.parametrize("name", attacks.BOUNDED)
def test_what_only_looks_large_is_bounded(outcomes: dict[str, Outcome], name: str) -> None:
    kind, message, seconds, mebibytes = outcomes[name]
    assert kind in ("", "RunnerError"), (kind, message)
    assert mebibytes < 300
    assert seconds < 2.5


def test_the_time_is_two_seconds_and_no_thread_is_left() -> None:
    threads, message = threading.active_count(), {"role": "user", "content": "Hello"}
    endless = attacks.REFUSED["nested loops"]
    template = ChatTemplate("{{ messages[0].content }}{% if messages | length > 1 %}" + endless + "{% endif %}")
    assert template.render([message]) == "Hello"
    start = time.thread_time()
    with pytest.raises(RunnerError, match=r"too much .*more than the 2 seconds"):
        template.render([message, message])
    assert 0.6 < time.thread_time() - start < 3  # where others work too, a third may be all that it gets
    assert threading.active_count() == threads


def test_a_template_that_fails_late_is_not_tried_for_long() -> None:
    """It is rendered several times, to find out what it reads; that has little time."""
    source = "{% for a in range(99999) %}{% for b in range(LATE) %}{% endfor %}{% endfor %}{{ messages.missing.x }}"
    for late in (1, 5, 20):
        start = time.thread_time()
        with pytest.raises(RunnerError):
            ChatTemplate(source.replace("LATE", str(late))).render([{"role": "user", "content": None}])
        assert time.thread_time() - start < 3


def test_one_template_serves_several_threads() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% for i in range(50) %}.{% endfor %}{% endfor %}")
    found: list[str] = []

    def work(number: int) -> None:
        found.extend(template.render([{"role": "user", "content": str(number)}] * 20) for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(found)) == [(str(number) + "." * 50) * 20 for number in range(4)]
    assert len(found) == 80


def test_a_long_conversation_is_no_attack() -> None:
    template = ChatTemplate(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ (m.content ~ '') | trim }}<|im_end|>\n{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 500}, {"role": "assistant", "content": "字" * 500}] * 1000
    assert len(template.render(messages)) > 3_000_000
