"""The relay rule, through the whole server: every promised byte, or no clean end."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Callable

import pytest

from rangeserver.web.exchange import Exchange, Outcome
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Fault
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

BODY = random.Random(3).randbytes(3_000_000)
START, STOP = 100_000, 2_100_000
RANGE = f"bytes={START}-{STOP - 1}"

# Deadlines towards the origin that a test waits out, kept short.
SOON = {"idle_seconds": 0.3, "response_seconds": 1.5}


@pytest.fixture(autouse=True)
def stored(fake: FakeS3) -> None:
    fake.put("a.mp4", BODY, etag='"v1"')


async def assert_at_rest(app: RunningApp) -> None:
    """Nothing is left of any request, and the next one is served."""
    await eventually(lambda: len(app.active) == 0 and app.acquired == 0)
    async with await RawClient.connect(app.port) as client:
        response = await client.get("/a.mp4", Range="bytes=0-9")
        assert response.body == BODY[:10]


# --- the origin fails after the first byte: abort

BROKEN: dict[str, Fault] = {
    "short, FIN": faults.fin_after(1_000_000),
    "short by one": faults.fin_after(STOP - START - 1),
    "reset": faults.reset_after(1_000_000),
    "stalled": faults.stall_after(1_000_000),
    "short, chunked": faults.all_of(faults.body_length(-500_000), faults.chunked),
    "short, until close": faults.all_of(faults.body_length(-1), faults.until_close),
    "long, chunked": faults.all_of(faults.body_length(500_000), faults.chunked),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_origin_body_aborts_the_response(
    fake: FakeS3, finished: list[Exchange], name: str
) -> None:
    fake.misbehave(BROKEN[name], times=1)
    config = config_for(fake, origin=SOON)
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            response = await client.get("/a.mp4", Range=RANGE)
            assert response.status == 206
            assert response.headers["content-length"] == str(STOP - START)
            assert BODY.startswith(response.body, START)
            assert await client.rest() == b""
        if name == "long, chunked" and response.complete:
            # The surplus came in packets of its own, which nobody had to read.
            assert response.body == BODY[START:STOP]
            return
        assert not response.complete
        await eventually(lambda: len(finished) == 1)
        assert finished[0].outcome is Outcome.ORIGIN_FAILED
        assert finished[0].status == 206
        assert finished[0].bytes_promised == STOP - START
        assert len(response.body) <= finished[0].bytes_sent < STOP - START
        await assert_at_rest(app)


async def test_a_whole_object_response_is_aborted_too(fake: FakeS3) -> None:
    fake.misbehave(faults.fin_after(2_000_000))
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            response = await client.get("/a.mp4")
        assert response.status == 200
        assert not response.complete
        assert BODY.startswith(response.body)


async def test_what_came_before_the_break_is_counted_to_the_byte(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    fake.misbehave(faults.stall_after(1_000_000))
    config = config_for(fake, origin=SOON)
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            response = await client.get("/a.mp4", Range=RANGE)
        # The client read all along while the origin stalled, so that all had arrived.
        assert response.body == BODY[START : START + 1_000_000]
        await eventually(lambda: len(finished) == 1)
        assert finished[0].bytes_sent == 1_000_000


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(412, "PreconditionFailed"),
        faults.error(503, "SlowDown"),
        faults.error(403, "AccessDenied"),
        faults.whole_object,
        faults.fin_after(0),
        faults.fin_after(500),
        faults.reset_after(BEFORE_HEADER),
        faults.stall_after(BEFORE_HEADER),
    ],
)
async def test_a_second_part_that_fails_aborts_the_response(
    fake: FakeS3, finished: list[Exchange], fault: Fault
) -> None:
    fake.misbehave(fault, skip=1)
    config = config_for(fake, origin=SOON)
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            response = await client.get("/a.mp4", Range="bytes=0-999,5000-5999,9000-9999")
            assert response.status == 206
            assert not response.complete
            assert b"HTTP/1.1" not in response.body
            assert response.body.count(b"Content-Range") <= 2
            assert await client.rest() == b""
        await eventually(lambda: len(finished) == 1)
        assert finished[0].outcome is Outcome.ORIGIN_FAILED
        assert finished[0].bytes_sent < finished[0].bytes_promised
        fake.behave()
        await assert_at_rest(app)


async def test_pipelined_requests_get_no_answer_after_an_abort(fake: FakeS3) -> None:
    fake.misbehave(faults.fin_after(1_000), times=1)
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        await client.ask("/a.mp4", Range=RANGE)
        await client.ask("/a.mp4", Range="bytes=0-9")
        response = await client.response()
        assert not response.complete
        assert BODY.startswith(response.body, START)


# --- the origin fails before the first byte: an error response

BEFORE_FIRST_BYTE: dict[str, tuple[Fault, int, str]] = {
    "no such key": (faults.error(404, "NoSuchKey"), 404, "not_found"),
    "no such bucket": (faults.error(404, "NoSuchBucket"), 502, "origin_refused"),
    "denied": (faults.error(403, "AccessDenied"), 403, "access_denied"),
    "expired token": (faults.error(400, "ExpiredToken"), 502, "origin_refused"),
    "wrong signature": (faults.error(403, "SignatureDoesNotMatch"), 502, "origin_refused"),
    "unknown key id": (faults.error(403, "InvalidAccessKeyId"), 502, "origin_refused"),
    "wrong clock": (faults.error(403, "RequestTimeTooSkewed"), 502, "origin_clock_skew"),
    "slow down": (faults.error(503, "SlowDown"), 503, "origin_throttled"),
    "internal error": (faults.error(500, "InternalError"), 502, "origin_failed"),
    "redirect": (faults.redirect(307, "http://127.0.0.1:9/"), 502, "origin_protocol_error"),
    "garbage": (faults.status_line("garbage"), 502, "origin_protocol_error"),
    "error with 200": (faults.error(200, "InternalError"), 502, "origin_protocol_error"),
    "whole object": (faults.whole_object, 502, "origin_protocol_error"),
    "wrong length": (faults.both_lengths(-1), 502, "origin_protocol_error"),
    "header, no body": (faults.fin_after(0), 502, "origin_protocol_error"),
    "header, reset": (faults.reset_after(0), 502, "origin_protocol_error"),
    "header, stall": (faults.stall_after(0), 502, "origin_protocol_error"),
    "gone": (faults.fin_after(BEFORE_HEADER), 502, "origin_unreachable"),
    "stall": (faults.stall_after(BEFORE_HEADER), 504, "origin_timeout"),
}


# A HEAD has no body that could be wrong.
TELLING_HEADS = [
    name for name, (_, _, code) in BEFORE_FIRST_BYTE.items() if code != "origin_protocol_error"
]


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "GET") for name in BEFORE_FIRST_BYTE] + [(name, None) for name in TELLING_HEADS],
)
async def test_an_origin_fault_before_the_first_byte_is_answered(
    fake: FakeS3, finished: list[Exchange], name: str, method: str | None
) -> None:
    fault, status, code = BEFORE_FIRST_BYTE[name]
    fake.misbehave(fault, method=method)
    config = config_for(fake, origin=SOON)
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            response = await client.get("/a.mp4", Range=RANGE)
            assert response.status == status
            assert response.complete
            assert response.headers["content-type"] == "application/json"
            assert response.headers["cache-control"] == "no-store"
            assert "etag" not in response.headers
            assert "content-range" not in response.headers
            assert ("retry-after" in response.headers) == (status == 503)
            error = json.loads(response.body)["error"]
            assert error["code"] == code
            assert error["request_id"] == response.headers["x-request-id"]
            assert fake.bucket not in response.body.decode()
            assert str(fake.port) not in response.body.decode()
            assert [line.outcome for line in finished] == [Outcome.COMPLETE]
            assert finished[0].status == status
            assert finished[0].request_id == error["request_id"]
            assert finished[0].bytes_sent == finished[0].bytes_promised == len(response.body)
            # Nothing was begun, so the connection is as good as new.
            fake.behave()
            again = await client.get("/a.mp4", Range="bytes=0-9")
            assert again.body == BODY[:10]
        await assert_at_rest(app)


async def test_a_full_pool_is_answered_and_harms_nobody(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(1_000), times=1)
    origin = {"max_connections": 1, "pool_wait_seconds": 0.3}
    async with running_app(config_for(fake, origin=origin)) as app:
        async with (
            await RawClient.connect(app.port) as first,
            await RawClient.connect(app.port) as second,
        ):
            await first.ask("/a.mp4", Range=RANGE)
            await eventually(lambda: fake.stalled == 1)
            busy = await second.get("/a.mp4", Range=RANGE)
            assert busy.status == 503
            assert json.loads(busy.body)["error"]["code"] == "origin_busy"
            assert busy.headers["retry-after"] == "1"
            fake.release()
            assert (await first.response()).body == BODY[START:STOP]
        await assert_at_rest(app)


# --- versions


ASKED_FIRST = {"If_None_Match": '"other"'}


def replace_once(fake: FakeS3, body: bytes) -> Callable[[SeenRequest], None]:
    """A new version arrives between the HEAD and the GET of one answer.

    There are both only for a conditional request; :data:`ASKED_FIRST` is one that changes nothing.
    """

    def look(request: SeenRequest) -> None:
        if request.method == "GET":
            fake.on_request = None
            fake.put("a.mp4", body, etag='"v2"')

    return look


@pytest.mark.parametrize("size", [len(BODY), 1_500_000, len(BODY) * 2])
async def test_an_object_replaced_meanwhile_is_answered_anew(fake: FakeS3, size: int) -> None:
    new = random.Random(4).randbytes(size)
    fake.on_request = replace_once(fake, new)
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        response = await client.get("/a.mp4", Range=RANGE, **ASKED_FIRST)
    stop = min(STOP, size)
    assert response.status == 206
    assert response.headers["etag"] == '"v2"'
    assert response.headers["content-range"] == f"bytes {START}-{stop - 1}/{size}"
    assert response.body == new[START:stop]
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET", "HEAD", "GET"]
    assert [seen.headers["if-match"] for seen in fake.seen("GET")] == ['"v1"', '"v2"']


async def test_an_object_replaced_meanwhile_fails_the_clients_if_match(fake: FakeS3) -> None:
    fake.on_request = replace_once(fake, b"new")
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        response = await client.get("/a.mp4", If_Match='"v1"', **ASKED_FIRST)
    assert response.status == 412


async def test_an_object_replaced_meanwhile_ignores_the_range_of_if_range(fake: FakeS3) -> None:
    fake.on_request = replace_once(fake, b"a new and whole one")
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        response = await client.get("/a.mp4", Range="bytes=2-4", If_Range='"v1"', **ASKED_FIRST)
    assert (response.status, response.body) == (200, b"a new and whole one")


async def test_an_object_deleted_meanwhile_is_not_found(fake: FakeS3) -> None:
    fake.on_request = lambda seen: fake.delete("a.mp4") if seen.method == "GET" else None
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        await client.ask("/a.mp4", **ASKED_FIRST)
        status, _ = await client.head()
    assert status == 404


async def test_an_object_that_changes_all_the_time_is_given_up(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    fake.misbehave(faults.error(412, "PreconditionFailed"))
    async with (
        running_app(config_for(fake), observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get("/a.mp4", **ASKED_FIRST)
        assert response.status == 503
        assert json.loads(response.body)["error"]["code"] == "object_changed"
        assert response.headers["retry-after"] == "1"
    assert len(fake.requests) == 6  # three times asked, three times read
    assert finished[0].outcome is Outcome.COMPLETE


async def test_two_versions_are_never_mixed(fake: FakeS3) -> None:
    """The body of the old version goes on while the new one is there: it is one version."""
    fake.misbehave(faults.stall_after(500_000), times=1)
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        await client.ask("/a.mp4", Range=RANGE)
        await eventually(lambda: fake.stalled == 1)
        fake.put("a.mp4", bytes(len(BODY)), etag='"v2"')
        fake.release()
        assert (await client.response()).body == BODY[START:STOP]


# --- what is recorded


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({}, len(BODY)),
        ({"Range": "bytes=5-9"}, 5),
        ({"Range": "bytes=-1"}, 1),
        ({"If_None_Match": '"v1"'}, 0),
    ],
)
async def test_a_complete_response_is_recorded(
    fake: FakeS3, finished: list[Exchange], headers: dict[str, str], sent: int
) -> None:
    async with (
        running_app(config_for(fake), observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get("/a.mp4", **headers)
        assert len(response.body) == sent
        await eventually(lambda: len(finished) == 1)
    line = finished[0]
    assert line.outcome is Outcome.COMPLETE
    assert (line.bytes_promised, line.bytes_sent) == (sent, sent)
    assert (line.status, line.key, line.method) == (response.status, "a.mp4", "GET")
    assert line.first_byte is not None
    assert line.finished is not None
    assert line.started <= line.first_byte <= line.finished


async def test_several_ranges_are_recorded_with_their_framing(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    async with (
        running_app(config_for(fake), observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get("/a.mp4", Range="bytes=0-999,5000-5999")
        await eventually(lambda: len(finished) == 1)
    assert response.complete
    assert re.search(rb"Content-Range: bytes 5000-5999/3000000\r\n\r\n", response.body)
    assert finished[0].bytes_sent == len(response.body) > 2_000


@pytest.mark.parametrize("offset", [0, 1, 700_000])
@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_a_client_that_leaves_is_recorded_as_gone(
    fake: FakeS3, finished: list[Exchange], offset: int, leave: Callable[[RawClient], None]
) -> None:
    fake.misbehave(faults.stall_after(offset), times=1)
    async with running_app(config_for(fake), observers=[finished.append]) as app:
        client = await RawClient.connect(app.port)
        await client.ask("/a.mp4", Range=RANGE)
        await eventually(lambda: fake.stalled == 1)
        if offset:
            await client.head()
        received = 0
        while received < offset:
            received += len(await client.receive())
        leave(client)
        # Nothing is written while the origin stalls, and leaving is noticed all the same: an RST
        # at once, a FIN, which may come from a client that still listens, after a moment.
        await eventually(lambda: len(finished) == 1, 4.0)
        assert finished[0].outcome is Outcome.CLIENT_GONE
        assert finished[0].bytes_sent == offset
        await eventually(lambda: fake.open_connections <= 1 and fake.stalled == 0)
        await assert_at_rest(app)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_a_client_that_leaves_before_the_header_holds_nothing(
    fake: FakeS3, finished: list[Exchange], method: str, leave: Callable[[RawClient], None]
) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), method=method, times=1)
    async with running_app(config_for(fake), observers=[finished.append]) as app:
        client = await RawClient.connect(app.port)
        await client.ask("/a.mp4", Range=RANGE, **(ASKED_FIRST if method == "HEAD" else {}))
        await eventually(lambda: fake.stalled == 1)
        leave(client)
        await eventually(lambda: len(finished) == 1, 4.0)
        assert finished[0].outcome is Outcome.CLIENT_GONE
        assert finished[0].bytes_sent == 0
        await eventually(lambda: fake.stalled == 0 and app.server.places.taken == 0)
        await assert_at_rest(app)


@pytest.mark.fault("B5")
async def test_a_client_that_only_stops_sending_gets_its_response(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    async with (
        running_app(config_for(fake), observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        await client.ask("/a.mp4", Range=RANGE)
        client.sock.shutdown(socket.SHUT_WR)
        assert (await client.response()).body == BODY[START:STOP]
        assert await client.rest() == b""
        assert finished[0].outcome is Outcome.COMPLETE


# --- slow clients

LARGE = 24_000_000
"""More than the buffers of both sockets take."""


@pytest.mark.fault("B2")
async def test_a_client_that_stops_reading_is_cut(fake: FakeS3, finished: list[Exchange]) -> None:
    fake.put("large", bytes(LARGE))
    config = config_for(fake, server={"write_idle_seconds": 0.5})
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port, receive_buffer=4096) as client:
            began = time.monotonic()
            await client.ask("/large")
            await eventually(lambda: len(finished) == 1)
            assert 0.4 < time.monotonic() - began < 3
            assert finished[0].outcome is Outcome.CLIENT_TOO_SLOW
            assert finished[0].bytes_promised == LARGE
            response = await client.response()
            assert not response.complete
            assert len(response.body) <= finished[0].bytes_sent < LARGE
        await assert_at_rest(app)


async def test_a_client_that_reads_no_error_is_cut(fake: FakeS3, finished: list[Exchange]) -> None:
    config = config_for(fake, server={"write_idle_seconds": 0.5})
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port, receive_buffer=4096) as client:
            sending = asyncio.create_task(
                client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n" * 20_000)
            )
            await eventually(lambda: len(finished) > 0)
            await eventually(lambda: app.server.places.taken == 0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await eventually(lambda: len(app.active) == 0)  # its end comes after the connection's
        assert finished[-1].outcome is Outcome.CLIENT_TOO_SLOW


@pytest.mark.fault("B8")
async def test_headers_that_nobody_reads_hold_back_the_next_answer(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    def waiting() -> int:
        """Bytes of a response on its way that the connection would not take yet."""
        begun = [line.transport for line in app.active if line.response_begun]
        return sum(transport.get_write_buffer_size() for transport in begun if transport)

    async with running_app(config_for(fake), observers=[finished.append]) as app:
        async with await RawClient.connect(app.port, receive_buffer=4096) as client:
            request = b"HEAD /a.mp4 HTTP/1.1\r\nHost: a\r\n\r\n"
            sending = asyncio.create_task(client.send(request * 20_000))
            await eventually(lambda: waiting() > 0)
            answered = len(finished)
            await asyncio.sleep(0.1)  # time for some thirty more
            assert len(finished) == answered
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await assert_at_rest(app)


@pytest.mark.fault("B4")
async def test_a_client_that_pauses_is_not_cut(fake: FakeS3, finished: list[Exchange]) -> None:
    fake.put("large", bytes(LARGE))
    config = config_for(fake, server={"write_idle_seconds": 0.8})
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port, receive_buffer=65536) as client:
            await client.ask("/large")
            status, _ = await client.head()
            assert status == 200
            received = 0
            while received < LARGE:
                await asyncio.sleep(0.3)  # a player whose buffer is full
                goal = min(LARGE, received + LARGE // 4)
                while received < goal:
                    data = await client.receive()
                    assert data
                    received += len(data)
        await eventually(lambda: len(finished) == 1)
        assert finished[0].outcome is Outcome.COMPLETE
        assert finished[0].bytes_sent == LARGE


@pytest.mark.fault("B3")
async def test_a_client_that_trickles_is_cut(fake: FakeS3, finished: list[Exchange]) -> None:
    fake.put("large", bytes(LARGE))
    config = config_for(
        fake, server={"min_bytes_per_second": 50_000_000, "min_rate_grace_seconds": 0.5}
    )
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port, receive_buffer=4096) as client:
            await client.ask("/large")
            began = time.monotonic()
            # It takes a little at a time, and so is never idle.
            while not finished and await client.receive(2_000):
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 8
        await eventually(lambda: len(finished) == 1)
        assert time.monotonic() - began > 0.4
        assert finished[0].outcome is Outcome.CLIENT_TOO_SLOW
        await assert_at_rest(app)


async def test_a_slow_origin_is_no_fault_of_the_client(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    fake.misbehave(faults.drip(100_000, 0.07))
    config = config_for(
        fake,
        server={
            "write_idle_seconds": 0.5,
            "min_bytes_per_second": 50_000_000,
            "min_rate_grace_seconds": 0.4,
        },
    )
    async with running_app(config, observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4", Range=RANGE)).body == BODY[START:STOP]
        await eventually(lambda: len(finished) == 1)
        assert finished[0].outcome is Outcome.COMPLETE


# --- requests without a body to relay


@pytest.mark.parametrize("headers", [{}, {"Range": RANGE}, {"Range": "bytes=0-1,5-6"}])
async def test_head_never_reads_a_body(
    fake: FakeS3, finished: list[Exchange], headers: dict[str, str]
) -> None:
    async with (
        running_app(config_for(fake), observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        await client.ask("/a.mp4", method="HEAD", **headers)
        await client.ask("/a.mp4", Range="bytes=0-9")
        status, fields = await client.head()
        assert (status, fields["content-length"]) == (200, str(len(BODY)))
        assert (await client.response()).body == BODY[:10]
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET"]
    assert (finished[0].method, finished[0].bytes_promised, finished[0].bytes_sent) == (
        "HEAD",
        0,
        0,
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": '"v1"'}, 304),
        ({"If_Match": '"v0"', **ASKED_FIRST}, 412),
        ({"Range": "bytes=3000000-", **ASKED_FIRST}, 416),
        ({"Range": "bytes=3000000-,4000000-"}, 416),
    ],
)
async def test_an_answer_without_the_object_reads_no_body(
    fake: FakeS3, headers: dict[str, str], status: int
) -> None:
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        assert (await client.get("/a.mp4", **headers)).status == status
    assert fake.seen("GET") == []


async def test_every_get_that_serves_bytes_names_its_version(fake: FakeS3) -> None:
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        for value in ("bytes=0-0", "bytes=0-99,200-299", "bytes=-5", "octets=1-2"):
            assert (await client.get("/a.mp4", Range=value)).complete
    assert len(fake.seen("GET")) == 5
    # Or has no version to name yet, and brings it along.
    pins = [seen.headers.get("if-match") for seen in fake.seen("GET")]
    assert pins == [None, '"v1"', '"v1"', None, None]


async def test_a_failing_object_disturbs_no_other(fake: FakeS3) -> None:
    fake.put("bad", BODY)
    fake.misbehave(faults.stall_after(1_000), key="bad")
    async with running_app(config_for(fake, origin={"max_connections": 64})) as app:
        stuck = [await RawClient.connect(app.port) for _ in range(30)]
        for client in stuck:
            await client.ask("/bad")
        await eventually(lambda: fake.stalled == 30)
        async with await RawClient.connect(app.port) as client:
            began = time.monotonic()
            assert (await client.get("/a.mp4", Range=RANGE)).body == BODY[START:STOP]
            assert time.monotonic() - began < 1
        for client in stuck:
            client.close()
        await assert_at_rest(app)
