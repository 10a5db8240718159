"""Where a model goes on the devices that there are: the first arrangement that fits, in the order of their speed.

All of it on one device or several; else the experts of as many blocks as needed on the processor; else fewer blocks on
the devices. What a person pinned stays as it is; what cannot fit is refused here, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.needs import Needs, needs_of
from nemotron_gguf.runner.engine.library import Device, DeviceKind
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement import words
from nemotron_gguf.runner.placement.candidates import candidates, common, moe_on_host
from nemotron_gguf.runner.placement.placement import ALL_LAYERS, Placement
from nemotron_gguf.runner.placement.shares import (
    HOST,
    PIPELINE,
    Share,
    estimate,
    is_pipelined,
    layer_devices,
    shares_of,
    weights_of,
)
from nemotron_gguf.runner.placement.wishes import choose_devices
from nemotron_gguf.runner.settings import DEFAULT_CONTEXT, LOOKUP, Settings

Compute = Callable[[Placement], Mapping[str, int] | None]
_PROBES = 6  # how often the library is asked, a fraction of a second each
_SMALLEST = 512  # tokens: no context below it is offered


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement that fits, and what it puts where: the processor first, then each device in the placement's order.

    `is_measured`: compute buffers are the library's own figures, no estimate.
    """

    placement: Placement
    devices: tuple[Share, ...]
    needs: Needs
    notes: tuple[str, ...] = ()
    is_measured: bool = False

    def describe(self) -> str:
        """One line that says what was chosen."""
        return words.describe(self.placement, self.devices, self.needs)

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        return words.rows(self.devices)

    def as_dict(self) -> dict[str, object]:
        """For programs; sizes in bytes."""
        return words.as_dict(self.placement, self.devices, self.needs, self.notes, self.is_measured)


def plan(file: GGUFFile, settings: Settings, devices: Sequence[Device], compute: Compute | None = None) -> Plan:
    """A plan for a file that has passed the preflight.

    `devices` as `engine.library.devices` lists them, the processor among them. `compute` asks the engine's process for
    a placement's compute buffers, by device's name, and gives None where the library cannot make them; without it they
    are estimated. Raises RunnerError, with the numbers and what would fit, where nothing does.
    """
    planner = Planner(needs_of(file), settings, devices, compute)
    wished = settings.ctx_size or min(planner.needs.trained_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    sizes = [wished]
    while settings.ctx_size is None and sizes[-1] // 2 >= _SMALLEST:
        sizes.append(sizes[-1] // 2)
    for size in sizes:
        found = planner.first(size)
        if found is not None:
            notes = (f"the context is {size} tokens instead of {wished}, which do not fit",) if size < wished else ()
            return replace(found, notes=(*notes, *found.notes))
    raise RunnerError(planner.refusal(wished))


class Planner:
    """What all candidates of a plan have in common."""

    def __init__(
        self, needs: Needs, settings: Settings, devices: Sequence[Device], compute: Compute | None = None
    ) -> None:
        """Raises WishError for a device or a buffer that is not there."""
        if not any(device.kind is DeviceKind.CPU and device.name == HOST for device in devices):
            raise RunnerError("llama.cpp lists no processor to compute on; build llama-cpp-python again")
        self.needs, self.settings, self.devices, self.compute = needs, settings, tuple(devices), compute
        self.offload = choose_devices(settings, devices)
        self.measured: dict[Placement, Mapping[str, int] | None] = {}
        self.errors: dict[tuple[bool, str], int] = {}
        self.weights: dict[tuple[object, ...], dict[str, tuple[int, int]]] = {}

    def first(self, ctx_size: int) -> Plan | None:
        """The best arrangement that fits; None where none does."""
        start = refusals = 0
        for _ in range(_PROBES):
            listed = list(self.candidates(ctx_size))  # what was measured moves the border between devices
            placement = next((one for one in listed[start:] if self.fits(one)), None)
            asked = placement or self.nearest(listed[start:])  # an estimate alone refuses nothing
            if self.compute is None or asked in self.measured:
                break
            self.measure(asked)
            if (
                self.measured[asked] is None and asked != listed[-1]
            ):  # the next is hardly smaller: go on in larger steps
                refusals += 1
                start = min(listed.index(asked) + 4**refusals, len(listed) - 1)
        else:
            known = (one for one in self.measured if one.ctx_size == ctx_size)
            placement = next((one for one in known if self.fits(one)), None)
        if placement is None:
            return None
        placement = self.looking_up(placement)
        shares = self.shares(placement)
        notes = words.notes(placement, shares, self.needs, self.settings, self.offload)
        return Plan(placement, shares, self.needs, notes, self.measured.get(placement) is not None)

    def looking_up(self, placement: Placement) -> Placement:
        """The placement with guesses from the text, where the choice is ours, and they cost nothing else."""
        if self.settings.lookup is not None or not self.needs.takes_back:
            return placement
        more = replace(placement, lookup=LOOKUP)
        if not self.fits(more):
            return placement
        if self.compute is not None:
            self.measure(more)
        return more if self.fits(more) else placement

    def candidates(self, ctx_size: int) -> Iterator[Placement]:
        """All arrangements for a context, the best first, mapped from the file where that is the better way."""
        base = common(self.needs, self.settings, ctx_size)
        for placement in candidates(self.needs, self.settings, base, self.offload, self.devices, self.computed):
            yield self.settle(placement)

    def settle(self, placement: Placement) -> Placement:
        """With experts on the processor the file is read rather than mapped, where memory allows it: what the
        processor keeps in an order of its own would lie in memory twice."""
        if not moe_on_host(placement):
            return placement
        read = replace(placement, use_mmap=False)
        return read if self.shares(read)[0].fits else placement

    def shares(self, placement: Placement) -> tuple[Share, ...]:
        """What goes where."""
        key = (
            placement.n_gpu_layers,
            placement.devices,
            placement.tensor_split,
            placement.overrides,
            placement.use_mmap,
        )
        if key not in self.weights:
            self.weights[key] = weights_of(self.needs, placement, self.devices)
        return shares_of(self.needs, placement, self.devices, self.computed(placement), self.weights[key])

    def fits(self, placement: Placement) -> bool:
        """Whether every device, the processor too, has room; a placement that the library refused has none."""
        if placement in self.measured and self.measured[placement] is None:
            return False
        return all(share.fits for share in self.shares(placement))

    def computed(self, placement: Placement) -> Mapping[str, int]:
        """Compute buffers: as measured, or estimated and corrected by the last that was measured."""
        found = self.measured.get(placement)
        if found is not None:
            return found
        kind, expected = is_pipelined(self.needs, placement), estimate(self.needs, placement)
        return {name: max(size + self.errors.get((kind, name), 0), 0) for name, size in expected.items()}

    def measure(self, placement: Placement) -> None:
        """Ask the library about a placement."""
        assert self.compute
        answer = self.compute(placement)
        self.measured[placement] = found = None if answer is None else self.corrected(placement, answer)
        kind, expected = is_pipelined(self.needs, placement), estimate(self.needs, placement)
        self.errors |= {(kind, name): size - expected.get(name, 0) for name, size in (found or {}).items()}

    def corrected(self, placement: Placement, found: Mapping[str, int]) -> dict[str, int]:
        """What the library planned, less its mistake where all blocks are on several devices.

        `ggml_backend_sched_reserve_size` forgets which device a block's first norm was meant for (`graph_get_cb`,
        src/llama-context.cpp), so it is planned on the device before. In a pipeline its result is handed over beside
        its input, as often as there are copies; without one, the next device seems to hold about one value less.
        """
        if 0 <= placement.n_gpu_layers <= self.needs.n_layers:
            return dict(found)
        value = 4 * self.needs.n_embd * placement.ubatch
        more = -PIPELINE * value if is_pipelined(self.needs, placement) else value
        later = {name for name in layer_devices(self.needs.n_layers, placement)[:-1] if name in placement.devices[1:]}
        return {name: size + (more if name in later else 0) for name, size in found.items()}

    def refusal(self, ctx_size: int) -> str:
        """Why nothing fits: the numbers of the arrangement that comes nearest, and what would fit instead."""
        nearest = self.nearest(list(self.candidates(ctx_size)))
        shares = self.shares(nearest)
        if all(share.fits for share in shares):  # by arithmetic; the library would not have it
            how = f"{words.placed(nearest)}, {ctx_size} tokens of context"
            return f"llama.cpp cannot run this file so ({how}), or a device of it is gone; try other options"
        return words.refusal(nearest, shares, self.instead(ctx_size))

    def nearest(self, listed: Sequence[Placement]) -> Placement:
        """Of arrangements that do not fit, the one in which least is missing."""
        return max(listed, key=lambda one: min((share.left for share in self.shares(one) if share.is_known), default=0))

    def instead(self, ctx_size: int) -> list[str]:
        """Options that would fit in place of what was pinned, each as good as can be."""
        offers = {"ctx_size": list(range(_SMALLEST, ctx_size, 256))}
        pinned = self.settings.n_gpu_layers
        if pinned not in (None, 0) and self.offload:
            offers["n_gpu_layers"] = list(range(self.needs.n_layers + 1 if pinned == ALL_LAYERS else pinned or 0))
        if self.settings.n_cpu_moe is not None:
            blocks = (layer + 1 for layer in reversed(self.needs.moe_layers))
            offers["n_cpu_moe"] = [count for count in blocks if count > (self.settings.n_cpu_moe or 0)]
        found = []
        for option, values in offers.items():
            best = self.best_of(option, values, ctx_size)
            found += [] if best is None else [f"--{option.replace('_', '-')} {best}"]
        return found

    def longest_context(self, limit: int) -> int:
        """Most tokens of context, a multiple of 256, for which something fits by estimates; 0 for none."""
        return 256 * _most(limit // 256, lambda steps: any(map(self.fits, self.candidates(steps * 256))))

    def best_of(self, option: str, values: Sequence[int], ctx_size: int) -> int | None:
        """The last of an option's values, the most modest first, with which something fits; the library has its say."""
        count = len(values)
        for _ in range(_PROBES):
            count = _most(count, partial(self.would_fit, option, values, ctx_size))
            if not count:
                return None
            other = self.other(option, values[count - 1])
            other.compute = self.compute
            if other.first(values[count - 1] if option == "ctx_size" else ctx_size):
                return values[count - 1]
            self.errors |= other.errors
            count -= 1
        return None

    def other(self, option: str, value: int) -> Planner:
        """A planner with one wish changed, that only estimates."""
        changed = replace(self.settings, **{option: value})  # type: ignore[arg-type]
        other = Planner(self.needs, changed, self.devices)
        other.errors = dict(self.errors)
        return other

    def would_fit(self, option: str, values: Sequence[int], ctx_size: int, count: int) -> bool:
        """Whether something fits with the last of `count` values, by estimates."""
        value = values[count - 1]
        other = self.other(option, value)
        return any(map(other.fits, other.candidates(value if option == "ctx_size" else ctx_size)))


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `limit` that fits, where every smaller one does; 0 for none."""
    if limit < 1 or not fits(1):
        return 0
    low = 1
    while low < limit:
        middle = (low + limit + 1) // 2
        low, limit = (middle, limit) if fits(middle) else (low, middle - 1)
    return low
