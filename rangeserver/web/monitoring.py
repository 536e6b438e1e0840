"""The admin application: is it alive, can it serve, what does it count, what is it doing?

It listens apart from the public port, so that it answers when that is full or drains, and so
that keys, addresses and errors are shown only to whoever may reach it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from rangeserver.cache.metrics import CacheMetrics
from rangeserver.errors import MethodNotAllowed, NoSuchPage, NotThisHost
from rangeserver.metrics import Metrics
from rangeserver.origin.health import OriginHealth
from rangeserver.protocol.hosts import is_ours
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.error_responses import ALLOWED_METHODS
from rangeserver.web.exchanges import EXCHANGES, Exchanges
from rangeserver.web.middlewares.access import recorded
from rangeserver.web.middlewares.errors import errors_as_json
from rangeserver.web.page_frame import PAGE_HEADERS
from rangeserver.web.routing import HANDLER, EveryTarget
from rangeserver.web.status_page import CacheState, RecentFailures, Status, render_status


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
    exchanges: Exchanges
    failures: RecentFailures
    origins: Sequence[WatchedOrigin]
    version: str
    cache: CacheMetrics | None = None
    names: Sequence[str] = ()
    """Host names it goes by, besides those that no stranger can have."""


def create_monitoring_app(watched: Watched) -> web.Application:
    """The application of the admin listener."""
    # Its own exchanges, of which nobody is told: the drain does not wait for scrapes.
    exchanges = Exchanges(ClientDeadlines(_WRITE_IDLE_SECONDS, 0, _WRITE_IDLE_SECONDS))
    app = web.Application(middlewares=(recorded(exchanges), errors_as_json))
    app[EXCHANGES] = exchanges
    pages = _Pages(watched)
    app[HANDLER] = pages.answer
    app.router.register_resource(EveryTarget(pages.answer))
    return app


class _Pages:
    """What the admin listener answers."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._started = time.monotonic()
        self._pages: Mapping[str, Callable[[web.Request], web.Response]] = {
            "/": _lead_to_status,
            "/status": self._status,
            "/metrics": self._metrics,
            "/healthz": _alive,
            "/readyz": self._ready,
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; errors are raised for the middleware to answer."""
        # Orchestrators kill what they hear nothing of, and that we live tells a stranger nothing.
        if request.path != "/healthz":
            _check_host(request.headers.get(hdrs.HOST, ""), self._watched.names)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers={hdrs.ALLOW: ALLOWED_METHODS})
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            raise MethodNotAllowed
        page = self._pages.get(request.path)
        if page is None:
            raise NoSuchPage
        response = page(request)
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        return response

    def _metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")
        body, media_type = self._watched.metrics.exposition(accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: media_type})

    def _ready(self, _: web.Request) -> web.Response:
        reason = _not_ready(self._watched)
        ready = reason is None
        answer: dict[str, object] = {"ready": ready, "reason": reason}
        origins = self._watched.origins
        if len(origins) > 1:
            answer["mounts"] = {each.path: each.health.reason for each in origins}
        return web.json_response(answer, status=200 if ready else 503)

    def _status(self, _: web.Request) -> web.Response:
        watched = self._watched
        page = render_status(
            Status(
                buckets=[(each.path, each.bucket, each.health.reason) for each in watched.origins],
                version=watched.version,
                uptime_seconds=time.monotonic() - self._started,
                not_ready=_not_ready(watched),
                sent=watched.metrics.responses.sent(),
                running=sorted(watched.exchanges, key=lambda exchange: exchange.started),
                failures=watched.failures,
                cache=_cache_state(watched.cache),
            )
        )
        return web.Response(text=page, content_type="text/html", headers=PAGE_HEADERS)


def _alive(_: web.Request) -> web.Response:
    # That this runs is the answer. An origin that is down is no reason to restart us.
    return web.json_response({"alive": True})


def _lead_to_status(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={hdrs.LOCATION: "/status"})


_WRITE_IDLE_SECONDS = 30.0
"""For whoever asks for metrics to take them."""


def _check_host(host: str, names: Sequence[str]) -> None:
    """Refuse pages of strangers that have a name of theirs resolve to this address, and so may
    read what is told under it (DNS rebinding): a browser says which name it followed.
    """
    if not is_ours(host, names):
        raise NotThisHost(host)


def _cache_state(cache: CacheMetrics | None) -> CacheState | None:
    return CacheState(cache.disk_bytes(), cache.max_bytes, cache.usable()) if cache else None


def _not_ready(watched: Watched) -> str | None:
    """Why no request can be expected to succeed.

    With several buckets one that serves is enough: a faulty one changes nothing for the others,
    and would, were the whole server taken out of service for it.
    """
    if watched.exchanges.draining:
        return "The server is draining."
    reasons = [each.health.reason for each in watched.origins]
    if None in reasons:
        return None
    return reasons[0] if len(reasons) == 1 else f"No bucket serves; {_list(watched.origins)}"


def _list(origins: Sequence[WatchedOrigin]) -> str:
    return " ".join(f"{each.path}: {each.health.reason}" for each in origins)
