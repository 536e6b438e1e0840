"""One request to the origin, and what its answer means for the person who set it up."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from rangeserver.config import OriginConfig
from rangeserver.errors import NoCredentials, NoneFound, OriginError, OriginTimeout
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.client import open_client
from rangeserver.origin.credentials import KeptCredentials, kept_credentials
from rangeserver.origin.obstacles import explained
from rangeserver.origin.parameters import standing_parameters
from rangeserver.origin.pool import through_botocore
from rangeserver.origin.translate import origin_errors


@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried and found; ``advice`` is empty if all is well."""

    subject: str
    found: str
    advice: str = ""
    ok: bool = True


def _problem(found: str, advice: str) -> Finding:
    return Finding("origin", found, advice, ok=False)


async def probe(config: OriginConfig, key: str | None = None) -> Finding:
    """Ask for the first byte of ``key``, or of a key that certainly does not exist.

    Raises :class:`~rangeserver.errors.ConfigError` when no client can be made.
    """
    parameters: dict[str, Any] = dict(standing_parameters(config))
    async with AsyncExitStack() as stack:
        credentials: KeptCredentials | None = None
        if not config.anonymous:
            kept = kept_credentials(config.profile, region=config.region)
            credentials = await stack.enter_async_context(kept)
        opened = open_client(config, credentials=credentials)
        client = await stack.enter_async_context(opened)
        wanted = key if key is not None else f".rangeserver-check-{secrets.token_hex(8)}"
        where = f"bucket {config.bucket!r} at {client.meta.endpoint_url}"
        try:
            with through_botocore(Attempt()), origin_errors():
                async with asyncio.timeout(config.response_seconds):
                    answer: Any = await client.get_object(
                        Bucket=config.bucket,
                        Key=config.prefix + wanted,
                        Range="bytes=0-0",
                        **parameters,
                    )
            answer["Body"].close()
        except OriginError as error:
            return await _meaning(error, where, key, config.endpoint_url)
    return Finding("origin", f"{where}: {wanted!r} can be read")


async def _meaning(error: OriginError, where: str, key: str | None, endpoint_url: str) -> Finding:
    found = await explained(error, endpoint_url)
    if found is not None:
        return _problem(f"{where}: {found.found}", found.advice)
    cause = error.__cause__
    if isinstance(cause, ClientError):
        return _answer_meaning(str(cause.response.get("Error", {}).get("Code", "")), where, key)
    if isinstance(error, OriginTimeout):
        return _problem(
            f"{where}: no answer in time ({error})",
            "check origin.endpoint_url, the network and firewalls on the way",
        )
    if isinstance(error, NoCredentials):
        found_none = (
            f"{error}" if isinstance(error, NoneFound) else f"no credentials found ({error})"
        )
        return _problem(
            f"{where}: {found_none}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name origin.profile, give the "
            "machine a role, or set origin.anonymous for a public bucket",
        )
    return _problem(f"{where}: {error}", "is this an S3 endpoint? check origin.endpoint_url")


def _answer_meaning(code: str, where: str, key: str | None) -> Finding:
    if code == "NoSuchKey" and key is None:
        return Finding("origin", f"{where} answers and may be read")
    if code == "AccessDenied" and key is None:
        return Finding(
            "origin",
            f"{where} answers, and denies access to a key that does not exist",
            "either it may not be listed, which is fine, or nothing may be read: "
            "try again with --key and the key of an object that exists",
        )
    if code == "InvalidRange":
        return Finding("origin", f"{where}: {key!r} can be read and is empty")
    if code.isdecimal() and code not in _PROBLEMS:  # botocore found no error document
        return _problem(
            f"{where}: answered {code} without S3's error document",
            "this does not look like S3: check origin.endpoint_url",
        )
    found, advice = _PROBLEMS.get(
        code, (f"answered {code}", "look this code up in the documentation of the origin")
    )
    return _problem(f"{where}: {found} ({code})", advice)


_REGION = (
    "the bucket is in another region",
    "set origin.region to the bucket's region, and origin.endpoint_url only for other stores",
)
_KEYS = (
    "the credentials are refused",
    "check the access key and secret that AWS's chain finds first: environment, profile, role",
)
_TOKEN = ("the session token has expired", "renew the credentials")

_PROBLEMS = {
    "NoSuchBucket": (
        "there is no such bucket",
        "check origin.bucket and, for other stores, origin.endpoint_url and addressing_style",
    ),
    "InvalidBucketName": ("this is no bucket name", "check origin.bucket"),
    "NoSuchKey": ("there is no such object", "check --key and origin.prefix"),
    "AccessDenied": (
        "the credentials are good, and this object may not be read with them",
        "allow s3:GetObject on the bucket's objects",
    ),
    "InvalidRequest": (
        "the request does not suit the object",
        "is it encrypted with a key of yours (SSE-C)? check origin.sse_customer_key_file",
    ),
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidToken": _KEYS,
    "ExpiredToken": _TOKEN,
    "ExpiredTokenException": _TOKEN,
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock (NTP)"),
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "301": _REGION,
    "SlowDown": ("the origin is throttling", "try again later"),
}
