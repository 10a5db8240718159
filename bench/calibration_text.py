"""The calibration text and its held-out part, made anew: `python bench/calibration_text.py`.

Everything in them was written for this project: passages, word lists and sentence patterns in `bench/calibration_text/`,
the project's own source and documentation, problems whose numbers are drawn and solved here, and conversations of the
demo model's little world. What is drawn is drawn from fixed seeds.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import comb, gcd
from pathlib import Path
from typing import Any, TypeAlias

from nemotron_gguf.models.demo.training import world

ROOT = Path(__file__).parent.parent
MATERIAL = Path(__file__).parent / "calibration_text"
TARGET = ROOT / "runner" / "measure" / "texts"
SENTENCES = {"en": 1000, "zh": 700}
PROBLEMS, TOOL_TALKS, REASONED, DEMO_TALKS = 420, 150, 150, 150
HELD_OUT_SHARE = 3  # one in so many passages, files and conversations is held out, and so much less is drawn

Words: TypeAlias = dict[str, list[str]]
Message: TypeAlias = dict[str, Any]


def read(name: str) -> str:
    return (MATERIAL / name).read_text(encoding="utf-8")


def words(language: str) -> Words:
    lines = (line.partition(": ") for line in read(f"words_{language}.txt").splitlines() if line)
    return {kind: listed.split(", ") for kind, _, listed in lines}


def fill(pattern: str, lists: Words, rng: random.Random) -> str:
    """A pattern with a word for each {kind}; no word comes twice in it."""
    used: set[str] = set()

    def word(match: re.Match[str]) -> str:
        found = rng.choice([one for one in lists[match[1]] if one not in used] or lists[match[1]])
        used.add(found)
        return found

    filled = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", re.sub(r"\{(\w+)\}", word, pattern))
    return filled[0].upper() + filled[1:]


def prose(language: str, count: int, rng: random.Random) -> Iterator[str]:
    """Paragraphs of a kind each: stories, manuals, news, letters, essays and others."""
    lists, kinds = words(language), [part.splitlines()[1:] for part in re.split(r"^(?=# )", read(
        f"patterns_{language}.txt"), flags=re.MULTILINE) if part.strip()]  # fmt: skip
    while count > 0:
        patterns = rng.choice(kinds)
        chosen = rng.sample(patterns, min(len(patterns), rng.randint(2, 5)))
        count -= len(chosen)
        yield (" " if language == "en" else "").join(fill(pattern, lists, rng) for pattern in chosen)


def passages(language: str, held_out: bool) -> list[str]:
    found = read(f"passages_{language}.txt").strip().split("\n\n")
    return [text for index, text in enumerate(found) if (index % HELD_OUT_SHARE == 1) == held_out]


def text(language: str, held_out: bool, rng: random.Random) -> str:
    count = SENTENCES[language] // (HELD_OUT_SHARE if held_out else 1)
    parts = [*passages(language, held_out), *prose(language, count, rng), *documentation(language, held_out)]
    rng.shuffle(parts)
    return "\n\n".join(parts) + "\n"


def documentation(language: str, held_out: bool) -> list[str]:
    """Sections of the project's own pages."""
    names = ["README.md", "docs/how-it-works.md", "docs/kernels.md"] if language == "en" else ["README.zh-CN.md"]
    sections = [part.strip() for name in names for part in re.split(r"^(?=## )", (ROOT / name).read_text(
        encoding="utf-8"), flags=re.MULTILINE)]  # fmt: skip
    return [part for index, part in enumerate(sections) if (index % HELD_OUT_SHARE == 1) == held_out]


CODE = (
    "models/gguf_reader.py", "models/needs.py", "quant/kernels/search.h", "convert/hub/patience.py", "ui/terminal/markdown.py",
    "convert/writer/lock.py", "runner/chat/calls.py", "pyproject.toml", "convert/source/fp8_scales.py", "Makefile",
    "ui/terminal/keys.py", "models/demo/checkpoint/chat_template.jinja", "convert/exp.py", "runner/placement/candidates.py",
    "models/gguf_values.py", "quant/file_types.py", "runner/process/channel.py", "convert/pretokenizer.py",
)  # fmt: skip


def code(held_out: bool) -> str:
    found = [name for index, name in enumerate(CODE) if (index % HELD_OUT_SHARE == 1) == held_out]
    files = [(name, ROOT / name) for name in found]
    return "\n\n".join(f"```\n# {name}\n{path.read_text(encoding='utf-8').strip()}\n```" for name, path in files) + "\n"


def linear(rng: random.Random) -> tuple[str, str, str]:
    a, x, b = rng.randint(2, 19), rng.randint(-12, 25), rng.randint(-60, 60)
    c = a * x + b
    return (f"Solve ${a}x {b:+d} = {c}$ for $x$.", f"Move the constant: ${a}x = {c} - ({b}) = {c - b}$. Divide by {a}.",
            f"$x = {x}$")  # fmt: skip


def quadratic(rng: random.Random) -> tuple[str, str, str]:
    p, q = rng.randint(-9, 9), rng.randint(-9, 9)
    return (f"Find the roots of $x^2 {-(p + q):+d}x {p * q:+d} = 0$.",
            f"Two numbers with sum {p + q} and product {p * q} are {p} and {q}, so it factors as $(x - ({p}))(x - ({q}))$.",
            f"$x \\in \\{{{p}, {q}\\}}$")  # fmt: skip


def derivative(rng: random.Random) -> tuple[str, str, str]:
    a, n, b, m = rng.randint(2, 9), rng.randint(3, 8), rng.randint(2, 9), rng.randint(1, 2)
    return (f"Differentiate $f(x) = {a}x^{{{n}}} - {b}x^{{{m}}} + \\sin x$.", "Term by term, with the power rule.",
            f"$f'(x) = {a * n}x^{{{n - 1}}} - {b * m}{'x' if m == 2 else ''} + \\cos x$")  # fmt: skip


def fractions(rng: random.Random) -> tuple[str, str, str]:
    one, other = (Fraction(rng.randint(1, 17), rng.randint(2, 18)) for _ in "ab")
    low = one.denominator * other.denominator // gcd(one.denominator, other.denominator)
    return (f"What is {one} + {other}?", f"Over the common denominator {low} this is {one * low}/{low} + {other * low}/{low}.",
            f"{one + other}")  # fmt: skip


def chance(rng: random.Random) -> tuple[str, str, str]:
    red, blue = rng.randint(3, 9), rng.randint(2, 8)
    p = Fraction(comb(red, 2), comb(red + blue, 2))
    return (f"An urn holds {red} red and {blue} blue balls. Two are drawn. How likely are both red?",
            f"There are C({red + blue},2) = {comb(red + blue, 2)} pairs, of which C({red},2) = {comb(red, 2)} are red.",
            f"{p}, about {float(p):.3f}")  # fmt: skip


def divisor(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(60, 999), rng.randint(40, 700)
    steps, x, y = [], a, b
    while y:
        steps.append(f"{x} = {x // y} · {y} + {x % y}")
        x, y = y, x % y
    return f"What is the greatest common divisor of {a} and {b}?", "Euclid: " + "; ".join(steps) + ".", str(x)


def product(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(12, 99), rng.randint(12, 99)
    return (f"计算 {a} × {b}。", f"{a} × {b // 10 * 10} = {a * (b // 10 * 10)}，{a} × {b % 10} = {a * (b % 10)}，相加。",
            f"{a * b}")  # fmt: skip


def percent(rng: random.Random) -> tuple[str, str, str]:
    price, off = rng.randint(8, 90) * 10, rng.choice([5, 10, 15, 20, 25, 30, 40])
    return (f"一件商品原价{price}元，打折后便宜了百分之{off}，现在多少钱？", f"{price} × {off}% = {price * off / 100:g}，相减。",
            f"{price - price * off / 100:g}元")  # fmt: skip


def matrix(rng: random.Random) -> tuple[str, str, str]:
    a, b, c, d = (rng.randint(-6, 9) for _ in "abcd")
    shown = f"\\begin{{pmatrix}} {a} & {b} \\\\ {c} & {d} \\end{{pmatrix}}"
    return (f"Compute the determinant of ${shown}$.", f"$ad - bc = {a} \\cdot {d} - {b} \\cdot ({c}) = {a * d} - ({b * c})$.",
            f"${a * d - b * c}$")  # fmt: skip


def binary(rng: random.Random) -> tuple[str, str, str]:
    number = rng.randint(20, 4000)
    return (f"Write {number} in binary and in hexadecimal.", f"Repeated division by 16 gives the digits {number:x}; each is four bits.",
            f"0b{number:b} = 0x{number:X}")  # fmt: skip


def series(rng: random.Random) -> tuple[str, str, str]:
    first, step, n = rng.randint(-9, 20), rng.randint(2, 11), rng.randint(8, 60)
    last = first + (n - 1) * step
    return (f"Sum the first {n} terms of the sequence {first}, {first + step}, {first + 2 * step}, …",
            f"The last term is {first} + {n - 1}·{step} = {last}; the mean of first and last is {(first + last) / 2:g}.",
            f"{n * (first + last) // 2}")  # fmt: skip


def travel(rng: random.Random) -> tuple[str, str, str]:
    speed, minutes = rng.randint(3, 26) * 5, rng.choice([12, 24, 36, 48, 84, 96, 132])
    return (f"How far does a cyclist get in {minutes} minutes at {speed} km/h?",
            f"{minutes} minutes are {Fraction(minutes, 60)} of an hour; times {speed}.", f"{speed * minutes / 60:g} km")  # fmt: skip


PROBLEM_KINDS: Sequence[Callable[[random.Random], tuple[str, str, str]]] = (
    linear, quadratic, derivative, fractions, chance, divisor, product, percent, matrix, binary, series, travel,
)  # fmt: skip


def problems(held_out: bool, rng: random.Random) -> str:
    count = PROBLEMS // (HELD_OUT_SHARE if held_out else 1)
    drawn = (rng.choice(PROBLEM_KINDS)(rng) for _ in range(count))
    forms = ("Problem. {}\nSolution. {} Answer: {}.", "{}\n{}\n∴ {}", "Exercise {n}: {}\n\n*{}*\n\n**{}**")
    return "\n\n".join(rng.choice(forms).format(*one, n=rng.randint(1, 99)) for one in drawn) + "\n"


def value(kind: str, lists: Words, rng: random.Random) -> Any:
    """A value for a tool's argument or answer."""
    name, _, limits = kind.partition(":")
    low, high = (int(part) for part in limits.split(":")) if limits else (0, 0)
    makers: dict[str, Callable[[], Any]] = {
        "int": lambda: rng.randint(low, high),
        "float": lambda: round(rng.uniform(low, high), 2),
        "true": lambda: True,
        "place": lambda: rng.choice(lists["place"]),
        "food": lambda: rng.choice(lists["food"]),
        "date": lambda: f"{rng.randint(2019, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        "time": lambda: f"{rng.randint(0, 23):02}:{rng.choice(['00', '15', '20', '30', '45'])}",
        "code": lambda: "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(7)),
        "symbol": lambda: "".join(rng.choice("ABCDEFGHIKLMNOPRSTUVX") for _ in range(rng.randint(3, 4))),
        "event": lambda: fill("{thing} with the {profession}", lists, rng),
        "dish": lambda: fill("{adjective} {food}", lists, rng),
        "restaurant": lambda: fill("the {adjective} {animal}", lists, rng),
        "sentence": lambda: fill("the {profession} {verb} the {object}.", lists, rng),
        "path": lambda: (
            fill("src/{thing}/{quality}.", lists, rng).lower().replace(" ", "_") + rng.choice(["py", "c", "rs"])
        ),
        "sql": lambda: (
            fill("SELECT {unit}, COUNT(*) FROM {thing} WHERE {month} > ", lists, rng) + str(rng.randint(1, 99))
        ),
    }
    return makers[name]() if name in makers else rng.choice(kind.split("/"))


def arguments(listed: str, lists: Words, rng: random.Random) -> dict[str, Any]:
    return {name: value(kind, lists, rng) for name, kind in (part.split(":", 1) for part in listed.split(", "))}


def tool_talk(rng: random.Random) -> dict[str, Any]:
    """A question, a call, its result and an answer; other tools lie beside the one that fits."""
    lists, lines = words("en"), read("tools.txt").splitlines()
    offered = rng.sample(lines, rng.randint(1, 4))
    name, _, params, asks_en, asks_zh, results, told_en, told_zh = offered[0].split(" | ")
    given, found = arguments(params, lists, rng), arguments(results, lists, rng)
    chinese = rng.random() < 0.3
    ask = asks_zh if chinese else rng.choice(asks_en.split(";"))
    told = (told_zh if chinese else told_en).format(**{**found, **given})
    thought = f"需要调用{name}。" if chinese else f"I need {name} for this, with {', '.join(given)}."
    call = {"type": "function", "function": {"name": name, "arguments": given}}
    messages = [
        {"role": "user", "content": ask.format(**given)},
        {"role": "assistant", "content": "", "reasoning_content": thought, "tool_calls": [call]},
        {"role": "tool", "content": json.dumps(found, ensure_ascii=False)},
        {
            "role": "assistant",
            "content": told,
            "reasoning_content": "结果已经有了。" if chinese else "The result is there.",
        },
    ]
    rng.shuffle(offered)
    return {"messages": messages, "tools": [schema(line) for line in offered]}


def schema(line: str) -> dict[str, Any]:
    name, description, params, *_ = line.split(" | ")
    kinds = dict(part.split(":", 1) for part in params.split(", "))
    numbers = {"int": "integer", "float": "number"}
    properties = {key: {"type": numbers.get(kind.partition(":")[0], "string")} for key, kind in kinds.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def reasoned(held_out: bool, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Questions that are thought about: written ones, and problems; some follow another."""
    written = [json.loads(line) for line in read("reasoning.jsonl").splitlines()]
    for index, one in enumerate(written):
        if (index % HELD_OUT_SHARE == 1) == held_out:
            yield {"messages": turn(one["user"], one["reasoning"], one["answer"])}
    for _ in range(REASONED // (HELD_OUT_SHARE if held_out else 1)):
        drawn = [rng.choice(PROBLEM_KINDS)(rng) for _ in range(rng.randint(1, 3))]
        yield {"messages": [message for one in drawn for message in turn(*one)]}


def turn(user: str, reasoning: str, answer: str) -> list[Message]:
    said = {"role": "assistant", "content": answer, "reasoning_content": reasoning}
    return [{"role": "user", "content": user}, said]


def demo_talks(held_out: bool) -> Iterator[dict[str, Any]]:
    """What the demo model talks about, from seeds that its training did not use."""
    count = DEMO_TALKS // (HELD_OUT_SHARE if held_out else 1)
    for one in world.conversations(9_000_002 if held_out else 9_000_001, count):
        yield {"messages": list(one.messages), **({"tools": list(one.tools)} if one.tools else {})}


def main() -> None:
    for held_out, folder in ((False, TARGET / "calibration"), (True, TARGET / "held_out")):
        rng = random.Random(2 if held_out else 1)
        folder.mkdir(parents=True, exist_ok=True)
        talks = [*(tool_talk(rng) for _ in range(TOOL_TALKS // (HELD_OUT_SHARE if held_out else 1))),
                 *reasoned(held_out, rng), *demo_talks(held_out)]  # fmt: skip
        rng.shuffle(talks)
        lines = "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in talks)
        made = {
            "english.txt": text("en", held_out, rng), "chinese.txt": text("zh", held_out, rng), "code.txt": code(held_out),
            "mathematics.txt": problems(held_out, rng), "conversations.jsonl": lines,
        }  # fmt: skip
        for name, content in made.items():
            (folder / name).write_text(content, encoding="utf-8", newline="\n")
            print(folder.name, name, len(content.encode()), "bytes")


if __name__ == "__main__":
    main()
