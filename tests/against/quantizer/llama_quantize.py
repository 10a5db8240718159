"""Run by the tests in a process of its own: llama.cpp's quantizer, which may abort, one job after another.

A job is a line of JSON on standard input; its answer, the return code and the log, a line on standard output.
What `llama-quantize` prepares before it calls the library (importance keys, patterns) is prepared here.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp
import numpy as np

STRING, INTEGER = 3, 0  # llama_model_kv_override_type


def imatrix_of(entries: dict[str, str]) -> tuple[Any, list[Any]]:
    """`llama_model_imatrix_data[]` from names and .npy files; the arrays must outlive the call."""
    arrays = {name: np.load(path).astype(np.float32).ravel() for name, path in entries.items()}
    items = (llama_cpp.llama_model_imatrix_data * (len(arrays) + 1))()
    for item, (name, values) in zip(items, arrays.items(), strict=False):
        item.name, item.size = name.encode(), values.size
        item.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return items, list(arrays.values())


def overrides_of(keys: list[tuple[str, str | int]]) -> Any:
    """`llama_model_kv_override[]`, as llama-quantize makes it for the importance matrix."""
    items = (llama_cpp.llama_model_kv_override * (len(keys) + 1))()
    for item, (key, value) in zip(items, keys, strict=False):
        item.key = key.encode()
        if isinstance(value, str):
            item.tag, item.value.val_str = STRING, value.encode()[:127]
        else:
            item.tag, item.value.val_i64 = INTEGER, value
    return items


def patterns_of(pairs: list[tuple[str, int]]) -> Any:
    """`llama_model_tensor_override[]` from patterns and types."""
    items = (llama_cpp.llama_model_tensor_override * (len(pairs) + 1))()
    for item, (pattern, kind) in zip(items, pairs, strict=False):
        item.pattern, item.type = pattern.encode(), kind
    return items


def run(job: dict[str, Any]) -> int:
    params = llama_cpp.llama_model_quantize_default_params()
    for field, value in job["params"].items():
        setattr(params, field, value)
    kept = []
    if job.get("imatrix"):
        params.imatrix, arrays = imatrix_of(job["imatrix"])
        params.kv_overrides = overrides_of(job["keys"])
        kept.append(arrays)
    if job.get("tensor_types"):
        params.tt_overrides = patterns_of(job["tensor_types"])
    return int(llama_cpp.llama_model_quantize(job["source"].encode(), job["target"].encode(), ctypes.byref(params)))


def main() -> None:
    log: list[bytes] = []

    keep = llama_cpp.llama_log_callback(lambda _level, text, _data: log.append(text))
    llama_cpp.llama_log_set(keep, None)
    llama_cpp.llama_backend_init()
    for line in sys.stdin:
        log.clear()
        code = run(json.loads(line))
        print(json.dumps({"code": code, "log": b"".join(log).decode("utf-8", "replace")}), flush=True)


if __name__ == "__main__":
    main()
