"""Room is counted once, however many sequences share it."""

from __future__ import annotations

import random

from nemotron_gguf.runner.engine.cells import Cells


def test_what_is_shared_is_counted_once() -> None:
    cells = Cells(3)
    cells.add(0, 100)
    cells.share(0, 1, 60)
    assert (cells.taken, cells.held_by([1]), cells.held_by([0, 1])) == (100, 60, 100)
    cells.add(1, 5)
    cells.add(0, 7)
    assert (cells.taken, cells.held_by([1])) == (112, 65)
    cells.cut(0, 0)
    assert cells.taken == cells.held_by([1]) == 65
    cells.cut(1, 10)
    assert cells.taken == 10


def test_the_count_is_that_of_the_cells_themselves() -> None:
    """Against sets of cells, as libllama keeps them: a cell is free once no sequence has it."""
    draw, cells, cell = random.Random(3), Cells(4), iter(range(1 << 30))
    held: list[list[int]] = [[] for _ in range(4)]
    for _ in range(3000):
        one, other = draw.sample(range(4), 2)
        length = draw.randrange(len(held[one]) + 1)
        action = draw.choice(["add", "add", "cut", "share"])
        if action == "add":
            count = draw.randrange(1, 9)
            cells.add(one, count)
            held[one] += [next(cell) for _ in range(count)]
        elif action == "cut":
            cells.cut(one, length)
            del held[one][length:]
        else:
            cells.cut(other, 0)
            cells.share(one, other, length)
            held[other] = held[one][:length]
        assert cells.taken == len(set().union(*held))
        assert cells.held_by([one, other]) == len({*held[one], *held[other]})
