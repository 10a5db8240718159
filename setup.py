"""The kernels of `quant/kernels`, an extension that may be missing: everything else is in pyproject.toml.

Without a compiler the installation goes on, and ggml's own quantizers do the work. No contraction and no fast math: the
bits are what matters.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

KERNELS = "quant/kernels"

setup(
    ext_modules=[
        Extension(
            "nemotron_gguf.quant.kernels._kernels",
            sources=[f"{KERNELS}/{name}.c" for name in ("dispatch", "grids", "portable", "avx2")],
            depends=sorted(path.as_posix() for path in Path(KERNELS).glob("*.h")),
            extra_compile_args=[
                *("-O3", "-ffp-contract=off", "-fno-math-errno", "-fwrapv"),
                *("-fvisibility=hidden", "-Wno-psabi", "-g0"),
            ],
            libraries=[] if os.name == "nt" else ["m"],
            optional=True,
        )
    ]
)
