"""From a checkpoint to named tensors and GGUF metadata, and the one writer of GGUF files.

checkpoint = open_checkpoint("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
plan = plan_conversion(checkpoint)
write_files([Output(plan, Path(default_name(checkpoint, "BF16")))])
"""

from nemotron_gguf.convert.conversion import OutType, default_name, plan_conversion
from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.source.checkpoint import Checkpoint, open_checkpoint
from nemotron_gguf.convert.widths.change import padded
from nemotron_gguf.convert.writer.write import Output, Progress, WriteOptions, write_files

__all__ = [
    "Checkpoint",
    "ConvertError",
    "FilePlan",
    "Interrupted",
    "OutType",
    "Output",
    "Progress",
    "TensorPlan",
    "WriteOptions",
    "default_name",
    "open_checkpoint",
    "padded",
    "plan_conversion",
    "write_files",
]
