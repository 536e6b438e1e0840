"""The admin application: is it alive, can it serve, what does it count, what is it doing?

It listens apart from the public port, so that it answers when that is full or drains, and so
that keys, addresses and errors are shown only to whoever may reach it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import hdrs, web

from rangeserver.metrics import Metrics
from rangeserver.origin.health import OriginHealth
from rangeserver.web.exchange import ActiveExchanges
from rangeserver.web.status_page import RecentFailures, Status, render_status


@dataclass(frozen=True, slots=True)
class Watched:
    """What the admin application reads; it changes nothing."""

    metrics: Metrics
    health: OriginHealth
    active: ActiveExchanges
    failures: RecentFailures
    bucket: str
    version: str


def create_monitoring_app(watched: Watched) -> web.Application:
    """The application of the admin listener."""
    started = time.monotonic()

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")
        body, media_type = watched.metrics.exposition(accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: media_type})

    async def healthz(_: web.Request) -> web.Response:
        # That this runs is the answer. An origin that is down is no reason to restart us.
        return web.json_response({"alive": True})

    async def readyz(_: web.Request) -> web.Response:
        reason = _not_ready(watched)
        ready = reason is None
        return web.json_response({"ready": ready, "reason": reason}, status=200 if ready else 503)

    async def status(_: web.Request) -> web.Response:
        page = render_status(
            Status(
                bucket=watched.bucket,
                version=watched.version,
                uptime_seconds=time.monotonic() - started,
                not_ready=_not_ready(watched),
                running=sorted(watched.active, key=lambda exchange: exchange.started),
                failures=watched.failures,
            )
        )
        return web.Response(text=page, content_type="text/html", headers=_PAGE_HEADERS)

    app = web.Application()
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    return app


_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "rangeserver"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _not_ready(watched: Watched) -> str | None:
    if watched.active.draining:
        return "The server is draining."
    return watched.health.reason
