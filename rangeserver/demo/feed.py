"""The live feed of the page: which ranges are being asked for and what became of them.

Nothing is queued for anyone. A page that reads slowly finds, once it reads again, the state of
that moment and those finished requests that are still remembered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from rangeserver.web.exchange import Exchange
from rangeserver.web.exchanges import Exchanges

TICK_SECONDS = 0.25
REMEMBERED = 200
"""Finished requests that a page sees when it opens, and the most it can be behind."""

_KEEP_ALIVE_SECONDS = 15.0
"""A page that has silently gone is found out by writing to it now and then."""


@dataclass(frozen=True, slots=True)
class _Finished:
    place: int
    record: dict[str, Any]


class Feed:
    """Remembers finished exchanges and describes running ones. Observes the access middleware."""

    def __init__(self) -> None:
        self._finished: deque[_Finished] = deque(maxlen=REMEMBERED)
        self._places = itertools.count(1)
        self._ids = itertools.count(1)
        self._running_ids: dict[Exchange, int] = {}

    def finished(self, exchange: Exchange) -> None:
        """Take note of an exchange that has ended."""
        number = self._running_ids.pop(exchange, None) or next(self._ids)
        if _is_shown(exchange):
            self._finished.append(_Finished(next(self._places), _record(number, exchange)))

    async def messages(self, exchanges: Exchanges) -> AsyncGenerator[bytes]:
        """Server-sent events for one page, without end."""
        yield _message(reset=True)
        seen, shown = 0, None
        written = time.monotonic()
        while True:
            finished = [item for item in self._finished if item.place > seen]
            running = self._running(exchanges)
            # Durations always change; they alone are no news.
            state = [(number, item.status, item.bytes_sent) for number, item in running]
            if finished or state != shown:
                yield _message(
                    finished=[item.record for item in finished],
                    running=[_record(number, item) for number, item in running],
                )
                seen = finished[-1].place if finished else seen
                shown, written = state, time.monotonic()
            elif time.monotonic() - written > _KEEP_ALIVE_SECONDS:
                yield b": still here\n\n"
                written = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)

    def _running(self, exchanges: Exchanges) -> list[tuple[int, Exchange]]:
        shown = [exchange for exchange in exchanges if _is_shown(exchange)]
        for exchange in sorted(shown, key=lambda exchange: exchange.started):
            if exchange not in self._running_ids:
                self._running_ids[exchange] = next(self._ids)
        return sorted(
            ((self._running_ids[exchange], exchange) for exchange in shown),
            key=lambda item: item[0],
        )


def _is_shown(exchange: Exchange) -> bool:
    """Whether it is for an object: the page and its feed have no key."""
    return bool(exchange.key)


def _record(number: int, exchange: Exchange) -> dict[str, Any]:
    began = time.time() - (time.monotonic() - exchange.started)
    return {
        **exchange.fields(),
        "id": number,
        "began_ms": round(began * 1000),
        "content_range": exchange.content_range,
    }


def _message(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()
