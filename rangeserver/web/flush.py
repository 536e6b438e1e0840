"""Waiting until a connection takes more, or until a response has left this process.

aiohttp's ``drain`` waits for room, not for emptiness: up to 64 KiB of a response that counts as
sent may still lie in the transport. A server that stops then, or a client that stops reading,
would make an untrue end of it.
"""

from __future__ import annotations

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

Client = BaseProtocol
"""The connection of a client. Its ``transport`` is ``None`` once it is closed."""


async def drain(client: Client) -> None:
    """Return once the connection takes more. Raises ``ConnectionError`` if the client has left."""
    if client.transport is None:
        msg = "the client left"
        raise ConnectionResetError(msg)
    if client.writing_paused:
        await StreamWriter(client, asyncio.get_running_loop()).drain()


async def flush(client: Client) -> None:
    """Return once the kernel has taken over everything written to this connection.

    Raises ``ConnectionError`` when the client leaves first. Has no deadline of its own.
    """
    transport = client.transport
    if transport is None or not transport.get_write_buffer_size():
        return
    transport.set_write_buffer_limits(high=0)  # from now on, room means emptiness
    try:
        await drain(client)
    finally:
        if not transport.is_closing():
            transport.set_write_buffer_limits()
