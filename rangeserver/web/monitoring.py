"""The admin application: is it alive, can it serve, what does it count, what is it doing?

It listens apart from the public port, so that it answers when that is full or drains, and so
that keys, addresses and errors are shown only to whoever may reach it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from rangeserver.cache.metrics import CacheMetrics
from rangeserver.metrics import Metrics
from rangeserver.origin.health import OriginHealth
from rangeserver.web.exchange import ActiveExchanges
from rangeserver.web.status_page import RecentFailures, Status, render_status


@dataclass(frozen=True, slots=True)
class WatchedOrigin:
    """A bucket, by the path it is served at."""

    path: str
    bucket: str
    health: OriginHealth


@dataclass(frozen=True, slots=True)
class Watched:
    """What the admin application reads; it changes nothing."""

    metrics: Metrics
    active: ActiveExchanges
    failures: RecentFailures
    origins: Sequence[WatchedOrigin]
    version: str
    cache: CacheMetrics | None = None


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
        answer: dict[str, object] = {"ready": ready, "reason": reason}
        if len(watched.origins) > 1:
            answer["mounts"] = {each.path: each.health.reason for each in watched.origins}
        return web.json_response(answer, status=200 if ready else 503)

    async def status(_: web.Request) -> web.Response:
        page = render_status(
            Status(
                buckets=[(each.path, each.bucket, each.health.reason) for each in watched.origins],
                version=watched.version,
                uptime_seconds=time.monotonic() - started,
                not_ready=_not_ready(watched),
                running=sorted(watched.active, key=lambda exchange: exchange.started),
                failures=watched.failures,
                cache=_cache_state(watched.cache),
            )
        )
        return web.Response(text=page, content_type="text/html", headers=_PAGE_HEADERS)

    async def root(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={hdrs.LOCATION: "/status"})

    app = web.Application()
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/", root)
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


def _cache_state(cache: CacheMetrics | None) -> str:
    if cache is None:
        return "off"
    state = f"{cache.disk_bytes:,} of {cache.max_bytes:,} bytes on the disk"
    return state if cache.usable() else f"{state}; it cannot be written to at the moment"


def _not_ready(watched: Watched) -> str | None:
    """Why no request can be expected to succeed.

    With several buckets one that serves is enough: a faulty one changes nothing for the others,
    and would, were the whole server taken out of service for it.
    """
    if watched.active.draining:
        return "The server is draining."
    reasons = [each.health.reason for each in watched.origins]
    if None in reasons:
        return None
    return reasons[0] if len(reasons) == 1 else f"No bucket serves; {_list(watched.origins)}"


def _list(origins: Sequence[WatchedOrigin]) -> str:
    return " ".join(f"{each.path}: {each.health.reason}" for each in origins)
