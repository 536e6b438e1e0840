"""A cached object is for those readers alone to whom the origin has given it: two servers on one
directory, or two mounts of one server, that ask the origin under different identities.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import Config
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.support import RawClient, RawResponse, config_for, running_app

FILM = bytes(range(256)) * 4096
TELLERS = ["two servers", "two mounts"]


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film": FILM}


def is_signed(request: SeenRequest) -> bool:
    return "authorization" in request.headers


def fetches(fake: FakeS3) -> int:
    """How often the origin was asked for bytes by one who may have them."""
    return len([request for request in fake.seen("GET") if fake.allows(request)])


class Asker:
    """One of those who ask a server."""

    def __init__(self, client: RawClient, path: str) -> None:
        self._client = client
        self._path = path

    async def ask(self, method: str = "GET", **headers: str) -> RawResponse:
        return await self._client.get(self._path + "film", method=method, **headers)

    async def statuses(self, etag: str) -> list[int]:
        """What each way of asking brings."""
        asked = [
            await self.ask(),
            await self.ask(Range="bytes=0-9"),
            await self.ask(Range="bytes=0-9,500-600"),
            await self.ask("HEAD"),
            await self.ask(If_None_Match=etag),
            await self.ask(Range="bytes=9-", If_Range=etag),
        ]
        return [response.status for response in asked]


def configured(
    fake: FakeS3, directory: Path, origin: Mapping[str, Any] | None = None, ttl_seconds: float = 60
) -> Config:
    cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0}
    return config_for(fake, origin=origin, cache=cache, ttl_seconds=ttl_seconds)


@asynccontextmanager
async def signed_and(
    other: Mapping[str, Any],
    apart: str,
    fake: FakeS3,
    directory: Path,
    *,
    ttl_seconds: float = 60,
) -> AsyncIterator[tuple[Asker, Asker]]:
    """One who is served with credentials, and one as ``other`` settings of the origin say."""
    config = configured(fake, directory, ttl_seconds=ttl_seconds)
    async with AsyncExitStack() as stack:
        if apart == "two mounts":
            mount = {"path": "/other/", "bucket": fake.bucket, **other}
            document = config.model_dump(mode="json")
            config = Config.model_validate({**document, "mounts": [mount]})
            app = await stack.enter_async_context(running_app(config))
            ports = (app.port, app.port)
        else:
            one = await stack.enter_async_context(running_app(config))
            config = configured(fake, directory, other, ttl_seconds)
            two = await stack.enter_async_context(running_app(config))
            ports = (one.port, two.port)
        paths = ("/", "/other/" if apart == "two mounts" else "/")
        clients = [await stack.enter_async_context(await RawClient.connect(port)) for port in ports]
        first, second = map(Asker, clients, paths)
        yield first, second


@pytest.mark.fault("C17")
@pytest.mark.parametrize("ttl_seconds", [0, 60])
@pytest.mark.parametrize("apart", TELLERS)
async def test_who_is_refused_gets_nothing_of_what_another_got(
    fake: FakeS3, tmp_path: Path, apart: str, ttl_seconds: float
) -> None:
    """However he asks, and neither when the origin cannot be asked any more."""
    fake.allows = is_signed
    etag, good = fake.etag("film"), [200, 206, 206, 200, 304, 206]
    async with signed_and({"anonymous": True}, apart, fake, tmp_path, ttl_seconds=ttl_seconds) as (
        signed,
        anonymous,
    ):
        assert await signed.statuses(etag) == good
        fetched = fetches(fake)
        assert await anonymous.statuses(etag) == [403] * 6
        assert await signed.statuses(etag) == good
        assert fetches(fake) == fetched
        await fake.refuse()
        assert not {200, 206, 304} & set(await anonymous.statuses(etag))
        assert await signed.statuses(etag) == good
        await fake.listen()


@pytest.mark.parametrize("apart", TELLERS)
async def test_who_may_read_too_has_to_ask_for_a_byte(
    fake: FakeS3, tmp_path: Path, apart: str
) -> None:
    etag = fake.etag("film")
    async with signed_and({"anonymous": True}, apart, fake, tmp_path) as (signed, anonymous):
        assert (await signed.ask()).body == FILM
        sent, asked = fake.sent["film"], len(fake.requests)
        for _ in range(2):
            assert (await anonymous.ask()).body == FILM
            assert await anonymous.statuses(etag) == [200, 206, 206, 200, 304, 206]
        (request,) = fake.requests[asked:]
        assert not is_signed(request)
        assert fake.sent["film"] == sent + 1
        await fake.refuse()
        assert (await anonymous.ask()).body == FILM
        await fake.listen()


@pytest.mark.parametrize("apart", TELLERS)
async def test_who_may_no_longer_read_is_not_served_stale(
    fake: FakeS3, tmp_path: Path, apart: str
) -> None:
    async with signed_and({"anonymous": True}, apart, fake, tmp_path, ttl_seconds=0) as (
        signed,
        anonymous,
    ):
        for asker in (signed, anonymous):
            assert (await asker.ask()).body == FILM
        fake.allows = is_signed
        assert (await anonymous.ask()).status == 403
        sent = fake.sent["film"]
        assert (await signed.ask()).body == FILM
        await fake.refuse()
        assert (await anonymous.ask()).status == 502
        assert (await signed.ask()).body == FILM
        assert fake.sent["film"] == sent
        await fake.listen()


@pytest.mark.parametrize("apart", TELLERS)
async def test_who_may_know_of_it_need_not_be_able_to_read_it(
    fake: FakeS3, tmp_path: Path, apart: str
) -> None:
    """A HEAD needs no right to decrypt."""
    fake.allows = lambda request: is_signed(request) or request.method == "HEAD"
    async with signed_and({"anonymous": True}, apart, fake, tmp_path) as (signed, anonymous):
        for order in ((anonymous, signed), (signed, anonymous)):
            for asker in order:
                assert (await asker.ask("HEAD")).status == 200
                expected = 200 if asker is signed else 403
                assert (await asker.ask()).status == expected
                assert (await asker.ask("HEAD")).status == 200


@pytest.mark.parametrize("apart", TELLERS)
@pytest.mark.parametrize("hidden", [False, True])
async def test_a_refusal_takes_nothing_from_others(
    fake: FakeS3, tmp_path: Path, apart: str, *, hidden: bool
) -> None:
    fake.allows = is_signed
    other = {"anonymous": True, "forbidden_as_not_found": hidden}
    async with signed_and(other, apart, fake, tmp_path) as (signed, anonymous):
        assert (await signed.ask()).body == FILM
        fetched = fetches(fake)
        for method in ("GET", "HEAD"):
            assert (await anonymous.ask(method)).status == (404 if hidden else 403)
        assert (await signed.ask()).body == FILM
        assert fetches(fake) == fetched


@pytest.mark.parametrize("apart", TELLERS)
async def test_whose_bill_it_is_is_part_of_who_asks(
    fake: FakeS3, tmp_path: Path, apart: str
) -> None:
    fake.allows = lambda request: "x-amz-request-payer" in request.headers
    async with signed_and({"request_payer": True}, apart, fake, tmp_path) as (poor, payer):
        assert (await payer.ask()).body == FILM
        assert (await poor.ask()).status == 403


@pytest.mark.parametrize(
    ("commands", "asked"), [(("cat {}", "cat {}"), 0), (("cat {}", "cat -- {}"), 1)]
)
async def test_a_role_is_the_same_with_other_keys(
    fake: FakeS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: tuple[str, str],
    asked: int,
) -> None:
    """Its keys are others every hour, and what is cached stays its own."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for turn, command in enumerate(commands):
        keys = {
            "Version": 1,
            "AccessKeyId": f"ASIA{turn}",
            "SecretAccessKey": "secret",
            "SessionToken": "token",
            "Expiration": "2999-01-01T00:00:00Z",
        }
        (tmp_path / "keys").write_text(json.dumps(keys))
        process = command.format(tmp_path / "keys")
        (tmp_path / "config").write_text(f"[default]\ncredential_process = {process}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        async with (
            running_app(configured(fake, tmp_path / "cache")) as app,
            await RawClient.connect(app.port) as client,
        ):
            before = len(fake.requests)
            assert (await client.get("/film")).body == FILM
            if turn:
                assert len(fake.requests) - before == asked
            else:
                assert f"ASIA{turn}" in fake.requests[-1].headers["authorization"]
