"""One connection does not keep the event loop busy, however little it costs its client to try."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rangeserver.process import tls_transport
from rangeserver.process.pipeline import Pipeline
from rangeserver.process.tls_records import Records as Arrived
from rangeserver.process.tls_transport import TlsTransport
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app
from tests.tls import TlsClient, tls_files, trusting
from tests.tls_records import Records

CLIP = b"0123456789"
ASK = b"GET /clip HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"clip": CLIP}


@contextmanager
def counted_by_turn(owner: type, name: str) -> Iterator[Counter[tuple[int, int]]]:
    """How often a method is called in one turn of the event loop, for each object it is of. To a
    turn belongs what is due in it, and what the sockets then have.
    """
    loop = asyncio.get_running_loop()
    calls: Counter[tuple[int, int]] = Counter()
    method: Callable[..., Any] = getattr(owner, name)
    turn = 0
    handle: asyncio.Handle | None = None

    def next_turn() -> None:
        nonlocal turn, handle
        turn += 1
        handle = loop.call_soon(next_turn)

    def counted(self: Any, *given: Any, **more: Any) -> Any:
        calls[id(self), turn] += 1
        return method(self, *given, **more)

    next_turn()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls
    if handle is not None:
        handle.cancel()


@pytest.fixture
async def secure(fake: FakeS3, tmp_path: Path) -> AsyncIterator[tuple[RunningApp, dict[str, str]]]:
    files = tls_files(tmp_path)
    async with running_app(config_for(fake, server=files)) as app:
        yield app, files


@pytest.mark.fault("B14")
async def test_new_keys_without_end_end_a_connection(
    secure: tuple[RunningApp, dict[str, str]], tmp_path: Path
) -> None:
    app, files = secure
    attacker, records = await Records.of_client(app.port, trusting(files), tmp_path)
    flood = b"".join(records.key_update() for _ in range(2000))
    async with attacker, await TlsClient.open(app.port, trusting(files)) as client:
        with counted_by_turn(TlsTransport, "_decrypted") as calls:
            sending = asyncio.create_task(RawClient.send(attacker, flood))
            for _ in range(10):
                assert (await client.get("/clip")).body == CLIP
            with suppress(ConnectionError):
                await sending
            await eventually(lambda: app.server.places.taken == 1)
        of_each = Counter(connection for connection, _ in calls.elements())
        assert of_each.most_common(1)[0][1] == tls_transport._IDLE_RECORDS
        assert max(calls.values()) <= 2 * tls_transport._TURN_RECORDS
        assert (await client.get("/clip")).body == CLIP


async def test_new_keys_now_and_then_are_taken(
    secure: tuple[RunningApp, dict[str, str]], tmp_path: Path
) -> None:
    app, files = secure
    client, records = await Records.of_client(app.port, trusting(files), tmp_path)
    async with client:
        for _ in range(20):
            await RawClient.send(client, records.key_update() + records.data(ASK))
            assert (await client.response()).body == CLIP


async def test_small_records_take_turns(
    secure: tuple[RunningApp, dict[str, str]], tmp_path: Path
) -> None:
    app, files = secure
    client, records = await Records.of_client(app.port, trusting(files), tmp_path)
    request = ASK.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 1000 + b"\r\n\r\n")
    flood = b"".join(records.data(bytes([byte])) for byte in request * 3)
    async with client:
        with counted_by_turn(TlsTransport, "_decrypted") as calls:
            await RawClient.send(client, flood)
            for _ in range(3):
                assert (await client.response()).body == CLIP
        assert sum(calls.values()) == 3 * len(request)
        assert max(calls.values()) <= 2 * tls_transport._TURN_RECORDS


async def test_requests_behind_one_another_take_turns(fake: FakeS3, tmp_path: Path) -> None:
    """Those that are answered at once: for all others there are tasks."""
    cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    async with (
        running_app(config_for(fake, cache=cache, ttl_seconds=60)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/clip")).body == CLIP
        with counted_by_turn(Pipeline, "_answer_over") as calls:
            await client.send(ASK * 300)
            for _ in range(300):
                assert (await client.response()).body == CLIP
        assert sum(calls.values()) == 300
        assert max(calls.values()) == 1


@pytest.mark.parametrize("piece", [1, 3, 7, 100, 1 << 20])
def test_records_are_found_in_pieces_of_any_size(piece: int) -> None:
    made = [b"\x17\x03\x03" + len(body).to_bytes(2) + body for body in (b"", b"a", bytes(16_400))]
    stream = b"".join(made) * 3
    arrived, found = Arrived(), []
    for start in range(0, len(stream), piece):
        arrived.add(stream[start : start + piece])
        while record := arrived.take():
            found.append(record)
    assert found == made * 3
    assert not arrived.has_whole


def test_what_can_be_no_record_is_not_waited_for() -> None:
    arrived = Arrived()
    arrived.add(b"GET / HTTP/1.1\r\n")
    assert arrived.take() == b"GET / HTTP/1.1\r\n"
    assert arrived.take() is None
