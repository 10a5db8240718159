"""The kernels by other compilers and for another processor: the golden blocks again.

Each needs its compiler, and aarch64 also qemu's user mode (Debian: gcc-aarch64-linux-gnu, qemu-user, clang).
"""

from __future__ import annotations

import ast
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE

if TYPE_CHECKING:
    from nemotron_gguf.tests.quant.kernels.conftest import Golden

HERE = Path(__file__).parent
SOURCES = Path(kernels.__file__).parent
KINDS = [
    *(GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1, GGMLType.Q8_0, GGMLType.MXFP4, GGMLType.NVFP4),
    *(GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K, GGMLType.IQ4_NL, GGMLType.IQ4_XS),
    *(GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ2_S, GGMLType.IQ3_XXS, GGMLType.IQ3_S),
]
TOOLS = {
    "gcc for aarch64, in qemu": (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"]),
    "clang": (["clang"], []),
    "clang-14": (["clang-14"], []),  # as Debian names it
}


def flags() -> list[str]:
    """The compiler's options in setup.py."""
    tree = ast.parse((HERE.parents[2] / "setup.py").read_text(encoding="utf-8"))
    values = next(node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and "compile" in str(node.arg))
    return [str(node.value) for node in ast.walk(values) if isinstance(node, ast.Constant)]


@pytest.fixture(scope="module", params=list(TOOLS))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that encodes; skips where a tool for it is missing."""
    compiler, emulator = TOOLS[request.param]
    if missing := [tool for tool in (compiler[0], *emulator) if shutil.which(tool) is None]:
        pytest.skip(f"there is no {missing[0]}")
    target = tmp_path_factory.mktemp("program") / "encode"
    sources = [SOURCES / f"{name}.c" for name in ("dispatch", "grids", "portable", "avx2")]
    command: list[str | Path] = [*compiler, *flags(), "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", "-o", target]
    command += [HERE / "encode_main.c", *sources, "-lm"]
    subprocess.run(command, check=True)
    return [*emulator, str(target)]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_blocks(program: list[str], kind: GGMLType, golden: Golden) -> None:
    for weighted in (True,) if kind in NEEDS_IMPORTANCE else (False, True):
        codes, n_distances = kernels.grid_codes(kind)
        shape = (len(golden.weights), kind.row_bytes(256))
        order = (kind, *golden.weights.shape, weighted, shape[0] * shape[1], len(codes), n_distances, True)
        given = (
            struct.pack("=8i", *order)
            + golden.weights.tobytes()
            + (golden.importance.tobytes() if weighted else b"")
            + codes.tobytes()
        )
        made = subprocess.run(program, input=given, stdout=subprocess.PIPE, check=True).stdout
        golden.check(kind, weighted, np.frombuffer(made, dtype=np.uint8).reshape(shape))
