"""The one writer of GGUF files, seen from outside.

Several files that are made of the same tensors are written together, each row of the source read once, in memory that
does not depend on the model. What is written is noted in a journal, so that a run that ends early goes on later. A file
appears under its name only when it is complete, on the disk, and read back as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.convert.writer.options import Progress, Report, WriteOptions
from nemotron_gguf.convert.writer.run import Run
from nemotron_gguf.convert.writer.targets import Output, check_names, check_targets

__all__ = ["Output", "Progress", "Report", "WriteOptions", "check_targets", "write_files"]


def write_files(outputs: Sequence[Output], options: WriteOptions | None = None) -> None:
    """Write all outputs in one pass over their sources, going on where an earlier run of the same work ended.

    Raises ConvertError where a file exists and `force` is not given, where the disk has no room, where another run
    writes the same files, and for every fault of reading or writing. After Interrupted and KeyboardInterrupt what is
    done is kept for the next run; after any other error nothing is. No final name ever holds a partial file.
    """
    options = options or WriteOptions()
    with ExitStack() as stack:
        check_names(outputs)
        locks = [stack.enter_context(Lock(output.path)) for output in outputs]
        Run(outputs, options, locks).go()
