"""From tensors to quantized files: which tensor gets which type, importance, the encoders."""

from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import AUTO, FILE_TYPES, FileType, file_type
from nemotron_gguf.quant.options import QuantizeOptions, parse_tensor_type, tensor_type
from nemotron_gguf.quant.plan import plan_quantization
from nemotron_gguf.quant.source import files_of, plan_of_file
from nemotron_gguf.quant.trimming import Trimming, choose_neurons, to_be_trimmed

__all__ = [
    "AUTO",
    "FILE_TYPES",
    "FileType",
    "QuantError",
    "QuantizeOptions",
    "Trimming",
    "choose_neurons",
    "file_type",
    "files_of",
    "parse_tensor_type",
    "plan_of_file",
    "plan_quantization",
    "tensor_type",
    "to_be_trimmed",
]
