"""Faults of the origin at two processes with one cache, both asked at once for the same: A1 to A7,
A10 to A24 and A28 to A31, and of the disk C1 and C3. What one of them has begun, the other waits
for.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import Config
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Fault
from tests.fakes.s3 import FakeS3
from tests.faults.forked import Forked, forked
from tests.faults.responses import check
from tests.faults.test_cache_disk import flip, mounted
from tests.faults.tools import needs
from tests.support import RawClient, RawResponse, config_for, eventually

BODY = random.Random(1).randbytes(700_000)
OTHER = random.Random(2).randbytes(700_000)
EACH = 3
"""Clients of each process."""

DEADLINES: dict[str, Any] = {
    "max_attempts": 3,
    "max_resumes": 3,
    "connect_seconds": 30.0,  # 150 clients ask at once, on a machine that may be busy
    "pool_wait_seconds": 30.0,
    "response_seconds": 30.0,
    "idle_seconds": 30.0,
    "hedge_percent": 0.0,
    "min_bytes_per_second": 8192,
    "min_rate_window_seconds": 0.4,
}

CONSTANTS: dict[str, Any] = {
    # Many objects fail here at the same time, and none is to suffer for the others.
    "rangeserver.origin.circuit.FAILURES_IN_A_ROW": 10**6,
    "rangeserver.origin.retrying.MAX_TOKENS": 10**6,
}


def settings(
    fake: FakeS3, directory: Path, origin: Mapping[str, Any] | None = None, **cache: Any
) -> Config:
    kept = {
        "enabled": True,
        "directory": str(directory),
        "min_free_bytes": 0,
        "block_bytes": 64 * 1024,
        "ttl_seconds": 0,
        **cache,
    }
    return config_for(fake, cache=kept, origin={**DEADLINES, **(origin or {})})


@asynccontextmanager
async def pair(
    fake: FakeS3, directory: Path, constants: Mapping[str, Any] = CONSTANTS, **how: Any
) -> AsyncIterator[tuple[Forked, Forked]]:
    config = settings(fake, directory, **how)
    async with AsyncExitStack() as stack:
        logs = directory.with_name("log0"), directory.with_name("log1")
        one, other = [
            await stack.enter_async_context(forked(config, log, constants)) for log in logs
        ]
        yield one, other


async def asked_of_both(
    servers: tuple[Forked, Forked],
    fake: FakeS3,
    key: str,
    versions: Mapping[str, bytes],
    *,
    is_busy: bool = False,
) -> list[RawResponse]:
    """All clients at once; whatever they get is of one version, or an error that says nothing.

    ``is_busy``: there may be no connection for whoever asks for another object afterwards.
    """

    async def one(server: Forked) -> RawResponse:
        async with await RawClient.connect(server.port) as client:
            response = await client.get(f"/{key}")
            if response.complete:  # then the connection is good for another
                again = await client.get("/well")
                assert again.complete
                assert again.body == BODY or (is_busy and again.status == 503)
        check(response, versions, bucket=fake.bucket)
        return response

    return await asyncio.gather(*(one(server) for server in servers * EACH))


@dataclass(frozen=True, slots=True)
class Case:
    """What an origin does to an object, and with what the answers may come."""

    row: str
    fault: Fault
    statuses: set[int] = field(default_factory=lambda: {200})
    complete: bool | None = True
    """``None``: either will do."""
    times: int | None = None


ONCE: dict[str, Any] = {"times": 1}
CASES = [
    Case("A1", faults.fin_after(300_000), **ONCE),
    Case("A2", faults.reset_after(300_000), **ONCE),
    Case("A3", faults.fin_after(1000), {200, 502, 504}, complete=False),
    Case("A7", faults.reset_after(BEFORE_HEADER), {502}),
    Case("A10", faults.error(503, "SlowDown"), {503, 504}),
    Case("A11", faults.error(500, "InternalError"), **ONCE),
    Case("A12", faults.error(403, "AccessDenied"), {403}),
    Case("A13", faults.error(404, "NoSuchKey"), {404}),
    Case("A14", faults.whole_object, {200, 502}, complete=None),
    Case("A15", faults.error(200, "InternalError"), {502}),
    Case("A16", faults.header("Content-Range", "bytes 0-499999/1048576"), {200, 502}, None),
    Case("A16", faults.both_lengths(-7), {200, 502}, complete=None),
    Case("A16", faults.header("ETag", None), {502}),
    Case("A19", faults.redirect(307, "http://127.0.0.1:9/films/x"), {502}),
    Case("A20", faults.header("x-amz-meta-title", "caf\xe9"), {200, 502}),
    Case("A21", faults.header("x-amz-checksum-crc32", "AAAAAA==")),
    Case("A23", faults.every_other(faults.reset_after(BEFORE_HEADER))),
    Case("A29", lambda answer: faults.fin_after(len(answer.body) // 2)(answer), complete=None),
    Case("A30", faults.stray_bytes(b"0\r\n\r\n")),
    Case("A31", faults.error(400, "KeyTooLongError"), {404}),
]
STALLING = [
    Case("A4", faults.stall_after(300_000), **ONCE),
    Case("A4", faults.stall_after(300_000), complete=None),
    Case("A5", faults.drip(1, 0.02), **ONCE),
]


@pytest.mark.fault(
    *("A1", "A2", "A3", "A4", "A5", "A7", "A10", "A11", "A12", "A13", "A14", "A15", "A16"),
    *("A19", "A20", "A21", "A23", "A29", "A30", "A31"),
)
@pytest.mark.parametrize(
    ("cases", "idle_seconds"), [(CASES, 30.0), (STALLING, 0.4)], ids=["prompt", "stalling"]
)
async def test_both_answer_as_one_alone_would(
    fake: FakeS3, tmp_path: Path, cases: list[Case], idle_seconds: float
) -> None:
    """All faults at the same time, each at an object of its own; then there are none, and all is
    served.
    """
    fake.put("well", BODY)
    deadlines = {"idle_seconds": idle_seconds}
    async with pair(fake, tmp_path / "cache", origin=deadlines) as servers:

        async def one(case: Case, key: str) -> None:
            fake.put(key, BODY)
            fake.misbehave(case.fault, key=key, method=None, times=case.times)
            versions = {fake.etag(key): BODY, fake.etag("well"): BODY}
            for response in await asked_of_both(servers, fake, key, versions):
                assert response.status in case.statuses
                if response.status == 200 and case.complete is not None:
                    assert response.complete is case.complete

        async with asyncio.TaskGroup() as group:
            for number, case in enumerate(cases):
                key = f"{case.row}-{number}"
                group.create_task(one(case, key), name=key)
        fake.behave()
        for number, case in enumerate(cases):
            key = f"{case.row}-{number}"
            whole = await asked_of_both(servers, fake, key, {fake.etag(key): BODY})
            assert all(each.complete and each.status == 200 for each in whole), key


@pytest.mark.fault("A6")
async def test_both_say_that_the_origin_is_silent(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("well", BODY)
    fake.put("film", BODY)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film", method=None)
    impatient = {"response_seconds": 1.5}
    async with pair(fake, tmp_path / "cache", origin=impatient) as servers:
        for response in await asked_of_both(servers, fake, "film", {}):
            assert response.status == 504


@pytest.mark.fault("A17", "A18")
async def test_objects_that_change_under_both(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("well", BODY)
    async with pair(fake, tmp_path / "cache", origin={"idle_seconds": 0.4}) as servers:
        for key in ("replaced", "deleted"):
            fake.put(key, BODY)
            fake.misbehave(faults.stall_after(300_000), key=key, times=1)
        versions = {fake.etag("replaced"): BODY}
        asked = [
            asyncio.create_task(asked_of_both(servers, fake, key, versions))
            for key in ("replaced", "deleted")
        ]
        await eventually(lambda: fake.stalled == 2)
        fake.put("replaced", OTHER)
        versions[fake.etag("replaced")] = OTHER
        fake.delete("deleted")
        for response in itertools.chain(*await asyncio.gather(*asked)):
            assert response.status in {200, 404, 503}
        for response in await asked_of_both(servers, fake, "replaced", versions):
            assert (response.complete, response.body) == (True, OTHER)
        for response in await asked_of_both(servers, fake, "deleted", versions):
            assert response.status == 404


@pytest.mark.fault("A22")
async def test_a_wrong_byte_stays_until_there_is_another_version(
    fake: FakeS3, tmp_path: Path
) -> None:
    fake.put("well", BODY)
    fake.put("film", BODY)
    fake.misbehave(faults.corrupted(100_000), key="film", times=1)
    wrong = {fake.etag("film"): faults.with_a_flipped_byte(BODY, 100_000)}
    async with pair(fake, tmp_path / "cache") as servers:
        for _ in range(2):
            responses = await asked_of_both(servers, fake, "film", wrong)
            assert all(response.complete for response in responses)
        fake.put("film", OTHER)
        responses = await asked_of_both(servers, fake, "film", {fake.etag("film"): OTHER})
        assert all(response.complete for response in responses)


@pytest.mark.fault("A24")
async def test_two_connections_for_all(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("well", BODY)
    few = {"max_connections": 1, "pool_wait_seconds": 0.3, "idle_seconds": 0.4}
    async with pair(fake, tmp_path / "cache", origin=few) as servers:
        for number in range(6):
            fake.put(f"film{number}", BODY)
        fake.misbehave(faults.stall_after(1000), key="film0")
        fake.misbehave(faults.stall_after(1000), key="film1")
        versions = {fake.etag("well"): BODY}
        asked = (
            asked_of_both(servers, fake, f"film{number}", versions, is_busy=True)
            for number in range(6)
        )
        for response in itertools.chain(*await asyncio.gather(*asked)):
            assert response.status in {200, 503, 504}
        fake.behave()
        await asked_of_both(servers, fake, "film5", versions)


@pytest.mark.fault("A28")
async def test_an_origin_that_is_away(fake: FakeS3, tmp_path: Path) -> None:
    """All bodies that have begun wait for it, those of the process whose fetch was broken and those
    of the one that waits for it.
    """
    fake.put("film", BODY)
    fake.misbehave(faults.stall_after(300_000), key="film", times=1)
    # More than a busy machine needs between the failures that are waited for and their end.
    patient = {"max_resumes": 20}
    async with (
        pair(fake, tmp_path / "cache", {}, origin=patient) as servers,
        AsyncExitStack() as stack,
    ):
        clients = [
            await stack.enter_async_context(await RawClient.connect(server.port))
            for server in servers * EACH
        ]
        for client in clients:
            await client.ask("/film")
        for client in clients:
            assert (await client.head())[0] == 200
        await eventually(lambda: fake.stalled == 1)
        before = len(fake.requests)
        fake.behave()
        fake.misbehave(faults.reset_after(BEFORE_HEADER))
        await fake.refuse()
        await fake.listen()
        await eventually(lambda: len(fake.requests) - before >= 2)
        fake.behave()
        begun = [bytearray(await client.receive()) for client in clients]
        for client, body in zip(clients, begun, strict=True):
            while len(body) < len(BODY) and (more := await client.receive()):
                body += more
            assert body == BODY


@needs("mount", root=True)
@pytest.mark.fault("C1")
async def test_one_full_disk(fake: FakeS3, tmp_path: Path) -> None:
    """8 MiB for both, and half as much again that is asked for."""
    disk = tmp_path / "disk"
    fake.put("well", BODY)
    with mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        async with pair(fake, disk / "cache", ttl_seconds=60) as servers:
            for _ in range(2):
                for number in range(6):
                    fake.put(f"film{number}", BODY + BODY + BODY[number:])
                    versions = {
                        fake.etag("well"): BODY,
                        fake.etag(f"film{number}"): fake.body(f"film{number}"),
                    }
                    responses = await asked_of_both(servers, fake, f"film{number}", versions)
                    assert all(each.complete and each.status == 200 for each in responses)


def shortened(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100_000)


def in_the_middle(path: Path) -> None:
    flip(path, path.stat().st_size - 300_000)


@pytest.mark.fault("C3")
async def test_files_that_both_use_are_damaged(fake: FakeS3, tmp_path: Path) -> None:
    """Under them, and between two runs, when no block is believed any more."""
    cache = tmp_path / "cache"
    fake.put("film", BODY)
    fake.put("well", BODY)
    versions = {fake.etag("film"): BODY}

    async def served(servers: tuple[Forked, Forked]) -> None:
        for response in await asked_of_both(servers, fake, "film", versions):
            assert (response.status, response.complete) == (200, True)

    def damage(how: Callable[[Path], object]) -> None:
        for path in (cache / "objects").glob("*/*.rsc"):
            how(path)

    async with pair(fake, cache, ttl_seconds=60) as servers:
        await served(servers)
        for how in (shortened, Path.unlink):
            damage(how)
            for _ in range(2):
                await served(servers)
    damage(in_the_middle)
    async with pair(fake, cache, ttl_seconds=60) as servers:
        for _ in range(2):
            await served(servers)
