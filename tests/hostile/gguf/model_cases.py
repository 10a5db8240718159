"""Models that contradict themselves: what is wrong, the words of the preflight, and what libllama does with the file.

libllama's part is a fact that the tests put to the installed library: it `dies`, `hangs` or `refuses`, or it `runs` a
file that is wrong all the same, having ignored a number or read the wrong one.
"""

from __future__ import annotations

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, string, u32
from nemotron_gguf.tests.hostile.gguf.cases import DIES, HANGS, REFUSES, RUNS, Case, tensor
from nemotron_gguf.tests.hostile.gguf.draft import HIDDEN, Draft, dense, gemma3, llama, moe, mtp
from nemotron_gguf.tests.hostile.gguf.scale_cases import SCALES


def ints(*items: int) -> Value:
    return array(ValueType.INT32, items)


def strings(*items: str) -> Value:
    return array(ValueType.STRING, items)


def words(draft: Draft, **changed: str) -> Draft:
    """Other words for tokens: `_7="x"` for token 7."""
    items = [str(item) for item in draft.metadata["tokenizer.ggml.tokens"].data]  # type: ignore[union-attr]
    for at, word in changed.items():
        items[int(at[1:])] = word
    draft.metadata["tokenizer.ggml.tokens"] = strings(*items)
    return draft


def types(draft: Draft, kind: ValueType, extra: int = 0) -> Draft:
    """Token types of another type or number."""
    size = len(draft.metadata["tokenizer.ggml.tokens"].data)  # type: ignore[arg-type]
    draft.metadata["tokenizer.ggml.token_type"] = array(kind, [1] * (size + extra))
    return draft


def scores(draft: Draft, kind: ValueType, extra: int = 0) -> Draft:
    """Scores of another type or number."""
    size = len(draft.metadata["tokenizer.ggml.tokens"].data)  # type: ignore[arg-type]
    draft.metadata["tokenizer.ggml.scores"] = array(kind, [0] * (size + extra))
    return draft


LAYERS: dict[str, Case] = {
    "no layers": Case(lambda: moe().set(A__block_count=u32(0)), "block_count is 0", DIES),
    "513 layers": Case(lambda: moe().set(A__block_count=u32(513)), "expected 1 to 512", DIES),
    "2^31 layers": Case(lambda: moe().set(A__block_count=u32(2**31)), "expected 1 to 512", DIES),
    "2^32-1 layers": Case(lambda: llama().set(A__block_count=u32(2**32 - 1)), "expected 1 to 512", DIES),
    "a layer too many": Case(lambda: llama().set(A__block_count=u32(3)), "layer 2 has no tensors", REFUSES),
    "a layer too few": Case(lambda: llama().set(A__block_count=u32(1)), "tensors of layer 1", REFUSES),
    "lists of another length": Case(lambda: moe().set(A__feed_forward_length=ints(0, 0)), "2 items for 3", REFUSES),
    "no tensors of a layer": Case(lambda: moe().drop("blk.1."), "layer 1 has no tensors", REFUSES),
    "all layers predict": Case(lambda: moe().set(A__nextn_predict_layers=u32(3)), "3 of 3 layers", REFUSES),
    "more predict than there are": Case(lambda: moe().set(A__nextn_predict_layers=u32(4)), "4 of 3 layers", DIES),
    "a layer of experts said to be Mamba": Case(
        lambda: moe().set(A__feed_forward_length=u32(0)), "layer 2 is of Mamba by its keys", REFUSES
    ),
    "a layer of attention said to be Mamba": Case(
        lambda: moe().set(A__attention__head_count_kv=u32(0)), "layer 1 is of Mamba by its keys", REFUSES
    ),
    "a layer of Mamba said to be attention": Case(
        lambda: moe().set(A__attention__head_count_kv=u32(2)), "layer 0 is of attention", REFUSES
    ),
    "no list of heads of keys": Case(
        lambda: moe().set(A__attention__head_count_kv=None), "layer 0 is of attention", REFUSES
    ),
    "a layer of Mamba said to be of experts": Case(
        lambda: moe().set(A__feed_forward_length=u32(32)), "layer 0 is of 4 experts", REFUSES
    ),
    "an MLP said to be of experts": Case(
        lambda: dense().set(A__expert_count=u32(4), A__expert_used_count=u32(2)), "layer 2 is of 4 experts", REFUSES
    ),
    "experts said to be an MLP": Case(
        lambda: moe().set(A__expert_count=None, A__expert_used_count=None), "layer 2 is an MLP", REFUSES
    ),
    "a negative width": Case(lambda: moe().set(A__feed_forward_length=ints(0, 0, -1)), "has -1 for layer 2", RUNS),
}
HEADS: dict[str, Case] = {
    "a first entry of 0": Case(lambda: moe().set(A__attention__head_count=ints(0, 4, 0)), "first entry is 0", REFUSES),
    "no heads": Case(lambda: moe().set(A__attention__head_count=u32(0)), "of attention (0 heads", REFUSES),
    "heads that do not divide": Case(
        lambda: moe().set(A__attention__head_count_kv=ints(0, 3, 0)), "which do not", REFUSES
    ),
    "heads and weights that do not divide": Case(
        lambda: (
            moe()
            .set(A__attention__head_count_kv=ints(0, 3, 0))
            .shape("blk.1.attn_k.weight", 48, HIDDEN)
            .shape("blk.1.attn_v.weight", 48, HIDDEN)
        ),
        "4 heads for 3",
        DIES,
    ),
    "too many heads": Case(
        lambda: moe().set(A__attention__head_count=u32(8)), "attn_output.weight is of shape", REFUSES
    ),
    "unequal widths": Case(lambda: moe().set(A__attention__value_length=u32(8)), "value_length 8", REFUSES),
    "unequal widths and weights": Case(
        lambda: moe().set(A__attention__value_length=u32(8)).shape("blk.1.attn_v.weight", 16, HIDDEN),
        "value_length 8",
        DIES,
    ),
    "no width": Case(lambda: moe().set(A__attention__key_length=u32(0)), "keys of 0", REFUSES),
    "a width of 2^31": Case(
        lambda: moe().set(A__attention__key_length=u32(2**31)), "key_length is 2147483648", REFUSES
    ),
    "a part rotated of another width": Case(
        lambda: llama().set(A__rope__dimension_count=u32(8)), "expected 16", REFUSES
    ),
    "more rotated than there is": Case(lambda: gemma3().set(A__rope__dimension_count=u32(32)), "more than 16", DIES),
    "an odd number rotated": Case(lambda: gemma3().set(A__rope__dimension_count=u32(7)), "an even number", DIES),
    "nothing rotated": Case(lambda: gemma3().set(A__rope__dimension_count=u32(0)), "above 0", HANGS),
    "other heads in a layer": Case(lambda: gemma3().set(A__attention__head_count_kv=ints(2, 1)), "has 32 rows", DIES),
    "no heads in a layer": Case(lambda: llama().set(A__attention__head_count_kv=ints(2, 0)), "has 32 rows", DIES),
    "a window of 2^31-1": Case(
        lambda: gemma3().set(A__attention__sliding_window=u32(2**31 - 1)), "expected up to 1073741824", DIES
    ),
    "a window of no layer": Case(
        lambda: gemma3().set(A__attention__sliding_window_pattern=array(ValueType.BOOL, [False, False])),
        "leaves no layer",
        DIES,
    ),
    "a window of every first layer": Case(
        lambda: gemma3().set(A__attention__sliding_window_pattern=u32(1)), "leaves no layer", DIES
    ),
    "an unknown rope": Case(lambda: moe().set(A__rope__scaling__type=string("spiral")), "'spiral'", DIES),
    "a rope without a name": Case(
        lambda: llama().set(A__rope__scaling__type=string("")), "rope.scaling.type is ''", DIES
    ),
    "an epsilon below zero": Case(lambda: moe().set(A__attention__layer_norm_rms_epsilon=f32(-1)), "is -1.0", DIES),
    "an epsilon that is no number": Case(
        lambda: moe().set(A__attention__layer_norm_rms_epsilon=f32(float("nan"))), "epsilon is nan", DIES
    ),
    "no epsilon": Case(lambda: moe().set(A__attention__layer_norm_epsilon=None), "epsilon is missing", REFUSES),
}
EXPERTS: dict[str, Case] = {
    "more used than there are": Case(lambda: moe().set(A__expert_used_count=u32(5)), "5 experts of 4", DIES),
    "none used": Case(lambda: moe().set(A__expert_used_count=u32(0)), "0 experts of 4", DIES),
    "used of none": Case(lambda: moe().set(A__expert_count=u32(0)), "2 experts of 0", DIES),
    "a list with too many": Case(lambda: moe().set(A__expert_used_count=ints(0, 0, 5)), "5 experts of 4", DIES),
    "2000 experts": Case(lambda: moe().set(A__expert_count=u32(2000)), "1 to 1024", DIES),
    "as many groups as experts": Case(lambda: moe().set(A__expert_group_count=u32(4)), "in 4 groups", DIES),
    "groups that do not divide": Case(lambda: moe().set(A__expert_group_count=u32(3)), "in 3 groups", DIES),
    "no groups used": Case(lambda: moe().set(A__expert_group_count=u32(2)), "0 of them used", DIES),
    "groups of none": Case(lambda: llama().set(A__expert_group_count=u32(1)), "in 1 groups", DIES),
    "none used in the layer that has them": Case(
        lambda: moe().set(A__expert_used_count=ints(2, 2, 0)), "of which none is used", DIES
    ),
    "a width that no key tells": Case(
        lambda: moe().set(A__expert_used_count=ints(2, 2, 0), A__expert_feed_forward_length=None), "no key tells", DIES
    ),
    "fewer experts than weights": Case(
        lambda: moe().set(A__expert_count=u32(3)), "ffn_gate_inp.weight is of shape [4, 64]", REFUSES
    ),
    "experts of another width": Case(
        lambda: moe().set(A__expert_feed_forward_length=u32(64)), "ffn_up_exps.weight is of shape", REFUSES
    ),
    "shared experts of no width": Case(
        lambda: moe().set(A__expert_shared_feed_forward_length=None), "ffn_up_shexp.weight is of shape", REFUSES
    ),
    "shared experts of another width": Case(
        lambda: moe().set(A__expert_shared_feed_forward_length=u32(48)), "ffn_up_shexp.weight is of shape", REFUSES
    ),
    "no correction of the choice": Case(
        lambda: moe().drop("blk.2.exp_probs_b"), "exp_probs_b.bias is missing", REFUSES
    ),
    "a latent width without its weights": Case(
        lambda: mtp().drop("blk.2.ffn_latent_down"), "ffn_latent_down.weight is missing", DIES
    ),
    "no way back from the latent width": Case(
        lambda: mtp().drop("blk.2.ffn_latent_up"), "ffn_latent_up.weight is missing", DIES
    ),
    "another latent width": Case(lambda: mtp().set(A__moe_latent_size=u32(48)), "expected [4, 32, 48]", REFUSES),
    "no latent width": Case(lambda: mtp().set(A__moe_latent_size=None), "expected [4, 32, 64]", REFUSES),
    "experts on end": Case(
        lambda: moe().shape("blk.2.ffn_up_exps.weight", 4, HIDDEN, 32), "expected [4, 32, 64]", REFUSES
    ),
}
MAMBA: dict[str, Case] = {
    "no groups": Case(lambda: moe().set(A__ssm__group_count=u32(0)), "0 groups", REFUSES),
    "no groups, and weights for none": Case(
        lambda: (
            moe()
            .set(A__ssm__group_count=u32(0))
            .shape("blk.0.ssm_in.weight", 132, HIDDEN)
            .shape("blk.0.ssm_conv1d.weight", 64, 4)
            .shape("blk.0.ssm_conv1d.bias", 64)
        ),
        "0 groups",
        DIES,
    ),
    "heads that do not divide": Case(lambda: moe().set(A__ssm__time_step_rank=u32(3)), "3 heads", REFUSES),
    "no heads of Mamba": Case(lambda: moe().set(A__ssm__time_step_rank=u32(0)), "0 heads", REFUSES),
    "no inner size": Case(lambda: moe().set(A__ssm__inner_size=u32(0)), "inner size 0", REFUSES),
    "no state": Case(lambda: moe().set(A__ssm__state_size=u32(0)), "no size", REFUSES),
    "no convolution": Case(lambda: moe().set(A__ssm__conv_kernel=u32(0)), "no size", REFUSES),
    "no inner size told": Case(lambda: moe().set(A__ssm__inner_size=None), "ssm.inner_size is missing", REFUSES),
    "another state": Case(lambda: moe().set(A__ssm__state_size=u32(32)), "ssm_in.weight is of shape", REFUSES),
    "another convolution": Case(
        lambda: moe().set(A__ssm__conv_kernel=u32(3)), "ssm_conv1d.weight is of shape", REFUSES
    ),
    "another inner size": Case(lambda: moe().set(A__ssm__inner_size=u32(128)), "ssm_in.weight is of shape", REFUSES),
    "other heads": Case(lambda: moe().set(A__ssm__time_step_rank=u32(8)), "ssm_in.weight is of shape", REFUSES),
    "other groups": Case(lambda: moe().set(A__ssm__group_count=u32(4)), "ssm_in.weight is of shape", REFUSES),
    "a convolution without its bias": Case(
        lambda: moe().drop("blk.0.ssm_conv1d.bias"), "ssm_conv1d.bias is missing", DIES
    ),
    "no norm of Mamba": Case(lambda: moe().drop("blk.0.ssm_norm"), "ssm_norm.weight is missing", REFUSES),
    "no output of Mamba": Case(lambda: dense().drop("blk.0.ssm_out"), "ssm_out.weight is missing", REFUSES),
    "the norm as one row": Case(lambda: moe().shape("blk.0.ssm_norm.weight", 64), "expected [2, 32]", REFUSES),
    "A as one row": Case(lambda: moe().shape("blk.0.ssm_a", 4), "expected [4, 1]", REFUSES),
    "D as one row": Case(lambda: moe().shape("blk.0.ssm_d", 4), "expected [4, 1]", REFUSES),
    "time steps of another number": Case(lambda: moe().shape("blk.0.ssm_dt.bias", 5), "expected [4]", REFUSES),
    "an output of another width": Case(
        lambda: moe().shape("blk.0.ssm_out.weight", 65, 64), "expected [64, 64]", REFUSES
    ),
}
PREDICTING: dict[str, Case] = {
    "a layer that predicts and is not told of": Case(
        lambda: mtp().set(A__nextn_predict_layers=None), "blk.3.", REFUSES
    ),
    "no fusion": Case(lambda: mtp().drop("blk.3.nextn.eh_proj"), "nextn.eh_proj.weight is missing", REFUSES),
    "no norm of the embedding": Case(lambda: mtp().drop("blk.3.nextn.enorm"), "nextn.enorm.weight is missing", REFUSES),
    "no norm of the head": Case(
        lambda: mtp().drop("blk.3.nextn.shared"), "shared_head_norm.weight is missing", REFUSES
    ),
    "no layer but it": Case(lambda: mtp().drop("blk.0.", "blk.1.", "blk.2."), "layer 0 has no tensors", DIES),
    "attention without keys": Case(lambda: mtp().drop("blk.3.attn_k"), "attn_k.weight is missing", RUNS),
}
VOCABULARY: dict[str, Case] = {
    "none": Case(lambda: moe().set(tokenizer__ggml__tokens=None), "no vocabulary", REFUSES),
    "of numbers": Case(lambda: moe().set(tokenizer__ggml__tokens=ints(1, 2)), "no vocabulary", REFUSES),
    "empty": Case(lambda: moe().set(tokenizer__ggml__tokens=strings()), "no vocabulary", REFUSES),
    "one string": Case(lambda: moe().set(tokenizer__ggml__tokens=string("a")), "no vocabulary", REFUSES),
    "a token twice": Case(lambda: words(moe(), _8="a", _9="a"), "twice", DIES),
    "tokens the same up to a zero byte": Case(lambda: words(moe(), _8="qq", _9="qq\0x"), "twice", DIES),
    "an empty token's name": Case(lambda: words(moe(), _8="", _9="[EMPTY_8]"), "twice", DIES),
    "fewer than the embedding has": Case(
        lambda: moe().set(
            tokenizer__ggml__tokens=strings(*(f"w{i}" for i in range(200))), tokenizer__ggml__token_type=None
        ),
        "expected [200, 64]",
        REFUSES,
    ),
    "no tokenizer": Case(lambda: moe().set(tokenizer__ggml__model=None), "tokenizer.ggml.model is None", REFUSES),
    "no text": Case(lambda: moe().set(tokenizer__ggml__model=string("no_vocab")), "'no_vocab'", DIES),
    "of no kind": Case(lambda: llama().set(tokenizer__ggml__model=string("none")), "'none'", DIES),
    "no byte tokens": Case(lambda: moe().set(tokenizer__ggml__model=string("llama")), "byte tokens", DIES),
    "a byte token lost": Case(lambda: words(llama(), _51="<0x2C!>"), "byte tokens", DIES),
    "PLaMo without bytes": Case(lambda: moe().set(tokenizer__ggml__model=string("plamo2")), "byte tokens", REFUSES),
    "PLaMo with the byte -1": Case(
        lambda: words(types(llama(), ValueType.INT32), _263="<0x-1>").set(
            tokenizer__ggml__model=string("plamo2"), tokenizer__ggml__token_type=ints(*[1] * 7, *[6] * 257, *[1] * 5)
        ),
        "under other names",
        RUNS,
    ),
    "RWKV without a line feed": Case(lambda: moe().set(tokenizer__ggml__model=string("rwkv")), "line feed", REFUSES),
    "WordPiece with bytes": Case(lambda: llama().set(tokenizer__ggml__model=string("bert")), "WordPiece", DIES),
    "a byte's name too short": Case(
        lambda: words(types(llama(), ValueType.INT32), _263="xy").set(
            tokenizer__ggml__token_type=ints(*[6] * 263, 6, *[1] * 5)
        ),
        "stands for a byte but is called",
        REFUSES,
    ),
    "no merges": Case(lambda: moe().set(tokenizer__ggml__merges=None), "no merges", REFUSES),
    "merges of numbers": Case(lambda: moe().set(tokenizer__ggml__merges=ints(1)), "merges is of INT32", REFUSES),
    "one merge": Case(lambda: moe().set(tokenizer__ggml__merges=string("h e")), "merges is of STRING", REFUSES),
    "types of a byte each": Case(lambda: types(moe(), ValueType.UINT8), "a list of UINT8", REFUSES),
    "types of floats": Case(lambda: types(moe(), ValueType.FLOAT32), "a list of FLOAT32", REFUSES),
    "too few types": Case(lambda: types(moe(), ValueType.INT32, -1), "262 items for 263", REFUSES),
    "too many types": Case(lambda: types(moe(), ValueType.INT32, 1), "264 items for 263", RUNS),
    "one type": Case(lambda: moe().set(tokenizer__ggml__token_type=Value(ValueType.INT32, 1)), "one INT32", REFUSES),
    "scores of a byte each": Case(lambda: scores(llama(), ValueType.INT8), "a list of INT8", REFUSES),
    "scores of doubles": Case(lambda: scores(llama(), ValueType.FLOAT64), "a list of FLOAT64", REFUSES),
    "scores of flags": Case(lambda: scores(llama(), ValueType.BOOL), "a list of BOOL", REFUSES),
    "too few scores": Case(lambda: scores(llama(), ValueType.FLOAT32, -1), "268 items for 269", REFUSES),
    "no scores at all": Case(lambda: scores(llama(), ValueType.FLOAT32, -269), "0 items for 269", REFUSES),
    "a charsmap of text": Case(
        lambda: llama().set(
            tokenizer__ggml__model=string("t5"), tokenizer__ggml__precompiled_charsmap=string("x" * 99)
        ),
        "precompiled_charsmap is of STRING",
        REFUSES,
    ),
    "a charsmap that claims too much": Case(
        lambda: llama().set(
            tokenizer__ggml__model=string("t5"),
            tokenizer__ggml__precompiled_charsmap=array(ValueType.UINT8, [255, 255, 0, 0, 1, 2, 3, 4]),
        ),
        "precompiled_charsmap of 8 bytes",
        REFUSES,
    ),
    "a charsmap of three bytes": Case(
        lambda: llama().set(
            tokenizer__ggml__model=string("t5"),
            tokenizer__ggml__precompiled_charsmap=array(ValueType.UINT8, [0, 0, 0]),
        ),
        "precompiled_charsmap of 3 bytes",
        REFUSES,
    ),
    "an end outside": Case(lambda: moe().set(tokenizer__ggml__eos_token_id=u32(263)), "eos_token_id is 263", RUNS),
    "a beginning outside": Case(lambda: moe().set(tokenizer__ggml__bos_token_id=u32(2**31)), "bos_token_id is", RUNS),
    "a padding of 2^32-1": Case(lambda: moe().set(tokenizer__ggml__padding_token_id=u32(2**32 - 1)), "padding", RUNS),
    "an end that is signed": Case(
        lambda: moe().set(tokenizer__ggml__eos_token_id=Value(ValueType.INT32, -1)),
        "is INT32, expected UINT32",
        REFUSES,
    ),
    "a list of ends": Case(lambda: moe().set(tokenizer__ggml__eos_token_id=ints(1, 2)), "an array of INT32", REFUSES),
    "a beginning wanted of none": Case(
        lambda: words(dense(), _8="zz").set(
            tokenizer__ggml__model=string("gemma4"),
            tokenizer__ggml__bos_token_id=None,
            tokenizer__ggml__add_bos_token=boolean(True),
        ),
        "bos_token_id should name",
        DIES,
    ),
    "a beginning wanted in words": Case(
        lambda: moe().set(tokenizer__ggml__add_bos_token=string("yes")), "is STRING, expected BOOL", REFUSES
    ),
}
TENSORS: dict[str, Case] = {
    "no embedding": Case(lambda: moe().drop("token_embd"), "token_embd.weight is missing", REFUSES),
    "an embedding of another width": Case(
        lambda: moe().set(A__embedding_length=u32(65)), "expected [263, 65]", REFUSES
    ),
    "an embedding of 2^32-1": Case(lambda: moe().set(A__embedding_length=u32(2**32 - 1)), "expected [263", REFUSES),
    "no norm at the end": Case(lambda: moe().drop("output_norm"), "output_norm.weight is missing", REFUSES),
    "an output of another width": Case(lambda: moe().shape("output.weight", 263, 32), "expected [263, 64]", REFUSES),
    "a tensor of no layer": Case(lambda: tensor(moe(), "blk.0.attn_q.weight", (64, 64)), "has no place", REFUSES),
    "a tensor of no model": Case(lambda: tensor(dense(), "surprise", (64,)), "tensor surprise has no place", REFUSES),
    "one of experts in a dense model": Case(
        lambda: tensor(dense(), "blk.2.ffn_gate_inp.weight", (4, 64)), "has no place", REFUSES
    ),
    "a tensor of no elements": Case(lambda: tensor(llama(), "blk.0.ffn_up.bias", (0,)), "has no weights", REFUSES),
    "an embedding of no elements": Case(
        lambda: llama().shape("token_embd.weight", 0, 64), "token_embd.weight", REFUSES
    ),
    "a norm in F16": Case(lambda: moe().type("output_norm.weight", GGMLType.F16), "F16, expected F32", DIES),
    "a norm in Q8_0": Case(lambda: llama().type("blk.0.attn_norm.weight", GGMLType.Q8_0), "Q8_0, expected F32", DIES),
    "a bias in BF16": Case(lambda: moe().type("blk.0.ssm_dt.bias", GGMLType.BF16), "BF16, expected F32", DIES),
    "a convolution in F16": Case(lambda: moe().type("blk.0.ssm_conv1d.weight", GGMLType.F16), "expected F32", DIES),
    "A in F64": Case(lambda: moe().type("blk.0.ssm_a", GGMLType.F64), "F64, expected F32", DIES),
    "D in F16": Case(lambda: moe().type("blk.0.ssm_d", GGMLType.F16), "F16, expected F32", DIES),
    "weights of whole numbers": Case(lambda: moe().type("blk.1.attn_q.weight", GGMLType.I8), "type I8", DIES),
    "weights of 64 bits": Case(lambda: moe().type("blk.2.ffn_up_exps.weight", GGMLType.I64), "type I64", DIES),
    "weights of doubles": Case(lambda: llama().type("output.weight", GGMLType.F64), "type F64", DIES),
    "an embedding of whole numbers": Case(lambda: llama().type("token_embd.weight", GGMLType.I16), "type I16", DIES),
    "weights of a type of results": Case(lambda: moe().type("blk.0.ssm_in.weight", GGMLType.Q8_1), "type Q8_1", DIES),
}


def _aligned(alignment: int) -> Draft:
    draft = moe().set(general__alignment=u32(alignment))
    draft.alignment = alignment
    return draft


PLACES: dict[str, Case] = {
    f"alignment {size}": Case(lambda size=size: _aligned(size), "no multiple of 32", DIES)  # type: ignore[misc]
    for size in (1, 2, 4, 8)
}


def _of_type(key: str, value: Value, found: str, libllama: str = REFUSES) -> Case:
    return Case(lambda: llama().set(**{key: value}), found, libllama)


I64, U64 = Value(ValueType.INT64, 2), Value(ValueType.UINT64, 2)
KEY_TYPES: dict[str, Case] = {
    "an architecture that is a number": _of_type("general__architecture", u32(1), "general.architecture", REFUSES),
    "an architecture that is a list": _of_type("general__architecture", strings("llama"), "holds no model", REFUSES),
    "an unknown architecture": _of_type(
        "general__architecture", string("lama"), "lama.block_count is missing", REFUSES
    ),
    "a name that is a number": _of_type("general__name", u32(1), "general.name is UINT32"),
    "a file type in words": _of_type("general__file_type", string("Q8_0"), "general.file_type is STRING"),
    "layers in words": _of_type("A__block_count", string("2"), "block_count is STRING"),
    "layers as a list": _of_type("A__block_count", ints(2), "block_count is an array of INT32"),
    "signed layers": _of_type("A__block_count", Value(ValueType.INT32, 2), "block_count is INT32"),
    "layers of 64 bits": _of_type("A__block_count", U64, "block_count is UINT64"),
    "a context as a list": _of_type("A__context_length", ints(1024), "context_length is an array"),
    "a context of 64 bits": _of_type("A__context_length", I64, "context_length is INT64"),
    "a width as a float": _of_type("A__embedding_length", f32(64.0), "embedding_length is FLOAT32"),
    "heads as floats": _of_type("A__attention__head_count", array(ValueType.FLOAT32, [4.0, 4.0]), "a list of FLOAT32"),
    "heads as text": _of_type("A__attention__head_count", string("4"), "head_count is STRING"),
    "heads of 64 bits": _of_type("A__attention__head_count_kv", array(ValueType.INT64, [2, 2]), "a list of INT64"),
    "an epsilon as a double": _of_type(
        "A__attention__layer_norm_rms_epsilon", Value(ValueType.FLOAT64, 1e-5), "epsilon is FLOAT64"
    ),
    "a rope of a number": _of_type("A__rope__scaling__type", u32(1), "rope.scaling.type is UINT32"),
    "a rope's base as a number": _of_type("A__rope__freq_base", u32(10000), "rope.freq_base is UINT32"),
    "experts as a list": _of_type("A__expert_count", ints(1, 1), "expert_count is an array"),
    "a flag that is a number": _of_type("A__attention__causal", u32(1), "attention.causal is UINT32"),
    "no layers told": Case(lambda: llama().set(A__block_count=None), "block_count is missing", REFUSES),
    "no context told": Case(lambda: llama().set(A__context_length=None), "context_length is missing", REFUSES),
    "no context": Case(lambda: llama().set(A__context_length=u32(0)), "context_length is 0", RUNS),
    "no width told": Case(lambda: llama().set(A__embedding_length=None), "embedding_length is missing", REFUSES),
    "nothing told": Case(lambda: llama().set(general__architecture=None), "general.architecture is missing", REFUSES),
}
GROUPS = {
    "layers": LAYERS, "heads": HEADS, "experts": EXPERTS, "Mamba": MAMBA, "predicting": PREDICTING,
    "vocabulary": VOCABULARY, "tensors": TENSORS, "places": PLACES, "types of keys": KEY_TYPES,
    "scales": SCALES,
}  # fmt: skip
CASES = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}
