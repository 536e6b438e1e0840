"""The event loop: uvloop where there is one, asyncio's elsewhere."""

from __future__ import annotations

import asyncio
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop."""
    if sys.platform == "linux":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
