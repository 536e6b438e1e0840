"""The one place that names concrete parts and puts them together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from rangeserver.config import Config
from rangeserver.origin.client import open_client
from rangeserver.origin.resuming import ResumePolicy, ResumingOrigin
from rangeserver.origin.s3 import S3Origin
from rangeserver.protocol.response_plan import PlanRules
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.exchange import ACTIVE, ActiveExchanges, log_exchange
from rangeserver.web.middlewares.access import ExchangeObserver, add_own_headers, recorded
from rangeserver.web.middlewares.errors import errors_as_json
from rangeserver.web.objects import ObjectHandler
from rangeserver.web.routing import EveryTarget

OBJECTS = web.AppKey("objects", ObjectHandler)


def create_app(config: Config, *, observers: Sequence[ExchangeObserver] = ()) -> web.Application:
    """The application that serves ``config.origin``; ``observers`` see each finished exchange."""
    server = config.server
    active = ActiveExchanges()
    app = web.Application(
        middlewares=[
            recorded(active, (log_exchange, *observers), server.write_idle_seconds),
            errors_as_json,
        ]
    )
    app[ACTIVE] = active
    app.on_response_prepare.append(add_own_headers)

    async def with_origin(app: web.Application) -> AsyncIterator[None]:
        async with open_client(config.origin) as client:
            app[OBJECTS] = ObjectHandler(
                origin=ResumingOrigin(
                    S3Origin(client, config.origin), ResumePolicy(config.origin.max_resumes)
                ),
                prefix=config.origin.prefix,
                rules=PlanRules(server.max_ranges, config.access.inline_types),
                deadlines=ClientDeadlines(
                    server.write_idle_seconds,
                    server.min_bytes_per_second,
                    server.min_rate_grace_seconds,
                ),
            )
            yield

    async def objects(request: web.Request) -> web.StreamResponse:
        return await app[OBJECTS](request)

    app.cleanup_ctx.append(with_origin)
    app.router.register_resource(EveryTarget(objects))
    return app
