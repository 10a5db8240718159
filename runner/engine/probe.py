"""What libllama would allocate to compute with: it is asked to plan everything, and to load nothing.

Only compute buffers need this; weights, cache and state are arithmetic (`models.needs`). The log is read because the
library offers no function for these numbers that C can call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.library import failure, listen
from nemotron_gguf.runner.engine.loading import free_model, model_params, new_context, start_load
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.placement import Placement

_COMPUTE = re.compile(r":\s+(\S+) compute buffer size =\s+([\d.]+) MiB")  # src/llama-context.cpp
_ROUNDED = 5243  # bytes: half of the log's last digit, 0.01 MiB


def probe(llama: Any, path: str | Path, placement: Placement) -> dict[str, int]:
    """Bytes of compute buffers by device's name; memory of the host that a device reserves counts as the processor's.

    Rounded up to the log's 0.01 MiB. Mind that the recurrent state of every sequence is allocated for real. Raises
    RunnerError where no context can be made so; libllama may also end the process.
    """
    lines: list[str] = []
    with listen(lines):
        params = model_params(llama, replace(placement, use_mmap=False))  # libllama asserts with mmap
        params.no_alloc = True
        model = start_load(llama, path, params)
        if not model:
            raise RunnerError(f"llama.cpp cannot plan {path}: {failure('it gave no reason')}")
        try:
            llama.llama_free(new_context(llama, model, placement))
        finally:
            free_model(llama, model)
    return _by_device(Ggml(llama), lines)


def _by_device(ggml: Ggml, lines: Sequence[str]) -> dict[str, int]:
    devices = {
        ggml.text("ggml_backend_buft_name", ggml.pointer("ggml_backend_dev_buffer_type", handle)): handle
        for handle in ggml.devices()
    }
    sizes: dict[str, int] = {}
    for match in (found for line in lines if (found := _COMPUTE.search(line))):
        handle = devices.get(match[1], 0)  # none: memory of the host, reserved by a device for its transfers
        name = ggml.text("ggml_backend_dev_name", handle) if handle else "CPU"
        sizes[name] = sizes.get(name, 0) + round(float(match[2]) * (1 << 20)) + _ROUNDED
    return sizes
