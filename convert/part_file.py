"""A file under construction, beside its final name: written at offsets, read back, flushed, named when complete."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.plan import Rows

PIECE = 8 << 20  # bytes read back at a time


class PartFile:
    """`NAME.part`, of the final size from the first moment on; holes and gaps between tensors read as zeros."""

    def __init__(self, target: Path, size: int) -> None:
        self.target, self.size = target, size
        self.path = target.with_name(target.name + ".part")
        self._lock = threading.Lock()
        self._fd = -1

    def open(self, fresh: bool) -> bool:
        """Create the file, or open what an earlier run left; False where that is not there or of another size."""
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
        try:
            if not fresh and (not self.path.is_file() or self.path.stat().st_size != self.size):
                return False
            self._fd = os.open(self.path, flags | (os.O_CREAT | os.O_TRUNC if fresh else 0), 0o666)
            if fresh:
                os.truncate(self.path, self.size)
        except OSError as error:
            raise ConvertError(f"cannot write {self.path}: {error.strerror or error}") from error
        return True

    @property
    def allocated(self) -> int:
        """Bytes that an earlier run's part occupies on the disk already."""
        try:
            status = self.path.stat()
        except OSError:
            return 0
        return min(self.size, getattr(status, "st_blocks", 0) * 512)

    def write(self, data: Rows, offset: int) -> None:
        """Write all bytes at an absolute offset; raises Interrupted where the disk does not take them."""
        view = memoryview(data.data).cast("B")
        try:
            while view:
                count = self._write_some(view, offset)
                if count == 0:
                    raise OSError("nothing was written")
                view, offset = view[count:], offset + count
        except OSError as error:
            raise self.failure("writing", error) from error

    def _write_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, view, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.write(self._fd, view)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes back; fewer only where the file ends."""
        try:
            if hasattr(os, "pread"):
                return os.pread(self._fd, size, offset)
            with self._lock:
                os.lseek(self._fd, offset, os.SEEK_SET)
                return os.read(self._fd, size)
        except OSError as error:
            raise self.failure("reading back", error) from error

    def flush(self) -> None:
        """Return when everything written is on the disk."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            raise self.failure("writing", error) from error

    def forget_cache(self) -> None:
        """Let the next reading come from the disk and not from memory, where the system can."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def rename(self) -> None:
        """Give the file its name, durably; an earlier run may have done so already."""
        self.close()
        try:
            if self.path.exists():
                self.path.replace(self.target)
            sync_folder(self.target.parent)
        except OSError as error:
            raise self.failure("naming", error) from error

    def discard(self) -> None:
        """Remove what there is."""
        self.close()
        self.path.unlink(missing_ok=True)

    def failure(self, doing: str, error: OSError) -> Interrupted:
        """The sentence for an error of the disk."""
        return Interrupted(f"{doing} {self.target} failed: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make new and changed names in a folder durable, on systems where that can be asked for."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_bytes(data: bytes) -> Rows:
    """Bytes in the form that `write` takes."""
    return np.frombuffer(data, dtype=np.uint8)
