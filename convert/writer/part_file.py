"""A file under construction, beside its final name: written at offsets, read back, flushed, named when complete."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from nemotron_gguf.convert.errors import Interrupted
from nemotron_gguf.convert.plan import Rows

PIECE = 8 << 20  # bytes read back at a time
FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class PartFile:
    """`NAME.part`, of the final size from the first moment on; holes and gaps between tensors read as zeros."""

    def __init__(self, target: Path, size: int) -> None:
        self.target, self.size = target, size
        self.path = target.with_name(target.name + ".part")
        self._lock = threading.Lock()
        self._fd = -1
        self._lost: OSError | None = None

    @property
    def there(self) -> bool:
        """Whether there is something of that name, whatever it is."""
        return os.path.lexists(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether it is a plain file of the right size."""
        return _is_plain(self.path, self.size)

    @property
    def is_finished(self) -> bool:
        """Whether what an earlier run finished is there, with its name or without."""
        return self.is_whole if self.there else _is_plain(self.target, self.size)

    def open(self, fresh: bool) -> bool:
        """Begin anew, or open what an earlier run left; False where that is not whole."""
        if not fresh:
            return self.is_whole and self._open(self.path, os.O_RDWR)
        self.close()
        try:
            self.path.unlink(missing_ok=True)  # a run that lost its lock may have the old file open, and write to it
            self._fd = create(self.path, os.O_RDWR)
            os.ftruncate(self._fd, self.size)
        except OSError as error:
            raise Interrupted(f"cannot make {self.path}: {error.strerror or error}") from error
        return True

    def open_finished(self) -> bool:
        """Open what an earlier run finished, to be read, whether it has its name or not; False where it is gone."""
        return self.is_finished and self._open(self.path if self.there else self.target, os.O_RDONLY)

    def _open(self, path: Path, access: int) -> bool:
        self.close()
        try:
            self._fd = os.open(path, access | FLAGS)
        except OSError as error:
            raise Interrupted(f"cannot open {path}: {error.strerror or error}") from error
        return True

    @property
    def allocated(self) -> int:
        """Bytes that an earlier run's part occupies on the disk already."""
        try:
            status = self.path.lstat()
        except OSError:
            return 0
        blocks = getattr(status, "st_blocks", None)  # not told where files have no holes
        return min(self.size, status.st_size if blocks is None else blocks * 512)

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
        """Return when everything written is on the disk.

        After one failure there is no success: the system reports a lost page once, and then calls it written.
        """
        if self._lost is not None:
            raise self.failure("writing", self._lost)
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            self._lost = error
            raise self.failure("writing", error) from error

    def forget_cache(self) -> None:
        """Let the next reading come from the disk and not from memory, where the system can."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Give the descriptor back; what is on the disk by then was flushed, so an error here says nothing."""
        descriptor, self._fd, self._lost = self._fd, -1, None
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def rename(self) -> None:
        """Give the file its name, durably; an earlier run may have done so already."""
        self.close()
        try:
            try:
                self.path.replace(self.target)
            except FileNotFoundError:
                if not _is_plain(self.target, self.size):
                    raise
            sync_folder(self.target.parent)
        except OSError as error:
            raise self.failure("naming", error) from error

    def discard(self) -> None:
        """Remove what there is, as far as the disk allows."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def failure(self, doing: str, error: OSError) -> Interrupted:
        """The sentence for an error of the disk."""
        return Interrupted(f"{doing} {self.target} failed: {error.strerror or error}")


def create(path: Path, access: int) -> int:
    """A descriptor of a new file; FileExistsError where there is anything of that name."""
    return os.open(path, access | os.O_CREAT | os.O_EXCL | FLAGS, 0o666)


def _is_plain(path: Path, size: int) -> bool:
    try:
        status = path.lstat()  # a link is nothing that was made here
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Interrupted(f"cannot look at {path}: {error.strerror or error}") from error
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def sync_folder(folder: Path) -> None:
    """Make new and changed names in a folder durable, on systems where that can be asked for."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def as_bytes(data: bytes) -> Rows:
    """Bytes in the form that `write` takes."""
    return np.frombuffer(data, dtype=np.uint8)
