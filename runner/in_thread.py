"""For an event loop: work that blocks, done in a thread, and undone where nobody wants it any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(
    work: Callable[[], Result], gone: threading.Event, undo: Callable[[Result], object] | None = None
) -> Result:
    """What `work` gives, computed in a thread while the loop goes on. Raises what `work` raises.

    Where the one who waits is cancelled, `gone` is set, so that `work` may end early; what it gave goes to `undo`, in a
    thread as well, before the cancellation goes on.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        gone.set()
        await _whole(future)
        if undo and not future.exception():
            await _whole(loop.run_in_executor(None, undo, future.result()))
        raise


async def _whole(future: asyncio.Future[Result]) -> None:
    """Wait for its end, however often somebody cancels that."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
