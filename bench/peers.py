"""Two programs that answer chats, ours and llama.cpp's server, asked in the same way for the same text."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

from llama_tools import find_tool  # type: ignore[import-not-found]  # the script beside this one

from nemotron_gguf.runner import Answer, Done, Reasoning, Settings, open_model

Message = dict[str, str]
ALWAYS = 1e9
NEVER = -1e9  # what keeps the tokens that end an answer from being drawn, so that each has the length that is asked for


@dataclass
class Given:
    """An answer: seconds to its first piece, when each piece came, its text without the reasoning, tokens."""

    asked: float
    times: list[float] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    read: int = 0  # tokens of the prompt that were computed
    drawn: int = 0
    ended: float = 0.0

    @property
    def first(self) -> float:
        """Seconds until its first piece."""
        return self.times[0] - self.asked

    @property
    def largest_gap(self) -> float:
        """Seconds, at most, between two pieces that follow one another."""
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))


@dataclass(frozen=True)
class Wish:
    """An answer to messages, of `budget` tokens of reasoning and `length` tokens of text.

    The conversation will go on as if `said` had been the answer, where it is given. Set, `over` ends it. With `token`
    it is that one again and again: then all peers compute the same, whose experts are chosen by what they read.
    """

    messages: Sequence[Message]
    length: int
    budget: int = 0
    said: str | None = None
    over: threading.Event | None = None
    token: int | None = None


class Peer(Protocol):
    """Answers wishes, as many at a time as they come in threads."""

    name: str

    def ask(self, wish: Wish) -> Given: ...

    def settle(self) -> None:
        """Wait until it does nothing any more."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


class Ours:
    """`ChatModel`, in its process; without `memory` nothing is kept of a conversation but its last state."""

    def __init__(
        self,
        model: Path,
        *,
        ctx_size: int,
        parallel: int,
        threads: int,
        ends: Sequence[int],
        memory: bool = True,
        flash_attn: str = "auto",
    ) -> None:
        self.name = "nemotron" if memory else "nemotron, no checkpoints"
        self.settings = Settings(
            ctx_size=ctx_size,
            parallel=parallel,
            threads=threads,
            temperature=0,
            logit_bias=tuple((token, NEVER) for token in ends),
            device=(),
            idle_reading=memory,
            cache_ram=4 << 30 if memory else 0,
            flash_attn=flash_attn,
        )
        self.path = model

    def __enter__(self) -> Self:
        self.model = open_model(self.path, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.model.close()

    def ask(self, wish: Wish) -> Given:
        """The answer, followed to its end; what comes next is then read ahead, as a chat does."""
        given = Given(time.perf_counter())
        sampling = self.model.setup.sampling
        if wish.token is not None:
            sampling = replace(sampling, logit_bias=((wish.token, ALWAYS),))
        stream = self.model.answer(
            wish.messages,
            thinking=wish.budget > 0,
            budget=wish.budget,
            max_tokens=wish.budget + wish.length,
            sampling=sampling,
        )
        for event in stream:
            if wish.over and wish.over.is_set():
                stream.cancel()
            if isinstance(event, Answer | Reasoning):
                given.times.append(time.perf_counter())
                given.text += event.text if isinstance(event, Answer) else ""
                given.reasoning += event.text if isinstance(event, Reasoning) else ""
            elif isinstance(event, Done):
                given.read = event.usage.prompt_tokens - event.usage.cached_tokens
                given.drawn = event.usage.completion_tokens
        text = given.text if wish.said is None else wish.said
        given.ended = time.perf_counter()
        turn = {"role": "assistant", "content": text, "reasoning_content": given.reasoning}
        self.model.anticipate(stream, [*wish.messages, turn], thinking=wish.budget > 0)
        return given

    def settle(self) -> None:
        """Wait until it reads nothing ahead any more."""
        time.sleep(0.2)
        while (found := self.model.occupancy()).ahead or found.waiting or found.reading or found.answering:
            time.sleep(0.05)


class Theirs:
    """llama-server with as many slots, its defaults where they do not bear on what is asked."""

    def __init__(self, model: Path, *, ctx_size: int, parallel: int, threads: int, ends: Sequence[int]) -> None:
        self.name = "llama-server"
        self.ends = ends
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [
            *(find_tool("llama-server"), "-m", str(model), "--port", str(self.port), "--threads", str(threads)),
            *("--ctx-size", str(ctx_size), "--parallel", str(parallel), "--kv-unified", "--jinja", "--no-webui"),
            "--log-disable",
        ]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"llama-server ended with status {self.process.returncode}: {' '.join(self.command)}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, wish: Wish) -> Given:
        """The answer, followed to its end."""
        given = Given(time.perf_counter())
        body: dict[str, Any] = {
            "messages": list(wish.messages),
            "stream": True,
            "temperature": 0,
            "max_tokens": wish.budget + wish.length,
            "reasoning_budget_tokens": wish.budget,
            "chat_template_kwargs": {"enable_thinking": wish.budget > 0},
            "logit_bias": [[token, False] for token in self.ends] if wish.token is None else [[wish.token, ALWAYS]],
        }
        for piece in self._pieces(body):
            if wish.over and wish.over.is_set():
                break
            delta = piece["choices"][0]["delta"] if piece.get("choices") else {}
            if delta.get("content") or delta.get("reasoning_content"):
                given.times.append(time.perf_counter())
                given.text += delta.get("content") or ""
                given.reasoning += delta.get("reasoning_content") or ""
            if timings := piece.get("timings"):
                given.read, given.drawn = timings["prompt_n"], timings["predicted_n"]
        given.ended = time.perf_counter()
        return given

    def _pieces(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

    def settle(self) -> None:
        """It does nothing between two requests."""


def side_by_side(peer: Peer, wishes: Sequence[Wish]) -> list[Given]:
    """All at once, a thread each."""
    found: dict[int, Given] = {}

    def one(place: int) -> None:
        found[place] = peer.ask(wishes[place])

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(wishes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[place] for place in range(len(wishes))]
