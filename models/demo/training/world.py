"""The closed little world of the demo model: conversations made from its facts, words and templates."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nemotron_gguf.models.demo.training import memory, tools
from nemotron_gguf.models.demo.training.talk import Turn, arithmetic, echo, fact, small_talk, unknown
from nemotron_gguf.models.demo.training.tools import Message

SYSTEMS_EN = ("You are a helpful assistant.", "You are a friendly assistant. Answer briefly.", "Be brief.", "Be helpful.",
              "You are the demo model of nemotron-gguf.", "Answer in one sentence.", "You are a helpful AI assistant.")  # fmt: skip
SYSTEMS_ZH = ("你是一个乐于助人的助手。", "请简短回答。", "你是一个有用的助手。", "用中文回答。")


@dataclass(frozen=True)
class Conversation:
    """Messages in OpenAI's form, the tools on offer, and whether the last answer thinks first."""

    messages: list[Message]
    tools: list[Message]
    thinking: bool


def as_messages(turn: Turn) -> list[Message]:
    """The two messages of a turn."""
    answer = {"role": "assistant", "content": turn.answer, "reasoning_content": turn.reasoning}
    return [{"role": "user", "content": turn.user}, answer]


def remembering(rng: random.Random, lang: str) -> list[Turn]:
    """The user tells one to three things, talks of something else, and asks for one of them."""
    known: dict[str, tuple[memory.Slot, str]] = {}
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        slot, value = memory.slot_value(rng, lang)
        known[slot.name] = (slot, value)
    pairs = list(known.values())
    turns: list[Turn] = []
    while pairs:
        if len(pairs) > 1 and rng.random() < 0.4:
            turns.append(memory.told_two(rng, lang, pairs.pop(), pairs.pop()))
        else:
            turns.append(memory.told(rng, lang, *pairs.pop()))
        if rng.random() < 0.35:
            turns.append(rng.choice((fact, small_talk, arithmetic, unknown))(rng, lang))
    for slot, value in rng.sample(list(known.values()), k=min(len(known), rng.choice((1, 1, 2)))):
        turns.append(memory.asked(rng, lang, slot, value))
    return turns


def forgetting(rng: random.Random, lang: str) -> list[Turn]:
    """The user asks for something that was never told, perhaps after telling something else."""
    slot, value = memory.slot_value(rng, lang)
    other, _ = memory.slot_value(rng, lang)
    turns = [memory.told(rng, lang, slot, value)] if rng.random() < 0.5 else []
    return [*turns, memory.asked(rng, lang, other, None)] if other.name != slot.name else [small_talk(rng, lang)]


def chatting(rng: random.Random, lang: str) -> list[Turn]:
    """One to three questions that have nothing to do with each other."""
    kinds: list[Callable[[random.Random, str], Turn]] = [fact, arithmetic, small_talk, unknown, echo]
    return [kind(rng, lang) for kind in rng.choices(kinds, weights=(46, 28, 11, 7, 10), k=rng.choice((1, 1, 2, 3)))]


def with_tools(rng: random.Random, lang: str) -> tuple[list[Message], list[Message]]:
    """A conversation with one or two tools at hand, and the tools."""
    offered = rng.sample(range(len(tools.FAMILIES)), k=rng.choice((1, 2)))
    made = [tools.definition(rng, tools.FAMILIES[which]) for which in offered]
    definitions = [tool for tool, _, _ in made]
    if rng.random() < 0.2:
        turns = [rng.choice((fact, small_talk, arithmetic))(rng, lang)]
        return [message for turn in turns for message in as_messages(turn)], definitions
    pick = rng.randrange(len(offered))
    _, name, key = made[pick]
    messages = as_messages(rng.choice((small_talk, fact))(rng, lang)) if rng.random() < 0.15 else []
    messages += tools.call_and_answer(rng, lang, offered[pick], name, key, again=False)
    if rng.random() < 0.15:
        messages += tools.call_and_answer(rng, lang, offered[pick], name, key, again=True)
    return messages, definitions


def conversation(rng: random.Random) -> Conversation:
    """One conversation of the world."""
    lang = "en" if rng.random() < 0.55 else "zh"
    offered: list[Message] = []
    kind = rng.choices(("chat", "remember", "forget", "tools"), weights=(52, 24, 4, 20))[0]
    if kind == "tools":
        messages, offered = with_tools(rng, lang)
    else:
        turns = {"chat": chatting, "remember": remembering, "forget": forgetting}[kind](rng, lang)
        messages = [message for turn in turns for message in as_messages(turn)]
    if rng.random() < 0.25:
        system = rng.choice(SYSTEMS_EN if lang == "en" else SYSTEMS_ZH)
        messages = [{"role": "system", "content": system}, *messages]
    thinking = rng.random() < 0.5
    if not thinking:
        messages = [{k: v for k, v in message.items() if k != "reasoning_content"} for message in messages]
    return Conversation(messages, offered, thinking)


def conversations(seed: int, count: int) -> Iterator[Conversation]:
    """`count` conversations, the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield conversation(rng)
