"""The lines about an answer: how long it thought, how fast it came, how full the context is."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from nemotron_gguf.runner.events import Done, PromptProgress

WHY = {
    "length": "cut short: the limit of tokens, or the context, was reached",
    "cancelled": "stopped",
    "tool_calls": "waits for its tools",
}


def summary(done: Done) -> str:
    """One line behind an answer."""
    usage, timings = done.usage, done.timings
    parts = [count(usage.completion_tokens, "token")]
    if usage.reasoning_tokens:
        parts[0] += f", {usage.reasoning_tokens} thought"
    parts.append(f"{timings.generated_per_second:.1f} tokens/s")
    if timings.first_token_seconds:
        parts.append(f"first after {seconds(timings.first_token_seconds)}")
    if done.context_size:
        parts.append(f"context {done.context_used}/{done.context_size}")
    if done.finish_reason in WHY:
        parts.append(WHY[done.finish_reason])
    return " · ".join(parts)


def count(number: int, what: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def seconds(number: float) -> str:
    """A time for people: 0.31 s, 12.4 s, 3 min 20 s."""
    if number < 1:
        return f"{number:.2f} s"
    if number < 99.95:
        return f"{number:.1f} s"
    return f"{number // 60:.0f} min {number % 60:.0f} s"


@dataclass
class Reading:
    """How far the prompt is read, with the time that is left, from the speed so far."""

    started: float = field(default_factory=monotonic)
    first: int | None = None  # tokens that were in memory already

    def line(self, progress: PromptProgress, now: float | None = None) -> str:
        """One line."""
        now = monotonic() if now is None else now
        if self.first is None:
            self.first, self.started = progress.done, now
        share = progress.done / max(progress.total, 1)
        words = f"reading the prompt: {share:.0%} of {count(progress.total, 'token')}"
        done = progress.done - self.first
        if done > 0 and progress.total > progress.done:
            words += f" · {seconds((now - self.started) / done * (progress.total - progress.done))} left"
        return words


@dataclass
class Totals:
    """What all answers of a session took."""

    answers: int = 0
    read: int = 0
    cached: int = 0
    generated: int = 0
    thought: int = 0
    reading_seconds: float = 0.0
    generation_seconds: float = 0.0
    last: Done | None = None

    def add(self, done: Done) -> None:
        """One more answer."""
        usage, timings = done.usage, done.timings
        self.answers += 1
        self.read += usage.prompt_tokens - usage.cached_tokens
        self.cached += usage.cached_tokens
        self.generated += usage.completion_tokens
        self.thought += usage.reasoning_tokens
        self.reading_seconds += timings.prompt_seconds
        self.generation_seconds += timings.generation_seconds
        self.last = done

    def lines(self) -> list[str]:
        """A small report."""
        if self.last is None:
            return ["There was no answer yet."]
        last = self.last
        full = f" ({last.context_used / last.context_size:.0%})" if last.context_size else ""
        usage, timings = last.usage, last.timings
        prompt = f"{count(usage.prompt_tokens, 'token')}, {usage.cached_tokens} of them in memory already"
        read = f"{self.read} tokens read in {seconds(self.reading_seconds)}"
        written = f"{self.generated} written in {seconds(self.generation_seconds)}, {self.thought} of them thought"
        return [
            f"last answer  {summary(last)}",
            f"its prompt   {prompt} · {timings.prompt_per_second:.1f} tokens/s",
            f"context      {last.context_used} of {count(last.context_size, 'token')}{full}",
            f"in all       {count(self.answers, 'answer')} · {read} · {written}",
        ]
