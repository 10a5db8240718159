"""A conversation on the page: what stands there, and an answer followed while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

from nemotron_gguf.ui.chat import presets
from nemotron_gguf.ui.chat.generation import Generation, Generations, Progress, told
from nemotron_gguf.ui.chat.layout import Parts
from nemotron_gguf.ui.chat.pieces import list_of, memory_of, status_of
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import Chat, Facts, Message, Wishes
from nemotron_gguf.ui.chat.view import live_rows, marks_of, rows_of
from nemotron_gguf.ui.chat.visit import Visit

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel

REDRAW = 0.04  # seconds between two states of an answer that are sent to the browser
STATUS = 0.5  # between two states of the status line

Updates: TypeAlias = dict[Any, Any]


class Showing:
    """What the page shows, as new values of its components."""

    def __init__(self, gr: Any, model: ChatModel, store: Store, generations: Generations, parts: Parts) -> None:
        self.gr, self.model, self.store, self.generations, self.parts = gr, model, store, generations, parts
        self.n_following = 0  # tabs that look at an answer under way

    def show(self, visit: Visit) -> Updates:
        """All of a conversation: its messages, what can be done, its settings, and the list."""
        chat = self.store.chat(visit.chat) if visit.chat else None
        if chat is None and visit.chat:
            self.gr.Info(visit.words["gone"])
            visit.chat = ""
        return (
            self._messages(visit, chat)
            | self.wishes(visit, chat.entry.wishes if chat else visit.wishes)
            | self.list(visit)
        )

    def list(self, visit: Visit) -> Updates:
        """The list of conversations."""
        entries = self.store.entries(visit.search)
        shown = list_of(entries, visit.chat, self.generations.live(), visit.words, visit.search)
        return {self.parts.list: shown}

    def _now(self, visit: Visit) -> Wishes:
        """The settings of the conversation that is shown, or those of one to begin."""
        entry = self.store.entry(visit.chat) if visit.chat else None
        return entry.wishes if entry else visit.wishes

    def wishes(self, visit: Visit, wishes: Wishes) -> Updates:
        """The controls of a conversation's settings."""
        parts, base, own = self.parts, self.model.setup.sampling, self.store.prompts()
        drawn = presets.sampling_of(wishes, base)
        key = presets.prompt_key(wishes.system, own)
        return {
            parts.system_preset: self.gr.Dropdown(presets.prompt_choices(visit.words, own), value=key),
            parts.forget: self.gr.Button(visible=key.startswith(presets.MINE)),
            parts.system: wishes.system,
            parts.thinking: wishes.thinking,
            parts.budget: wishes.budget or 0,
            parts.sampling: self.gr.Dropdown(presets.sampling_choices(visit.words), value=presets.sampling_key(wishes)),
            parts.temperature: drawn.temperature,
            parts.top_p: drawn.top_p,
            parts.top_k: drawn.top_k,
            parts.min_p: drawn.min_p,
            parts.max_tokens: wishes.max_tokens or 0,
        }

    async def follow(self, visit: Visit) -> AsyncIterator[Updates]:
        """An answer while it grows, until it is over or the tab shows something else."""
        visit.turn += 1
        turn, generation = visit.turn, visit.generation
        if generation is None:
            yield {self.parts.live: []}  # Gradio empties what a generator is silent about
            return
        self.n_following += 1
        try:
            async for updates in self._growing(visit, turn, generation):
                yield updates
        finally:
            self.n_following -= 1
        if visit.turn == turn:
            visit.generation = None
            self._tell(visit, generation.progress)
            yield self.show(visit)

    async def _growing(self, visit: Visit, turn: int, generation: Generation) -> AsyncIterator[Updates]:
        clock, progress = asyncio.get_running_loop().time, generation.progress
        version, phase, status_at = -1, "", 0.0
        while visit.turn == turn and not progress.is_over:
            if progress.version != version:
                version, now = progress.version, clock()
                updates: Updates = {self.parts.live: live_rows(progress, visit.words)}
                if now - status_at > STATUS:
                    status_at = now
                    updates |= self._status(visit, progress.message.facts)
                if progress.phase != phase:
                    phase = progress.phase
                    updates |= self._doing(None, progress)
                yield updates
            await asyncio.sleep(REDRAW)

    def _messages(self, visit: Visit, chat: Chat | None) -> Updates:
        """The history, and what of an answer is there."""
        path, generation = chat.path() if chat else [], self.generations.of(visit.chat)
        live, visit.generation = [], generation
        if generation and path and path[-1].id == generation.progress.message.id:
            path = path[:-1]
            live = live_rows(generation.progress, visit.words)
        last = path[-1] if path else None
        facts = next((one.facts for one in reversed(path) if one.role == "assistant"), Facts())
        return {
            self.parts.history: rows_of(path, visit.words),
            self.parts.marks: marks_of(chat, path, visit.words) if chat else [],
            self.parts.live: live,
            self.parts.wanted: visit.chat,
            **self._status(visit, facts),
            **self._doing(last, generation.progress if generation else None),
        }

    def _doing(self, last: Message | None, progress: Progress | None) -> Updates:
        """Which of the buttons above the box are there."""
        parts, button = self.parts, self.gr.Button
        is_asked = last is not None and last.role != "assistant"
        is_cut = last is not None and last.role == "assistant" and last.state in ("cut", "stopped")
        return {
            parts.stop: button(visible=progress is not None),
            parts.answer_now: button(visible=progress is not None and progress.phase == "thinking"),
            parts.go_on: button(visible=progress is None and is_cut),
            parts.again: button(visible=progress is None and is_asked),
        }

    def _status(self, visit: Visit, facts: Facts) -> Updates:
        memory = memory_of(self.model, visit.words)
        return {self.parts.status: status_of(facts, self.model.context_size, memory, visit.words)}

    def _tell(self, visit: Visit, progress: Progress) -> None:
        """Say what a person should know of how an answer ended."""
        words = visit.words
        if progress.n_dropped:
            self.gr.Info(words["dropped"].format(progress.n_dropped))
        if progress.error:
            self.gr.Warning(told(progress.error, words))
        elif progress.message.state == "cut":
            self.gr.Info(words["cut"])
