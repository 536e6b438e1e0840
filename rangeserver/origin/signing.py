"""How requests are signed and sent: with one signature per object, or with one each.

A call of botocore costs about 2.7 ms of CPU, ten times as much as the request itself. But a
Signature Version 4 covers only what it lists, and is valid for 15 minutes; Range and If-Match may
be left out (AWS: "Authenticating Requests", on the reuse of the signed portions of a request). So
by default botocore's signer makes one signature for an object, which is used for all reads of it
for some minutes. It is in a header field and not, as in a presigned URL, in the target, where it
could get into logs and error messages. Fields that have to be signed (SSE-C, requester pays,
expected owner) are the same in all requests.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from multidict import CIMultiDict
from yarl import URL

from rangeserver import __version__, lru
from rangeserver.errors import AccessDenied, CredentialsExpired, OriginError, OriginRefused
from rangeserver.origin.asking import Answer, Ask
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.pool import Pool, through_botocore
from rangeserver.origin.translate import error_from_document, origin_errors

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

REUSED_SECONDS = 300.0
"""How long a signature is used. S3 accepts it for 900 s, less the difference of the clocks."""

MAX_SIGNATURES = 4096
"""The most signatures kept, the least recently used dropped first; each has at most 2 KiB."""

_SIGNABLE = re.compile(r"[0-9]{8}/([a-z0-9-]+)/(s3[a-z0-9-]*)/aws4_request")


class Sender(Protocol):
    """Sends a request once."""

    async def send(self, ask: Ask, attempt: Attempt) -> Answer:
        """The good answer; raises a subclass of :class:`~rangeserver.errors.OriginError` for any
        other.
        """
        ...


Credentials = Callable[[], ReadOnlyCredentials | None]
"""The current ones, the same object until they change; ``None``: do not sign."""


@dataclass(frozen=True, slots=True, repr=False)
class RequestFields:
    """Fields of every request for a bucket: SSE-C, requester pays, the expected owner.

    ``params`` are those of botocore, ``headers`` the same on the wire. The key of SSE-C is among
    them.
    """

    params: Mapping[str, str]
    headers: Mapping[str, str]


NO_FIELDS = RequestFields({}, {})


class PerRequestSender:
    """Lets botocore make, sign and read each request."""

    def __init__(self, client: S3Client, fields: RequestFields = NO_FIELDS) -> None:
        self._client: Any = client
        self._fields = fields

    async def send(self, ask: Ask, attempt: Attempt) -> Answer:
        """Send ``ask`` as HeadObject or GetObject."""
        options = {
            "Range": ask.range_header,
            "IfMatch": ask.if_match,
            "VersionId": ask.version_id,
        }
        params = {name: value for name, value in options.items() if value is not None}
        call = self._client.get_object if ask.method == "GET" else self._client.head_object
        with through_botocore(attempt), origin_errors():
            answer = await call(Bucket=ask.bucket, Key=ask.key, **params, **self._fields.params)
        about = answer["ResponseMetadata"]
        body = answer.get("Body")
        response = body.raw_stream if body is not None else None
        return Answer(int(about["HTTPStatusCode"]), about["HTTPHeaders"], response)


@dataclass(frozen=True, slots=True)
class _BucketEndpoint:
    """Where a bucket is: the URL before the key, and the scope to sign for."""

    base: str
    region: str
    service: str


@dataclass(frozen=True, slots=True, repr=False)
class _Signed:
    """The part of a request that is used again. It holds secrets, so it has no ``repr``."""

    url: URL
    headers: Mapping[str, str]
    credentials: ReadOnlyCredentials | None
    until: float


class PerObjectSender:
    """Signs once for each object, and sends past botocore. ``otherwise`` sends what cannot be so
    signed: directory buckets and multi-region access points have signatures of their own.
    """

    def __init__(
        self,
        client: S3Client,
        pool: Pool,
        credentials: Credentials,
        otherwise: Sender,
        *,
        clock: Callable[[], float],
        fields: RequestFields = NO_FIELDS,
    ) -> None:
        self._client: Any = client
        self._pool = pool
        self._credentials = credentials
        self._otherwise = otherwise
        self._clock = clock
        self._fields = fields
        self._endpoints: dict[str, _BucketEndpoint | None] = {}
        self._signed: OrderedDict[tuple[str, str, str, str | None], _Signed] = OrderedDict()

    async def send(self, ask: Ask, attempt: Attempt) -> Answer:
        """Send ``ask`` with the signature of its object, once more if an old one is refused."""
        endpoint = (
            self._endpoints[ask.bucket] if ask.bucket in self._endpoints else await self._find(ask)
        )
        if endpoint is None:
            return await self._otherwise.send(ask, attempt)
        signed, used_before = self._signature(ask, endpoint)
        try:
            return await self._send(ask, attempt, signed)
        except (OriginRefused, AccessDenied) as error:
            # A HEAD's 403 may mean a bad signature, or an object that we may not read.
            denied = isinstance(error, AccessDenied) and ask.method == "GET"
            if not used_before or denied or isinstance(error, CredentialsExpired):
                raise
        return await self._send(ask, attempt, self._signature(ask, endpoint)[0])

    async def _send(self, ask: Ask, attempt: Attempt, signed: _Signed) -> Answer:
        headers = CIMultiDict(signed.headers)
        if ask.range_header is not None:
            headers["Range"] = ask.range_header
        if ask.if_match is not None:
            headers["If-Match"] = ask.if_match
        with origin_errors():
            response = await self._pool.request(ask.method, signed.url, headers, attempt)
            if response.status >= 300:
                raise await self._refusal(ask, signed, response)
        return Answer(response.status, response.headers, response)

    async def _refusal(self, ask: Ask, signed: _Signed, response: Any) -> OriginError:
        try:
            document = await response.read()
        finally:
            response.close()
        error = error_from_document(response.status, document, response.headers)
        # A signature that may be the reason is not used again: each use would cost a request.
        mistrusted = isinstance(error, (OriginRefused, AccessDenied))
        if mistrusted and self._signed.get(_identity(ask)) is signed:
            del self._signed[_identity(ask)]
        return error

    def _signature(self, ask: Ask, endpoint: _BucketEndpoint) -> tuple[_Signed, bool]:
        """A signature for ``ask``, and whether it was used before."""
        identity = _identity(ask)
        credentials = self._credentials()
        known = self._signed.get(identity)
        if known is not None and known.until > self._clock() and known.credentials is credentials:
            self._signed.move_to_end(identity)
            return known, True
        signed = self._sign(ask, endpoint, credentials)
        lru.put(self._signed, identity, signed, max_entries=MAX_SIGNATURES)
        return signed, False

    def _sign(
        self, ask: Ask, endpoint: _BucketEndpoint, credentials: ReadOnlyCredentials | None
    ) -> _Signed:
        url = endpoint.base + quote(ask.key, safe="/~")
        if ask.version_id is not None:
            url += "?versionId=" + quote(ask.version_id, safe="~")
        request = AWSRequest(method=ask.method, url=url, headers=dict(self._fields.headers))
        if credentials is not None:
            S3SigV4Auth(credentials, endpoint.service, endpoint.region).add_auth(request)
        headers = {str(name): str(value) for name, value in request.headers.items()}
        headers |= {"Accept-Encoding": "identity", "User-Agent": f"rangeserver/{__version__}"}
        return _Signed(URL(url, encoded=True), headers, credentials, self._clock() + REUSED_SECONDS)

    async def _find(self, ask: Ask) -> _BucketEndpoint | None:
        """Where a bucket is, by botocore's rules. It makes no request for that."""
        with origin_errors():
            if ask.bucket.endswith(("--x-s3", "--xa-s3", ".mrap")):
                endpoint = None
            else:
                params = {"Bucket": ask.bucket, "Key": "k"}
                endpoint = _bucket_endpoint(
                    await self._client.generate_presigned_url("get_object", params)
                )
        self._endpoints[ask.bucket] = endpoint
        return endpoint


def _identity(ask: Ask) -> tuple[str, str, str, str | None]:
    return (ask.method, ask.bucket, ask.key, ask.version_id)


def _bucket_endpoint(presigned: str) -> _BucketEndpoint | None:
    url, _, query = presigned.partition("?")
    base = url.removesuffix("k")
    if not query:  # anonymous
        return _BucketEndpoint(base, "", "")
    scope = parse_qs(query).get("X-Amz-Credential", [""])[0].partition("/")[2]
    match = _SIGNABLE.fullmatch(scope)
    return _BucketEndpoint(base, match[1], match[2]) if match is not None else None
