"""C6: no more files can be opened. Whoever comes is told so, and what runs goes on."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from tests.cli.commands import Served, served
from tests.exposition import Scrape, parsed
from tests.fakes.s3 import FakeS3
from tests.faults.tools import needs
from tests.support import RawClient

ALLOWED = 450
FILM = random.Random(9).randbytes(600_000)
"""More than a socket takes for a client that reads nothing."""

pytestmark = needs("prlimit")


def settings(directory: Path) -> dict[str, str | None]:
    return {
        "RANGESERVER_SERVER__MAX_CONNECTIONS": "1000",
        "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
        "RANGESERVER_ORIGIN__MAX_CONNECTIONS": "16",
        "RANGESERVER_CACHE__DIRECTORY": str(directory),
        "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
        "RANGESERVER_LOG__ACCESS": "false",
    }


def opened(server: Served) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def metrics(server: Served) -> Scrape:
    async with await RawClient.connect(server.admin_port) as client:
        return parsed((await client.get("/metrics")).body.decode())


async def test_c06_slow_readers_of_many_objects(fake: FakeS3, tmp_path: Path) -> None:
    """Each of them holds a connection and a file of the cache."""
    for number in range(ALLOWED // 2):
        fake.put(f"film-{number}", FILM)
    arguments = ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)
    prefix = ("prlimit", f"--nofile={ALLOWED}:{ALLOWED}")
    async with (
        served(*arguments, environ=settings(tmp_path), prefix=prefix) as server,
        AsyncExitStack() as stack,
    ):
        (told,) = (line for line in server.lines if "clients at once" in line["message"])
        fits = int(told["message"].split()[0])
        answers: Counter[int] = Counter()
        reading: list[tuple[RawClient, int]] = []
        for number in range(ALLOWED // 2):
            client = await RawClient.connect(server.port, receive_buffer=4096)
            stack.push_async_exit(client)
            await client.ask(f"/film-{number}")
            status, headers = await client.head()  # everybody has an answer
            answers[status] += 1
            if status == 200:
                reading.append((client, int(headers["content-length"])))
            else:
                assert headers["retry-after"] == "1"
                client.close()
        assert answers == {200: fits, 503: ALLOWED // 2 - fits}
        assert fits > 50
        assert opened(server) < ALLOWED
        now = await metrics(server)
        assert now("rangeserver_cache_usable") == 1
        assert set(now.named("rangeserver_cache_errors_total").values()) == {0}
        for client, length in reading:
            body = bytearray()
            while len(body) < length:
                data = await client.receive(1 << 20)
                assert data, "the response was cut"
                body += data
            assert body == FILM


async def test_c06_idle_connections_to_the_port_for_monitoring(
    fake: FakeS3, tmp_path: Path
) -> None:
    fake.put("film", FILM)
    arguments = ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)
    prefix = ("prlimit", f"--nofile={ALLOWED}:{ALLOWED}")
    async with (
        served(*arguments, environ=settings(tmp_path), prefix=prefix) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(ALLOWED + 50):
            await stack.enter_async_context(await RawClient.connect(server.admin_port))
        async with await RawClient.connect(server.port) as client:
            assert (await client.get("/film")).body == FILM
        assert (await metrics(server))("rangeserver_cache_usable") == 1
        assert opened(server) < ALLOWED
