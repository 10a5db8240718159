"""The demo model is asked, through its quantized files, and its answers are read.

Each question is a conversation of its own at temperature 0. An answer is right when it holds what the question expects,
in words or as the tool call that was made, and ended by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemotron_gguf.models.demo import CHECKPOINT, QUESTIONS, Question
from nemotron_gguf.runner import Answer, ChatModel, Done, Reasoning, Settings, ToolCall, open_model


@dataclass(frozen=True)
class Reply:
    """What came of a question."""

    thought: str
    said: str
    calls: tuple[ToolCall, ...]
    finish_reason: str

    def is_right(self, question: Question) -> bool:
        words = self.said + "".join(
            f"<function={call.name}>{json.dumps(dict(call.arguments), ensure_ascii=False)}" for call in self.calls
        )
        return self.finish_reason in ("stop", "tool_calls") and all(part in words for part in question.expected)


def ask(model: ChatModel, question: Question) -> Reply:
    conversation = model.conversation(tools=question.tools, thinking=question.thinking)
    conversation.messages.extend(dict(message) for message in question.messages)
    events = list(conversation.reply(max_tokens=300))
    done = events[-1]
    assert isinstance(done, Done)
    return Reply(
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Answer)),
        tuple(event for event in events if isinstance(event, ToolCall)),
        done.finish_reason,
    )


@pytest.fixture(scope="module")
def answered(demo_q8: Path) -> list[tuple[Question, Reply]]:
    with open_model(demo_q8, Settings(temperature=0)) as model:
        return [(question, ask(model, question)) for question in QUESTIONS]


def share(answered: list[tuple[Question, Reply]]) -> float:
    """The share of right answers; pytest shows the wrong ones beside a failed assertion."""
    for question, reply in answered:
        if not reply.is_right(question):
            print(f"{question.category}: {question.messages[-1]['content']!r}, expected {question.expected}: {reply}")
    return sum(reply.is_right(question) for question, reply in answered) / len(answered)


def test_there_are_enough_questions_of_every_kind() -> None:
    assert len(QUESTIONS) >= 30
    assert len({json.dumps((q.messages, q.tools, q.thinking)) for q in QUESTIONS}) == len(QUESTIONS)
    assert {q.language for q in QUESTIONS} >= {"en", "zh"}
    assert {q.thinking for q in QUESTIONS} == {True, False}
    assert sum(bool(q.tools) for q in QUESTIONS) >= 6
    assert sum(len(q.messages) > 1 for q in QUESTIONS) >= 6
    assert all(q.expected for q in QUESTIONS)


def test_q8_answers_right(answered: list[tuple[Question, Reply]]) -> None:
    assert share(answered) >= 0.9


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("thinking", [True, False])
def test_q8_in_each_language_and_way(answered: list[tuple[Question, Reply]], language: str, thinking: bool) -> None:
    part = [(q, reply) for q, reply in answered if (q.language, q.thinking) == (language, thinking)]
    assert len(part) >= 5
    assert share(part) >= 0.8


def test_it_thinks_when_asked_to_and_only_then(answered: list[tuple[Question, Reply]]) -> None:
    for question, reply in answered:
        assert bool(reply.thought.strip()) == question.thinking, (question, reply)
        assert "think>" not in reply.said
        assert "<|" not in reply.said


def test_it_stops_by_itself(answered: list[tuple[Question, Reply]]) -> None:
    ended = [reply.finish_reason in ("stop", "tool_calls") for _, reply in answered]
    assert sum(ended) / len(ended) >= 0.95


def test_q4_answers_right(demo_q4: Path) -> None:
    with open_model(demo_q4, Settings(temperature=0)) as model:
        assert share([(question, ask(model, question)) for question in QUESTIONS]) >= 0.8


def test_it_is_as_small_as_promised_and_shaped_as_the_real_one() -> None:
    """At most 16 MB; rows that K-types do not divide; the sizes that GPU kernels care about as in the 30B."""
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 16e6
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    for key in ("hidden_size", "moe_intermediate_size", "moe_shared_expert_intermediate_size"):
        assert config[key] % 32 == 0 and config[key] % 256, key
    assert set(config["hybrid_override_pattern"]) == set("ME*")
    assert (config["ssm_state_size"], config["mamba_head_dim"]) == (128, 64)
    assert config["head_dim"] in (64, 128)
    channels = config["mamba_num_heads"] * config["mamba_head_dim"] + 2 * config["n_groups"] * config["ssm_state_size"]
    assert channels % 128 == 0
