"""The threads that wait for the disk."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from rangeserver.cache.disk import Disk
from tests.support import eventually, open_descriptors


async def test_calls_are_made_elsewhere() -> None:
    disk = Disk()
    assert await disk.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await disk.run(lambda: 1 // 0)
    begun = threading.Event()
    disk.begin(begun.set)
    await eventually(begun.is_set)
    disk.shut_down()


async def test_one_who_leaves_lets_the_call_end() -> None:
    disk, go_on, ended = Disk(), threading.Event(), threading.Event()

    def call() -> None:
        go_on.wait()
        ended.set()

    task = asyncio.create_task(disk.run(call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await eventually(ended.is_set)
    disk.shut_down()


async def test_descriptors_are_closed_in_the_end() -> None:
    """Also those that somebody gives back when all is over."""
    before = open_descriptors()
    disk = Disk()
    first, second = os.pipe()
    disk.close_later(first)
    await eventually(lambda: open_descriptors() == before + 1)
    disk.shut_down()
    disk.close_later(second)
    assert open_descriptors() == before
    await eventually(lambda: not disk._closer.is_alive())
