"""Requests that are answered as they arrive: the same answers as on the usual way."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.typedefs import Handler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rangeserver.app import create_app
from rangeserver.process.connection import Connection
from rangeserver.process.pipeline import Pipeline
from rangeserver.process.server import open_sockets, serving
from rangeserver.web import sendfile
from rangeserver.web.body_writer import BodyWriter
from rangeserver.web.delivery import Delivery
from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.fast_path import FAST_PATH
from rangeserver.web.flush import Client
from tests.amount import ALL
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app

MIB = 1 << 20
FILM = random.Random(1).randbytes(12 * MIB + 321)
"""More than the sockets take, and than one slice has."""

SMALL = random.Random(2).randbytes(100_000)
ETAG = '"of-small"'
MODIFIED = "Wed, 01 Jan 2025 00:00:00 GMT"
EARLIER = "Tue, 31 Dec 2024 23:59:59 GMT"


@dataclass(slots=True)
class Site:
    """A server that has ``film`` and ``small`` in its cache, and whose decisions are recorded."""

    app: RunningApp
    fake: FakeS3
    finished: list[Exchange]
    decisions: list[bool] = field(default_factory=list)
    usual: set[int] = field(default_factory=set)

    async def client(self, *, usual: bool = False, receive_buffer: int | None = None) -> RawClient:
        """A connection, on which nothing is answered at once if it is to be as ``usual``."""
        client = await RawClient.connect(self.app.port, receive_buffer=receive_buffer)
        if usual:
            self.usual.add(client.sock.getsockname()[1])
        return client

    def record(self) -> None:
        """Have the server's decisions recorded."""
        decide = self.app.server.service.fast_path
        assert decide is not None

        def recorded(
            message: RawRequestMessage, client: Client, peer: str
        ) -> tuple[Delivery, bytes] | None:
            assert client.transport is not None
            if client.transport.get_extra_info("peername")[1] in self.usual:
                return None
            decided = decide(message, client, peer)
            self.decisions.append(decided is not None)
            return decided

        self.app.server.service.fast_path = recorded  # type: ignore[assignment]


@asynccontextmanager
async def a_site(
    directory: Path, *, ttl_seconds: float = 300.0, **server: Any
) -> AsyncIterator[Site]:
    cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0}
    finished: list[Exchange] = []
    async with FakeS3() as fake:
        fake.put("film.mp4", FILM)
        fake.put("small.ts", SMALL, etag=ETAG)
        config = config_for(fake, cache=cache, ttl_seconds=ttl_seconds, server=server)
        async with running_app(config, observers=[finished.append]) as app:
            site = Site(app, fake, finished)
            for key, content in (("film.mp4", FILM), ("small.ts", SMALL)):
                async with await site.client() as client:
                    assert (await client.get(f"/{key}")).body == content
            await eventually(lambda: not app.active)
            finished.clear()
            site.record()
            yield site
            await eventually(lambda: not app.active)
            assert app.room._waiting == {}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as running:
        yield running


_VARYING = re.compile(
    rb"(X-Request-Id: |Date: |Age: |boundary=|\n--|\"request_id\": \")[0-9A-Za-z, :]+"
)


async def both_ways(site: Site, request: bytes) -> tuple[bytes, bool]:
    """The answer to a request, the same on both ways, and whether it was given at once."""
    answers = []
    for usual in (True, False):
        async with await site.client(usual=usual) as client:
            await client.send(request)
            client.sock.shutdown(socket.SHUT_WR)
            answers.append(await client.rest())
    assert _VARYING.sub(rb"\1", answers[0]) == _VARYING.sub(rb"\1", answers[1])
    return answers[1].partition(b"\r\n\r\n")[2], site.decisions[-1]


def asking(target: str = "/small.ts", method: str = "GET", **headers: str) -> bytes:
    fields = {"Host": "test", **{name.replace("_", "-"): v for name, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode()


AT_ONCE_ANSWERED = {
    "all of it": (asking(), SMALL),
    "a span": (asking(Range="bytes=1000-1999"), SMALL[1000:2000]),
    "an open end": (asking(Range="bytes=99000-"), SMALL[99_000:]),
    "beyond the end": (asking(Range="bytes=99000-200000"), SMALL[99_000:]),
    "one byte": (asking(Range="bytes=0-0"), SMALL[:1]),
    "leading zeros": (asking(Range="bytes=0000-0001"), SMALL[:2]),
    "a download": (asking("/small.ts?download=a%25b.ts", Range="bytes=5-6"), SMALL[5:7]),
    "another parameter": (asking("/small.ts?token=1"), SMALL),
    "escapes": (asking("/sm%61ll.ts"), SMALL),
    "a request id": (asking(X_Request_Id="12345678"), SMALL),
    "what a browser sends": (
        asking(Range="bytes=0-", Accept="*/*", Accept_Encoding="identity;q=1", Referer="http://a"),
        SMALL,
    ),
    "what a browser sends of a version it knows": (
        asking(Range="bytes=0-", Accept="*/*", If_Range=ETAG),
        SMALL,
    ),
    "if-range with the date": (asking(Range="bytes=5-6", If_Range=MODIFIED), SMALL[5:7]),
    "if-match": (asking(Range="bytes=5-6", If_Match=f'"other", {ETAG}'), SMALL[5:7]),
    "if-match any": (asking(If_Match="*"), SMALL),
    "if-none-match of another version": (asking(If_None_Match='W/"other"'), SMALL),
    "if-modified-since an earlier date": (asking(If_Modified_Since=EARLIER), SMALL),
    "if-unmodified-since the date": (asking(If_Unmodified_Since=MODIFIED), SMALL),
    "all conditions at once": (
        asking(
            Range="bytes=5-6",
            If_Range=ETAG,
            If_Match=ETAG,
            If_None_Match='"other"',
            If_Modified_Since=MODIFIED,
            If_Unmodified_Since=EARLIER,
        ),
        SMALL[5:7],
    ),
    "many bytes": (asking("/film.mp4", Range="bytes=3-9999999"), FILM[3:10_000_000]),
}

HEADS_ALONE = {
    "head": asking(method="HEAD"),
    "head, whatever range": asking(method="HEAD", Range="bytes=5-4"),
    "head, several ranges": asking(method="HEAD", Range="bytes=0-0,5000-5001"),
    "head of a download": asking("/small.ts?download=a%25b.ts", method="HEAD"),
    "head, conditions that hold": asking(method="HEAD", If_Match=ETAG, If_Range=ETAG),
    "head, if-none-match": asking(method="HEAD", If_None_Match=ETAG),
    "if-none-match": asking(If_None_Match="*"),
    "if-none-match of this version": asking(If_None_Match=ETAG, Range="bytes=0-1"),
    "if-none-match, one of several": asking(If_None_Match=f'"other", W/{ETAG}'),
    "if-none-match, whatever if-range": asking(
        If_None_Match=ETAG, If_Range='"other"', Range="bytes=0-1"
    ),
    "if-none-match of a download": asking("/small.ts?download", If_None_Match=ETAG),
    "if-modified-since": asking(If_Modified_Since="Wed, 25 Nov 2099 00:00:00 GMT"),
    "if-modified-since the date": asking(If_Modified_Since=MODIFIED),
}

USUALLY_ANSWERED = {
    "a suffix": asking(Range="bytes=-5"),
    "several": asking(Range="bytes=0-0,5000-5001"),
    "two lines": asking(Range="bytes=0-1\r\nRange: bytes=2-3"),
    "unsatisfiable": asking(Range="bytes=100000-"),
    "no range": asking(Range="bytes=5-4"),
    "another unit": asking(Range="lines=1-2"),
    "a large number": asking(Range="bytes=0-99999999999999999999"),
    "if-range": asking(Range="bytes=0-1", If_Range='"other"'),
    "if-range, weak": asking(Range="bytes=0-1", If_Range=f"W/{ETAG}"),
    "if-range, another date": asking(Range="bytes=0-1", If_Range=EARLIER),
    "if-range, twice": asking(Range="bytes=0-1", If_Range=f"{ETAG}\r\nIf-Range: {ETAG}"),
    "if-range and a reversed range": asking(Range="bytes=9-3", If_Range=ETAG),
    "if-match": asking(If_Match='"other"'),
    "if-match, one of two false": asking(If_Match='"other"', If_Unmodified_Since=MODIFIED),
    "if-match before if-none-match": asking(If_Match='"other"', If_None_Match=ETAG),
    "if-unmodified-since": asking(If_Unmodified_Since="Wed, 25 Nov 2009 00:00:00 GMT"),
    "expect": asking(Expect="100-continue"),
    "expect nothing known": asking(Expect="more"),
    "head, if-match": asking(method="HEAD", If_Match='"other"'),
    "head of nothing": asking("/other.ts", method="HEAD"),
    "options": asking(method="OPTIONS"),
    "post": asking(method="POST"),
    "close": asking(Connection="close"),
    "upgrade": asking(Connection="Upgrade", Upgrade="h2c"),
    "a bad host": asking(Host="a b"),
    "a bad path": asking("/../small.ts"),
    "a fragment": asking("/small.ts#a"),
    "no such object": asking("/other.ts"),
    "no key": asking("/"),
    "HTTP/1.0": b"GET /small.ts HTTP/1.0\r\nHost: a\r\n\r\n",
}


async def test_what_is_answered_at_once_is_what_is_usually_answered(site: Site) -> None:
    for name, (request, body) in AT_ONCE_ANSWERED.items():
        site.finished.clear()
        assert await both_ways(site, request) == (body, True), name
        await eventually(lambda: len(site.finished) == 2)
        usual, at_once = site.finished
        for told in (usual, at_once):
            told.request_id, told.started, told.finished, told.first_byte = "", 0.0, 0.0, 0.0
        assert at_once.fields() == usual.fields(), name
        assert (at_once.source, at_once.content_range) == ("cache", usual.content_range), name


async def test_heads_alone_are_those_that_are_usually_sent(site: Site) -> None:
    for name, request in HEADS_ALONE.items():
        site.finished.clear()
        assert await both_ways(site, request) == (b"", True), name
        await eventually(lambda: len(site.finished) == 2)
        usual, at_once = site.finished
        for told in (usual, at_once):
            told.request_id, told.started, told.finished, told.first_byte = "", 0.0, 0.0, 0.0
        assert at_once.fields() == usual.fields(), name


async def test_a_head_alone_that_does_not_fit_is_sent_with_patience(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sends_little(descriptor: int, data: bytes, *, more: bool) -> bytes:
        return real(descriptor, data[:10], more=more) + data[10:]

    real = sendfile.send_now
    monkeypatch.setattr("rangeserver.web.body_writer.send_now", sends_little)
    async with await site.client() as client:
        for _ in range(3):
            response = await client.get("/small.ts", method="HEAD")
            assert (response.status, response.headers["content-length"]) == (200, str(len(SMALL)))
            response = await client.get("/small.ts", If_None_Match=ETAG)
            assert response.status == 304
        assert (await client.get("/small.ts", Range="bytes=-5")).body == SMALL[-5:]
    assert site.decisions == [*[True] * 6, False]
    await eventually(lambda: len(site.finished) == 7)
    assert {each.outcome for each in site.finished} == {Outcome.COMPLETE}


async def test_what_is_out_of_the_ordinary_goes_the_usual_way(site: Site) -> None:
    for name, request in USUALLY_ANSWERED.items():
        assert not (await both_ways(site, request))[1], name


@pytest.mark.parametrize(
    "more", [{"Content_Length": "3"}, {"Transfer_Encoding": "chunked"}], ids=["length", "chunked"]
)
async def test_a_request_with_a_body_goes_the_usual_way(site: Site, more: dict[str, str]) -> None:
    async with await site.client() as client:
        await client.send(asking(**more))
        assert (await client.response()).body == SMALL
    assert site.decisions == []


async def test_any_range_and_conditions_get_the_same_answer_both_ways(tmp_path: Path) -> None:
    number = st.integers(0, 120_000).map(str) | st.sampled_from(["", "0", "99999", "00", "9" * 19])
    value = st.builds("bytes={}-{}".format, number, number) | st.text("bytes=-, 019", max_size=12)
    tag = st.sampled_from([ETAG, f"W/{ETAG}", '"other"', f'"other", {ETAG}', "*", "x", MODIFIED])
    date = st.sampled_from([MODIFIED, EARLIER, "Wed, 25 Nov 2099 00:00:00 GMT", "x"])
    conditions = st.fixed_dictionaries(
        {},
        optional={
            "If_Range": tag,
            "If_Match": tag,
            "If_None_Match": tag,
            "If_Modified_Since": date,
            "If_Unmodified_Since": date,
        },
    )
    async with a_site(tmp_path) as site:
        loop = asyncio.get_running_loop()

        @settings(
            max_examples=60 if ALL else 20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(value, conditions)
        def same(value: str, conditions: dict[str, str]) -> None:
            work = both_ways(site, asking(Range=value.strip(), **conditions))
            asyncio.run_coroutine_threadsafe(work, loop).result(20)

        await asyncio.to_thread(same)
        assert {True, False} == set(site.decisions)


async def test_facts_whose_time_is_over_are_not_told_at_once(site: Site) -> None:
    async with await site.client() as client:
        assert (await client.get("/small.ts")).body == SMALL
        site.app.facts._entries.clear()
        assert (await client.get("/small.ts")).body == SMALL
        assert (await client.get("/small.ts")).body == SMALL
    assert site.decisions == [True, False, True]


async def test_a_new_version_is_told_with_its_own_head(tmp_path: Path) -> None:
    async with a_site(tmp_path, ttl_seconds=0.2) as site, await site.client() as client:
        first = await client.get("/small.ts")
        site.fake.put("small.ts", SMALL[::-1])
        at_once_before = sum(site.decisions)
        async with asyncio.timeout(10):
            while sum(site.decisions) < at_once_before + 3:
                response = await client.get("/small.ts")
                if response.headers["etag"] == first.headers["etag"]:
                    assert response.body == SMALL
                    at_once_before = sum(site.decisions)
                else:
                    assert response.body == SMALL[::-1]


async def test_bytes_that_are_not_in_memory_are_waited_for_on_the_usual_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = hits_of(site)
    monkeypatch.setattr("rangeserver.cache.resident_span.is_resident", lambda *_: False)
    async with await site.client() as client:
        assert (await client.get("/small.ts")).body == SMALL
    assert site.decisions == [False]
    assert hits_of(site) == hits + 1  # not counted twice


def hits_of(site: Site) -> float:
    assert site.app.cache is not None
    return site.app.cache.metrics._hits.counts[()]


async def test_a_defect_there_is_none_of_the_clients(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("rangeserver.web.fast_path.plain_span", fails)
    async with await site.client() as client:
        assert (await client.get("/small.ts", Range="bytes=1-2")).body == SMALL[1:3]


async def test_a_middleware_that_was_added_sees_every_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says what it costs."""
    seen: list[str] = []

    @web.middleware
    async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request.raw_path)
        return await handler(request)

    async with FakeS3() as fake:
        fake.put("small.ts", SMALL)
        config = config_for(fake, cache={"enabled": True, "directory": str(tmp_path)})
        app = create_app(config)
        app.middlewares.append(counting)
        sockets = open_sockets(config.server)
        port = sockets[0].getsockname()[1]
        async with serving(app, config.server, sockets), await RawClient.connect(port) as client:
            for _ in range(3):
                assert (await client.get("/small.ts")).body == SMALL
            assert FAST_PATH not in app
    assert "the fast path is off: the application has middlewares of its own" in caplog.messages
    assert seen == ["/small.ts"] * 3


async def test_what_is_not_for_strangers_is_refused_on_both_ways(tmp_path: Path) -> None:
    """And pages of one's own are answered beside the objects."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="a page")

    async with FakeS3() as fake:
        fake.put("small.ts", SMALL)
        cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
        config = config_for(fake, cache=cache, ttl_seconds=300.0)
        app = create_app(config, pages=lambda _: {("GET", "/"): page}, for_strangers=False)
        sockets = open_sockets(config.server)
        port = sockets[0].getsockname()[1]
        async with serving(app, config.server, sockets), await RawClient.connect(port) as client:
            assert FAST_PATH in app
            for _ in range(3):
                assert (await client.get("/small.ts", Host="127.0.0.1")).body == SMALL
                refused = await client.get("/small.ts", Host="evil.example:80")
                assert (refused.status, b"not_this_host" in refused.body) == (421, True)
            assert (await client.get("/?x", Host="localhost")).body == b"a page"


# --- answers that take their time


async def test_one_who_reads_slowly_gets_every_byte(site: Site) -> None:
    async with await site.client(receive_buffer=20_000) as client:
        await client.ask("/film.mp4")
        await eventually(lambda: len(site.app.active) == 1)
        (exchange,) = site.app.active
        assert 0 < exchange.bytes_sent - exchange.bytes_waiting < len(FILM)
        response = await client.response()
        assert response.body == FILM
    await eventually(lambda: len(site.finished) == 1)
    assert site.decisions == [True]
    assert exchange.outcome is Outcome.COMPLETE
    assert exchange.first_byte is not None
    assert exchange.finished is not None
    assert exchange.first_byte < exchange.finished


async def test_what_is_asked_meanwhile_is_answered_afterwards(site: Site) -> None:
    async with await site.client() as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.active) == 1)
        await client.send(asking(Range="bytes=0-9") * 3 + asking("/none") + asking())
        assert (await client.response()).body == FILM
        for _ in range(3):
            assert (await client.response()).body == SMALL[:10]
        assert (await client.response()).status == 404
        assert (await client.response()).body == SMALL
        assert (await client.get("/small.ts")).body == SMALL
    await eventually(lambda: len(site.finished) == 7)
    assert [each.bytes_sent for each in site.finished][:2] == [len(FILM), 10]
    assert site.decisions[0]
    assert site.decisions[-1]


async def test_requests_in_one_segment_are_answered_in_their_order(site: Site) -> None:
    async with await site.client() as client:
        spans = [(n * 1000, n * 1000 + 500) for n in range(20)]
        await client.send(b"".join(asking(Range=f"bytes={a}-{b - 1}") for a, b in spans))
        for start, stop in spans:
            assert (await client.response()).body == SMALL[start:stop]


async def test_the_usual_way_and_this_one_take_turns(site: Site) -> None:
    async with await site.client() as client:
        for _ in range(10):
            assert (await client.get("/small.ts", Range="bytes=-7")).body == SMALL[-7:]
            assert (await client.get("/small.ts", Range="bytes=3-9")).body == SMALL[3:10]
    assert site.decisions == [False, True] * 10


async def test_one_who_has_asked_all_gets_all_and_an_end(site: Site) -> None:
    async with await site.client() as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.active) == 1)
        client.sock.shutdown(socket.SHUT_WR)
        assert (await client.response()).body == FILM
        assert await client.rest() == b""
        assert not client.was_reset
    assert site.decisions == [True]


@pytest.mark.parametrize("usual", [False, True])
async def test_one_who_has_asked_all_may_read_slowly(
    site: Site, monkeypatch: pytest.MonkeyPatch, usual: bool
) -> None:
    monkeypatch.setattr("rangeserver.process.pipeline._HALF_CLOSED_SECONDS", 0.02)
    async with await site.client(usual=usual, receive_buffer=20_000) as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.room._waiting) == 1)
        client.sock.shutdown(socket.SHUT_WR)
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.2
        await eventually(lambda: loop.time() > until)
        assert (await client.response()).body == FILM


async def test_one_who_leaves_frees_everything(site: Site) -> None:
    async with await site.client() as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.room._waiting) == 1)
        await client.receive(1000)
        client.reset()
    await eventually(lambda: site.app.server.places.taken == 0)
    await eventually(lambda: len(site.finished) == 1)
    (exchange,) = site.finished
    assert exchange.outcome is Outcome.CLIENT_GONE
    assert exchange.bytes_sent < len(FILM)
    assert site.app.room._waiting == {}


async def test_one_who_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    async with a_site(tmp_path, write_idle_seconds=0.2) as site:
        async with await site.client(receive_buffer=20_000) as client:
            await client.send(asking("/film.mp4"))
            await eventually(lambda: len(site.finished) == 1)
            await client.rest()
            assert client.was_reset
        assert site.finished[0].outcome is Outcome.CLIENT_TOO_SLOW


async def test_an_answer_is_not_cut_off_by_the_time_for_idle_connections(tmp_path: Path) -> None:
    async with a_site(tmp_path, keep_alive_seconds=0.2) as site:
        async with await site.client(receive_buffer=20_000) as client:
            await client.send(asking("/film.mp4"))
            loop = asyncio.get_running_loop()
            until = loop.time() + 0.5
            await eventually(lambda: loop.time() > until)
            assert (await client.response()).body == FILM
            assert await client.rest() == b""  # now it was idle for so long
        assert site.decisions == [True]


async def test_what_is_not_at_hand_any_more_is_sent_the_usual_way(site: Site) -> None:
    assert site.app.cache is not None
    hits = hits_of(site)
    async with await site.client() as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.active) == 1)
        asked = len(site.fake.requests)
        (entry,) = [e for e in site.app.cache.entries if e.layout.size == len(FILM)]
        entry.doubt(entry.layout.blocks // 2, entry.layout.blocks)
        await client.send(asking(Range="bytes=0-9"))
        assert (await client.response()).body == FILM
        assert (await client.response()).body == SMALL[:10]
        assert len(site.fake.requests) == asked  # they are found to be good
    await eventually(lambda: len(site.finished) == 2)
    assert site.finished[0].outcome is Outcome.COMPLETE
    assert site.finished[0].bytes_sent == len(FILM)
    assert hits_of(site) == hits + 2


async def test_one_who_leaves_while_the_rest_is_fetched(site: Site) -> None:
    assert site.app.cache is not None
    async with await site.client() as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.active) == 1)
        (entry,) = [e for e in site.app.cache.entries if e.layout.size == len(FILM)]
        entry.doubt(entry.layout.blocks // 2, entry.layout.blocks)
        while len(client.buffer) < len(FILM) - 3 * MIB:
            await client._fill()
        client.reset()
    await eventually(lambda: len(site.finished) == 1)
    assert site.finished[0].outcome in {Outcome.CLIENT_GONE, Outcome.COMPLETE}
    await eventually(lambda: site.app.server.places.taken == 0)


async def test_a_head_that_does_not_fit_is_sent_with_patience(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sends_little(descriptor: int, data: bytes, *, more: bool) -> bytes:
        return real(descriptor, data[:10], more=more) + data[10:]

    real = sendfile.send_now
    monkeypatch.setattr("rangeserver.web.body_writer.send_now", sends_little)
    hits = hits_of(site)
    async with await site.client() as client:
        for _ in range(3):
            response = await client.get("/small.ts", Range="bytes=0-99")
            assert (response.status, response.body) == (206, SMALL[:100])
    assert site.decisions == [True] * 3
    assert hits_of(site) == hits + 3
    await eventually(lambda: len(site.finished) == 3)
    assert [each.origin.cached for each in site.finished] == [100] * 3


async def test_what_a_file_has_no_longer_is_fetched_anew(site: Site) -> None:
    assert site.app.cache is not None
    async with await site.client(receive_buffer=20_000) as client:
        await client.send(asking("/film.mp4"))
        await eventually(lambda: len(site.app.room._waiting) == 1)
        (entry,) = [e for e in site.app.cache.entries if e.layout.size == len(FILM)]
        (path,) = [
            p for p in site.app.cache.directory.path.rglob("*") if of(p, entry.file.fileno())
        ]
        with path.open("r+b") as file:
            file.truncate(entry.layout.data_offset + 1 * MIB)
        response = await client.response()
        assert (response.complete, response.body == FILM) == (True, True)
    await eventually(lambda: len(site.finished) == 1)
    assert site.finished[0].outcome is Outcome.COMPLETE
    assert site.finished[0].bytes_sent == len(FILM)


def of(path: Path, descriptor: int) -> bool:
    """Whether a path is that of an open file."""
    return path.is_file() and os.path.samestat(path.stat(), os.fstat(descriptor))


@pytest.mark.parametrize("seconds", [10.0, 0.1])
async def test_a_server_that_stops_lets_it_end_in_time(tmp_path: Path, seconds: float) -> None:
    cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    finished: list[Exchange] = []
    reading: asyncio.Task[RawResponse] | None = None
    async with FakeS3() as fake, AsyncExitStack() as stack:
        fake.put("film.mp4", FILM)
        config = config_for(fake, cache=cache, server={"drain_seconds": seconds})
        async with running_app(config, observers=[finished.append]) as app:
            # With a larger window the kernel could take all of it in the time there is.
            client = await RawClient.connect(app.port, receive_buffer=65536)
            await stack.enter_async_context(client)
            assert (await client.get("/film.mp4")).body == FILM
            await client.send(asking("/film.mp4"))
            await eventually(lambda: len(app.room._waiting) == 1)
            if seconds > 1:
                reading = asyncio.create_task(client.response())
        if reading is not None:
            assert (await reading).body == FILM
            assert await client.rest() == b""
    assert len(finished) == 2
    assert finished[1].outcome is (Outcome.COMPLETE if reading is not None else Outcome.DRAINED)


# --- the turns of the loop in which an answer can begin


def connection_of(site: Site) -> Connection:
    (connection,) = site.app.server.connections
    return connection


async def test_what_the_task_was_given_is_not_answered_at_once_as_well(site: Site) -> None:
    """A second piece comes before the task has come to the request in the first."""
    async with await site.client(usual=True) as client:
        assert (await client.get("/small.ts")).body == SMALL
        connection = connection_of(site)
        connection.data_received(asking(Range="bytes=0-9"))
        site.usual.clear()  # by now it could be
        second = asking(Range="bytes=10-19")
        connection.data_received(second[:20])
        connection.data_received(second[20:])
        assert (await client.response()).body == SMALL[:10]
        assert (await client.response()).body == SMALL[10:20]
        for _ in range(2):
            assert (await client.get("/small.ts", Range="bytes=-3")).body == SMALL[-3:]
            assert (await client.get("/small.ts", Range="bytes=0-3")).body == SMALL[:4]


async def test_a_server_that_stops_in_the_turn_in_which_it_begins(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer before has ended, and its task does not know it yet."""
    answer_over = Pipeline._answer_over

    def and_then_all_at_once(self: Pipeline) -> None:
        answer_over(self)
        monkeypatch.undo()
        self.receive(asking("/film.mp4"))
        site.app.server.finish()

    async with await site.client() as client:
        monkeypatch.setattr(Pipeline, "_answer_over", and_then_all_at_once)
        assert (await client.get("/small.ts", Range="bytes=-9")).body == SMALL[-9:]
        assert (await client.response()).body == FILM
        assert await client.rest() == b""
        assert not client.was_reset
    assert site.decisions == [False, True]


async def test_nothing_counts_as_taken_before_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the watch over slow clients may look at any time."""
    taken = 0
    real_send, real_tell = os.sendfile, site.app.room.tell
    looks = []

    def sendfile_counted(*given: Any) -> int:
        nonlocal taken
        sent = real_send(*given)
        taken += sent
        return sent

    def tell(*given: Any, **more: Any) -> None:
        (exchange,) = site.app.active
        looks.append((exchange.bytes_sent - exchange.bytes_waiting, taken))
        real_tell(*given, **more)

    monkeypatch.setattr(os, "sendfile", sendfile_counted)
    monkeypatch.setattr(site.app.room, "tell", tell)
    async with await site.client() as client:
        assert (await client.get("/film.mp4")).body == FILM
    assert len(looks) > len(FILM) // (2 * MIB)
    assert all(counted == really for counted, really in looks)


async def test_what_may_lie_in_a_transport_that_is_gone_is_not_complete(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(writer: BodyWriter, *_: object) -> None:
        writer.exchange.bytes_sent = writer.exchange.bytes_promised
        await asyncio.Event().wait()

    monkeypatch.setattr("rangeserver.web.delivery.send_body", hangs)
    monkeypatch.setattr("rangeserver.web.body_writer.send_now", lambda _, data, **__: data)
    async with await site.client() as client:
        await client.send(asking())
        await eventually(lambda: len(site.app.active) == 1)
        client.reset()
    await eventually(lambda: len(site.finished) == 1)
    assert site.finished[0].outcome is Outcome.CLIENT_GONE


async def test_one_who_leaves_before_the_task_has_its_first_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeserver.web.body_writer.send_now", lambda _, data, **__: data)
    async with await site.client(usual=True) as client:
        assert (await client.get("/small.ts")).body == SMALL
        await eventually(lambda: len(site.finished) == 1)
        site.usual.clear()
        connection = connection_of(site)
        connection.data_received(asking())
        connection.connection_lost(None)
    await eventually(lambda: len(site.finished) == 2)
    assert site.finished[1].outcome is Outcome.CLIENT_GONE
    assert not site.app.active
