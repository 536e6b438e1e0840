"""The one place that names concrete parts and puts them together."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from rangeserver import __version__
from rangeserver.background import running
from rangeserver.cache.cache import Cache
from rangeserver.cache.caching_origin import CachingOrigin
from rangeserver.cache.location import cache_directory
from rangeserver.cache.metadata import MetadataCache
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.open_entries import MAX_OPEN
from rangeserver.config import Config, Mount, OriginConfig
from rangeserver.errors import ConfigError, NotThisHost
from rangeserver.metrics import Metrics, OriginMetrics
from rangeserver.origin.health import OriginHealth, keep_probing
from rangeserver.origin.resuming import ResumingOrigin
from rangeserver.origin.retrying import RetryPolicy
from rangeserver.origin.s3 import S3Origin
from rangeserver.origin.upstream import Upstream, open_upstream
from rangeserver.protocol.hosts import is_ours
from rangeserver.protocol.mounts import MountTable
from rangeserver.protocol.response_plan import PlanRules
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.counting import ExchangeCounter
from rangeserver.web.exchange import log_exchange
from rangeserver.web.exchanges import EXCHANGES, ExchangeObserver, Exchanges
from rangeserver.web.fast_path import FAST_PATH, FastPath
from rangeserver.web.middlewares.access import recorded
from rangeserver.web.middlewares.errors import errors_as_json
from rangeserver.web.monitoring import Watched, WatchedOrigin, create_monitoring_app
from rangeserver.web.objects import ObjectHandler
from rangeserver.web.routing import HANDLER, EveryTarget
from rangeserver.web.sendfile import Room
from rangeserver.web.status_page import RecentFailures
from rangeserver.web.targets import MountedOrigin, Targets

log = logging.getLogger(__name__)

Pages: TypeAlias = Mapping[tuple[str, str], Handler]

OBJECTS = web.AppKey("objects", ObjectHandler)
METRICS = web.AppKey("metrics", Metrics)
WATCHED = web.AppKey("watched", Watched)


def create_app(
    config: Config,
    *,
    observers: Sequence[ExchangeObserver] = (),
    cache_files: int = MAX_OPEN,
    pages: Callable[[Exchanges], Pages] | None = None,
    for_strangers: bool = True,
) -> web.Application:
    """The application that serves all of ``config.mounted()``; ``observers`` see each finished
    exchange. The cache keeps ``cache_files`` open.

    ``pages`` makes handlers for paths that are no object's, by method and path. Unless it is
    ``for_strangers``, only requests are answered whose host name nobody else can have made lead
    here (DNS rebinding).
    """
    server = config.server
    metrics = Metrics()
    of_cache = CacheMetrics(metrics.registry) if config.cache.enabled else None
    exchanges = Exchanges(
        ClientDeadlines(
            server.write_idle_seconds, server.min_bytes_per_second, server.min_rate_grace_seconds
        )
    )
    failures = RecentFailures()
    health = {mount.path: OriginHealth(mount.path) for mount in config.mounted()}
    counter = ExchangeCounter(metrics.responses, exchanges)
    exchanges.observers = (counter, failures, log_exchange, *observers)
    around = (recorded(exchanges), errors_as_json)
    app = web.Application(middlewares=around)
    app[EXCHANGES] = exchanges
    app[METRICS] = metrics
    app[WATCHED] = Watched(
        metrics,
        exchanges,
        failures,
        origins=[
            WatchedOrigin(mount.path, mount.origin.bucket, health[mount.path])
            for mount in config.mounted()
        ],
        version=__version__,
        cache=of_cache,
        names=(*config.admin.names, config.admin.host),
    )

    async def with_origins(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            room = Room()
            stack.callback(room.close)
            cache = None
            if of_cache is not None:
                cache = await _open_cache(config, of_cache, stack, files=cache_files)
            mounts = await _open_mounts(config, metrics.origin, health, cache, stack)
            if cache is not None:
                stack.push_async_callback(cache.stop)  # before the origins go
            stack.callback(exchanges.close)
            app[OBJECTS] = objects = ObjectHandler(Targets(MountTable(mounts)), room)
            if cache is not None:
                if tuple(app.middlewares) == around:
                    app[FAST_PATH] = FastPath(objects, exchanges, for_strangers=for_strangers)
                else:  # whoever has added one means it to see every request
                    log.warning("the fast path is off: the application has middlewares of its own")
            yield

    own = pages(exchanges) if pages is not None else None

    async def answer(request: web.Request) -> web.StreamResponse:
        if not for_strangers and not is_ours(request.headers.get(hdrs.HOST, ""), ()):
            raise NotThisHost
        page = own.get((request.method, request.raw_path.partition("?")[0])) if own else None
        return await (page or app[OBJECTS])(request)

    app.cleanup_ctx.append(with_origins)
    app[HANDLER] = answer
    app.router.register_resource(EveryTarget(answer))
    return app


def create_admin_app(app: web.Application) -> web.Application:
    """The application of the admin listener, which watches ``app``."""
    return create_monitoring_app(app[WATCHED])


async def _open_mounts(
    config: Config,
    metrics: OriginMetrics,
    health: Mapping[str, OriginHealth],
    cache: Cache | None,
    stack: AsyncExitStack,
) -> list[tuple[str, MountedOrigin]]:
    """Every mount by its path. Those of one endpoint share what they can, connections first."""
    upstreams: dict[OriginConfig, Upstream] = {}
    mounts = []
    for mount in config.mounted():
        origin = mount.origin
        upstream = upstreams.get(origin.endpoint())
        if upstream is None:
            upstream = await stack.enter_async_context(open_upstream(origin, metrics))
            upstreams[origin.endpoint()] = upstream
        s3 = S3Origin(upstream, origin, health=health[mount.path])
        resuming = _resuming(s3, origin, metrics)
        cached = _cached(resuming, cache, origin, upstream.whose)
        known = MetadataCache(
            cached or resuming,
            config.cache.freshness_rules,
            clock=time.monotonic,
            metrics=metrics,
            missing_seconds=config.cache.missing_seconds,
            resident_reads=cached,
            last_purge=cache.last_purge if cache is not None else bool,
        )
        stack.push_async_callback(known.close)
        rules = PlanRules(config.server.max_ranges, tuple(mount.access.inline_types))
        resident = known if cached is not None else None
        mounted = MountedOrigin(known, origin.prefix, rules, upstream.deadlines, resident)
        mounts.append((mount.path, mounted))
        if config.admin.enabled:  # else nobody will ask whether we are ready
            await stack.enter_async_context(
                running(keep_probing(s3, health[mount.path], origin.endpoint_url))
            )
    return mounts


def _resuming(s3: S3Origin, origin: OriginConfig, metrics: OriginMetrics) -> ResumingOrigin:
    policy = RetryPolicy(origin.max_attempts, origin.max_resumes)
    upstream = s3.upstream
    return ResumingOrigin(
        s3, policy, upstream.deadlines, tokens=upstream.retry_tokens, metrics=metrics
    )


def _cached(
    resuming: ResumingOrigin, cache: Cache | None, origin: OriginConfig, whose: Callable[[], str]
) -> CachingOrigin | None:
    """With the cache in front, if there is one that may keep what comes from there."""
    # Under SSE-C the store keeps nothing that can be read without the key; nor do we.
    if cache is None or origin.sse_customer_key_file:
        return None
    return CachingOrigin(resuming, cache, origin, whose)


@asynccontextmanager
async def cache_alone(config: Config, mount: Mount) -> AsyncIterator[CachingOrigin]:
    """The objects of one mount behind its cache, put together as for a server, without one.

    Raises :class:`ConfigError` if there is no cache for them, or it cannot be used.
    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        if not config.cache.enabled:
            raise ConfigError(["cache.enabled: is false, so nothing is kept"])
        cache = await _open_cache(config, CacheMetrics(), stack)
        upstream = await stack.enter_async_context(open_upstream(mount.origin, metrics.origin))
        resuming = _resuming(S3Origin(upstream, mount.origin), mount.origin, metrics.origin)
        caching = _cached(resuming, cache, mount.origin, upstream.whose)
        if caching is None:
            problem = "is set, and what the store encrypts with it is not kept here either"
            raise ConfigError([f"{mount.section}.sse_customer_key_file: {problem}"])
        yield caching


async def _open_cache(
    config: Config, metrics: CacheMetrics, stack: AsyncExitStack, *, files: int = MAX_OPEN
) -> Cache:
    """The cache that all mounts share, and its keeper. Raises :class:`ConfigError` if it cannot be
    used and the configuration says that it must.
    """
    settings = config.cache
    try:
        directory = cache_directory(settings.directory)
    except OSError as error:
        raise ConfigError([f"cache.directory: {error.strerror}"]) from None
    wait_seconds = config.origin.pool_wait_seconds
    metrics.max_bytes = int(settings.max_bytes)
    cache = Cache(directory, settings, metrics, wait_seconds=wait_seconds, max_open=files)
    stack.push_async_callback(cache.close)
    try:
        await cache.open()
    except OSError as error:
        if settings.required:
            problem = f"cache.directory: {directory} cannot be used: {error.strerror}"
            raise ConfigError([problem]) from None
        log.warning("cache: not used for now: %s", error)
    await stack.enter_async_context(running(cache.run_maintenance()))
    return cache
