"""The public listener over TLS: the same bytes, limits, deadlines and ends as without."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from rangeserver.process.places import MAX_REFUSALS
from rangeserver.web.exchange import Exchange, Outcome
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import (
    RawClient,
    RunningApp,
    config_for,
    eventually,
    open_descriptors,
    running_app,
)
from tests.tls import TlsClient, certificate_pem, key_pem, new_key, tls_files, trusting

pytestmark = pytest.mark.loops("uvloop", "asyncio")

MIB = 1 << 20
FILM = random.Random(3).randbytes(9 * MIB + 321)
"""More than the buffers of both sockets take."""


@dataclass(slots=True)
class Secure:
    """A running server that speaks TLS."""

    fake: FakeS3
    app: RunningApp
    context: ssl.SSLContext
    files: Mapping[str, str]
    finished: list[Exchange] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def client(self, receive_buffer: int | None = None) -> TlsClient:
        return await TlsClient.open(self.app.port, self.context, receive_buffer=receive_buffer)

    async def plain(self) -> RawClient:
        return await RawClient.connect(self.app.port)

    async def outcome(self) -> Outcome | None:
        await eventually(lambda: len(self.finished) == 1)
        return self.finished[0].outcome


@asynccontextmanager
async def secure(directory: Path, *, cached: bool = False, **server: Any) -> AsyncIterator[Secure]:
    files = tls_files(directory)
    finished: list[Exchange] = []
    async with FakeS3() as fake:
        fake.put("film", FILM, content_type="video/mp4")
        cache = {"enabled": True, "directory": str(directory / "cache"), "min_free_bytes": 0}
        config = config_for(
            fake,
            server={**files, **server},
            cache=cache if cached else None,
            ttl_seconds=60 if cached else 0,
        )
        async with running_app(config, observers=[finished.append]) as app:
            place = Secure(fake, app, trusting(files), files, finished)
            assert app.tls is not None
            app.tls.handshake_failed = place.failures.append
            yield place


@pytest.fixture(params=[False, True], ids=["uncached", "cached"])
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Secure]:
    async with secure(tmp_path, cached=request.param) as found:
        yield found


# --- the same API


async def test_the_same_answers(place: Secure) -> None:
    async with await place.client() as client:
        for _ in range(2):  # what is not kept, and what is
            whole = await client.get("/film")
            assert (whole.status, whole.complete, whole.body == FILM) == (200, True, True)
            for start, stop in ((0, 1), (1000, 3 * MIB), (9 * MIB, len(FILM)), (77, 9 * MIB)):
                part = await client.get("/film", Range=f"bytes={start}-{stop - 1}")
                assert (part.status, part.complete) == (206, True)
                assert part.body == FILM[start:stop]
            several = await client.get("/film", Range="bytes=0-99,5000000-5000099")
            assert several.headers["content-type"].startswith("multipart/byteranges")
            assert several.complete
            assert FILM[:100] in several.body
            assert FILM[5_000_000:5_000_100] in several.body
            head = await client.get("/film", method="HEAD")
            assert (head.status, head.headers["content-length"]) == (200, str(len(FILM)))
            tag = whole.headers["etag"]
            assert (await client.get("/film", If_None_Match=tag)).status == 304
            assert (await client.get("/nothing")).status == 404
            assert (await client.get("/film", method="PUT")).status == 405
    await eventually(lambda: place.app.server.places.taken == 0)
    assert {exchange.outcome for exchange in place.finished} == {Outcome.COMPLETE}
    assert place.failures == []


async def test_requests_sent_at_once_are_answered_in_order(place: Secure) -> None:
    spans = [(start, start + 50_000) for start in range(0, 5_000_000, 100_000)]
    asked = "".join(
        f"GET /film HTTP/1.1\r\nHost: test\r\nRange: bytes={start}-{stop - 1}\r\n\r\n"
        for start, stop in spans
    )
    async with await place.client() as client:
        await client.send(asked.encode())
        for start, stop in spans:
            assert (await client.response()).body == FILM[start:stop]


async def test_what_is_agreed_on(place: Secure) -> None:
    place.context.set_alpn_protocols(["h2", "http/1.1"])
    async with await place.client() as client:
        assert client.tls.version() == "TLSv1.3"
        assert client.tls.selected_alpn_protocol() == "http/1.1"
    place.context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with await place.client() as client:
        assert client.tls.version() == "TLSv1.2"
        assert (await client.get("/film", Range="bytes=3-9999999")).body == FILM[3:]


async def test_a_large_request_in_small_records(place: Secure) -> None:
    asked = f"GET /film HTTP/1.1\r\nHost: test\r\nX: {'x' * 5000}\r\nRange: bytes=5-9\r\n\r\n"
    async with await place.client() as client:
        for at in range(0, len(asked), 100):
            await client.send(asked[at : at + 100].encode())
        assert (await client.response()).body == FILM[5:10]


# --- clients that leave or stall


@pytest.mark.parametrize("leave", [TlsClient.close, TlsClient.reset])
async def test_a_client_that_leaves_in_midst_of_a_body(
    place: Secure, leave: Callable[[TlsClient], None]
) -> None:
    before = open_descriptors()
    for _ in range(3):
        place.finished.clear()
        client = await place.client(receive_buffer=4096)
        await client.ask("/film")
        await client.head()
        leave(client)
        assert await place.outcome() is Outcome.CLIENT_GONE
        await eventually(lambda: place.app.server.places.taken == 0)
    await eventually(lambda: open_descriptors() <= before + place.app.idle + 2)


async def test_a_client_that_says_that_it_leaves(place: Secure) -> None:
    async with await place.client() as client:
        assert (await client.get("/film", Range="bytes=0-9")).complete
        await client.end()
        assert await client.rest() == b""
        assert client.ended_well
    await eventually(lambda: place.app.server.places.taken == 0)


async def test_one_that_only_closes_its_side_gets_its_answer(place: Secure) -> None:
    async with await place.client() as client:
        await client.ask("/film")
        await client.end()
        assert (await client.response()).body == FILM
        assert await client.rest() == b""
        assert client.ended_well
    assert await place.outcome() is Outcome.COMPLETE


async def test_so_does_one_that_closes_its_socket_for_writing(place: Secure) -> None:
    async with await place.client() as client:
        await client.ask("/film")
        client.sock.shutdown(socket.SHUT_WR)
        assert (await client.response()).body == FILM
    assert await place.outcome() is Outcome.COMPLETE


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
async def test_a_client_that_takes_nothing_is_cut(tmp_path: Path, cached: bool) -> None:
    async with (
        secure(tmp_path, cached=cached, write_idle_seconds=0.4) as place,
        await place.client(receive_buffer=4096) as client,
    ):
        began = time.monotonic()
        await client.ask("/film")
        assert await place.outcome() is Outcome.CLIENT_TOO_SLOW
        assert 0.3 < time.monotonic() - began < 4
        assert not (await client.response()).complete
        assert not client.ended_well


@pytest.mark.parametrize("size", [150_000, 300_000, 330_000, 400_000, 700_000])
async def test_what_lies_in_our_buffer_is_not_complete(tmp_path: Path, size: int) -> None:
    """Though nothing is left to be written: what the kernel has not, nobody else will send."""
    async with (
        secure(tmp_path, cached=True, write_idle_seconds=0.4) as place,
        await place.client(receive_buffer=4096) as client,
    ):
        await client.ask("/film", Range=f"bytes=0-{size - 1}")
        outcome = await place.outcome()
        response = await client.response()
        assert response.complete == (outcome is Outcome.COMPLETE)
        assert FILM[:size].startswith(response.body)


async def test_a_client_below_the_least_rate_is_cut(tmp_path: Path) -> None:
    limits = {"min_bytes_per_second": 500_000_000, "min_rate_grace_seconds": 0.2}
    async with secure(tmp_path, cached=True, **limits) as place:
        async with await place.client(receive_buffer=4096) as client:
            await client.ask("/film")
            began = time.monotonic()
            while not place.finished and await client.receive(2_000):
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 8
        assert await place.outcome() is Outcome.CLIENT_TOO_SLOW


async def test_a_slow_client_that_takes_something_is_not_cut(tmp_path: Path) -> None:
    async with (
        secure(tmp_path, cached=True, write_idle_seconds=0.5) as place,
        await place.client(receive_buffer=65536) as client,
    ):
        await client.ask("/film")
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            await client.receive(60_000)
            await asyncio.sleep(0.04)
            assert not place.finished, place.finished[0].outcome


@pytest.mark.fault("C7")
async def test_what_a_stalled_client_pins_is_bounded_and_seen(place: Secure) -> None:
    async with await place.client() as first:
        await first.get("/film")  # kept from now on, where anything is
    async with await place.client(receive_buffer=4096) as client:
        await client.ask("/film")
        await eventually(lambda: len(place.app.active) == 1)
        (exchange,) = place.app.active
        await eventually(lambda: exchange.transport is not None)
        transport = exchange.transport
        assert transport is not None
        await eventually(lambda: transport.get_write_buffer_size() > 65536)
        sizes = []
        for _ in range(20):
            sizes.append(transport.get_write_buffer_size())
            await asyncio.sleep(0.01)
        assert max(sizes) < 450_000
        assert (await client.response()).body == FILM


# --- the end of a body, and of the server


async def test_a_body_that_cannot_be_finished_does_not_end_well(tmp_path: Path) -> None:
    async with secure(tmp_path) as place:
        place.fake.misbehave(faults.reset_after(1_000_000), key="film")
        async with await place.client() as client:
            await client.ask("/film")
            response = await client.response()
            assert FILM.startswith(response.body)
            assert not response.complete
            assert client.was_reset
            assert not client.ended_well
        assert await place.outcome() is Outcome.ORIGIN_FAILED


async def test_a_server_that_stops(tmp_path: Path) -> None:
    """Idle connections end well, running responses by a reset, handshakes at once."""
    async with AsyncExitStack() as stack:
        async with secure(tmp_path, drain_seconds=0.2) as place:
            place.fake.misbehave(faults.stall_after(MIB), key="film")
            idle = await stack.enter_async_context(await place.client())
            assert (await idle.get("/nothing")).status == 404
            running = await stack.enter_async_context(await place.client())
            await running.ask("/film")
            await running.head()
            silent = await stack.enter_async_context(await place.plain())
            server = place.app.server
            await eventually(lambda: len(server.handshaking) == 1)
        assert await idle.rest() == b""
        assert idle.ended_well
        assert len(await running.rest()) < len(FILM)
        assert not running.ended_well
        assert running.was_reset
        assert await silent.rest() == b""
    assert server.places.taken == 0
    assert place.finished[-1].outcome is Outcome.DRAINED


async def test_a_drain_lets_responses_finish(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with secure(tmp_path, drain_seconds=10) as place:
            place.fake.misbehave(faults.stall_after(MIB), key="film")
            client = await stack.enter_async_context(await place.client())
            await client.ask("/film")
            await client.head()
            await eventually(lambda: place.fake.stalled == 1)
            place.fake.release()
            reading = asyncio.create_task(client.rest())
        assert await reading == FILM
        assert client.ended_well


# --- handshakes


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"]
)
async def test_a_client_that_does_not_go_on(tmp_path: Path, sent: bytes) -> None:
    async with secure(tmp_path, header_seconds=0.3) as place, await place.plain() as client:
        began = time.monotonic()
        await client.send(sent)
        await eventually(lambda: place.app.server.places.taken == 1)
        assert await client.rest() == b""
        assert 0.2 < time.monotonic() - began < 3
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == ["timeout"]


async def test_bytes_one_by_one_do_not_put_it_off(tmp_path: Path) -> None:
    async with secure(tmp_path, header_seconds=0.3) as place, await place.plain() as client:
        began = time.monotonic()
        with suppress(ConnectionError):
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400):
                await client.send(bytes([byte]))
                await asyncio.sleep(0.02)
        assert time.monotonic() - began < 3
        assert place.failures == ["timeout"]


async def test_after_the_handshake_the_header_has_its_own_time(tmp_path: Path) -> None:
    async with secure(tmp_path, header_seconds=0.3) as place, await place.client() as client:
        assert await client.rest() == b""
        assert client.ended_well
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == []


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_a_client_that_leaves_before_it_is_over(
    tmp_path: Path, leave: Callable[[RawClient], None]
) -> None:
    async with secure(tmp_path) as place:
        client = await place.plain()
        await client.send(b"\x16\x03\x01")
        await eventually(lambda: place.app.server.places.taken == 1)
        leave(client)
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == ["client_gone"]


async def test_plain_http_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with secure(tmp_path) as place:
        for method in ("GET", "HEAD", "POST"):
            async with await place.plain() as client:
                await client.ask("/film", method=method)
                answer = await client.response()
                assert answer.status == 400
                assert json.loads(answer.body)["error"]["code"] == "tls_required"
                assert await client.rest() == b""
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == ["plain_http"] * 3
        assert [each.status for each in place.finished] == [400] * 3
        assert not [each for each in caplog.records if each.levelno > logging.INFO]


@pytest.mark.parametrize("sent", [b"OPTIONS * HTTP/1.1\r\n\r\n", b"\x00" * 100, b"SSH-2.0-x\r\n"])
async def test_what_is_neither(
    tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure(tmp_path) as place, await place.plain() as client:
        await client.send(sent)
        answer = await client.rest()
        assert len(answer) < 20  # an alert
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == ["protocol"]
        assert not [each for each in caplog.records if each.levelno > logging.INFO]


async def test_a_client_that_does_not_trust_us(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure(tmp_path) as place:
        with pytest.raises(ssl.SSLCertVerificationError):
            await TlsClient.open(place.app.port, ssl.create_default_context())
        await eventually(lambda: place.app.server.places.taken == 0)
        assert place.failures == ["client_refused"]
        assert not [each for each in caplog.records if each.levelno > logging.INFO]


async def test_garbage_behind_the_handshake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure(tmp_path) as place, await place.client() as client:
        await client.ask("/film")
        await client.head()
        await RawClient.send(client, b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await place.outcome() is Outcome.CLIENT_GONE
        await eventually(lambda: place.app.server.places.taken == 0)
        assert not [each for each in caplog.records if each.levelno > logging.INFO]


async def test_handshakes_take_places_and_are_the_first_to_go(tmp_path: Path) -> None:
    async with secure(tmp_path, max_connections=2) as place, AsyncExitStack() as stack:
        silent = []
        for taken in (1, 2):
            silent.append(await stack.enter_async_context(await place.plain()))
            await eventually(lambda: place.app.server.places.taken == taken)  # noqa: B023
        client = await stack.enter_async_context(await place.client())
        assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]
        assert await silent[0].rest() == b""
        assert len(place.app.server.handshaking) == 1
        assert place.app.server.places.taken == 2


async def test_one_too_many_is_told_so_after_its_handshake(tmp_path: Path) -> None:
    async with secure(tmp_path, max_connections=1) as place, AsyncExitStack() as stack:
        busy = await stack.enter_async_context(await place.client(receive_buffer=4096))
        await busy.ask("/film")
        await eventually(lambda: len(place.app.active) == 1)
        refused = await stack.enter_async_context(await place.client())
        answer = await refused.response()
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        assert await refused.rest() == b""
        assert refused.ended_well
        assert (await busy.response()).body == FILM
        again = await stack.enter_async_context(await place.client())
        assert (await again.get("/film", Range="bytes=0-9")).body == FILM[:10]
        await eventually(lambda: place.app.server.places.refusing == 0)


async def test_only_so_many_are_refused_at_once(tmp_path: Path) -> None:
    async with (
        secure(tmp_path, max_connections=1) as place,
        await place.client(receive_buffer=4096) as busy,
    ):
        await busy.ask("/film")
        await eventually(lambda: len(place.app.active) == 1)
        async with AsyncExitStack() as stack:
            for _ in range(MAX_REFUSALS + 20):
                await stack.enter_async_context(await place.plain())
            places = place.app.server.places
            await eventually(lambda: len(place.app.server.handshaking) == MAX_REFUSALS)
            assert (places.taken, places.refusing) == (1, MAX_REFUSALS)
        await eventually(lambda: places.refusing == 0)
        assert places.taken == 1
        assert (await busy.response()).body == FILM


# --- renewal


def peer(client: TlsClient) -> str:
    """Whose certificate the server showed."""
    found = client.tls.getpeercert(binary_form=True)
    assert found is not None
    (attribute,) = x509.load_der_x509_certificate(found).subject
    return str(attribute.value)


@pytest.mark.fault("D6")
async def test_new_connections_have_the_new_certificate(tmp_path: Path) -> None:
    async with secure(tmp_path) as place, await place.client() as old:
        tls = place.app.tls
        assert tls is not None
        tls_files(tmp_path, "renewed")
        await tls.renew()
        async with await TlsClient.open(place.app.port, trusting(place.files)) as new:
            assert (peer(old), peer(new)) == ("test", "renewed")
            for client in (old, new):
                assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]


async def test_what_cannot_be_used_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure(tmp_path) as place:
        tls = place.app.tls
        assert tls is not None
        other = new_key()
        (tmp_path / "certificate.pem").write_bytes(certificate_pem(other))
        await tls.renew()  # the key is still the old one
        assert [each.message for each in caplog.records if each.levelno >= logging.ERROR] == [
            "the certificate is still the old one: server.tls_key: must belong to the first "
            "certificate in tls_certificate, and does not"
        ]
        async with await place.client() as client:
            assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]
        (tmp_path / "key.pem").write_bytes(key_pem(other))
        await tls.renew()
        async with await TlsClient.open(place.app.port, trusting(place.files)) as client:
            assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]
