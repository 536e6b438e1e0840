"""The whole application against moto's S3, the way an application of aiohttp is tested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from rangeserver.app import create_app
from rangeserver.config import Config
from tests.fakes.moto import moto_with

FILM = bytes(range(256)) * 8192  # 2 MiB
KEYS = ["film.mp4", "바다 소리.mp4", "a+b c%2Fd.mp4", "🎬/1.ts", "x//y", "films/"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    objects = {f"public/{key}": FILM for key in KEYS}
    with moto_with({**objects, "public/empty": b"", "private.mp4": b"secret"}) as url:
        yield url


@pytest.fixture(params=["per-object", "per-request"])
async def client(
    endpoint: str, aiohttp_client: AiohttpClient, request: pytest.FixtureRequest
) -> TestClient[Any, Any]:
    return await open_bucket("films", endpoint, aiohttp_client, signing=request.param)


async def open_bucket(
    bucket: str, endpoint: str, aiohttp_client: AiohttpClient, **more: str
) -> TestClient[Any, Any]:
    origin = {"bucket": bucket, "prefix": "public/", "endpoint_url": endpoint, **more}
    return await aiohttp_client(create_app(Config.model_validate({"origin": origin})))


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_is_served_whole_and_in_ranges(
    key: str, client: TestClient[Any, Any]
) -> None:
    url = "/" + quote(key, safe="/")
    async with client.get(url) as response:
        assert response.status == 200
        assert await response.read() == FILM
        etag = response.headers["ETag"]
    async with client.get(url, headers={"Range": "bytes=-10", "If-Range": etag}) as response:
        assert response.status == 206
        assert await response.read() == FILM[-10:]
    async with client.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with client.head(url) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(FILM))


async def test_an_empty_object_is_served(client: TestClient[Any, Any]) -> None:
    async with client.get("/empty", headers={"Range": "bytes=0-"}) as response:
        assert response.status == 200
        assert await response.read() == b""


async def test_what_lies_outside_the_prefix_is_not_found(client: TestClient[Any, Any]) -> None:
    async with client.get("/private.mp4") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"


async def test_a_missing_bucket_is_no_missing_object(
    endpoint: str, aiohttp_client: AiohttpClient
) -> None:
    client = await open_bucket("nobody-s", endpoint, aiohttp_client)
    async with client.get("/film.mp4") as response:
        assert response.status == 502
        error = (await response.json())["error"]
    assert error["code"] == "origin_refused"
    assert error["request_id"] == response.headers["X-Request-Id"]
    assert "nobody-s" not in str(error)
