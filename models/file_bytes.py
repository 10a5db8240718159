"""Bytes of a file on demand, by several threads at once: what the readers of tensors and importance stand on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file whose header was read when it was `size` bytes long.

    It is opened anew for every read: there is no position to share between threads, nothing to close, and a read of
    megabytes does not notice. A mapping would count as resident memory, buffers of our own do not outlive their use.
    """

    path: Path
    size: int

    def read(self, offset: int, count: int) -> npt.NDArray[np.uint8]:
        """`count` bytes from `offset` on, as `(count,) uint8`; raises ModelError where they are not there any more."""
        buffer = np.empty(count, dtype=np.uint8)
        view, done = memoryview(buffer.data), 0
        try:
            with self.path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    raise ModelError(f"{self.path} changed while it was being read; leave it alone and start again")
                file.seek(offset)
                while done < count:
                    got = file.readinto(view[done:])
                    if not got:
                        raise ModelError(f"{self.path} ends at byte {offset + done}, {count - done} more were expected")
                    done += got
        except OSError as error:
            raise ModelError(f"cannot read {self.path}: {error.strerror or error}") from error
        return buffer
