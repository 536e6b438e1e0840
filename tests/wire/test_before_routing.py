"""What is no acceptable request is answered before anything is routed: JSON, and the end."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import pytest

from tests.wire.http import Wire, check_error, exchange, request
from tests.wire.running import Site
from tests.wire.table import covers, on_our_connections, table

MARK = b"echo-me-not"
HOST = b"Host: films.example\r\n"
LINE = b"GET /film.mp4?" + MARK + b" HTTP/1.1\r\n"
POST = b"POST /film.mp4?" + MARK + b" HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONNECT = b"CONNECT films.example:80 HTTP/1.1\r\n" + HOST
HIDDEN = LINE + HOST + b"\r\n"
"""What others may take for a body, or for the next request."""
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + b"\x11" * 100 + MARK + b"\x22" * 89


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes that are no acceptable request."""

    row: str
    what: str
    sent: bytes
    status: int = 400
    code: str = "bad_request"


def unsupported(what: str, sent: bytes) -> Row:
    return Row("7-http-versions", what, sent, 505, "http_version_not_supported")


ROWS = (
    Row("7-garbage", "controls", b"\x00\x01\x02" + MARK + b"\r\n\r\n"),
    Row("7-garbage", "a word", MARK + b"\n"),
    Row("7-garbage", "HTML", b"<script>" + MARK + b"</script>\r\n\r\n"),
    Row("7-garbage", "a response", b"HTTP/1.1 200 OK\r\nX: " + MARK + b"\r\n\r\n"),
    Row("7-garbage", "TLS hello", TLS_HELLO),
    Row("7-garbage", "SSH", b"SSH-2.0-OpenSSH_9.2 " + MARK + b"\r\n"),
    Row("7-garbage", "no version", b"GET /" + MARK + b" \r\n" + HOST + b"\r\n"),
    Row("7-garbage", "lower-case protocol", b"GET /" + MARK + b" http/1.1\r\n" + HOST + b"\r\n"),
    Row("7-garbage", "another protocol", b"GET /" + MARK + b" ICE/1.0\r\n" + HOST + b"\r\n"),
    Row("7-http-versions", "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK),
    Row("7-http-versions", "1.2", b"GET /" + MARK + b" HTTP/1.2\r\n" + HOST + b"\r\n"),
    Row("7-http-versions", "3.0", b"GET /" + MARK + b" HTTP/3.0\r\n" + HOST + b"\r\n"),
    Row("7-http-versions", "three digits", b"GET /" + MARK + b" HTTP/1.10\r\n" + HOST + b"\r\n"),
    unsupported("0.9", b"GET /" + MARK + b" HTTP/0.9\r\n" + HOST + b"\r\n"),
    unsupported("0.9, not said", b"GET /" + MARK + b"\r\n\r\n"),
    unsupported("2.0", b"GET /" + MARK + b" HTTP/2.0\r\n" + HOST + b"\r\n"),
    unsupported(
        "2.0, to be kept",
        b"GET /" + MARK + b" HTTP/2.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
    ),
    Row("7-host", "two", LINE + HOST + HOST + b"\r\n"),
    Row("7-host", "two that differ", LINE + HOST + b"Host: other.example\r\n\r\n"),
    Row("7-host", "none", LINE + b"\r\n"),
    Row(
        "7-smuggling",
        "length and chunked",
        POST + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    ),
    Row(
        "7-smuggling",
        "chunked and length",
        POST + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    Row(
        "7-smuggling",
        "two lengths",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    ),
    Row(
        "7-smuggling",
        "the same length twice",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    Row("7-smuggling", "a list of lengths", POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    Row("7-smuggling", "negative length", POST + b"Content-Length: -3\r\n\r\nabc"),
    Row("7-smuggling", "signed length", POST + b"Content-Length: +3\r\n\r\nabc"),
    Row("7-smuggling", "hexadecimal length", POST + b"Content-Length: 0x3\r\n\r\nabc"),
    Row("7-smuggling", "huge length", POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc"),
    Row("7-smuggling", "almost chunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    Row(
        "7-smuggling",
        "chunked not last",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    Row("7-smuggling", "chunked twice", POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n"),
    Row("7-smuggling", "bad chunk size", POST + CHUNKED + b"\r\nzz\r\n"),
    Row(
        "7-smuggling",
        "line feed in a chunk extension",
        POST + CHUNKED + b"\r\n5;x=\n\r\nhello\r\n0\r\n\r\n",
    ),
    Row("7-smuggling", "no coding", POST + b"Transfer-Encoding:\r\n\r\n" + HIDDEN),
    Row(
        "7-smuggling",
        "no coding and a length",
        POST + b"Transfer-Encoding: \r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    ),
    Row(
        "7-smuggling",
        "chunked in HTTP/1.0",
        POST.replace(b"/1.1", b"/1.0")
        + (b"Connection: keep-alive\r\n" + CHUNKED)
        + (b"\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"),
    ),
    Row(
        "7-smuggling",
        "CONNECT with a length",
        CONNECT + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    ),
    Row(
        "7-smuggling",
        "CONNECT with chunks",
        CONNECT + CHUNKED + b"\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n",
    ),
    Row("7-fields", "folded", LINE + HOST + b"X-A: a\r\n " + MARK + b"\r\n\r\n"),
    Row("7-fields", "bare line feeds", LINE.replace(b"\r", b"") + b"Host: x\n\n"),
    Row("7-fields", "one bare line feed", LINE + b"Host: x\nX: y\r\n\r\n"),
    Row("7-fields", "bare carriage return", LINE + HOST + b"X-A: a\rb\r\n\r\n"),
    Row("7-fields", "blank before the colon", LINE + HOST + b"X-A : a\r\n\r\n"),
    Row("7-fields", "blank before the name", LINE + b" X-A: a\r\n" + HOST + b"\r\n"),
    Row("7-fields", "NUL in a value", LINE + HOST + b"X-A: a\0b\r\n\r\n"),
    Row("7-fields", "control in a value", LINE + HOST + b"X-A: a\x01b\r\n\r\n"),
    Row("7-fields", "no colon", LINE + HOST + MARK + b"\r\n\r\n"),
    Row("7-fields", "no name", LINE + HOST + b": " + MARK + b"\r\n\r\n"),
    Row("7-fields", "8-bit name", LINE + HOST + b"X-\xe9: a\r\n\r\n"),
    Row(
        "7-fields",
        "20 kB in one",
        LINE + HOST + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
        code="request_too_long",
    ),
    Row(
        "7-fields",
        "20 kB of name",
        LINE + HOST + b"a" * 20_000 + b": b\r\n\r\n",
        code="request_too_long",
    ),
    Row("7-fields", "200 of them", LINE + HOST + b"X-A: a\r\n" * 200 + b"\r\n"),
    Row(
        "7-fields",
        "one Content-Type too many",
        LINE + HOST + b"Content-Type: a/b\r\n" * 2 + b"\r\n",
    ),
)


@on_our_connections
@pytest.mark.fault("F7", "F8")
@table(ROWS)
def test_no_request(films: Site, case: Row, caplog: pytest.LogCaptureFixture) -> None:
    with films.asking() as asked, caplog.at_level(logging.INFO), Wire(films.address) as wire:
        wire.send(case.sent)
        answer = wire.read_answer()
        wire.expect_end()
    check_error(answer, case.status, case.code)
    assert not answer.head.keeps_connection
    said = answer.body + repr(answer.head).encode()
    assert MARK not in said
    assert b"aiohttp" not in said.lower()
    assert not asked
    # Anyone can send these, and as many as he likes: the log gets the access line, no more.
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    line = caplog.records[-1].__dict__["access"]
    assert line["status"] == case.status
    assert line["request_id"] == json.loads(answer.body)["error"]["request_id"]
    assert line["bytes_sent"] == line["bytes_promised"] == len(answer.body)
    assert line["outcome"] == "complete"


@pytest.mark.parametrize(
    "host",
    ["a b", "films.example/path", "user@films.example", "<script>", "영화.example", "a,b;c\\"],
)
@covers("7-host")
def test_a_host_that_is_none(films: Site, host: str) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request("/film.mp4", host=host))
    check_error(answer, 400, "bad_request")
    assert not asked


@pytest.mark.parametrize(
    "host",
    ["", "films.example", "films.example:8080", "[2001:db8::1]:80", "192.0.2.1", "a_b.c-d~e"],
)
@covers("7-host")
def test_a_host_of_any_name(films: Site, host: str) -> None:
    lines = request("/film.mp4", "Host: " + host, "Range: bytes=0-0", host=None)
    assert exchange(films.address, lines).status == 206


@covers("7-host")
def test_the_target_decides_and_not_the_host(films: Site) -> None:
    """Nor is the authority of an absolute target of any meaning: there is one bucket."""
    with films.asking() as asked:
        answer = exchange(
            films.address,
            request("http://other.example:81/film.mp4", "Range: bytes=0-0", host="third.example"),
        )
    assert answer.status == 206
    assert {seen.headers["host"] for seen in asked} == {f"127.0.0.1:{films.origin.port}"}


@on_our_connections
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_else_stands_in_a_target_is_recorded_nowhere(films: Site, method: str) -> None:
    target = "http://user:secret@x/film.mp4?secret"
    answer = exchange(films.address, request(target, method=method), method=method)
    while (record := films.finished.get(timeout=60)).request_id != answer.fields["x-request-id"]:
        pass
    assert "secret" not in repr(record.fields())


@covers("7-garbage")
def test_empty_lines_before_a_request_are_skipped(films: Site) -> None:
    """RFC 9112 §2.2: at least one empty line is to be ignored."""
    message = b"\r\n\r\n" + request("*", method="OPTIONS")
    assert exchange(films.address, message, method="OPTIONS").status == 204


@on_our_connections
@covers("7-garbage")
def test_garbage_after_a_good_request(films: Site) -> None:
    with Wire(films.address) as wire:
        wire.send(request("/film.mp4", "Range: bytes=0-9"))
        assert wire.read_answer().status == 206
        wire.send(TLS_HELLO)
        check_error(wire.read_answer(), 400, "bad_request")
        wire.expect_end()


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
@covers("7-upgrade")
def test_no_upgrade_is_accepted(films: Site, protocol: str) -> None:
    message = request(
        "/film.mp4", "Connection: Upgrade", f"Upgrade: {protocol}", "Range: bytes=0-9"
    )
    answer = exchange(films.address, message)
    assert answer.status == 206
    assert answer.lacks("Upgrade")


@on_our_connections
@covers("7-garbage")
def test_a_target_in_raw_utf8_is_told_what_it_lacks(films: Site) -> None:
    with Wire(films.address) as wire:
        wire.send(request("/영화.mp4"))
        answer = wire.read_answer()
        wire.expect_end()
    check_error(answer, 400, "bad_request")
    assert "percent-encoded" in json.loads(answer.body)["error"]["message"]
