"""A model that another server runs, with the face of `runner.ChatModel`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import httpx

from nemotron_gguf.runner import Begun, Conversation, RunnerError, Sampling
from nemotron_gguf.runner.chat.messages import Message, Tool, normalized
from nemotron_gguf.runner.in_thread import in_thread
from nemotron_gguf.runner.limits import check_limits
from nemotron_gguf.ui.remote.chunks import Chunks
from nemotron_gguf.ui.remote.failures import of_connection, of_status
from nemotron_gguf.ui.remote.stream import RemoteStream

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 600.0  # a long prompt is read before the first word comes
_SIZES = ("max_model_len", "context_length", "context_window", "n_ctx")


class RemoteModel:
    """A server's model; a context manager as that of `runner`. For any thread.

    `url` is the API's address, with or without /v1; nothing else is contacted, no redirect followed and no proxy asked.
    `model` None is the first of the server's list. Raises RunnerError where the server cannot be reached or refuses.
    """

    drops_oldest = False

    def __init__(self, url: str, api_key: str | None = None, *, model: str | None = None) -> None:
        self.url = _base(url)
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # made once, for it takes a while; without https there is nothing to verify
        self._trust = httpx.create_ssl_context(trust_env=False) if self.url.startswith("https") else False
        self._sizes: dict[str, int] = {}
        self.template = SimpleNamespace(has_switch=True)
        self.setup = SimpleNamespace(idle_reading=False, sampling=Sampling())
        found = self.models()
        if not model and not found:
            raise RunnerError(f"{self.url} has no model loaded; load one there, or name one")
        self.name = model or found[0]

    def models(self) -> list[str]:
        """The names of the server's models. Raises RunnerError."""
        where = f"{self.url}/models"
        try:
            with self._client() as client:
                response = client.get(where, timeout=CONNECT_SECONDS)
            if response.status_code != 200:
                raise of_status(response.status_code, response.content, where, "")
            found = response.json()
            entries = [one for one in found["data"] if isinstance(one, dict) and isinstance(one.get("id"), str)]
        except (httpx.HTTPError, OSError) as error:
            raise of_connection(error, where) from error
        except (ValueError, TypeError, LookupError) as error:
            raise RunnerError(f"{where} gave no list of models; expected an address of OpenAI's API") from error
        self._sizes = {one["id"]: _size_of(one) for one in entries}
        return [one["id"] for one in entries]

    @property
    def context_size(self) -> int:
        """Tokens that a conversation may take, 0 where the server does not tell."""
        return self._sizes.get(self.name, 0)

    def describe(self) -> str:
        """One line: which model, and where."""
        return f"{self.name} · {self.url}"

    def conversation(
        self, *, system: str | None = None, tools: Sequence[Tool] = (), thinking: bool = True, budget: int | None = None
    ) -> Conversation:
        """A new conversation."""
        return Conversation(self, system=system, tools=tools, thinking=thinking, budget=budget)  # type: ignore[arg-type]

    def answer(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        budget: int | None = None,
        low_effort: bool = False,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        top_logprobs: int | None = None,
        grammar: str | None = None,
        json_schema: Mapping[str, Any] | bool | str | None = None,
        begun: Begun | None = None,
        cancelled: threading.Event | None = None,
    ) -> RemoteStream:
        """Answer messages, as `ChatModel.answer` does; what a server does not know, it passes over or refuses.

        A sampling of None leaves it to the server. `top_logprobs` and `grammar` are not asked of other servers.
        Raises RunnerError where the server refuses, ContextOverflowError for messages that do not fit.
        """
        check_limits(max_tokens, top_logprobs, stop, budget)
        if grammar is not None or json_schema is not None:
            raise RunnerError("a form of the answer (grammar, schema) is for models that run here; leave it out")
        if begun:
            raise RunnerError("only models that run here go on with a cut answer; ask again")
        thinking = thinking and budget != 0
        body: dict[str, Any] = {
            "model": self.name,
            "messages": normalized(messages, mappings=False, parts=False, developer=False),
            "stream": True,
            "stream_options": {"include_usage": True},
            "chat_template_kwargs": {"enable_thinking": thinking, **({"low_effort": True} if low_effort else {})},
            **({"tools": list(tools)} if tools else {}),
            **({"max_tokens": max_tokens} if max_tokens else {}),
            **({"stop": list(stop)} if stop else {}),
            **({"thinking_budget_tokens": budget} if thinking and budget is not None and budget > 0 else {}),
            **(_sampling(sampling) if sampling else {}),
        }
        _number_calls(body["messages"])
        client = self._client()
        request = client.build_request("POST", f"{self.url}/chat/completions", json=body)
        return RemoteStream(client, request, Chunks(tools, self.context_size), self.name).begin(cancelled)

    async def aanswer(self, messages: Sequence[Message], **options: Any) -> RemoteStream:
        """As `answer`, for an event loop."""
        gone = options["cancelled"] = options.get("cancelled") or threading.Event()
        return await in_thread(lambda: self.answer(messages, **options), gone, RemoteStream.close)

    def close(self) -> None:
        """Nothing is kept: each answer has a connection of its own, which ends with it."""

    def _client(self) -> httpx.Client:
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        return httpx.Client(
            headers=self._headers, timeout=timeout, follow_redirects=False, trust_env=False, verify=self._trust
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _base(url: str) -> str:
    """The API's address without a slash at its end. Raises RunnerError for what is none."""
    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, ValueError) as error:
        raise RunnerError(f"{url[:100]!r} is no address; expected one such as http://127.0.0.1:8080/v1") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RunnerError(f"{url[:100]!r} is no address; expected one such as http://127.0.0.1:8080/v1")
    text = str(parsed.copy_with(query=None, fragment=None)).rstrip("/")
    return text if parsed.path.strip("/") else f"{text}/v1"


def _size_of(entry: Mapping[str, Any]) -> int:
    """The context that a list names, in one of the places where servers have it; 0 where it is in none."""
    meta = entry.get("meta")
    for place in (entry, meta if isinstance(meta, dict) else {}):
        for key in _SIZES:
            found = place.get(key)
            if isinstance(found, int) and found > 0:
                return found
    return 0


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """What differs from the defaults here, under the names that all these servers share."""
    names = (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repeat_penalty",
        "seed",
    )
    plain = Sampling()
    own = ("temperature", "top_p")  # which everybody knows, and whose defaults differ
    return {
        name: getattr(sampling, name)
        for name in names
        if name in own or getattr(sampling, name) != getattr(plain, name)
    }


def _number_calls(messages: list[dict[str, Any]]) -> None:
    """Calls and their results are matched by numbers in this API; here they are in order."""
    waiting: list[str] = []
    count = 0
    for message in messages:
        for call in message.get("tool_calls") or ():
            count += 1
            call.setdefault("id", f"call_{count}")
            waiting.append(call["id"])
        if message["role"] == "tool" and waiting:
            message.setdefault("tool_call_id", waiting[0])
            if message["tool_call_id"] in waiting:
                waiting.remove(message["tool_call_id"])
