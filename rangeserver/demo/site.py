"""The demo's page, its file list and its live feed: pages of the server's own application."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from aiohttp import hdrs, web

from rangeserver.app import Pages
from rangeserver.demo.bucket import BucketFile
from rangeserver.demo.feed import Feed
from rangeserver.web.exchange import EXCHANGE, own_fields
from rangeserver.web.exchanges import Exchanges

_PAGE = Path(__file__).parent / "page.html"

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

# What the page may do: nothing but run its own script and talk to this server.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
    "connect-src 'self'; media-src 'self' blob:; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages_of(
    files: Sequence[BucketFile], feed: Feed, bytes_per_second: int, exchanges: Exchanges
) -> Pages:
    """``/`` and ``/~demo/...``, for an application that serves objects under every other path."""
    pace = f" The bucket sends the samples at {bytes_per_second // 1000} kB/s"
    pace += " over each connection, as a network might"
    pace += ", and your own file as fast as it can." if any(file.own for file in files) else "."
    html = _PAGE.read_text(encoding="utf-8").replace("{pace}", pace if bytes_per_second else "")
    listing = json.dumps([file.described() for file in files]).encode()

    async def show_page(_: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(16)
        return web.Response(
            text=html.replace("{nonce}", nonce),
            content_type="text/html",
            charset="utf-8",
            headers={**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)},
        )

    async def list_files(_: web.Request) -> web.Response:
        return web.Response(body=listing, content_type="application/json", headers=_HEADERS)

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={**_HEADERS, hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8"}
        )
        exchange = request[EXCHANGE]
        exchange.status, exchange.response_begun = 200, True
        for name, value in own_fields(exchange.request_id).items():
            response.headers.setdefault(name, value)
        await response.prepare(request)
        async with aclosing(feed.messages(exchanges)) as messages:
            # Each write waits for the page to read; ends when it goes or the server does.
            async for message in messages:
                await response.write(message)
                exchange.bytes_sent += len(message)
        return response

    return {
        ("GET", "/"): show_page,
        ("HEAD", "/"): show_page,
        ("GET", "/~demo/files"): list_files,
        ("GET", "/~demo/events"): events,
    }
