"""The S3 client: aiobotocore with every setting that matters, so that no default decides."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.exceptions import BotoCoreError, InvalidRegionError
from botocore.handlers import handle_expires_header

from rangeserver.config import OriginConfig
from rangeserver.errors import ConfigError
from rangeserver.origin.credentials import KeptCredentials, use
from rangeserver.origin.pool import Pool

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_KEEP_ALIVE_SECONDS = 12.0
"""S3 closes idle connections after about 20 s; ours are closed before that."""

_KEEP_ALIVE_SHARE = 0.8
"""The largest share of the read deadline. In aiohttp 3.14.5 a read deadline keeps running after a
body whose end was found by a reader that caught up, and expires on the idle connection: the next
request over it fails at once. (aiohttp issue 12953; what was fixed is a related case.)"""


@asynccontextmanager
async def open_client(
    config: OriginConfig,
    pool: Pool | None = None,
    credentials: KeptCredentials | None = None,
) -> AsyncIterator[S3Client]:
    """An S3 client over ``pool``, by default one of its own; closed on leaving.

    It signs with ``credentials``. By default those are botocore's own, looked up now and refreshed
    within requests, which is good enough for a single request.

    Raises :class:`ConfigError` when AWS's configuration files or the settings cannot be used.
    """
    try:
        session: Any = AioSession(profile=config.profile or None)  # type: ignore[no-untyped-call]
        await asyncio.to_thread(_try_authorities, session.get_config_variable("ca_bundle"))
        # We read header fields as they were sent. botocore parses dates that nobody asked for, and
        # fails on those it does not understand.
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        if credentials is not None:
            use(session, credentials)
        client = session.create_client(
            "s3",
            region_name=config.region or None,
            endpoint_url=config.endpoint_url or None,
            config=client_settings(config, pool or Pool(config.pool_wait_seconds)),
        )
        s3 = await client.__aenter__()
        s3.meta.events.register("before-call.s3", _stay_in_region)
        s3.meta.events.unregister(
            "before-parse.s3.*", handle_expires_header
        )  # it fails like the above
        s3.meta.events.register("before-parameter-build.s3", _at_regional_endpoint)
    except InvalidRegionError as error:  # our own setting was checked before
        named = "AWS_REGION, AWS_DEFAULT_REGION or the profile"
        raise ConfigError([f"origin.region: what {named} names is none: {error}"]) from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigError([f"origin: {error}"]) from error
    try:
        yield s3
    finally:
        await client.__aexit__(None, None, None)


def _try_authorities(path: str | None) -> None:
    """Load the certificates that AWS's configuration trusts instead of the system's: the error of a
    request would not say what is wrong with them.
    """
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        named = "AWS_CA_BUNDLE, or ca_bundle of the profile"
        raise ConfigError([f"origin: {named}: {path}: {reason}"]) from error


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """Stop botocore from looking for the bucket in other regions when it is redirected.

    It would send HEAD for the bucket, and treat that answer in the same way: an origin that
    redirects without naming a region gets some hundred requests for one, until a
    ``RecursionError`` ends it (measured). The region is a setting.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _at_regional_endpoint(context: dict[str, Any], **_: Any) -> None:
    """Make presigned URLs name the host that all other requests go to: they tell us where a bucket
    is.

    For them alone botocore prefers ``s3.amazonaws.com``, which redirects to the region while a
    bucket is new, and which endpoints of private networks do not replace.
    """
    context.pop("use_global_endpoint", None)


def client_settings(config: OriginConfig, pool: Pool) -> AioConfig:
    """All client settings that matter here, so that neither defaults nor the environment decide."""
    keep_alive = min(_KEEP_ALIVE_SECONDS, config.idle_seconds * _KEEP_ALIVE_SHARE)
    return AioConfig(
        # Presigned URLs would otherwise get version 2.
        signature_version=UNSIGNED if config.anonymous else "s3v4",
        http_session_cls=pool.session_class(),
        connector_args={"keepalive_timeout": keep_alive},
        max_pool_connections=config.max_connections,
        connect_timeout=config.connect_seconds,
        read_timeout=config.idle_seconds,
        # Otherwise the environment (AWS_RETRY_MODE, AWS_NEW_RETRIES_2026) would decide. Retries are
        # ours: origin/resuming.py.
        retries={"mode": "standard", "total_max_attempts": 1},
        # S3-compatible stores send checksums of the whole object with partial answers, and botocore
        # would find a mismatch only after the last byte. Length and ETag are checked instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=True,  # nor is AWS_ENDPOINT_URL
        proxies={},  # HTTP_PROXY in the environment is not our configuration
        s3={"addressing_style": config.addressing_style},
        user_agent_extra="rangeserver",
    )
