"""Plans as values: no library, no device; the real 30B's header and cards of all sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization
from nemotron_gguf.runner.engine.library import Device, DeviceKind
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.candidates import deal
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.placement.plan import Plan, plan
from nemotron_gguf.runner.placement.shares import NO_PIPELINE, layer_devices
from nemotron_gguf.runner.settings import Settings
from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors

GIB = 1 << 30
CPU = Device("CPU", "A processor", DeviceKind.CPU, 60 * GIB, 64 * GIB, "CPU", repacks=(("Q4_0", 8),))


def card(size: float, number: int = 0) -> Device:
    return Device(
        f"CUDA{number}", "A card", DeviceKind.GPU, int(size * GIB), int(size * GIB), f"CUDA{number}", "", 128, 512
    )


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    """The header of the stock Q4_K_M of the 30B, 24.5 GB of hole behind it."""
    folder = tmp_path_factory.mktemp("nano")
    header = encode_header(metadata(), list(tensors()))
    for name in ("bf16.gguf", "q4.gguf"):
        with (folder / name).open("wb") as file:
            file.write(header.data)
            file.truncate(header.file_size)
        if name == "bf16.gguf":
            options = QuantizeOptions(file_type("Q4_K_M"))
            quantized = plan_quantization(plan_of_file(folder / name), options)
            header = encode_header(metadata(), [(one.name, one.shape, one.type) for one in quantized.tensors])
    return read_gguf(folder / "q4.gguf")


def planned(file: GGUFFile, *cards: Device, **wishes: Any) -> Plan:
    return plan(file, Settings(threads=4, **wishes), (CPU, *cards))


def test_all_on_a_card_that_is_large_enough(nano: GGUFFile) -> None:
    found = planned(nano, card(32))
    assert (found.placement.n_gpu_layers, found.placement.devices, found.placement.ctx_size) == (-1, ("CUDA0",), 16384)
    assert found.placement.use_mmap
    assert not found.placement.overrides
    assert sum(share.total for share in found.devices) > 24.5e9
    assert "all layers on CUDA0" in found.describe()


def test_experts_move_to_the_processor_as_the_card_shrinks(nano: GGUFFile) -> None:
    """As many blocks of experts as needed and no more; attention, Mamba and shared experts stay on the card."""
    moved = []
    for size in (23, 20, 16, 12, 8, 4):
        found = planned(nano, card(size), ctx_size=32768)
        described: Any = found.as_dict()
        assert found.placement.n_gpu_layers == -1
        assert not found.placement.use_mmap
        assert all(share.fits for share in found.devices)
        assert found.devices[1].left < 2 * GIB, "another block of experts would have fitted"
        moved.append(described["moe_layers_on_cpu"])
        assert f"experts of {moved[-1]} of 23 MoE layers on the CPU" in found.describe()
    assert moved == sorted(set(moved))
    assert 0 < moved[0] < moved[-1] <= 23


def test_fewer_layers_where_the_card_is_tiny(nano: GGUFFile) -> None:
    found = planned(nano, card(1))
    assert 0 < found.placement.n_gpu_layers < 52
    assert planned(nano, card(0.05)).placement.devices == ()


def test_a_long_context_costs_layers_of_experts(nano: GGUFFile) -> None:
    short, long = (planned(nano, card(16), ctx_size=size).as_dict() for size in (16384, 1 << 20))
    assert long["moe_layers_on_cpu"] > short["moe_layers_on_cpu"]  # type: ignore[operator]


def test_two_cards_share_and_one_is_enough_where_it_is(nano: GGUFFile) -> None:
    assert planned(nano, card(8), card(32, 1)).placement.devices == ("CUDA1",)
    both = planned(nano, card(16), card(16, 1))
    assert both.placement.devices == ("CUDA0", "CUDA1")
    assert sum(both.placement.tensor_split) == 53
    first, second = both.devices[1:]
    assert abs(first.total - second.total) < GIB


def test_no_pipeline_where_its_copies_do_not_fit(nano: GGUFFile) -> None:
    cards = card(64), card(64, 1)
    roomy = planned(nano, *cards, ctx_size=1 << 20, device=("CUDA0", "CUDA1"))
    assert not roomy.placement.overrides
    tight = tuple(replace(one, memory_free=share.total) for one, share in zip(cards, roomy.devices[1:], strict=True))
    found = planned(nano, *tight, ctx_size=1 << 20, device=("CUDA0", "CUDA1"))
    assert [one.pattern for one in found.placement.overrides] == [NO_PIPELINE]
    assert found.as_dict()["placement"]["overrides"] == []  # type: ignore[index]


def test_the_librarys_word_counts_more_than_the_estimate(nano: GGUFFile) -> None:
    """What it refuses is not planned; what it measures moves the plan either way."""
    asked: list[Placement] = []

    def hungry(placement: Placement) -> Mapping[str, int]:
        asked.append(placement)
        return dict.fromkeys(("CPU", *placement.devices), 4 * GIB)

    devices, settings = (CPU, card(16)), Settings(ctx_size=16384)
    plain = plan(nano, settings, devices)
    found = plan(nano, settings, devices, hungry)
    assert found.is_measured
    assert not plain.is_measured
    assert found.devices[1].compute == 4 * GIB
    assert found.as_dict()["moe_layers_on_cpu"] > plain.as_dict()["moe_layers_on_cpu"]  # type: ignore[operator]
    assert 0 < len(asked) <= 6
    assert plan(nano, settings, devices, lambda one: None if one.devices else {"CPU": 1}).placement.devices == ()
    with pytest.raises(RunnerError, match="cannot run this file so"):
        plan(nano, settings, devices, lambda _: None)


def test_an_estimate_alone_refuses_nothing(nano: GGUFFile) -> None:
    """The estimate says that it does not fit, the library that it does."""
    exact = planned(nano, card(32), ctx_size=16384).devices[1]
    tight = replace(card(32), memory_free=exact.total + exact.margin - (20 << 20))
    wishes = Settings(ctx_size=16384, n_gpu_layers=-1, n_cpu_moe=0)
    with pytest.raises(RunnerError):
        plan(nano, wishes, (CPU, tight))
    lean = dict.fromkeys(("CPU", "CUDA0"), exact.compute - (21 << 20))
    assert plan(nano, wishes, (CPU, tight), lambda _: lean).placement.n_gpu_layers == -1


def test_what_was_pinned_stays(nano: GGUFFile) -> None:
    found = planned(
        nano, card(80), ctx_size=5000, n_gpu_layers=20, cache_type_k="q8_0", cache_type_v="q5_1", flash_attn="ON",
        override_tensor=(r"blk\.5\d\.ssm=cpu,output=CUDA0",), parallel=2,
    )  # fmt: skip
    placement = found.placement
    assert (placement.ctx_size, placement.n_gpu_layers, placement.parallel, placement.threads) == (5000, 20, 2, 4)
    assert (placement.cache_type_k, placement.cache_type_v, placement.flash_attention) == ("Q8_0", "Q5_1", "on")
    assert [one.buffer_type for one in placement.overrides] == ["CPU", "CUDA0"]


def test_n_cpu_moe_counts_blocks_and_says_how_many_have_experts(nano: GGUFFile) -> None:
    found = planned(nano, card(24), n_cpu_moe=10)
    assert found.as_dict()["moe_layers_on_cpu"] == 4  # MEMEM*EMEM
    assert any("of the first 10, 4 have experts" in note for note in found.notes)
    assert "blk.9." not in found.placement.overrides[0].pattern
    assert planned(nano, card(8), n_cpu_moe=52).as_dict()["moe_layers_on_cpu"] == 23


def test_a_refusal_names_numbers_and_ways_out_that_hold(nano: GGUFFile) -> None:
    pinned = {"ctx_size": 1 << 20, "n_gpu_layers": -1, "n_cpu_moe": 0}
    with pytest.raises(RunnerError) as refused:
        planned(nano, card(28), **pinned)
    said = str(refused.value)
    assert "\n" not in said
    for part in (
        "1048576 tokens",
        "CUDA0 (A card)",
        "weights 22.60 GiB",
        "cache 6.00 GiB",
        "28.00 GiB free",
        "too little",
    ):
        assert part in said
    offers = {
        word: int(said.partition(f"{word} ")[2].split(",")[0])
        for word in ("--ctx-size", "--n-gpu-layers", "--n-cpu-moe")
    }
    for word, number in offers.items():
        option = word[2:].replace("-", "_")
        assert planned(nano, card(28), **pinned | {option: number})
        step = {"--ctx-size": 256, "--n-gpu-layers": 1, "--n-cpu-moe": -2}[word]
        with pytest.raises(RunnerError):
            planned(nano, card(28), **pinned | {option: number + step})


def test_the_processor_alone(nano: GGUFFile) -> None:
    """What is mapped from the file needs no memory of its own; what surely cannot work is refused, or made smaller."""
    small = replace(CPU, memory_free=8 * GIB, memory_total=8 * GIB)
    found = plan(nano, Settings(), (small,))
    assert any("read from the disk again and again" in note for note in found.notes)
    tiny = replace(CPU, memory_free=GIB, memory_total=GIB)
    with pytest.raises(RunnerError, match=r"CPU .*would need .* it would fit with --ctx-size"):
        plan(nano, Settings(ctx_size=1 << 20), (tiny,))
    smaller = plan(nano, Settings(), (replace(CPU, memory_free=200 << 20, memory_total=200 << 20),))
    assert smaller.placement.ctx_size < 16384
    assert any("instead of 16384" in note for note in smaller.notes)


def test_which_devices_are_meant(nano: GGUFFile) -> None:
    """A worker's only where it was named, then first; an integrated one where there is no other."""
    worker = replace(card(32), name="RPC0", description="box:1", buffer_type="RPC0[box:1]", endpoint="box:1")
    inside = replace(card(32, 1), name="iGPU", kind=DeviceKind.INTEGRATED_GPU, buffer_type="iGPU")
    assert planned(nano, worker, card(32), rpc=("box:1",)).placement.devices == ("RPC0", "CUDA0")
    assert planned(nano, card(24), inside).placement.devices == ("CUDA0",)
    assert planned(nano, inside).placement.devices == ("iGPU",)
    assert planned(nano, card(32), card(32, 1), device=("cuda1",)).placement.devices == ("CUDA1",)
    assert planned(nano, card(32), device=()).placement.devices == ()
    assert planned(nano, card(32), n_gpu_layers=0).placement.devices == ()
    assert any("no effect" in note for note in planned(nano, n_gpu_layers=7).notes)
    silent = replace(card(0), memory_free=0)
    assert any("does not tell" in note for note in planned(nano, silent, n_gpu_layers=-1).notes)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"cache_type_k": "Q4_K"}, "--cache-type-k is Q4_K, expected one of F32, F16"),
        ({"cache_type_v": "Q8_0", "flash_attn": "off"}, "needs flash attention"),
        ({"flash_attn": "maybe"}, "--flash-attn is maybe, expected one of auto, on, off"),
        ({"override_tensor": ("exps",)}, "expected PATTERN=BUFFER"),
        ({"override_tensor": ("(=CPU",)}, "no regular expression"),
        ({"override_tensor": ("exps=CUDA7",)}, "no device has that buffer"),
        ({"device": ("CUDA7",)}, "there is no such device; there are CUDA0 (A card)"),
        ({"device": ("CUDA0", "CUDA0")}, "names one twice"),
        ({"rpc": ("box",)}, "expected HOST:PORT"),
        ({"rpc": ("box:70000",)}, "expected HOST:PORT"),
        ({"n_cpu_moe": -1}, "--n-cpu-moe is -1"),
        ({"parallel": 257}, "--parallel is 257"),
        ({"lookup": 5}, "--lookup is 5, expected 0 to 4"),
    ],
)
def test_words_that_cannot_be_followed(nano: GGUFFile, wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunnerError) as refused:
        planned(nano, card(24), **wishes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_guesses_take_only_what_is_left(nano: GGUFFile) -> None:
    """Neither context nor weights give way to copies of the state, unless somebody wants them."""
    roomy, without = planned(nano, card(32), lookup=None), planned(nano, card(32))
    assert (roomy.placement.lookup, without.placement.lookup) == (3, 0)
    assert replace(roomy.placement, lookup=0) == without.placement
    assert roomy.devices[1].state == 4 * without.devices[1].state > 4 * 47 << 20
    free = without.devices[1].total + without.devices[1].margin
    for more, expected in ((100 << 20, 0), (400 << 20, 3)):
        there = replace(card(32), memory_free=free + more)
        found = planned(nano, there, lookup=None)
        assert found.placement == replace(without.placement, lookup=expected)
        assert found.devices[1].left >= 0
    there = replace(card(32), memory_free=free + (100 << 20))
    asked = planned(nano, there, lookup=4).placement
    assert (asked.lookup, bool(asked.overrides)) == (4, True), "somebody wants them"


def test_the_library_has_its_say_about_guesses(nano: GGUFFile) -> None:
    """Where it refuses the larger placement, the smaller one stands."""

    def compute(placement: Placement) -> Mapping[str, int] | None:
        return None if placement.lookup else {"CPU": 1 << 20, "CUDA0": 200 << 20}

    found = plan(nano, Settings(threads=4, lookup=None), (CPU, card(32)), compute)
    assert (found.placement.lookup, found.is_measured) == (0, True)


def test_the_table_and_the_json(nano: GGUFFile) -> None:
    found = planned(nano, card(16))
    head, host, device = found.rows()
    assert head == ("device", "weights", "cache", "state", "compute", "together", "free before", "left")
    assert (host[0], device[0]) == ("CPU (A processor)", "CUDA0 (A card)")
    described = json.loads(json.dumps(found.as_dict()))
    share = described["devices"][1]
    assert share["total"] == share["weights"] + share["cache"] + share["state"] + share["compute"]
    assert share["left"] == share["free"] - share["margin"] - share["total"]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.lists(st.integers(1, 5000), min_size=2, max_size=5))
def test_dealing_is_as_even_as_can_be(sizes: list[int], rooms: list[int]) -> None:
    """Against all ways to cut the row (two devices), and always all of it."""
    counts = deal(sizes, rooms)
    assert sum(counts) == len(sizes)
    assert min(counts) >= 0
    ends = np.cumsum(counts)
    fullest = max(sum(part) / room for part, room in zip(np.split(np.array(sizes), ends[:-1]), rooms, strict=True))
    if len(rooms) == 2:
        cuts = range(len(sizes) + 1)
        best = min(max(sum(sizes[:cut]) / rooms[0], sum(sizes[cut:]) / rooms[1]) for cut in cuts)
        assert fullest == pytest.approx(best, rel=1e-6)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any), st.integers(0, 3))
def test_a_split_in_whole_layers_is_followed_to_the_layer(counts: list[int], here: int) -> None:
    """libllama compares fractions of 32 bits; counts of layers as shares come out as those very counts."""
    n_gpu = sum(counts)
    names = tuple(f"D{index}" for index in range(len(counts)))
    placement = Placement(256, 1, n_gpu, names, (), tuple(map(float, counts)))
    homes = layer_devices(n_gpu + here - 1, placement)
    assert homes == ["CPU"] * here + [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
