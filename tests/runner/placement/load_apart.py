"""Does in a process of its own what the engine's process does: lists devices, probes, loads, generates a token.

python load_apart.py JOB    where JOB is JSON; the answer is one line of JSON on stdout
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Any

from nemotron_gguf.runner.engine.library import devices, library, listen
from nemotron_gguf.runner.engine.loading import load_model, new_context
from nemotron_gguf.runner.engine.probe import probe
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.placement import Placement, TensorOverride

SIZE = re.compile(r": +(\S+) +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")


def placement_of(described: dict[str, Any]) -> Placement:
    lists = {key: tuple(value) for key, value in described.items() if isinstance(value, list)}
    return Placement(
        **{**described, **lists, "overrides": tuple(TensorOverride(**one) for one in described["overrides"])}
    )


def load(path: str, placement: Placement, n_tokens: int) -> dict[str, Any]:
    """Sizes of buffers as libllama logs them, (buffer type, what, MiB), and the ids of tokens drawn greedily."""
    llama = library()
    lines: list[str] = []
    with listen(lines):
        model = load_model(llama, path, placement)
        context = new_context(llama, model, placement)
    buffers = [match.groups() for line in lines for match in SIZE.finditer(line)]
    sampler, tokens = llama.llama_sampler_init_greedy(), [1]
    for _ in range(n_tokens):
        batch = llama.llama_batch_get_one((llama.llama_token * 1)(tokens[-1]), 1)
        assert llama.llama_decode(context, batch) == 0
        tokens.append(llama.llama_sampler_sample(sampler, context, -1))
    if n_tokens < 0:  # keep it in memory until we are told to end
        print(json.dumps({"buffers": buffers}), flush=True)
        while True:
            sys.stdin.readline()
            batch = llama.llama_batch_get_one((llama.llama_token * 1)(1), 1)
            llama.llama_decode(context, batch)
            llama.llama_synchronize(context)
    return {"buffers": buffers, "tokens": tokens[1:]}


def main() -> None:
    job = json.loads(sys.argv[1])
    try:
        if job["do"] == "devices":
            answer: Any = [asdict(device) for device in devices(tuple(job["rpc"]))]
        elif job["do"] == "probe":
            answer = probe(library(), job["path"], placement_of(job["placement"]))
        else:
            answer = load(job["path"], placement_of(job["placement"]), job["n_tokens"])
    except RunnerError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
