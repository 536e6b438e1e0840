from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

from rangeserver.demo.feed import REMEMBERED, Feed
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.exchanges import Exchanges

DEADLINES = ClientDeadlines(60.0, 0, 60.0)


def exchange(key: str) -> Exchange:
    return Exchange("id-of-request", "127.0.0.1", "GET", key)


def finish(feed: Feed, active: Exchanges, ended: Exchange) -> None:
    active.finish(ended, Outcome.COMPLETE)
    feed.finished(ended)


def parsed(message: bytes) -> dict[str, Any]:
    assert message.startswith(b"data: ")
    assert message.endswith(b"\n\n")
    found: dict[str, Any] = json.loads(message[6:])
    return found


async def test_one_request_keeps_its_number_from_start_to_end() -> None:
    feed, active = Feed(), Exchanges(DEADLINES)
    running, quick = exchange("film.mp4"), exchange("quick.jpg")
    active.add(running)
    async with aclosing(feed.messages(active)) as messages:
        assert parsed(await anext(messages)) == {"reset": True}
        (first,) = parsed(await anext(messages))["running"]
        active.add(quick)
        finish(feed, active, quick)
        second = parsed(await anext(messages))
        assert [record["key"] for record in second["finished"]] == ["quick.jpg"]
        assert [record["id"] for record in second["running"]] == [first["id"]]
        finish(feed, active, running)
        third = parsed(await anext(messages))
        assert [record["id"] for record in third["finished"]] == [first["id"]]
        assert third["running"] == []


async def test_nothing_is_said_while_nothing_changes() -> None:
    feed, active = Feed(), Exchanges(DEADLINES)
    running = exchange("film.mp4")
    active.add(running)
    async with aclosing(feed.messages(active)) as messages:
        await anext(messages)
        await anext(messages)
        waiting = asyncio.ensure_future(anext(messages))
        done, _ = await asyncio.wait([waiting], timeout=0.6)
        assert not done
        running.bytes_sent += 1
        assert parsed(await waiting)["running"][0]["bytes_sent"] == 1


async def test_a_slow_page_misses_old_requests_and_is_told_the_rest_once() -> None:
    feed, active = Feed(), Exchanges(DEADLINES)
    async with aclosing(feed.messages(active)) as messages:
        await anext(messages)
        for number in range(3 * REMEMBERED):
            finish(feed, active, exchange(f"{number}.ts"))
        told = parsed(await anext(messages))["finished"]
        assert [record["key"] for record in told] == [
            f"{number}.ts" for number in range(2 * REMEMBERED, 3 * REMEMBERED)
        ]
        finish(feed, active, exchange("last.ts"))
        assert [record["key"] for record in parsed(await anext(messages))["finished"]] == [
            "last.ts"
        ]


async def test_requests_without_a_key_are_not_shown() -> None:
    feed, active = Feed(), Exchanges(DEADLINES)
    page = exchange("")
    active.add(page)
    async with aclosing(feed.messages(active)) as messages:
        await anext(messages)
        assert parsed(await anext(messages)) == {"finished": [], "running": []}
        finish(feed, active, page)
        finish(feed, active, exchange("film.mp4"))
        assert [record["key"] for record in parsed(await anext(messages))["finished"]] == [
            "film.mp4"
        ]
