"""What a checkpoint says of how its weights were quantized: which ways are read here, and which are refused.

ModelOpt (NVIDIA's `-FP8` and `-NVFP4` repositories) writes `quantization_config` into config.json,
hf_quant_config.json beside it, or both; compressed-tensors and the block-wise FP8 of transformers write the first
alone. Which tensor is quantized is not taken from here (lists of exclusions have wildcards of several dialects) but
from the tensors.

llama.cpp's converter stops at some of what is read here: compressed-tensors with one scale a tensor, with several
groups or with scales of activations; `weight_scale` where quant_method is fp8; ModelOpt's FP8_PB_WO, whose scales keep
the axes inside a block; and compressed-tensors with groups in 8 and in 4 bits. It does not find the algorithm of
single layers where those are stacked experts. And it goes on where this stops: it multiplies plain weights by a scale
that stands beside them, drops a scale of ModelOpt's whose weight is missing, and writes weights and scales that are
no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.fields import MAX_SIZE, brief, wrong
from nemotron_gguf.convert.source.json_files import Object

HF_QUANT_CONFIG = "hf_quant_config.json"

# ModelOpt's algorithms that leave 8-bit floats and their scales (one a tensor, a row, or a block of 128 x 128), and
# those that leave 4-bit floats with a scale for every 16, made for activations in 4 bits or in more.
BLOCK_WISE, WEIGHT_ONLY = "FP8_PB_WO", "W4A16_NVFP4"
ALGORITHMS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", BLOCK_WISE, "NVFP4", WEIGHT_ONLY)
BLOCK = (128, 128)  # of FP8_PB_WO, whose config does not tell

FLOAT_FORMATS = ("float-quantized", "naive-quantized")  # of compressed-tensors; "dense" is not quantized at all
STRATEGIES = ("tensor", "channel", "block")
PACKED = "nvfp4-pack-quantized"  # of compressed-tensors


@dataclass(frozen=True)
class Scheme:
    """How the weights were quantized: by what, and the block (rows, columns) of a scale where scales are by blocks.

    `algorithms` are ModelOpt's by the module that has one, that of the whole checkpoint under the empty name.
    """

    maker: str
    block: tuple[int, int] | None = None
    algorithms: Mapping[str, str] = field(default_factory=dict)

    def is_weight_only(self, module: str) -> bool:
        """Whether a module of 4-bit weights was made for activations in more bits: its own word, or that above it."""
        while module and module not in self.algorithms:
            module = module.rpartition(".")[0]
        return self.algorithms.get(module) == WEIGHT_ONLY


def read_scheme(config: Object, exported: Object, where: str) -> Scheme | None:
    """The scheme of a checkpoint, None where neither config.json nor hf_quant_config.json (`exported`) tells of one.

    Raises ConvertError for another scheme than floats of 8 or 4 bits, or one that makes no sense; `where` names the
    checkpoint.
    """
    key = "quantization_config" if config.get("quantization_config") else "compression_config"
    settings = _object(key, config.get(key))
    if not settings and not exported:
        return None
    written = _object(f"{HF_QUANT_CONFIG}'s quantization", exported.get("quantization"))
    algorithms = _algorithms(settings, written, where)
    block = BLOCK if BLOCK_WISE in algorithms.values() else None
    method = settings.get("quant_method")
    if method is None or method == "modelopt":
        # every file of ModelOpt's names an algorithm, if only that of the cache
        if not {"quant_algo", "kv_cache_quant_algo", "quantized_layers"} & (settings.keys() | written.keys()):
            raise _refused(where, HF_QUANT_CONFIG if exported else key)
        return Scheme("ModelOpt", block, algorithms)
    if method == "compressed-tensors":
        return Scheme("compressed-tensors", _compressed_block(settings, where))
    if method == "fp8":
        return Scheme("fine-grained FP8", _block("weight_block_size", settings.get("weight_block_size")))
    raise _refused(where, brief(method))


def _object(key: str, value: object) -> Object:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(key, value, "an object")
    return value


def _refused(where: str, what: str) -> ConvertError:
    return ConvertError(
        f"{where} is a quantized checkpoint ({what}), which is not read; convert from the BF16 or FP8 checkpoint"
    )


def _algorithms(settings: Object, written: Object, where: str) -> dict[str, str]:
    """ModelOpt's algorithms by module, all of which are read here; ConvertError names the first that is not."""
    found: dict[str, str] = {}
    for layer, algorithm in (*_named(settings), *_named(written)):
        if algorithm not in ALGORITHMS:
            raise _refused(where, f"{algorithm} in {brief(layer)}" if layer else algorithm)
        found[layer] = algorithm
    first, second = settings.get("quant_algo"), written.get("quant_algo")
    if first and second and first != second:
        raise ConvertError(
            f"{where} contradicts itself: quant_algo is {brief(first)} in config.json,"
            f" {brief(second)} in {HF_QUANT_CONFIG}"
        )
    return found


def _named(settings: Object) -> Iterator[tuple[str, str]]:
    """Layer and algorithm, the layer empty for that of the whole checkpoint."""
    layers = _object("quantized_layers", settings.get("quantized_layers"))
    for layer, entry in layers.items():
        yield layer, str(_object(f"quantized_layers of {layer!r}", entry).get("quant_algo"))
    algorithm = settings.get("quant_algo")
    if algorithm is not None and not (algorithm == "MIXED_PRECISION" and layers):
        yield "", str(algorithm) if isinstance(algorithm, str) else brief(algorithm)


def _compressed_block(settings: Object, where: str) -> tuple[int, int] | None:
    """The block of compressed-tensors' groups, which must agree; None where their scales are by tensors or rows."""
    default = settings.get("format")
    blocks: set[tuple[int, int]] = set()
    for name, entry in _object("config_groups", settings.get("config_groups")).items():
        group = _object(f"config_groups' {name!r}", entry)
        weights = _object(f"the weights of config_groups' {name!r}", group.get("weights"))
        kind = group.get("format") or default
        if not weights or kind == "dense":
            continue
        if kind == PACKED:
            _check_packed(weights, where)
            continue
        if kind not in FLOAT_FORMATS or weights.get("type") != "float" or weights.get("num_bits") != 8:
            raise _refused(where, f"{kind} of {brief(weights.get('num_bits'))} bits, type {brief(weights.get('type'))}")
        if weights.get("strategy") not in STRATEGIES or weights.get("symmetric") is False:
            what = brief(weights.get("strategy")) if weights.get("symmetric") is not False else "asymmetric"
            raise _refused(where, f"{kind} with the strategy {what}, expected one of {', '.join(STRATEGIES)}")
        if weights.get("strategy") == "block":
            block = _block("block_structure", weights.get("block_structure"))
            if block is None:
                raise wrong("block_structure", None, "two whole numbers")
            blocks.add(block)
    if len(blocks) > 1:
        raise _refused(where, f"blocks of {len(blocks)} sizes")
    return next(iter(blocks), None)


def _check_packed(weights: Object, where: str) -> None:
    """Refuse what is called NVFP4 and is not: other bits, or another number of weights for a scale."""
    found = (weights.get("num_bits"), weights.get("type"), weights.get("group_size"))
    if found != (4, "float", 16):
        bits, kind, group = map(brief, found)
        raise _refused(where, f"{PACKED} of {bits} bits, type {kind}, groups of {group}")


def _block(key: str, value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    sizes = [n for n in value if type(n) is int and 0 < n <= MAX_SIZE] if isinstance(value, list) else []
    if not isinstance(value, list) or len(value) != 2 or len(sizes) != 2:
        raise wrong(key, value, "two whole numbers")
    return sizes[0], sizes[1]
