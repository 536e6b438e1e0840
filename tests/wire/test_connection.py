"""Wire table, section 7: connections, and what becomes of a response that cannot be finished."""

from __future__ import annotations

import logging
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from rangeserver.web.exchange import Outcome
from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.heads import WireError, content_length, parse_head
from tests.wire.film import (
    ETAG,
    SIZE,
    TARGET,
    Expected,
    Missing,
    NotModified,
    Part,
    Parts,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    check_film,
    put_film,
)
from tests.wire.http import Answer, Wire, check_error, exchange, request
from tests.wire.running import DESCRIBES, Asked, Site, in_its_thread, opens, reads, requests, site
from tests.wire.table import covers, on_our_connections, table


@dataclass(frozen=True, slots=True)
class Step:
    """A request and what must come of it."""

    message: bytes
    check: Callable[[Answer], None]
    method: str = "GET"


def film(expected: Expected, *fields: str, method: str = "GET", target: str = TARGET) -> Step:
    return Step(
        request(target, *fields, method=method),
        lambda answer: check_film(answer, expected, method=method),
        method,
    )


def refusal(status: int, code: str, target: str, *fields: str, method: str = "GET") -> Step:
    return Step(
        request(target, *fields, method=method),
        lambda answer: check_error(answer, status, code, method=method),
        method,
    )


def options(answer: Answer) -> None:
    assert answer.status == 204


STEPS = (
    film(Part(0, 10), "Range: bytes=0-9"),
    film(Whole()),
    film(Missing(), target="/absent.mp4"),
    film(NotModified(), f"If-None-Match: {ETAG}"),
    film(Unsatisfiable(), "Range: bytes=10000-"),
    film(Whole(), method="HEAD"),
    film(PreconditionFailed(), 'If-Match: "other"'),
    film(Missing(), method="HEAD", target="/absent.mp4"),
    film(NotModified(), f"If-None-Match: {ETAG}", method="HEAD"),
    film(Parts(((0, 10), (500, 510))), "Range: bytes=0-9,500-509"),
    refusal(405, "method_not_allowed", TARGET, "Content-Length: 0", method="POST"),
    refusal(400, "bad_request", "/a/../b"),
    refusal(414, "key_too_long", "/" + "k" * 1025),
    refusal(414, "key_too_long", "/" + "k" * 1025, method="HEAD"),
    refusal(417, "expectation_failed", TARGET, "Expect: miracles"),
    Step(request("*", method="OPTIONS"), options, "OPTIONS"),
    film(Part(9990, SIZE), "Range: bytes=-10"),
)


@covers("7-keep-alive")
def test_every_kind_of_answer_keeps_the_connection(films: Site) -> None:
    with Wire(films.address) as wire:
        for step in STEPS * 2:
            wire.send(step.message)
            answer = wire.read_answer(step.method)
            step.check(answer)
            assert answer.head.keeps_connection
            assert answer.lacks("Connection")
        wire.finish_sending()
        wire.expect_end()


@pytest.mark.parametrize("step", STEPS, ids=range(len(STEPS)))
@covers("7-keep-alive")
def test_every_kind_of_answer_can_be_the_last(films: Site, step: Step) -> None:
    message = step.message.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    answer = exchange(films.address, message, method=step.method, keeps=False)
    step.check(answer)
    assert answer.fields["connection"] == "close"


@pytest.mark.parametrize("piece", [0, 1400, 7])
@covers("7-pipelining")
def test_answers_come_in_the_order_of_the_requests(films: Site, piece: int) -> None:
    """In one segment, in several, and cut anywhere; more of them than aiohttp queues."""
    steps = random.Random(piece).choices(STEPS, k=50 if piece else 100)
    stream = b"".join(step.message for step in steps)
    with Wire(films.address) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(stream), piece or len(stream)):
            wire.send(stream[start : start + (piece or len(stream))])
        for step in steps:
            step.check(wire.read_answer(step.method))
        wire.finish_sending()
        wire.expect_end()


@dataclass(frozen=True, slots=True)
class Old:
    """A request of an HTTP/1.0 client."""

    row: str
    what: str
    fields: tuple[str, ...]
    expected: Expected
    method: str = "GET"
    target: str = TARGET


OLD = (
    Old("7-http-1.0", "whole", (), Whole()),
    Old("7-http-1.0", "part", ("Range: bytes=0-9",), Part(0, 10)),
    Old("7-http-1.0", "parts", ("Range: bytes=0-9,500-509",), Parts(((0, 10), (500, 510)))),
    Old("7-http-1.0", "HEAD", (), Whole(), "HEAD"),
    Old("7-http-1.0", "304", (f"If-None-Match: {ETAG}",), NotModified()),
    Old("7-http-1.0", "412", ('If-Match: "other"',), PreconditionFailed()),
    Old("7-http-1.0", "416", ("Range: bytes=10000-",), Unsatisfiable()),
    Old("7-http-1.0", "404", (), Missing(), target="/absent.mp4"),
)


@table(OLD)
def test_http_1_0(films: Site, case: Old) -> None:
    for host in (None, "films.example"):
        for keeps in (False, True):
            fields = (*case.fields, "Connection: keep-alive") if keeps else case.fields
            message = request(case.target, *fields, method=case.method, version="1.0", host=host)
            answer = exchange(films.address, message, method=case.method, keeps=keeps)
            check_film(answer, case.expected, method=case.method)
            assert answer.head.version == "1.0"


BODIES = (
    ("Content-Length: 5", b"hello"),
    ("Content-Length: 60000", b"x" * 60_000),
    ("Content-Length: 40", b"GET /absent.mp4 HTTP/1.1\r\nHost: evil\r\n\r\n"[:40]),
    ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", b"0\r\n\r\n"),
    ("Transfer-Encoding: chunked", b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"),
)


@pytest.mark.fault("B7")
@pytest.mark.parametrize(("field", "body"), BODIES)
@covers("7-request-body")
def test_a_body_is_consumed_and_means_nothing(
    films: Site, field: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    _ask_with_a_body(films, field, body, "identity")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.fault("B7")
@on_our_connections
@pytest.mark.parametrize(("field", "body"), BODIES)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@covers("7-request-body")
def test_a_body_is_not_decompressed(
    films: Site, field: str, body: bytes, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it claims to be."""
    _ask_with_a_body(films, field, body, coding)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def _ask_with_a_body(films: Site, field: str, body: bytes, coding: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        message = request(
            TARGET,
            field,
            f"Content-Encoding: {coding}",
            "Range: bytes=0-9",
            method=method,
            body=body,
        )
        answer = exchange(films.address, message, method=method)
        match method:
            case "GET":
                check_film(answer, Part(0, 10))
            case "HEAD":
                check_film(answer, Whole(), method="HEAD")
            case _:
                check_error(answer, 405, "method_not_allowed")


@pytest.mark.fault("B7", "B8")
@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("piece", [0, 1400])
@covers("7-pipelining", "7-request-body")
def test_pipelined_requests_with_bodies_are_all_answered(
    films: Site, tmp_path: Path, piece: int, *, cached: bool
) -> None:
    """More of them than aiohttp queues: it reads no body behind those, and waits for its end."""
    bodies = [("Content-Length: 20000", b"x" * 20_000), *BODIES]
    messages = [
        request(TARGET, field, "Range: bytes=0-9", body=body)
        for field, body in random.Random(piece).choices(bodies, k=100)
    ]
    stream = b"".join(messages)
    with ExitStack() as stack:
        if cached:
            cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
            films = stack.enter_context(site(cache={**cache, "ttl_seconds": 60}))
            put_film(films.origin)
        wire = stack.enter_context(Wire(films.address))
        for start in range(0, len(stream), piece or len(stream)):
            wire.send(stream[start : start + (piece or len(stream))])
        for _ in messages:
            check_film(wire.read_answer(), Part(0, 10))
        wire.finish_sending()
        wire.expect_end()


@covers("7-content-length")
def test_a_length_and_never_chunks(films: Site) -> None:
    """The reader refuses Transfer-Encoding; here also for what is large, to 1.1 and to 1.0."""
    body = random.Random(7).randbytes(3_000_000)
    films.origin.put("large.mp4", body)
    for version in ("1.1", "1.0"):
        whole = exchange(films.address, request("/large.mp4", version=version), keeps=None)
        assert whole.fields["content-length"] == "3000000"
        assert whole.body == body
        message = request("/large.mp4", "Range: bytes=1-2999998", version=version)
        part = exchange(films.address, message, keeps=None)
        assert part.fields["content-length"] == "2999998"
        assert part.body == body[1:-1]
        message = request("/large.mp4", "Range: bytes=3000000-", version=version)
        refused = exchange(films.address, message, keeps=None)
        check_error(refused, 416, "range_not_satisfiable")


@pytest.fixture(scope="module")
def troubled(aws_environment: None, signing: str) -> Iterator[Site]:  # noqa: ARG001 (must be set up before)
    origin = {"idle_seconds": 0.5, "response_seconds": 2, "signing": signing}
    with site(origin=origin) as place:
        put_film(place.origin)
        yield place


@pytest.fixture
def faulty(troubled: Site) -> Iterator[Site]:
    while not troubled.finished.empty():
        troubled.finished.get()
    yield troubled
    troubled.origin.behave()
    check_film(exchange(troubled.address, request(TARGET, "Range: bytes=0-9")), Part(0, 10))


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the origin does wrong while a body is under way."""

    row: str
    what: str
    fault: Fault
    fields: tuple[str, ...] = ()
    skip: int = 0


TWO = ("Range: bytes=0-3999,5000-8999",)

TROUBLES = (
    Trouble("7-origin-dies", "FIN", faults.fin_after(5000)),
    Trouble("7-origin-dies", "reset", faults.reset_after(5000)),
    Trouble("7-origin-dies", "one byte before the end", faults.fin_after(SIZE - 1)),
    Trouble("7-origin-dies", "in a part", faults.fin_after(500), ("Range: bytes=100-1099",)),
    Trouble("7-origin-dies", "in the second of two parts", faults.fin_after(500), TWO, 1),
    Trouble("7-origin-dies", "stalled", faults.stall_after(5000)),
    Trouble("7-origin-short", "clean end", faults.all_of(faults.body_length(-100), faults.chunked)),
    Trouble(
        "7-origin-short", "until close", faults.all_of(faults.body_length(-1), faults.until_close)
    ),
    Trouble("7-origin-short", "connection kept", faults.body_length(-100)),
    Trouble("7-versions", "second part of another", faults.header("ETag", '"new"'), TWO, 1),
    Trouble(
        "7-versions",
        "second part of other bytes",
        faults.header("Content-Range", "bytes 0-3999/10000"),
        TWO,
        1,
    ),
    Trouble("7-versions", "second part whole", faults.whole_object, TWO, 1),
    Trouble("7-versions", "second part gone", faults.error(412, "PreconditionFailed"), TWO, 1),
)


@table(TROUBLES)
def test_a_body_that_cannot_be_finished_ends_in_a_broken_connection(
    faulty: Site, case: Trouble
) -> None:
    """Nobody can take for whole what is not: no clean end, no second status line."""
    faulty.origin.misbehave(case.fault, skip=case.skip)
    with Wire(faulty.address) as wire:
        wire.send(request(TARGET, *case.fields) + request(TARGET))
        head = wire.read_head()
        promised = content_length(head, "GET")
        assert head.status == (206 if case.fields else 200)
        body = wire.read_to_reset()
    assert len(body) < promised
    assert b"HTTP/1." not in body
    exchanged = faulty.finished.get(timeout=60)
    assert exchanged.outcome in {Outcome.ORIGIN_FAILED, Outcome.FAILED}
    assert exchanged.bytes_promised == promised


@dataclass(frozen=True, slots=True)
class Early:
    """What the origin does wrong before a byte was sent: it can still be said.

    ``pinned`` marks what is only wrong when the version asked for is known.
    """

    row: str
    what: str
    fault: Fault
    status: int
    code: str
    pinned: bool = False


EARLY = (
    Early(
        "7-versions", "another version", faults.header("ETag", '"new"'), 503, "object_changed", True
    ),
    Early("7-versions", "412", faults.error(412, "PreconditionFailed"), 503, "object_changed"),
    Early(
        "7-versions",
        "other bytes",
        faults.header("Content-Range", "bytes 1-10/10000"),
        502,
        "origin_protocol_error",
    ),
    Early(
        "7-versions",
        "another size",
        faults.header("Content-Range", "bytes 0-9/10001"),
        502,
        "origin_protocol_error",
        True,
    ),
    Early(
        "7-versions", "whole object for a part", faults.whole_object, 502, "origin_protocol_error"
    ),
    Early("7-versions", "another length", faults.both_lengths(-1), 502, "origin_protocol_error"),
    Early(
        "7-origin-dies",
        "before its header",
        faults.reset_after(faults.BEFORE_HEADER),
        502,
        "origin_unreachable",
    ),
    Early("7-origin-dies", "500", faults.error(500, "InternalError"), 502, "origin_failed"),
    Early("7-origin-dies", "503", faults.error(503, "SlowDown"), 503, "origin_throttled"),
    Early(
        "7-origin-dies", "before its first byte", faults.fin_after(0), 502, "origin_protocol_error"
    ),
)


@table([case for case in EARLY if not case.pinned])
def test_what_fails_before_the_first_byte_is_an_error_answer(faulty: Site, case: Early) -> None:
    check_early(faulty, case, request(TARGET, "Range: bytes=0-9"), opens("bytes=0-9"))


@table(EARLY)
def test_the_same_of_a_version_that_is_known(faulty: Site, case: Early) -> None:
    message = request(TARGET, "Range: bytes=0-9", 'If-None-Match: "other"')
    check_early(faulty, case, message, DESCRIBES, reads(0, 10, ETAG))


def check_early(place: Site, case: Early, message: bytes, *once: Asked) -> None:
    """An error answer, after ``once``, or that thrice where another version may be to blame."""
    place.origin.misbehave(case.fault)
    with place.asking() as asked:
        answer = exchange(place.address, message)
    assert requests(asked) == [*once] * (3 if case.code == "object_changed" else 1)
    check_error(answer, case.status, case.code)
    if case.status == 503:
        assert answer.fields["retry-after"] == "1"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)


@pytest.mark.parametrize("how", ["reset", "close"])
@covers("7-client-gone")
def test_a_client_that_leaves_frees_the_origin(faulty: Site, how: str) -> None:
    faulty.origin.put("long.mp4", bytes(20_000_000))
    with Wire(faulty.address, receive_buffer=4096) as wire:
        wire.send(request("/long.mp4"))
        assert wire.read_head().status == 200
        wait_until(lambda: faulty.running.acquired == 1)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    exchanged = faulty.finished.get(timeout=60)
    assert exchanged.outcome is Outcome.CLIENT_GONE
    assert exchanged.bytes_sent < exchanged.bytes_promised == 20_000_000
    wait_until(lambda: faulty.running.acquired == 0)
    assert len(faulty.running.active) == 0


@on_our_connections
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@covers("7-half-close")
def test_a_half_closed_client_gets_its_answers(films: Site, version: str) -> None:
    films.origin.put("half.mp4", b"x" * 2_000_000)
    with Wire(films.address) as wire:
        wire.send(request("/half.mp4", version=version))
        wire.finish_sending()
        answer = wire.read_answer()
        assert (answer.status, len(answer.body)) == (200, 2_000_000)
        wire.expect_end()


@on_our_connections
@covers("7-half-close")
def test_a_half_closed_client_gets_all_its_pipelined_answers(films: Site) -> None:
    with Wire(films.address) as wire:
        wire.send(b"".join(step.message for step in STEPS))
        wire.finish_sending()
        for step in STEPS:
            step.check(wire.read_answer(step.method))
        wire.expect_end()


@pytest.mark.parametrize("sent", [b"", b"GET /fi", b"GET /film.mp4 HTTP/1.1\r\nHost: x\r\n"])
@covers("7-half-close")
def test_a_client_that_closes_without_a_request_is_let_go(films: Site, sent: bytes) -> None:
    with Wire(films.address) as wire:
        wire.send(sent)
        wire.finish_sending()
        started = time.monotonic()
        wire.expect_end()
        assert time.monotonic() - started < 5  # and not after keep_alive_seconds


@pytest.fixture(scope="module")
def impatient(aws_environment: None) -> Iterator[Site]:  # noqa: ARG001 (must be set up before)
    with site(server={"header_seconds": 0.4, "keep_alive_seconds": 0.4}) as place:
        put_film(place.origin)
        yield place


@pytest.mark.fault("B6")
@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"G"],
        [b"GET /film.mp4\r\n"],
        [b"GET /film.mp4 HTTP/1.1\r\nHost: x\r\n"] + [b"X-A: b\r\n"] * 1000,
    ],
    ids=["nothing", "one byte", "one line", "drip"],
)
@pytest.mark.parametrize("first", [False, True], ids=["second request", "first request"])
@covers("7-slow-header")
def test_a_header_that_does_not_come_ends_the_connection(
    impatient: Site, pieces: list[bytes], first: bool
) -> None:
    with impatient.asking() as asked, Wire(impatient.address) as wire:
        if not first:
            wire.send(request("*", method="OPTIONS"))
            options(wire.read_answer("OPTIONS"))
        started = time.monotonic()
        wire.socket.settimeout(0.02)
        try:
            for piece in pieces:  # the timer is not extended by what trickles in
                wire.send(piece)
                try:
                    assert wire.socket.recv(1) == b""
                    break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
        else:
            wire.socket.settimeout(10)
            wire.expect_end()
        assert 0.2 < time.monotonic() - started < 5
    assert not asked


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "h2c, websocket"])
@covers("7-upgrade")
def test_a_request_behind_an_upgrade_that_is_not_accepted(impatient: Site, protocol: str) -> None:
    upgrade = request("*", "Connection: Upgrade", f"Upgrade: {protocol}", method="OPTIONS")
    with Wire(impatient.address) as wire:
        wire.send(upgrade + request("*", method="OPTIONS"))
        options(wire.read_answer("OPTIONS"))
        options(wire.read_answer("OPTIONS"))


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@covers("7-upgrade")
def test_an_upgrade_with_a_chunked_body_is_the_last_request(impatient: Site, protocol: str) -> None:
    """What lies behind it is lost, which its client is told instead of waiting for an answer."""
    fields = ("Connection: Upgrade", f"Upgrade: {protocol}", "Transfer-Encoding: chunked")
    upgrade = request("*", *fields, method="OPTIONS")
    with Wire(impatient.address) as wire:
        wire.send(upgrade + b"5\r\nhello\r\n0\r\n\r\n" + request("*", method="OPTIONS"))
        answer = wire.read_answer("OPTIONS")
        options(answer)
        assert not answer.head.keeps_connection
        wire.expect_end()


@covers("7-garbage")
def test_a_good_request_with_garbage_right_behind_it(impatient: Site) -> None:
    """What is no request changes nothing for the one before it."""
    with Wire(impatient.address) as wire:
        wire.send(request("*", method="OPTIONS") + b"garbage\r\n\r\n" + request("*"))
        options(wire.read_answer("OPTIONS"))
        check_error(wire.read_answer(), 400, "bad_request")
        wire.expect_end()


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on connections, and how many there may be."""

    row: str
    what: str
    setting: str


@table(
    [
        Limit("7-limits", "in all", "max_connections"),
        Limit("7-limits", "of one client", "max_connections_per_client"),
    ]
)
def test_one_connection_too_many(case: Limit, aws_environment: None) -> None:  # noqa: ARG001
    with site(server={case.setting: 2}) as place:
        put_film(place.origin)
        place.origin.put("slow.mp4", b"x" * 1000)
        place.origin.misbehave(faults.stall_after(100), key="slow.mp4")
        ask = request("*", method="OPTIONS")
        with Wire(place.address) as one, Wire(place.address) as two:
            for wire in (one, two):
                wire.send(request("/slow.mp4"))
            wait_until(lambda: place.origin.stalled == 2)
            for sent in (b"", request(TARGET), b"garbage\r\n\r\n"):
                with Wire(place.address) as third:
                    third.send(sent)
                    answer = third.read_answer()
                    check_error(answer, 503, "too_many_connections")
                    assert answer.fields["retry-after"] == "1"
                    assert not answer.head.keeps_connection
                    third.expect_end()
            in_its_thread(place, place.origin.release)
            for wire in (one, two):  # those that were admitted go on
                assert wire.read_answer().body == b"x" * 1000
                wire.send(request(TARGET, "Range: bytes=0-9"))
                check_film(wire.read_answer(), Part(0, 10))
        wait_until(lambda: place.running.server.places.taken == 0)
        with Wire(place.address) as wire:
            wire.send(ask)
            options(wire.read_answer("OPTIONS"))


@table(
    [
        Limit("7-limits", "in all", "max_connections"),
        Limit("7-limits", "of one client", "max_connections_per_client"),
    ]
)
def test_idle_connections_make_room(case: Limit, aws_environment: None) -> None:  # noqa: ARG001
    ask = request("*", method="OPTIONS")
    with site(server={case.setting: 2}) as place, ExitStack() as stack:
        first, second = (stack.enter_context(Wire(place.address)) for _ in range(2))
        for wire in (first, second):
            wire.send(ask)
            options(wire.read_answer("OPTIONS"))
        third = stack.enter_context(Wire(place.address))
        first.expect_end()  # it has waited for longest
        for wire in (second, third):
            wire.send(ask)
            options(wire.read_answer("OPTIONS"))


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nDate: x\r\nDate: y\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\nContent-Length: 0",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0",
        b"HTTP/1.1 200 OK\r\nContent-Length:  0",
        b"ICY 200 OK",
    ],
)
def test_the_reader_is_strict(sent: bytes) -> None:
    """A reader that forgave could not prove anything."""
    with pytest.raises(WireError):
        parse_head(sent)
