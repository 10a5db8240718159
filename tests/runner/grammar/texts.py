"""Texts of a grammar, drawn without any model: a walk over its nodes that comes to an end."""

from __future__ import annotations

import random

from nemotron_gguf.runner.grammar.graph import Chain, Chars, Choice, Grammar, Repeat

FAR = 1 << 40


def heights(grammar: Grammar) -> list[int]:
    """For each node how many nodes its shortest text takes."""
    found = [FAR] * len(grammar.nodes)
    changed = True
    while changed:
        changed = False
        for number, node in reversed(list(enumerate(grammar.nodes))):  # parts stand behind what they are parts of
            match node:
                case Chars(_):
                    height = 1
                case Chain(parts):
                    height = 1 + sum(found[part] for part in parts)
                case Choice(options):
                    height = 1 + min(found[option] for option in options)
                case Repeat(part, low, _):
                    height = 1 + low * found[part]
            if height < found[number]:
                found[number], changed = height, True
    return found


def drawn_text(grammar: Grammar, shortest: list[int], draw: random.Random, length: int) -> str:
    """A text of the grammar, whose nodes have these `heights`; beyond `length` bytes it ends as soon as it can."""
    written, todo = bytearray(), [grammar.root]
    while todo:
        node = grammar.nodes[todo.pop()]
        may_grow = len(written) < length
        match node:
            case Chars(ranges):
                written.append(draw.randint(*draw.choice(ranges)))
            case Chain(parts):
                todo += reversed(parts)
            case Choice(options):
                todo.append(draw.choice(options) if may_grow else min(options, key=lambda option: shortest[option]))
            case Repeat(part, low, high):
                most = low + 5 if high is None else min(high, low + 5)
                todo += [part] * (draw.randint(low, most) if may_grow else low)
    return written.decode()
