"""The client's settings: what they are, and that nothing outside can change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rangeserver.config import OriginConfig
from rangeserver.errors import ConfigError, OriginRefused, OriginServerError, OriginUnreachable
from rangeserver.origin.client import client_settings, open_client
from rangeserver.origin.pool import Pool
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Fault
from tests.fakes.s3 import FakeS3
from tests.support import config_for, eventually, opened_origin, persistent_origin

KEY = ObjectKey("a.mp4")
FACTS = ObjectFacts(KEY, 5, '"v1"')


@pytest.fixture
def hostile_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything there is to set, set otherwise."""
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    monkeypatch.setenv("AWS_NEW_RETRIES_2026", "true")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


async def test_the_settings_are_those_of_the_configuration() -> None:
    config = OriginConfig(
        bucket="b",
        max_connections=7,
        connect_seconds=1.5,
        idle_seconds=2.5,
        addressing_style="virtual",
    )
    settings: Any = client_settings(config, Pool(config.pool_wait_seconds))
    assert settings.max_pool_connections == 7
    assert settings.connect_timeout == 1.5
    assert settings.read_timeout == 2.5
    assert settings.retries == {"mode": "standard", "total_max_attempts": 1}
    assert settings.s3 == {"addressing_style": "virtual"}
    assert settings.proxies == {}
    assert settings.response_checksum_validation == "when_required"


@pytest.mark.usefixtures("hostile_environment")
@pytest.mark.parametrize("attempts", [1, 2])
async def test_the_environment_does_not_choose_the_attempts(fake: FakeS3, attempts: int) -> None:
    fake.put(KEY, b"bytes", etag='"v1"')
    fake.misbehave(faults.error(500, "InternalError"))
    async with persistent_origin(config_for(fake, origin={"max_attempts": attempts})) as origin:
        with pytest.raises(OriginServerError):
            async with origin.read(FACTS, ByteSpan(0, 5)):
                raise AssertionError
    assert len(fake.requests) == attempts


@pytest.mark.usefixtures("hostile_environment")
async def test_the_environment_names_no_proxy_and_no_checksum(fake: FakeS3) -> None:
    fake.put(KEY, b"bytes", etag='"v1"')
    async with opened_origin(config_for(fake)) as opened:
        facts = await opened.origin.describe(KEY)
        async with opened.origin.read(facts, ByteSpan(0, 5)) as parts:
            assert b"".join([part async for part in parts]) == b"bytes"
    for seen in fake.requests:
        assert seen.path == "/films/a.mp4"
        assert "x-amz-checksum-mode" not in seen.headers


async def test_one_failure_is_not_seen_with_a_second_attempt(fake: FakeS3) -> None:
    fake.put(KEY, b"bytes", etag='"v1"')
    fake.misbehave(faults.error(503, "SlowDown"), method="HEAD", times=1)
    async with persistent_origin(config_for(fake, origin={"max_attempts": 2})) as origin:
        assert (await origin.describe(KEY)).etag == '"v1"'
    assert [seen.method for seen in fake.requests] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("breaks", [faults.fin_after, faults.reset_after])
async def test_a_connection_that_breaks_before_the_header_counts_as_an_attempt(
    fake: FakeS3, breaks: Callable[[int], Fault]
) -> None:
    """aiohttp would repeat once by itself, for each of ours."""
    fake.put(KEY, b"bytes", etag='"v1"')
    fake.misbehave(breaks(BEFORE_HEADER), method="HEAD", times=4)
    async with persistent_origin(config_for(fake, origin={"max_attempts": 3})) as origin:
        with pytest.raises(OriginUnreachable):
            await origin.describe(KEY)
        assert len(fake.requests) == 3
        assert (await origin.describe(KEY)).etag == '"v1"'
        assert len(fake.requests) == 5


async def test_requests_are_signed_and_say_who_asks(fake: FakeS3) -> None:
    fake.put(KEY, b"bytes")
    async with opened_origin(config_for(fake, origin={"region": "ap-northeast-2"})) as opened:
        await opened.origin.describe(KEY)
    headers = fake.requests[0].headers
    assert "/ap-northeast-2/s3/aws4_request" in headers["authorization"]
    assert "rangeserver" in headers["user-agent"]


async def test_anonymous_requests_are_not_signed(fake: FakeS3) -> None:
    fake.put(KEY, b"bytes")
    async with opened_origin(config_for(fake, origin={"anonymous": True})) as opened:
        await opened.origin.describe(KEY)
    assert "authorization" not in fake.requests[0].headers


async def test_without_credentials_every_request_is_refused(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with opened_origin(config_for(fake)) as opened:
        with pytest.raises(OriginRefused, match=r"[Cc]redentials"):
            await opened.origin.describe(KEY)
    assert fake.requests == []


async def test_an_unknown_profile_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"origin: .*nobody"):
        async with open_client(OriginConfig(bucket="b", profile="nobody")):
            raise AssertionError


async def test_leaving_closes_every_connection(fake: FakeS3) -> None:
    fake.put(KEY, b"bytes")
    async with opened_origin(config_for(fake)) as opened:
        await opened.origin.describe(KEY)
        assert fake.open_connections == 1
    await eventually(lambda: fake.open_connections == 0)
