"""Several conversations and long ones, against llama-server with the same library, file and threads.

    python bench/conversations.py turns MODEL.gguf [--context 8192] [--answer 300] [--reasoning 200] [--rounds 3]
    python bench/conversations.py together MODEL.gguf [--parallel 8] [--tokens 64] [--rounds 3]
    python bench/conversations.py gaps MODEL.gguf [--context 8192] [--parallel 4]
    python bench/conversations.py load MODEL.gguf [--parallel 4] [--requests 64] [--minutes 5]

`turns`: time to the first token of a conversation's tenth turn, after an edit of its third message, and of four such
conversations in turn on two sequences. `together`: tokens a second of several answers at once. `gaps`: the longest
pause of an answer while others' prompts are read. `load`: requests at once, some of them cancelled, for minutes.
`python bench/generation.py MODEL.gguf --make --vocab 2304` makes a model to measure on, `python bench/llama_tools.py
llama-server` builds the server.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

from peers import Given, Message, Ours, Peer, Theirs, Wish, side_by_side  # type: ignore[import-not-found]
from tokenizers import Tokenizer

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.runner import Answer, ChatModel, Done

WORDS = (Path(__file__).parent / "calibration_text" / "words_en.txt").read_text(encoding="utf-8").split()
TURNS, NEW_MESSAGE = 10, 40  # of a conversation; tokens of a message
TOKENIZER = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


def words(n_tokens: int, seed: object) -> str:
    """A text of so many tokens, the same for the same seed."""
    draw = random.Random(f"{seed}")
    found = " ".join(draw.choice(WORDS) for _ in range(n_tokens))
    return str(TOKENIZER.decode(TOKENIZER.encode(found).ids[:n_tokens])).strip()


def question(text: str) -> list[Message]:
    """A conversation that begins."""
    return [{"role": "user", "content": text}]


def conversation(options: argparse.Namespace, seed: object) -> list[Message]:
    """Ten turns without the last answer, of `--context` tokens in all; the first message is as long as it must be."""
    rest = options.context - (TURNS - 1) * (options.answer + NEW_MESSAGE)
    if rest < NEW_MESSAGE:
        raise SystemExit(f"nine answers of {options.answer} tokens do not fit --context {options.context}")
    messages: list[Message] = [{"role": "user", "content": words(rest, (seed, 0))}]
    for turn in range(1, TURNS):
        messages.append({"role": "assistant", "content": words(options.answer, (seed, turn, "answer"))})
        messages.append({"role": "user", "content": words(NEW_MESSAGE, (seed, turn))})
    return messages


def peers(options: argparse.Namespace, parallel: int, ctx_size: int) -> list[Callable[[], Peer]]:
    """How each is started, ours first."""
    tokens = read_gguf(options.model).get("tokenizer.ggml.tokens")
    assert isinstance(tokens, Sequence)
    ends = [place for place, token in enumerate(tokens) if token in ("</s>", "<|im_end|>")]
    shared = {"ctx_size": ctx_size, "parallel": parallel, "threads": options.threads, "ends": ends}
    return [
        lambda: Ours(options.model, **shared),
        lambda: Ours(options.model, **shared, memory=False),
        lambda: Theirs(options.model, **shared),
    ]


def turns(options: argparse.Namespace) -> None:
    """The tenth turn, an edit, four conversations in turn."""
    found: dict[str, dict[str, list[Given]]] = {}
    size = 2 * (options.context + options.answer + options.reasoning) + 1024
    for number in range(options.rounds):
        for start in peers(options, 2, size):
            with start() as peer:
                rows = found.setdefault(peer.name, {})
                for what, given in _turns(peer, options, number):
                    rows.setdefault(what, []).append(given)
                    print(f"  {peer.name}, {what}: {given.first:.2f} s, {given.read} tokens read", flush=True)
    kinds = list(next(iter(found.values())))
    print(f"| context {options.context}, answers of {options.answer} | " + " | ".join(kinds) + " |")
    for name, rows in found.items():
        cells = [f"{statistics.median(g.first for g in rows[kind]):.2f} s ({rows[kind][0].read})" for kind in kinds]
        print(f"| {name} | " + " | ".join(cells) + " |")


def _turns(peer: Peer, options: argparse.Namespace, seed: int) -> list[tuple[str, Given]]:
    """What a peer takes to the first token, case by case."""

    def ask(messages: Sequence[Message], said: str | None = None) -> Given:
        return peer.ask(Wish(messages, options.answer, options.reasoning, said))

    found = [("a new message alone", peer.ask(Wish(question(words(NEW_MESSAGE, "w")), 2)))]
    messages = conversation(options, seed)
    ask(messages[:-2], messages[-2]["content"])
    peer.settle()
    found.append(("turn 10", ask(messages)))
    edited = [*messages[:4], {"role": "user", "content": words(NEW_MESSAGE, (seed, "edited"))}]
    found.append(("message 3 edited", ask(edited)))
    if options.four:
        several = [conversation(options, (seed, place)) for place in range(4)]
        for one in several:
            ask(one[:-2], one[-2]["content"])
            peer.settle()
        given = [ask(one) for one in several]
        found.append(("four in turn", sorted(given, key=lambda one: one.first)[-1]))
    return found


def together(options: argparse.Namespace) -> None:
    """Tokens a second of all answers, whose prompts are in memory already."""
    rates: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    size = options.parallel * (options.tokens + 256)
    wishes = [
        Wish(question(words(NEW_MESSAGE, place)), options.tokens, token=token)
        for place, token in enumerate(islice(_short_words(), options.parallel))
    ]
    with ExitStack() as open_:
        both = [open_.enter_context(start()) for start in peers(options, options.parallel, size)[::2]]
        for peer in both:
            side_by_side(peer, [replace(one, length=2) for one in wishes])  # warm, the prompts are read
        for number in range(options.rounds):
            for peer in both[:: 1 if number % 2 else -1]:  # a busy machine's moods fall on either
                given = side_by_side(peer, wishes)
                peer.settle()
                begun, answering = min(one.asked for one in given), max(one.times[0] for one in given)
                ended, drawn = max(one.ended for one in given), sum(one.drawn for one in given)
                rates.setdefault(peer.name, []).append((drawn - len(given)) / (ended - answering))
                whole.setdefault(peer.name, []).append(drawn / (ended - begun))
            print("  " + ", ".join(f"{peer.name} {rates[peer.name][-1]:.2f} tokens/s" for peer in both), flush=True)
    for what, found in (("once all have begun", rates), ("from the asking on", whole)):
        ours, theirs = (found[peer.name] for peer in both)
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"{options.parallel} answers at once, {what}: {statistics.median(ours):.2f} against"
              f" {statistics.median(theirs):.2f} tokens/s, median ratio {ratio:.3f}")  # fmt: skip


def _short_words() -> Iterator[int]:
    """Tokens that are words, each once."""
    for word in dict.fromkeys(WORDS):
        if len(ids := TOKENIZER.encode(f" {word}").ids) == 1:
            yield ids[0]


def gaps(options: argparse.Namespace) -> None:
    """The longest pause between two pieces of an answer while the other sequences read long prompts."""
    for start in peers(options, options.parallel, options.parallel * (options.context + 512) + (1 << 14))[::2]:
        with start() as peer:
            first: list[Given] = []

            over = threading.Event()

            def follow(peer: Peer = peer, first: list[Given] = first, over: threading.Event = over) -> None:
                first.append(peer.ask(Wish(question("Hello."), 1 << 14, over=over)))

            thread = threading.Thread(target=follow)
            thread.start()
            time.sleep(2)  # it streams by then
            prompts = [words(options.context, ("gap", place)) for place in range(options.parallel - 1)]
            others = side_by_side(peer, [Wish(question(text), 4) for text in prompts])
            over.set()
            thread.join()
            _tell_pauses(peer, first[0], others, options.context)


def _tell_pauses(peer: Peer, given: Given, others: Sequence[Given], context: int) -> None:
    """What an answer's pauses were while other prompts were read."""
    begun, read = min(one.asked for one in others), max(one.times[0] for one in others)
    beside = [at for at in given.times if begun < at < read]
    pauses = [b - a for a, b in pairwise([begun, *beside, read])]
    print(
        f"{peer.name}: {len(beside)} tokens beside {len(others)} prompts of {context}; pauses: median"
        f" {1000 * statistics.median(pauses):.0f} ms, largest {1000 * max(pauses):.0f} ms; the prompts took"
        f" {read - begun:.1f} s",
        flush=True,
    )


def load(options: argparse.Namespace) -> None:
    """Requests at once for minutes; each answer against the same one alone, memory, sequences at the end."""
    texts = [words(20 + 12 * place, ("load", place)) for place in range(16)]
    size, flash = options.parallel * 1024, options.flash_attn
    with Ours(
        options.model, ctx_size=size, parallel=options.parallel, threads=options.threads, ends=(), flash_attn=flash
    ) as peer:
        model = peer.model
        expected = {text: _complete(model, text, None)[0] for text in texts}
        counts, wrong, memory = {"length": 0, "cancelled": 0}, list[str](), list[float]()
        longest, end = [0.0], time.monotonic() + 60 * options.minutes

        def ask(seed: int) -> None:
            draw = random.Random(seed)
            while time.monotonic() < end:
                text = draw.choice(texts)
                begun = time.monotonic()
                said, reason = _complete(model, text, draw.random() * 3 if draw.random() < 0.3 else None)
                longest[0] = max(longest[0], time.monotonic() - begun)
                counts[reason] = counts.get(reason, 0) + 1
                if reason != "cancelled" and said != expected[text]:
                    wrong.append(text)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(options.requests)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(5)
            memory.append(_resident(model) / (1 << 20))
        found = model.occupancy()
        part = len(memory) // 5
        print(f"{sum(counts.values())} requests, {options.requests} at once: {counts}; {len(wrong)} answers differ from"
              f" the same alone; the longest took {longest[0]:.1f} s\nRssAnon of the engine {min(memory[part:]):.0f} to"
              f" {max(memory[part:]):.0f} MiB after the first fifth, {memory[-1]:.0f} at the end\n{found}")  # fmt: skip


def _complete(model: ChatModel, text: str, cancel_after: float | None) -> tuple[str, str]:
    stream = model.complete(text, max_tokens=32)
    timer = threading.Timer(cancel_after, stream.cancel) if cancel_after is not None else None
    if timer:
        timer.start()
    events = list(stream)
    if timer:
        timer.cancel()
    done = events[-1]
    assert isinstance(done, Done)
    return "".join(event.text for event in events if isinstance(event, Answer)), done.finish_reason


def _resident(model: ChatModel) -> int:
    process = model.engine._process
    assert process
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


MODES = {"turns": turns, "together": together, "gaps": gaps, "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("model", type=Path)
    parser.add_argument("--context", type=int, default=8192, help="tokens of a conversation, or of a prompt (gaps)")
    parser.add_argument("--answer", type=int, default=300, help="tokens of each answer (turns)")
    parser.add_argument("--reasoning", type=int, default=200, help="tokens of the last answer's reasoning (turns)")
    parser.add_argument("--no-four", dest="four", action="store_false", help="leave out four conversations (turns)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer (together, gaps)")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64, help="at once (load)")
    parser.add_argument("--minutes", type=float, default=5, help="(load)")
    parser.add_argument("--flash-attn", choices=["auto", "on", "off"], default="auto", help="(load)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    MODES[options.mode](options)


if __name__ == "__main__":
    main()
