"""The threads that wait for the disk, so that the event loop never does."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Calls to the disk at once. They have nothing to do but to wait for it; more would queue there."""


class Disk:
    """A pool of threads of its own: others, as for DNS, cannot be held up by a slow disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cache")
        # A descriptor's last owner may be dropped anywhere, in the midst of a call that holds a
        # lock as well. Putting into this queue is safe even there, unlike into a pool's.
        self._closing: SimpleQueue[int | None] = SimpleQueue()
        self._over = False
        self._closer = threading.Thread(target=self._close_all, name="cache-close", daemon=True)
        self._closer.start()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a blocking call returns or raises. Cancelled, it leaves the call to its end."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))

    def begin(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have a call made that nobody waits for; it must not raise."""
        self._threads.submit(call, *args, **kwargs)

    def close_later(self, descriptor: int) -> None:
        """Close a descriptor, which may take a while where a deleted file goes with it."""
        if self._over:
            os.close(descriptor)
        else:
            self._closing.put(descriptor)

    def shut_down(self) -> None:
        """End when all that was begun is done; does not wait for it."""
        self._threads.shutdown(wait=False)
        self._over = True
        self._closing.put(None)

    def _close_all(self) -> None:
        while True:
            descriptor = self._closing.get()
            if descriptor is None:
                break
            os.close(descriptor)
