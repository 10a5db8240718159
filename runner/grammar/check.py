"""What makes a graph a grammar: some text satisfies it, no rule begins with itself; then it is put into bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.graph import Builder, Chain, Chars, Choice, Grammar, Node, Repeat
from nemotron_gguf.runner.grammar.ranges import ANY, both, utf8


def children(node: Node) -> tuple[int, ...]:
    """The nodes that a node names."""
    match node:
        case Chain(parts):
            return parts
        case Choice(options):
            return options
        case Repeat(part, _, _):
            return (part,)
        case _:
            return ()


def finish(builder: Builder, root: int, start: int | None = None) -> Grammar:
    """The grammar of a root, and of where an answer may begin otherwise. Raises GrammarError for one that is none."""
    start = root if start is None else start
    nodes = builder.nodes
    alive = _least(nodes, lambda node, known: _is_possible(node, known))
    if not alive[root]:
        raise GrammarError("no text can satisfy it: it contradicts itself, or it never comes to an end")
    order = [number for number in _reachable(nodes, (root, start), alive) if alive[number]]
    place = {number: at for at, number in enumerate(order)}
    bytewise = _Bytes([_pruned(nodes[number], place) for number in order])
    may_be_empty = _least(bytewise.nodes, lambda node, known: _is_empty(node, known))
    _check_left_recursion(bytewise.nodes, may_be_empty)
    return Grammar(
        tuple(_counted(bytewise.nodes, node, may_be_empty) for node in bytewise.nodes), place[root], place[start]
    )


def _least(nodes: Sequence[Node], holds: Callable[[Node, Sequence[bool]], bool]) -> list[bool]:
    """Of which nodes something holds that follows from their parts'."""
    users: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for child in children(node):
            users[child].append(number)
    known, todo = [False] * len(nodes), list(range(len(nodes)))
    while todo:
        number = todo.pop()
        if not known[number] and holds(nodes[number], known):
            known[number] = True
            todo += users[number]
    return known


def _is_possible(node: Node, known: Sequence[bool]) -> bool:
    match node:
        case Chars(ranges):
            return bool(both(ranges, ANY))
        case Chain(parts):
            return all(known[part] for part in parts)
        case Choice(options):
            return any(known[option] for option in options)
        case Repeat(part, low, _):
            return low == 0 or known[part]


def _is_empty(node: Node, known: Sequence[bool]) -> bool:
    match node:
        case Chars(_):
            return False
        case Chain(parts):
            return all(known[part] for part in parts)
        case Choice(options):
            return any(known[option] for option in options)
        case Repeat(part, low, _):
            return low == 0 or known[part]


def _reachable(nodes: Sequence[Node], roots: Sequence[int], alive: Sequence[bool]) -> list[int]:
    found, todo = dict.fromkeys(roots), list(roots)
    while todo:
        for child in children(nodes[todo.pop()]):
            if child not in found and alive[child]:
                found[child] = None
                todo.append(child)
    return list(found)


def _pruned(node: Node, place: Mapping[int, int]) -> Node:
    """A node by new numbers, without what nothing satisfies."""
    match node:
        case Chain(parts):
            return Chain(tuple(place[part] for part in parts))
        case Choice(options):
            return Choice(tuple(place[option] for option in options if option in place))
        case Repeat(part, low, high):
            return Repeat(place[part], low, high) if part in place else Chain(())
    return node


class _Bytes:
    """Nodes whose characters have become bytes; those that this takes stand behind the others."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self._known: dict[Node, int] = {}
        for number, node in enumerate(nodes):
            if isinstance(node, Chars):
                self.nodes[number] = self._spelled(node)

    def _spelled(self, node: Chars) -> Node:
        sequences = list(utf8(node.ranges))
        single = tuple(sequence[0] for sequence in sequences if len(sequence) == 1)
        if len(single) == len(sequences):
            return Chars(single)
        options = [self._add(Chars(single))] if single else []
        longer = [sequence for sequence in sequences if len(sequence) > 1]
        options += [self._add(Chain(tuple(self._add(Chars((part,))) for part in sequence))) for sequence in longer]
        return Choice(tuple(options))

    def _add(self, node: Node) -> int:
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return known


def _counted(nodes: Sequence[Node], node: Node, may_be_empty: Sequence[bool]) -> Node:
    """What may be empty need not be counted from below, nor twice: else each way to count would be looked at."""
    if not isinstance(node, Repeat) or not may_be_empty[node.part]:
        return node
    inner = nodes[node.part]
    if isinstance(inner, Repeat) and inner.low == 0 and inner.high in (1, None):
        return Repeat(inner.part, 0, node.high if inner.high else None)
    return Repeat(node.part, 0, node.high)


def _check_left_recursion(nodes: Sequence[Node], may_be_empty: Sequence[bool]) -> None:
    """Raises GrammarError where a node begins with itself and goes on behind: reading it would never begin."""
    edges = [list(_first(node, may_be_empty)) for node in nodes]
    group = _cycles([[target for target, _ in found] for found in edges])
    for number, found in enumerate(edges):
        if any(group[target] == group[number] and not is_last for target, is_last in found):
            raise GrammarError("a rule begins with itself (left recursion); put what it begins with first: x ::= a x")


def _first(node: Node, may_be_empty: Sequence[bool]) -> Iterator[tuple[int, bool]]:
    """What a node may begin with, and whether nothing comes behind."""
    match node:
        case Choice(options):
            yield from ((option, True) for option in options)
        case Repeat(part, _, high):
            yield part, high == 1
        case Chain(parts):
            for at, part in enumerate(parts):
                yield part, at == len(parts) - 1
                if not may_be_empty[part]:
                    return


def _cycles(edges: Sequence[Sequence[int]]) -> list[int]:
    """For each node the number of its group: those that reach each other (Tarjan's, without recursion)."""
    index, low, group = [0] * len(edges), [0] * len(edges), [-1] * len(edges)
    clock, n_groups, stack = 0, 0, list[int]()
    for root in range(len(edges)):
        if index[root]:
            continue
        path = [(root, 0)]
        while path:
            node, at = path.pop()
            if at == 0:
                clock += 1
                index[node] = low[node] = clock
                stack.append(node)
            elif group[edges[node][at - 1]] < 0:
                low[node] = min(low[node], low[edges[node][at - 1]])
            while at < len(edges[node]) and index[edges[node][at]]:
                target = edges[node][at]
                low[node] = min(low[node], index[target]) if group[target] < 0 else low[node]
                at += 1
            if at < len(edges[node]):
                path += [(node, at + 1), (edges[node][at], 0)]
                continue
            if low[node] == index[node]:
                while group[node] < 0:
                    group[stack.pop()] = n_groups
                n_groups += 1
    return group
