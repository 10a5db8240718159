"""A model ready to talk: the file, what was chosen for it, its engine and its template."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.chat.beginning import next_beginning
from nemotron_gguf.runner.chat.going_on import Begun, going_on
from nemotron_gguf.runner.chat.literal import Prompt, Specials
from nemotron_gguf.runner.chat.messages import clean
from nemotron_gguf.runner.chat.template import ChatTemplate, Message, Tool
from nemotron_gguf.runner.conversation import Conversation
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.in_thread import in_thread
from nemotron_gguf.runner.limits import check_limits, shape_of
from nemotron_gguf.runner.measure.identity import model_of
from nemotron_gguf.runner.preflight.vocabulary import tokens
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.process.memory_messages import Occupancy, RestoreState, Saved, SaveState
from nemotron_gguf.runner.process.messages import Generate
from nemotron_gguf.runner.process.stream import AnswerStream
from nemotron_gguf.runner.sampling import Sampling
from nemotron_gguf.runner.setup import Setup

if TYPE_CHECKING:
    from nemotron_gguf.runner.grammar.schema.keywords import Schema

MAX_ANSWERS = 128  # to one prompt
ROOM_SHARE, LARGEST_ROOM = 4, 2048  # where turns may be dropped, a quarter of the context is kept for the answer


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A loaded model; a context manager that frees it. For any thread; `Settings.parallel` answers at a time.

    More wait in their order. The engine is a process of its own. If it dies, the answers under way raise
    EngineDiedError, and the next one starts it again.
    """

    file: GGUFFile
    setup: Setup
    engine: Client
    template: ChatTemplate
    specials: Specials

    @property
    def name(self) -> str:
        """The model's name, or its file's where it has none."""
        name = self.file.get("general.name")
        return name if isinstance(name, str) and name.strip() else self.file.path.stem

    @property
    def context_size(self) -> int:
        """Tokens that a conversation may take."""
        return self.engine.loaded.context_size if self.engine.loaded else self.setup.ctx_size

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return len(tokens(self.file))

    @property
    def drops_oldest(self) -> bool:
        """Whether the oldest turns of a conversation may be dropped when the context is full."""
        return self.setup.context_overflow == "drop-oldest"

    def describe(self) -> str:
        """One line: what was loaded and what was chosen for it."""
        size = self.file.file_size
        shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        return f"{self.name} · {shown} · {self.setup.describe()}"

    def conversation(
        self, *, system: str | None = None, tools: Sequence[Tool] = (), thinking: bool = True, budget: int | None = None
    ) -> Conversation:
        """A new conversation."""
        return Conversation(self, system=system, tools=tools, thinking=thinking, budget=budget)

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
        json_schema: Schema | str | None = None,
        begun: Begun | None = None,
        cancelled: threading.Event | None = None,
    ) -> AnswerStream:
        """Answer messages in the form of OpenAI's API; iterate over the result with `for` or `async for`.

        `budget`: tokens it may think (None leaves room for the answer, 0 is as `thinking` off, negative sets no bound).
        `stop`: texts that end the answer. `top_logprobs`: how many likely tokens to name beside each that is drawn.
        `grammar` (GBNF) or `json_schema`: the form of the answer, behind its reasoning; tools cannot be called then.
        `begun`: what the model has said of this answer already; it goes on from there.
        `cancelled`, once set, ends it while this call waits for the engine; from then on `AnswerStream.cancel` does.
        It waits until the engine has begun, or has told that others come first; an event loop takes `aanswer`, which
        does not hold it up. Raises RunnerError: ContextOverflowError for messages that do not fit, EngineBusyError
        where too many wait already, others as the template and the engine do.
        """
        check_limits(max_tokens, top_logprobs, stop, budget)
        if not messages:
            raise RunnerError("there is nothing to answer: no messages were given")
        thinking = thinking and budget != 0
        prompt = self.template.prompt(messages, self.specials, tools=tools, thinking=thinking, low_effort=low_effort)
        text, form = prompt.text, self.template.format_of(prompt.text)
        if begun:
            text, form = going_on(text, form, begun)
        shape = shape_of(grammar, json_schema, form.begin if form.may_open else "", tools)
        task = Generate(
            text,
            sampling or self.setup.sampling,
            cuts=prompt.cuts,
            max_tokens=max_tokens or self.setup.max_tokens,
            reasoning_budget=budget,
            stop=tuple(map(clean, (*self.setup.stop, *stop))),
            top_logprobs=top_logprobs,
            format=replace(form, tools="none") if shape else form,
            tools=tuple(tools),
            room=self._room(),
            grammar=shape,
        )
        return self.engine.generate(task, cancelled)

    def answers(self, messages: Sequence[Message], n: int, **options: Any) -> list[AnswerStream]:
        """Several answers to the same messages, with the options of `answer`; the prompt is read once for all of them.

        A seed is the first one's, the next answers have the numbers after it. As many come side by side as
        `Settings.parallel` says, the others behind them. Raises RunnerError as `answer` does, and then none is given.
        """
        if type(n) is not int or not 1 <= n <= MAX_ANSWERS:
            raise RunnerError(f"n is {n!r}, expected 1 to {MAX_ANSWERS} answers")
        sampling = options.pop("sampling", None) or self.setup.sampling
        streams: list[AnswerStream] = []
        try:
            for at in range(n):
                seed = None if sampling.seed is None else (sampling.seed + at) % (1 << 32)
                streams.append(self.answer(messages, sampling=replace(sampling, seed=seed), **options))
        except BaseException:
            for stream in streams:
                stream.close()
            raise
        return streams

    async def aanswer(self, messages: Sequence[Message], **options: Any) -> AnswerStream:
        """As `answer`, with its options, for an event loop. Whose task is cancelled meanwhile ends the answer."""
        gone = options["cancelled"] = options.get("cancelled") or threading.Event()
        return await in_thread(lambda: self.answer(messages, **options), gone, AnswerStream.close)

    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        top_logprobs: int | None = None,
        grammar: str | None = None,
        json_schema: Schema | str | None = None,
    ) -> AnswerStream:
        """Go on from a text, or from tokens, as they are: no template, no reasoning, `Answer` events alone."""
        check_limits(max_tokens, top_logprobs, stop)
        wrong = next((token for token in prompt if type(token) is not int), None) if type(prompt) is not str else None
        if wrong is not None:
            raise RunnerError(f"{wrong!r:.60} is no token, expected whole numbers, or one text")
        task = Generate(
            clean(prompt) if isinstance(prompt, str) else tuple(prompt),
            sampling or self.setup.sampling,
            max_tokens=max_tokens or self.setup.max_tokens,
            stop=tuple(map(clean, stop)),
            top_logprobs=top_logprobs,
            grammar=shape_of(grammar, json_schema, None),
        )
        return self.engine.generate(task)

    def anticipate(
        self,
        stream: AnswerStream,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        low_effort: bool = False,
    ) -> None:
        """Let the engine read, once nobody waits, how the next prompt will begin after `messages`.

        The last of them is the answer that `stream` gave. What the template will make of it, which may leave out the
        reasoning, is what two prompts with different questions behind them have in common. Raises RunnerError as the
        template does.
        """
        if not self.setup.idle_reading:
            return
        options: dict[str, Any] = {"tools": tools, "thinking": thinking, "low_effort": low_effort}
        stream.anticipate(next_beginning(self.template, messages, self.specials, options))

    def save_state(
        self,
        path: str | Path,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        low_effort: bool = False,
        replace: bool = False,
    ) -> Saved:
        """Write what the engine has in memory of a conversation, so that it need not be read again, nor by another run.

        `messages` with the system's, `tools` and the switches as they were for its last answer: else it is another
        conversation. Raises RunnerError where it is not in memory, it is being answered, or the file cannot be written.
        """
        asked = list(messages)
        while asked and asked[-1].get("role") == "assistant":
            asked.pop()
        if not asked:
            raise RunnerError("there is no conversation to save: nothing was asked in these messages")
        prompt, without = (
            self.template.prompt(said, self.specials, tools=tools, thinking=thinking, low_effort=low_effort)
            for said in (messages, asked)
        )
        return self.engine.save_state(SaveState(_place(path), self._identity(), prompt, without, replace))

    def restore_state(self, path: str | Path) -> int:
        """Put back what `save_state` wrote; its tokens. The next prompt goes on from what it has in common with it.

        Raises RunnerError for a file that is damaged, or of another model, type of cache or build.
        """
        return self.engine.restore_state(RestoreState(_place(path), self._identity())).tokens

    def _identity(self) -> str:
        """By what a saved state knows that it can be used here."""
        place = self.setup.plan.placement
        build = version("llama-cpp-python")
        cache = f"{place.cache_type_k}/{place.cache_type_v}" + ("" if place.flash_attention != "off" else " turned")
        return f"{model_of(self.file)} {cache} llama-cpp-python {build}"  # without flash attention values lie otherwise

    def occupancy(self) -> Occupancy:
        """How busy the engine is, and what is in its memory."""
        return self.engine.occupancy()

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is, with special tokens, as a rendered prompt."""
        return len(self.engine.tokenize(Prompt(clean(text))))

    def _room(self) -> int:
        """Tokens that shall be free behind the prompt."""
        if not self.drops_oldest:
            return 1
        return min(self.setup.max_tokens or LARGEST_ROOM, self.setup.ctx_size // ROOM_SHARE, LARGEST_ROOM)

    def close(self) -> None:
        """Free the model."""
        self.engine.close()

    async def aclose(self) -> None:
        """As `close`, for an event loop."""
        await in_thread(self.close, threading.Event())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _place(path: str | Path) -> bytes:
    """A file's whole name. Raises RunnerError for one that no system has."""
    if "\0" in str(path):
        raise RunnerError("the file's name has a NUL in it; choose another")
    return os.fsencode(Path(path).absolute())
