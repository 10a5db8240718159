"""The solver against trying everything."""

from __future__ import annotations

import random
import time
from itertools import pairwise, product

import pytest

from nemotron_gguf.quant.fit.solver import best

Items = list[list[tuple[int, float]]]


def drawn(rng: random.Random, n_items: int, n_options: int) -> Items:
    """Costs that often coincide, losses over four orders of magnitude."""
    return [
        [(32 * rng.randint(1, 30), rng.random() * 10.0 ** rng.randint(-4, 0)) for _ in range(rng.randint(1, n_options))]
        for _ in range(n_items)
    ]


def tried(items: Items, budget: int) -> float | None:
    """The least loss of all combinations within the budget."""
    losses = [
        sum(items[item][option][1] for item, option in enumerate(chosen))
        for chosen in product(*(range(len(options)) for options in items))
        if sum(items[item][option][0] for item, option in enumerate(chosen)) <= budget
    ]
    return min(losses, default=None)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_choice_is_better(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        items = drawn(rng, rng.randint(1, 5), 6)
        budget = 32 * rng.randint(1, 120)
        found, expected = best(items, budget), tried(items, budget)
        if expected is None:
            assert found is None
            continue
        assert found is not None
        assert sum(items[item][option][0] for item, option in enumerate(found)) <= budget
        loss = sum(items[item][option][1] for item, option in enumerate(found))
        assert loss == pytest.approx(expected, rel=1e-12)


def real(seed: int) -> Items:
    """Items of the 30B's sizes: two that are nearly all of it, many small ones."""
    rng = random.Random(seed)
    bits = (2.06, 2.25, 2.31, 2.56, 2.63, 3.06, 3.44, 4.25, 4.5, 5.0, 5.5, 6.0, 6.56, 8.5, 16)
    weights = [7.3e9] * 2 + [6.4e8] * 4 + [2.3e8] * 2 + [2e7] * 6 + [2e8] * 2 + [1e7, 3e7] * 6 + [3.5e8] * 2
    return [
        [
            (
                int(size * bit / 8) // 32 * 32,
                rng.lognormvariate(0, 1) * size**0.5 * 4**-bit * rng.lognormvariate(0, 0.2),
            )
            for bit in bits
        ]
        for size in weights
    ]


def test_a_larger_budget_is_never_worse_and_the_same_question_has_the_same_answer() -> None:
    items = real(5)
    total = sum(max(cost for cost, _ in options) for options in items)
    losses = []
    for step in range(40):
        budget = int(total * (0.15 + 0.02 * step))
        found = best(items, budget)
        assert found == best(items, budget)
        if found is not None:
            losses.append(sum(items[item][option][1] for item, option in enumerate(found)))
    assert len(losses) > 30
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(losses))


def test_a_model_of_the_real_size_takes_no_time() -> None:
    begun = time.process_time()
    for seed in range(5):
        assert best(real(seed), 13_000_000_000) is not None
    assert time.process_time() - begun < 10
