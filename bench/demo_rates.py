"""How often the demo model gives the expected answer, kind by kind, on new conversations of its corpus' generator.

    python bench/demo_rates.py [--type Q8_0] [--count 24] [--seed 4242] [--wrong]

The answers are taken at temperature 0 and compared word for word with the generator's, half of them with thinking on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from nemotron_gguf.models.demo.training.held_out import KINDS, draw
from nemotron_gguf.runner import Answer, Settings, ToolCall, open_model
from nemotron_gguf.ui.demo import make


def main() -> None:
    """Make the file, ask, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--type", default="Q8_0", choices=("BF16", "Q8_0", "Q4_K_M"))
    parser.add_argument("--count", type=int, default=24, help="conversations of each kind and language")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    chosen = parser.parse_args()
    right: Counter[tuple[str, str]] = Counter()
    with TemporaryDirectory(prefix="nemotron-demo-") as folder:
        file = make(Path(folder))[chosen.type]
        with open_model(file, Settings(temperature=0)) as model:
            for case in draw(chosen.seed, chosen.count):
                conversation = model.conversation(tools=case.tools, thinking=case.thinking)
                conversation.messages.extend(dict(message) for message in case.messages)
                events = list(conversation.reply(max_tokens=300))
                said = "".join(event.text for event in events if isinstance(event, Answer))
                calls = [(event.name, event.arguments) for event in events if isinstance(event, ToolCall)]
                good = case.is_right(said, calls)
                right[case.kind, case.language] += good
                if chosen.wrong and not good:
                    print(f"  {case.messages[-1]['content']!r}: {said!r} {calls}, expected {case.expected}")
    for kind in KINDS:
        print(f"{kind:12} en {right[kind, 'en']}/{chosen.count}  zh {right[kind, 'zh']}/{chosen.count}")
    print(f"in all {sum(right.values())}/{2 * len(KINDS) * chosen.count}")


if __name__ == "__main__":
    main()
