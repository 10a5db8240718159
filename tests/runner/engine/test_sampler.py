"""Each number of a sampling does what llama.cpp says it does: seen in which tokens can be drawn."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nemotron_gguf.runner import Drawn, RunnerError, Sampling
from nemotron_gguf.runner.engine.sampler import Sampler
from nemotron_gguf.runner.sampling import RANGES

if TYPE_CHECKING:
    from nemotron_gguf.tests.runner.engine.conftest import Bare

OPEN = Sampling(temperature=1, top_k=0, top_p=1, min_p=0)


def draws(bare: Bare, sampling: Sampling, count: int = 300, before: tuple[int, ...] = ()) -> set[int]:
    """Tokens that come in many draws after one prompt."""
    bare.read(bare.vocabulary.encode("tell me something"))
    found = set()
    for seed in range(count):
        with Sampler(bare.model.llama, replace(sampling, seed=seed), bare.vocabulary, 1024) as sampler:
            sampler.accept(before)
            found.add(sampler.draw(bare.context.handle))
    return found


def ranked(bare: Bare) -> list[tuple[int, float]]:
    """All tokens and their probabilities, the likeliest first."""
    draws(bare, OPEN, 1)
    with Sampler(bare.model.llama, OPEN, bare.vocabulary, 1024) as sampler:
        logits = sampler.logits(bare.context.handle).astype(np.float64)
    odds = np.exp(logits - logits.max())
    odds /= odds.sum()
    return sorted(((int(i), float(p)) for i, p in enumerate(odds)), key=lambda pair: -pair[1])


def test_each_cut_keeps_what_it_says(tiny: Bare) -> None:
    rank = ranked(tiny)
    names, odds = [token for token, _ in rank], [p for _, p in rank]
    assert draws(tiny, replace(OPEN, top_k=3)) == set(names[:3])
    assert draws(tiny, replace(OPEN, top_k=1), 5) == {names[0]}
    nucleus = int(np.searchsorted(np.cumsum(odds), 0.3)) + 1
    assert draws(tiny, replace(OPEN, top_p=0.3)) <= set(names[:nucleus])
    assert len(draws(tiny, replace(OPEN, top_p=0.3))) > 1
    likely = {token for token, p in rank if p >= 0.5 * odds[0]}
    assert draws(tiny, replace(OPEN, min_p=0.5)) <= likely
    assert draws(tiny, replace(OPEN, temperature=0), 3) == {names[0]}
    assert len(draws(tiny, OPEN)) > len(draws(tiny, replace(OPEN, temperature=0.3)))
    assert len(draws(tiny, replace(OPEN, top_n_sigma=0.5))) < len(draws(tiny, OPEN))
    assert draws(tiny, replace(OPEN, typical_p=0.2)) != draws(tiny, OPEN)
    # with certainty, XTC drops all but the last of those above its threshold
    above = [token for token, p in rank if p >= odds[4]]
    assert not draws(tiny, replace(OPEN, xtc_probability=1, xtc_threshold=odds[4] * 0.999)) & set(above[:-1])


def test_a_bias_forces_and_forbids(tiny: Bare) -> None:
    first, second, *_, last = [token for token, _ in ranked(tiny)]
    assert draws(tiny, replace(OPEN, temperature=0, logit_bias=((first, -1e9),)), 2) == {second}
    assert draws(tiny, replace(OPEN, temperature=0, logit_bias=((last, 1e9),)), 2) == {last}
    with pytest.raises(RunnerError, match="99999"):
        draws(tiny, replace(OPEN, logit_bias=((99999, 1.0),)), 1)


@pytest.mark.parametrize(
    ("wishes", "reach"),
    [
        ({}, 0),
        ({"repeat_penalty": 1.3}, 64),
        ({"repeat_penalty": 1.3, "repeat_last_n": -1}, 1024),
        ({"repeat_penalty": 1.3, "repeat_last_n": 0}, 0),
        ({"presence_penalty": 0.5, "repeat_last_n": 16, "dry_multiplier": 0.8, "dry_last_n": 200}, 200),
        ({"frequency_penalty": 0.5, "dry_multiplier": 0.8}, 1024),
        ({"repeat_penalty": 1.3, "mirostat": 2}, 0),
    ],
)
def test_of_a_long_prompt_only_what_a_penalty_looks_at_is_told(
    tiny: Bare, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any], reach: int
) -> None:
    told: list[int] = []
    prompt = [7, *range(100, 200)] * 30
    with Sampler(tiny.model.llama, replace(OPEN, **wishes), tiny.vocabulary, 1024) as sampler:
        monkeypatch.setattr(tiny.model.llama, "llama_sampler_accept", lambda _chain, token: told.append(token))
        sampler.accept(prompt)
        monkeypatch.undo()
    assert told == prompt[len(prompt) - reach :]


@pytest.mark.parametrize("wishes", [{"repeat_penalty": 2.0, "repeat_last_n": 50}, {"dry_multiplier": 3.0}])
def test_the_draw_is_as_with_the_whole_prompt(tiny: Bare, wishes: dict[str, Any]) -> None:
    tiny.read(tiny.vocabulary.encode("tell me something"))
    prompt, llama = [(7 * n * n) % 250 for n in range(3000)], tiny.model.llama
    found = []
    for whole in (True, False):
        with Sampler(llama, replace(OPEN, seed=1, **wishes), tiny.vocabulary, 1024) as sampler:
            if whole:
                for token in prompt:
                    llama.llama_sampler_accept(sampler.chain, token)
            else:
                sampler.accept(prompt)
            found.append([sampler.draw(tiny.context.handle) for _ in range(100)])
    assert found[0] == found[1]


def test_penalties_look_at_the_tokens_before(tiny: Bare) -> None:
    first, second, *_ = [token for token, _ in ranked(tiny)]
    cold = replace(OPEN, temperature=0)
    for penalty in ({"presence_penalty": 100}, {"frequency_penalty": 100}):
        punished = replace(cold, **penalty)  # type: ignore[arg-type]
        assert draws(tiny, punished, 1) == {first}
        assert draws(tiny, punished, 1, before=(first,)) == {second}
        assert draws(tiny, replace(punished, repeat_last_n=1), 1, before=(first, 7)) == {first}
        assert draws(tiny, replace(punished, repeat_last_n=0), 1, before=(first,)) == {first}
    assert draws(tiny, replace(cold, repeat_penalty=100), 1, before=(first,)) != {first}
    a, b = tiny.vocabulary.encode("ab")
    repeating = (a, b, first, a, b)
    dry = replace(cold, dry_multiplier=100, dry_allowed_length=1)
    assert draws(tiny, dry, 1, before=repeating) == {second}, "the token that would repeat a sequence"
    assert draws(tiny, dry, 1, before=(a, first, b)) == {first}


def test_penalties_know_the_prompt(tiny: Bare) -> None:
    cold = replace(OPEN, temperature=0)

    def drawn(prompt: list[int], sampling: Sampling) -> int:
        tiny.clear()
        steps = tiny.steps(prompt, sampling, max_tokens=1, top_logprobs=0)
        return next(event.token.token for step in steps for event in step if isinstance(event, Drawn))

    prompt = tiny.vocabulary.encode("tell me something")
    while (token := drawn(prompt, cold)) not in prompt:
        prompt = [token, *prompt]
    assert drawn(prompt, replace(cold, presence_penalty=100, repeat_last_n=-1)) not in prompt


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws(tiny: Bare, version: int) -> None:
    found = draws(tiny, replace(OPEN, mirostat=version, mirostat_tau=0.5), 50)
    assert found
    assert len(found) < len(draws(tiny, OPEN, 50))


@pytest.mark.parametrize("name", sorted(RANGES))
def test_numbers_out_of_range_are_refused_by_name(name: str) -> None:
    low, high = RANGES[name]
    for wrong in (low - 1, high + 1, float("nan")):
        with pytest.raises(RunnerError, match="--" + name.replace("_", "-")):
            Sampling(**{name: wrong})  # type: ignore[arg-type]


def test_every_number_has_a_range() -> None:
    assert {field.name for field in fields(Sampling)} - set(RANGES) == {"logit_bias"}


@pytest.mark.parametrize("by", [math.nan, math.inf])
def test_a_bias_is_a_number(by: float) -> None:
    with pytest.raises(RunnerError, match="expected a number"):
        Sampling(logit_bias=((5, by),))
    assert Sampling(logit_bias=((5, -math.inf),)), "which forbids a token"
