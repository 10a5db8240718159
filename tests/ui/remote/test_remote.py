"""A model behind an address: what servers send becomes the events that our own engine gives."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nemotron_gguf.runner import (
    Answer,
    AnyEvent,
    ChatModel,
    ContextOverflowError,
    Done,
    EngineBusyError,
    Reasoning,
    RunnerError,
    Sampling,
    ToolCall,
)
from nemotron_gguf.ui.remote import RemoteModel

TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
HELLO = [{"role": "user", "content": "hello"}]


class Scripted:
    """A server that answers with `pieces`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.status, self.body = 200, b""
        self.list: Any = {"data": [{"id": "small", "meta": {"n_ctx": 4096}}, {"id": "other", "max_model_len": 99}]}
        self.hangs, self.is_gone = False, threading.Event()
        self.ends, self.strict = True, False
        self.asked: list[tuple[str, str | None, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._note(None)
                self._give(200, json.dumps(scripted.list).encode())

            def do_POST(self) -> None:
                self._note(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if scripted.strict and "chat_template_kwargs" in scripted.asked[-1][2]:
                    self._give(400, b'{"error": {"message": "Unknown parameter: chat_template_kwargs"}}')
                    return
                if scripted.status != 200:
                    self._give(scripted.status, scripted.body)
                    return
                scripted.stream(self)

            def _note(self, body: Any) -> None:
                scripted.asked.append((self.path, self.headers.get("authorization"), body))

            def _give(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        try:
            for piece in self.pieces:
                data = piece if isinstance(piece, str) else json.dumps(piece)
                handler.wfile.write(f"data: {data}\n\n".encode())
            while self.hangs:
                handler.wfile.write(b": still here\n\n")
                handler.wfile.flush()
                threading.Event().wait(0.02)
            if self.ends:
                handler.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.is_gone.set()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    threading.Thread(target=scripted.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield scripted
    scripted.hangs = False
    scripted.server.shutdown()
    scripted.server.server_close()


def delta(finish: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": parts, "finish_reason": finish}]}


def joined(events: list[AnyEvent], kind: Callable[..., Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer | Reasoning) and type(event) is kind)


def ask(server: Scripted, *pieces: Any, **options: Any) -> list[AnyEvent]:
    server.pieces = list(pieces)
    with RemoteModel(server.url) as model:
        return list(model.answer(HELLO, **options))


def test_the_models_of_a_server_are_listed_and_one_is_chosen(server: Scripted) -> None:
    model = RemoteModel(f"{server.url}/v1/", "key")
    assert model.models() == ["small", "other"]
    assert (model.name, model.context_size) == ("small", 4096)
    assert RemoteModel(server.url, model="other").context_size == 99
    assert {(path, key) for path, key, _ in server.asked} == {("/v1/models", "Bearer key"), ("/v1/models", None)}


def test_an_answer_with_reasoning_usage_and_timings(server: Scripted) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}
    timings = {"prompt_ms": 500.0, "predicted_ms": 2000.0, "predicted_per_second": 2.0, "prompt_per_second": 8.0}
    events = ask(
        server,
        delta(role="assistant", content=None),
        delta(reasoning_content="hm"),
        delta(reasoning="m"),
        delta(content="Hel"),
        delta(content="lo."),
        delta("stop"),
        {"choices": [], "usage": usage, "timings": timings},
    )
    assert (joined(events, Reasoning), joined(events, Answer)) == ("hmm", "Hello.")
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.cached_tokens, done.usage.completion_tokens) == (10, 6, 4)
    assert done.usage.reasoning_tokens == 2
    assert (done.timings.prompt_seconds, done.timings.generation_seconds) == (0.5, 2.0)
    assert (done.timings.generated_per_second, done.timings.prompt_per_second) == (2.0, 8.0)
    assert (done.context_used, done.context_size) == (14, 4096)


def test_marks_of_a_reasoning_in_the_text_are_taken_out(server: Scripted) -> None:
    events = ask(
        server, *(delta(content=text) for text in ("<th", "ink>\nhm", "m</thi", "nk>\n\nHello")), delta("stop")
    )
    assert (joined(events, Reasoning), joined(events, Answer)) == ("hmm", "Hello")


def test_calls_of_tools_come_in_pieces(server: Scripted) -> None:
    def piece(index: int, **function: str) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, "function": function}])

    events = ask(
        server,
        piece(0, name="look", arguments='{"a'),
        piece(1, name="see", arguments=""),
        piece(0, arguments='": [1, 2]}'),
        delta("tool_calls"),
        tools=[TOOL],
    )
    assert events[:-1] == [ToolCall("look", {"a": [1, 2]}), ToolCall("see", {})]
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "tool_calls"
    assert server.asked[-1][2]["tools"] == [TOOL]


def test_what_is_asked_of_a_server(server: Scripted) -> None:
    ask(
        server,
        delta(content="x"),
        delta("length"),
        sampling=Sampling(temperature=0.5, top_k=3, seed=7),
        max_tokens=5,
        stop=["END"],
        budget=20,
    )
    asked = server.asked[-1][2]
    assert asked["messages"] == HELLO
    wanted = {"model": "small", "stream": True, "temperature": 0.5, "top_p": 0.95, "top_k": 3, "seed": 7,
              "max_tokens": 5, "stop": ["END"], "thinking_budget_tokens": 20}  # fmt: skip
    assert wanted.items() <= asked.items()
    assert "min_p" not in asked
    assert asked["chat_template_kwargs"] == {"enable_thinking": True}
    ask(server, delta("stop"), budget=0)
    assert server.asked[-1][2]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_conversation_holds_such_a_model_too_and_matches_results_with_calls(server: Scripted) -> None:
    server.pieces = [delta(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": "{}"}}]), delta("stop")]
    talk = RemoteModel(server.url).conversation(tools=[TOOL])
    assert ToolCall("look", {}) in list(talk.send("hello"))
    server.pieces = [delta(content="Seen."), delta("stop")]
    talk.add_tool_result("a bird")
    assert joined(list(talk.reply()), Answer) == "Seen."
    said = server.asked[-1][2]["messages"]
    assert said[1]["tool_calls"][0]["id"] == said[2]["tool_call_id"]
    assert said[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert talk.messages[-1] == {"role": "assistant", "content": "Seen."}


def test_a_server_that_knows_less_is_asked_for_less(server: Scripted) -> None:
    server.strict = True
    assert joined(ask(server, delta(content="Hello"), delta("stop"), budget=5, max_tokens=9), Answer) == "Hello"
    first, second = (body for _, _, body in server.asked if body)
    assert set(first) - set(second) == {"chat_template_kwargs", "thinking_budget_tokens", "stream_options"}
    assert second["max_tokens"] == 9


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b'{"error": {"message": "Invalid API Key"}}', RunnerError, "wants another API key.*Invalid API Key"),
        (404, b'{"detail": "model not found"}', RunnerError, "has no model 'small'.*model not found"),
        (400, b'{"error": {"type": "exceed_context_size_error", "message": "exceeds the available context size"}}',
         ContextOverflowError, "does not fit the context of small"),
        (503, b'{"error": {"message": "Loading model"}}', EngineBusyError, "is busy.*Loading model"),
        (500, b"<html>" + b"x" * 99_999, RunnerError, "with status 500$"),
        (302, b"", RunnerError, "with status 302$"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_sentence(
    server: Scripted, status: int, body: bytes, kind: type[RunnerError], words: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(kind, match=words) as error:
        ask(server)
    assert "\n" not in str(error.value)


def test_what_is_no_such_server(server: Scripted) -> None:
    server.server.server_close()
    with pytest.raises(RunnerError, match="nothing answers at"):
        RemoteModel("http://127.0.0.1:9")
    for url in ("", "file:///x", "127.0.0.1:80", "http://"):
        with pytest.raises(RunnerError, match="is no address"):
            RemoteModel(url)


def test_a_server_without_models_or_of_another_kind(server: Scripted) -> None:
    server.list = {"data": []}
    with pytest.raises(RunnerError, match="has no model loaded"):
        RemoteModel(server.url)
    server.list = ["x"]
    with pytest.raises(RunnerError, match="gave no list of models"):
        RemoteModel(server.url)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([delta(content="Hel")], "ended in the middle of the answer"),
        (["{"], "what is no JSON"),
        (["3"], "no piece of an answer"),
        ([{"error": {"message": "out of memory"}}], "gave up: out of memory"),
        ([delta(tool_calls=[{"function": {"name": "look", "arguments": "["}}]), delta("stop")], "no JSON object"),
    ],
)
def test_what_goes_wrong_in_the_middle(server: Scripted, pieces: list[Any], words: str) -> None:
    server.ends = False
    with pytest.raises(RunnerError, match=words):
        ask(server, *pieces)


def test_an_answer_that_is_stopped_closes_the_connection(server: Scripted) -> None:
    server.hangs, server.pieces = True, [delta(content="Hel"), delta(content="lo")]
    stream = RemoteModel(server.url).answer(HELLO)
    events: list[AnyEvent] = []
    for event in stream:
        events.append(event)
        if joined(events, Answer) == "Hello":
            stream.cancel()
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "cancelled"
    assert server.is_gone.wait(30), "the server noticed"


def test_who_leaves_early_closes_the_connection_in_an_event_loop_too(server: Scripted) -> None:
    server.hangs, server.pieces = True, [delta(content="Hello")]

    async def leave() -> None:
        async with await RemoteModel(server.url).aanswer(HELLO) as stream:
            async for event in stream:
                assert event == Answer("Hello")
                break

    asyncio.run(leave())
    assert server.is_gone.wait(30)


def test_it_is_asked_as_a_model_of_ours() -> None:
    ours, theirs = (set(inspect.signature(kind.answer).parameters) for kind in (ChatModel, RemoteModel))
    assert ours == theirs
