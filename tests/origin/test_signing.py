"""Both ways to sign, judged by an origin that computes every signature by itself."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any, Literal

import pytest
from botocore.auth import S3SigV4Auth
from botocore.credentials import ReadOnlyCredentials

from rangeserver.config import Config, OriginConfig
from rangeserver.errors import (
    AccessDenied,
    CredentialsExpired,
    NoCredentials,
    ObjectNotFound,
    OriginClockSkew,
    OriginError,
    OriginRefused,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin import signing
from rangeserver.origin.asking import Answer, Ask
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.client import open_client
from rangeserver.origin.pool import Pool
from rangeserver.origin.signing import (
    NO_FIELDS,
    REUSED_SECONDS,
    PerObjectSender,
    PerRequestSender,
    RequestFields,
    Sender,
)
from rangeserver.origin.upstream import open_upstream
from tests.fakes import faults
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.fakes.strict import SigningS3, expected_signature, signature_of, signed_headers
from tests.origin.clock import Clock
from tests.origin.keys import ODD_KEYS
from tests.support import acquired_connections, config_for

KEYS = ReadOnlyCredentials("AKTEST", "test", None)
SESSION = ReadOnlyCredentials("AKTEST", "test", "a-session-token")


@pytest.fixture
async def fake() -> AsyncIterator[SigningS3]:
    async with SigningS3() as origin:
        origin.put("a", b"0123456789", etag='"v1"')
        yield origin


@dataclass(slots=True, eq=False)
class Signer:
    """A sender that signs per object, and all that it looks at."""

    sender: PerObjectSender
    pool: Pool
    clock: Clock
    credentials: list[ReadOnlyCredentials | None]

    async def ask(self, method: Literal["GET", "HEAD"] = "GET", key: str = "a", **more: str) -> int:
        """Ask for an object of the fake; the status."""
        return await status_of(self.sender, Ask(method, "films", key, **more))


async def status_of(sender: Sender, ask: Ask) -> int:
    answer = await sender.send(ask, Attempt())
    try:
        if ask.method == "GET":
            while await answer.read():
                pass
        return answer.status
    finally:
        answer.close()


@asynccontextmanager
async def per_object(
    config: Config, *, otherwise: Sender | None = None, fields: RequestFields = NO_FIELDS
) -> AsyncIterator[Signer]:
    pool, clock = Pool(5), Clock()
    credentials: list[ReadOnlyCredentials | None] = [KEYS]
    async with open_client(config.origin, pool) as client:
        otherwise = otherwise or PerRequestSender(client, fields)
        sender = PerObjectSender(
            client, pool, lambda: credentials[-1], otherwise, clock=clock, fields=fields
        )
        yield Signer(sender, pool, clock, credentials)
        assert acquired_connections(pool) == 0


@pytest.fixture
async def signer(fake: SigningS3) -> AsyncIterator[Signer]:
    async with per_object(config_for(fake)) as opened:
        yield opened


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URL of each signature that is made."""
    urls: list[str] = []
    add_auth: Any = S3SigV4Auth.add_auth

    def counted(self: S3SigV4Auth, request: Any) -> None:
        urls.append(request.url)
        add_auth(self, request)

    monkeypatch.setattr(S3SigV4Auth, "add_auth", counted)
    return urls


# --- once for many requests


async def test_one_signature_serves_every_range_and_version(
    fake: SigningS3, signer: Signer, signed: list[str]
) -> None:
    fake.put("a", b"0123456789", etag='"v2"')
    assert await signer.ask() == 200
    assert await signer.ask(range_header="bytes=0-3") == 206
    assert await signer.ask(range_header="bytes=4-7", if_match='"v2"') == 206
    assert len(signed) == 1
    first, second, third = fake.requests
    assert first.headers["authorization"] == third.headers["authorization"]
    assert second.headers["range"] == "bytes=0-3"
    assert (third.headers["range"], third.headers["if-match"]) == ("bytes=4-7", '"v2"')
    assert {"range", "if-match"}.isdisjoint(signed_headers(third))


async def test_each_object_method_and_version_has_its_own(
    fake: SigningS3, signer: Signer, signed: list[str]
) -> None:
    fake.versioned = True
    fake.put("a", b"0123456789")
    fake.put("b", b"0123456789")
    for _ in range(2):
        assert await signer.ask("GET") == 200
        assert await signer.ask("HEAD") == 200
        assert await signer.ask("GET", "b") == 200
        assert await signer.ask("GET", "a", version_id="v0") == 200
    assert len(signed) == 4
    assert len({seen.headers["authorization"] for seen in fake.requests}) == 4


async def test_a_signature_is_renewed_long_before_s3_would_refuse_it(
    signer: Signer, signed: list[str]
) -> None:
    assert REUSED_SECONDS <= 900 / 2
    await signer.ask()
    signer.clock.now += REUSED_SECONDS - 1
    await signer.ask()
    assert len(signed) == 1
    signer.clock.now += 1
    await signer.ask()
    await signer.ask()
    assert len(signed) == 2


async def test_other_credentials_sign_anew(
    fake: SigningS3, signer: Signer, signed: list[str]
) -> None:
    await signer.ask()
    signer.credentials.append(SESSION)
    await signer.ask()
    await signer.ask()
    assert len(signed) == 2
    assert "x-amz-security-token" not in fake.requests[0].headers
    assert fake.requests[2].headers["x-amz-security-token"] == "a-session-token"
    assert "x-amz-security-token" in signed_headers(fake.requests[2])


async def test_the_least_recently_used_is_forgotten_first(
    fake: SigningS3, signer: Signer, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "MAX_SIGNATURES", 3)
    for key in "bcd":
        fake.put(key, b"0123456789")
    for key in ("a", "b", "c", "a", "d", "a", "c", "b"):
        await signer.ask("GET", key)
        assert len(signer.sender._signed) <= 3
    assert [url[-1] for url in signed] == ["a", "b", "c", "d", "b"]


async def test_without_credentials_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with FakeS3() as public:
        public.put("a", b"0123456789")
        config = config_for(public, origin={"anonymous": True})
        async with open_upstream(config.origin, OriginMetrics()) as upstream:
            with closing(await upstream.request(Ask("GET", "films", "a"), Attempt())) as answer:
                assert await answer.read() == b"0123456789"
        assert not {"authorization", "x-amz-date"} & set(public.requests[0].headers)


# --- what is refused


async def test_a_used_signature_that_is_refused_is_renewed_once(
    fake: SigningS3, signer: Signer, signed: list[str]
) -> None:
    await signer.ask()
    fake.misbehave(faults.error(403, "RequestTimeTooSkewed"), times=1)
    assert await signer.ask() == 200
    assert len(fake.requests) == 3
    assert len(signed) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_is_renewed_exactly_once(
    fake: SigningS3, signer: Signer, signed: list[str], method: Literal["GET", "HEAD"]
) -> None:
    await signer.ask(method)
    fake.misbehave(faults.error(403, "SignatureDoesNotMatch"), method=method)
    refused = OriginRefused if method == "GET" else AccessDenied
    with pytest.raises(refused):
        await signer.ask(method)
    assert len(fake.requests) == 3
    # Nor is it renewed each time from now on: what was refused is not kept.
    for asked in (4, 5, 6):
        with pytest.raises(refused):
            await signer.ask(method)
        assert len(fake.requests) == asked
    fake.behave()
    assert await signer.ask(method) == 200
    assert len(signed) == 6


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", AccessDenied),
        (400, "ExpiredToken", CredentialsExpired),
        (404, "NoSuchKey", ObjectNotFound),
    ],
)
async def test_what_a_new_signature_would_not_change_is_not_repeated(
    fake: SigningS3, signer: Signer, status: int, code: str, error: type[OriginError]
) -> None:
    await signer.ask()
    fake.misbehave(faults.error(status, code))
    with pytest.raises(error):
        await signer.ask()
    assert len(fake.requests) == 2


async def test_a_new_signature_that_is_refused_is_not_repeated(
    fake: SigningS3, signer: Signer
) -> None:
    fake.misbehave(faults.error(403, "RequestTimeTooSkewed"))
    with pytest.raises(OriginClockSkew):
        await signer.ask()
    assert len(fake.requests) == 1


async def test_credentials_that_there_are_not_send_nothing(fake: SigningS3, signer: Signer) -> None:
    def none() -> ReadOnlyCredentials:
        msg = "none found"
        raise NoCredentials(msg)

    signer.sender._credentials = none
    with pytest.raises(NoCredentials, match="none found"):
        await signer.ask()
    assert fake.requests == []


# --- the same request in both ways


@dataclass(frozen=True, slots=True)
class BothWays:
    """What came of asking the same in both ways."""

    one: SeenRequest
    other: SeenRequest

    @property
    def common_path(self) -> str:
        assert self.one.path == self.other.path
        return self.one.path


async def both_ways(fake: SigningS3, ask: Ask, **origin: Any) -> BothWays:
    for mode in ("per-object", "per-request"):
        config = config_for(fake, origin={**origin, "signing": mode}).origin
        async with open_upstream(config, OriginMetrics()) as upstream:
            with closing(await upstream.request(ask, Attempt())) as answer:
                assert answer.status in {200, 206}
    one, other = fake.requests
    return BothWays(one, other)


@pytest.mark.parametrize("key", [*ODD_KEYS, 'a;b=c/d|e[f]{g}^h`i"j<k>.mp4'])
async def test_every_key_is_written_and_signed_as_botocore_does(fake: SigningS3, key: str) -> None:
    fake.put(key, b"bytes")
    both = await both_ways(fake, Ask("GET", "films", key, range_header="bytes=1-3"))
    assert both.common_path
    assert both.one.key == both.other.key == key


@pytest.mark.parametrize("version", ["3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH", "a+b/c=&d e", "~"])
async def test_a_version_is_named_in_both_ways(fake: SigningS3, version: str) -> None:
    fake._versions["a", version] = fake._objects["a"]
    both = await both_ways(fake, Ask("GET", "films", "a", version_id=version))
    assert both.common_path.startswith("/films/a?versionId=")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_bucket_wants_of_each_request_is_sent_and_signed_in_both_ways(
    fake: SigningS3, tmp_path: Path, method: Literal["GET", "HEAD"]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(bytes(range(32)))
    key_file.chmod(0o600)
    both = await both_ways(
        fake,
        Ask(method, "films", "a"),
        sse_customer_key_file=str(key_file),
        request_payer=True,
        expected_bucket_owner="123456789012",
    )
    expected = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": b64encode(bytes(range(32))).decode(),
        "x-amz-server-side-encryption-customer-key-md5": b64encode(
            md5(bytes(range(32)), usedforsecurity=False).digest()
        ).decode(),
        "x-amz-request-payer": "requester",
        "x-amz-expected-bucket-owner": "123456789012",
    }
    for seen in (both.one, both.other):
        assert {name: seen.headers[name] for name in expected} == expected
        assert set(expected) <= signed_headers(seen)


def test_the_check_itself_finds_what_was_changed() -> None:
    """The origin of these tests is no rubber stamp."""
    headers = {
        "host": "h",
        "x-amz-date": "20260101T000000Z",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=A/20260101/r/s3/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64
        ),
    }
    seen = SeenRequest("GET", "/films/a", "a", headers)
    signature = expected_signature(seen, "s")
    assert signature != signature_of(seen)
    for other in (
        SeenRequest("HEAD", "/films/a", "a", headers),
        SeenRequest("GET", "/films/b", "b", headers),
        SeenRequest("GET", "/films/a?versionId=1", "a", headers),
        SeenRequest("GET", "/films/a", "a", {**headers, "host": "i"}),
    ):
        assert expected_signature(other, "s") != signature
    assert expected_signature(seen, "t") != signature


# --- where a bucket is


class Sent(Exception):
    """Stands in for the network: what botocore would have sent."""


async def url_of_botocore(client: Any, bucket: str) -> str:
    def stop(request: Any, **_: Any) -> None:
        raise Sent(request.url)

    client.meta.events.register("before-send.s3", stop)
    with pytest.raises(Sent) as sent:
        await client.get_object(Bucket=bucket, Key="k")
    return str(sent.value)


ACCESS_POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/films"


BUCKETS = [
    ("films", ""),
    ("films", "us-east-1"),
    ("films", "ap-northeast-2"),
    ("films", "cn-north-1"),
    ("with.dots", "eu-west-1"),
]


@pytest.mark.parametrize(
    ("bucket", "region", "style"),
    [
        *((*bucket, style) for bucket in BUCKETS for style in ("auto", "path", "virtual")),
        (ACCESS_POINT, "us-west-2", "auto"),  # botocore takes them in no other style
        (ACCESS_POINT, "us-west-2", "virtual"),
    ],
)
async def test_buckets_are_where_botocore_finds_them(bucket: str, region: str, style: str) -> None:
    config = OriginConfig.model_validate(
        {"bucket": bucket, "region": region, "addressing_style": style}
    )
    async with open_client(config, Pool(1)) as client:
        sender = PerObjectSender(
            client, Pool(1), lambda: KEYS, PerRequestSender(client), clock=Clock()
        )
        place = await sender._find(Ask("GET", bucket, "k"))
        assert place is not None
        assert place.base + "k" == await url_of_botocore(client, bucket)
        assert (place.region, place.service) == (region or "us-east-1", "s3")


@dataclass(slots=True)
class Recording:
    """A sender that only notes what it is asked."""

    asked: list[Ask] = field(default_factory=list)

    async def send(self, ask: Ask, _: Attempt) -> Answer:
        self.asked.append(ask)
        return Answer(200, {}, None)


@pytest.mark.parametrize(
    "bucket",
    [
        "films--use1-az4--x-s3",
        "films--use1-az4--xa-s3",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
    ],
)
async def test_buckets_with_signatures_of_their_own_are_left_to_botocore(
    fake: SigningS3, signed: list[str], bucket: str
) -> None:
    botocore = Recording()
    async with per_object(config_for(fake), otherwise=botocore) as signer:
        for _ in range(2):
            await signer.sender.send(Ask("HEAD", bucket, "a"), Attempt())
    assert botocore.asked == [Ask("HEAD", bucket, "a")] * 2
    assert (fake.requests, signed) == ([], [])


# --- nothing shows


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """At the most talkative level there is; the one of libraries stays at WARNING."""
    with caplog.at_level(logging.DEBUG):
        for library in ("botocore", "aiobotocore", "aiohttp", "asyncio"):
            caplog.set_level(logging.WARNING, library)
        yield caplog


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(403, "SignatureDoesNotMatch"),
        faults.status_line("garbage"),
        faults.header("X-Long", "x" * 9000),
        faults.reset_after(faults.BEFORE_HEADER),
        faults.redirect(307, "http://127.0.0.1:9/elsewhere"),
    ],
)
async def test_no_log_error_or_text_form_shows_a_secret(
    fake: SigningS3, everything_logged: pytest.LogCaptureFixture, fault: faults.Fault
) -> None:
    fields = RequestFields({}, {"x-amz-server-side-encryption-customer-key": "ssec-secret"})
    secrets = ["not-to-be-told", "ssec-secret", "a-session-token"]
    fake.secret = "not-to-be-told"
    async with per_object(config_for(fake), fields=fields) as signer:
        signer.credentials.append(
            ReadOnlyCredentials("AKTEST", "not-to-be-told", "a-session-token")
        )
        await signer.ask()
        fake.misbehave(fault)
        with pytest.raises(OriginError) as raised:
            await signer.ask()
        kept = [*signer.sender._signed.values(), signer.sender, fields]
        shown = [repr(each) for each in kept]
    secrets += [signature_of(seen) for seen in fake.requests]
    error: BaseException | None = raised.value
    while error is not None:
        shown.append(str(error))
        error = error.__cause__
    shown += [record.getMessage() for record in everything_logged.records]
    assert [secret for secret in secrets for text in shown if secret in text] == []
