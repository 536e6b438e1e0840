"""The one place that names concrete parts and puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from rangeserver import __version__
from rangeserver.config import Config
from rangeserver.metrics import Metrics
from rangeserver.origin.base import Origin
from rangeserver.origin.client import open_client
from rangeserver.origin.health import OriginHealth, keep_probing
from rangeserver.origin.resuming import ResumePolicy, ResumingOrigin
from rangeserver.origin.s3 import S3Origin
from rangeserver.protocol.response_plan import PlanRules
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.counting import ExchangeCounter
from rangeserver.web.exchange import (
    ACTIVE,
    OBSERVERS,
    ActiveExchanges,
    ExchangeObserver,
    log_exchange,
)
from rangeserver.web.middlewares.access import add_own_headers, recorded
from rangeserver.web.middlewares.errors import errors_as_json
from rangeserver.web.monitoring import Watched, create_monitoring_app
from rangeserver.web.objects import ObjectHandler
from rangeserver.web.routing import EveryTarget
from rangeserver.web.status_page import RecentFailures

OBJECTS = web.AppKey("objects", ObjectHandler)
METRICS = web.AppKey("metrics", Metrics)
WATCHED = web.AppKey("watched", Watched)


def create_app(config: Config, *, observers: Sequence[ExchangeObserver] = ()) -> web.Application:
    """The application that serves ``config.origin``; ``observers`` see each finished exchange."""
    server = config.server
    metrics = Metrics()
    active = ActiveExchanges()
    health = OriginHealth()
    failures = RecentFailures()
    observers = (ExchangeCounter(metrics.responses, active), failures, log_exchange, *observers)
    app = web.Application(
        middlewares=[recorded(active, observers, server.write_idle_seconds), errors_as_json]
    )
    app[ACTIVE] = active
    app[OBSERVERS] = observers
    app[METRICS] = metrics
    app[WATCHED] = Watched(
        metrics, health, active, failures, bucket=config.origin.bucket, version=__version__
    )
    app.on_response_prepare.append(add_own_headers)

    async def with_origin(app: web.Application) -> AsyncIterator[None]:
        async with open_client(config.origin, metrics.origin) as client:
            s3 = S3Origin(client, config.origin, metrics=metrics.origin, health=health)
            app[OBJECTS] = ObjectHandler(
                origin=ResumingOrigin(
                    s3, ResumePolicy(config.origin.max_resumes), metrics=metrics.origin
                ),
                prefix=config.origin.prefix,
                rules=PlanRules(server.max_ranges, config.access.inline_types),
                deadlines=ClientDeadlines(
                    server.write_idle_seconds,
                    server.min_bytes_per_second,
                    server.min_rate_grace_seconds,
                ),
            )
            if not config.admin.enabled:  # nobody will ask whether we are ready
                yield
                return
            async with _probed(s3, health):
                yield

    async def objects(request: web.Request) -> web.StreamResponse:
        return await app[OBJECTS](request)

    app.cleanup_ctx.append(with_origin)
    app.router.register_resource(EveryTarget(objects))
    return app


def create_admin_app(app: web.Application) -> web.Application:
    """The application of the admin listener, which watches ``app``."""
    return create_monitoring_app(app[WATCHED])


@asynccontextmanager
async def _probed(origin: Origin, health: OriginHealth) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_probing(origin, health))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
