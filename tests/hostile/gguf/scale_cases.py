"""Scales beside tensors that contradict what they stand beside."""

from __future__ import annotations

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.tests.hostile.gguf.cases import DIES, REFUSES, RUNS, Case, tensor
from nemotron_gguf.tests.hostile.gguf.draft import Draft, dense, moe


def packed(draft: Draft, stem: str, n: int = 1) -> Draft:
    """A weight in 4-bit floats with its scale."""
    return tensor(draft.type(f"{stem}.weight", GGMLType.NVFP4), f"{stem}.scale", (n,))


SCALES: dict[str, Case] = {
    "of an embedding": Case(lambda: packed(moe(), "token_embd"), "token_embd.scale scales nothing", REFUSES),
    "of no weight": Case(lambda: tensor(moe(), "blk.1.ffn_up.scale", (1,)), "ffn_up.scale scales nothing", REFUSES),
    "of an output in F32": Case(lambda: tensor(moe(), "output.scale", (1,)), "an output of type F32", REFUSES),
    "one for all experts": Case(lambda: packed(moe(), "blk.2.ffn_up_exps"), "shape [1], expected F32 and [4]", REFUSES),
    "one for each row": Case(lambda: packed(moe(), "blk.0.ssm_in", 3), "shape [3], expected F32 and [1]", REFUSES),
    "in F16": Case(
        lambda: packed(moe(), "blk.0.ssm_in").type("blk.0.ssm_in.scale", GGMLType.F16), "of type F16 and shape", DIES
    ),
    "of experts in BF16": Case(
        lambda: packed(moe(), "blk.2.ffn_up_exps", 4).type("blk.2.ffn_up_exps.scale", GGMLType.BF16),
        "of type BF16 and shape",
        RUNS,
    ),
    "of inputs in F16, which nothing reads": Case(
        lambda: tensor(moe(), "blk.0.ssm_in.input_scale", (1,), GGMLType.F16), "of type F16 and shape", RUNS
    ),
    "and a bias": Case(
        lambda: tensor(packed(dense(), "blk.2.ffn_up"), "blk.2.ffn_up.bias", (32,)), "both a scale and a bias", DIES
    ),
}
