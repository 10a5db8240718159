"""How often the demo model gives the expected answer, kind by kind, on new conversations of its corpus' generator.

    python bench/demo_rates.py [--type Q8_0] [--count 24] [--seed 4242] [--wrong]

The answers are taken at temperature 0 and compared word for word with the generator's, half of them with thinking on.
The training draws its conversations from other seeds.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nemotron_gguf.models.demo.training import talk, world
from nemotron_gguf.models.demo.training.world import as_messages
from nemotron_gguf.runner import Answer, ChatModel, Settings, ToolCall, open_model
from nemotron_gguf.ui.demo import make

Message = dict[str, Any]
Case = tuple[list[Message], list[Message]]
"""Messages, of which the last is the expected one, and the tools on offer."""


def single(kind: Callable[[random.Random, str], talk.Turn]) -> Callable[[random.Random, str], Case]:
    """Conversations of one turn of a kind."""
    return lambda rng, lang: (as_messages(kind(rng, lang)), [])


def turns(kind: Callable[[random.Random, str], list[talk.Turn]]) -> Callable[[random.Random, str], Case]:
    """Conversations of several turns of a kind."""
    return lambda rng, lang: ([message for turn in kind(rng, lang) for message in as_messages(turn)], [])


KINDS: dict[str, Callable[[random.Random, str], Case]] = {
    "facts": single(talk.fact),
    "small talk": single(talk.small_talk),
    "unknown": single(talk.unknown),
    "sums": single(talk.arithmetic),
    "told before": turns(world.remembering),
    "never told": turns(world.forgetting),
    "tools": world.with_tools,
    "to repeat": single(talk.echo),
}


def is_right(model: ChatModel, case: Case, thinking: bool) -> tuple[bool, str]:
    """Whether the model answers as expected, and what it says."""
    messages, tools = case
    expected = messages[-1]
    talk_so_far = model.conversation(tools=tuple(tools), thinking=thinking)
    for message in messages[:-1]:
        talk_so_far.messages.append({k: v for k, v in message.items() if thinking or k != "reasoning_content"})
    events = list(talk_so_far.reply(max_tokens=300))
    said = "".join(event.text for event in events if isinstance(event, Answer)).strip()
    calls = [(event.name, dict(event.arguments)) for event in events if isinstance(event, ToolCall)]
    wanted = [
        (call["function"]["name"], dict(call["function"]["arguments"])) for call in expected.get("tool_calls", ())
    ]
    right = calls == wanted if wanted else said == (expected["content"] or "").strip()
    return right, said or str(calls)


def main() -> None:
    """Make the file, ask, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--type", default="Q8_0", choices=("BF16", "Q8_0", "Q4_K_M"))
    parser.add_argument("--count", type=int, default=24, help="conversations of each kind and language")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    with TemporaryDirectory(prefix="nemotron-demo-") as folder:
        file = make(Path(folder))[chosen.type]
        with open_model(file, Settings(temperature=0)) as model:
            for name, kind in KINDS.items():
                row = []
                for lang in talk.LANGUAGES:
                    right = 0
                    for number in range(chosen.count):
                        case = kind(rng, lang)
                        good, said = is_right(model, case, thinking=number % 2 == 0)
                        right += good
                        if chosen.wrong and not good:
                            print(f"  {case[0][-2]['content']!r}: {said!r}, expected {case[0][-1]['content']!r}")
                    row.append(f"{lang} {right}/{chosen.count}")
                print(f"{name:12} {'  '.join(row)}", flush=True)


if __name__ == "__main__":
    main()
