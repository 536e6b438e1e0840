"""A server on a machine without IPv4, but for that of its loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.cli.commands import Served, served
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.namespace import Namespace, namespace
from tests.faults.tools import needs
from tests.support import DEADLINE_SECONDS, RawClient, eventually

pytestmark = needs("ip", root=True)

HERE = IPv6Address("fd12::1")
ELSEWHERE = IPv6Address("fd12:0:0:1::1")
_FREEBIND = 78  # IPV6_FREEBIND of linux/in6.h

FILM = b"0123456789"


@dataclass(frozen=True, slots=True)
class Site:
    """The server, its origin, and clients at any address of two networks."""

    inside: Namespace
    server: Served
    fake: FakeS3
    stack: AsyncExitStack

    async def client(self, address: IPv6Address) -> RawClient:
        sock = self.inside.new_socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, _FREEBIND, 1)
        sock.setblocking(False)
        sock.bind((str(address), 0))
        client = await self.stack.enter_async_context(RawClient(sock))
        async with asyncio.timeout(DEADLINE_SECONDS):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (str(HERE), self.server.port))
        return client

    async def idle(self, address: IPv6Address) -> RawClient:
        client = await self.client(address)
        assert (await client.get("/film")).body == FILM
        return client


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with namespace() as inside, AsyncExitStack() as stack:
        for address in (HERE, ELSEWHERE):
            await inside.run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")
            await inside.run("ip", "route", "add", "local", f"{address - 1}/64", "dev", "lo")
        fake = await stack.enter_async_context(FakeS3(listener=inside.listener()))
        fake.put("film", FILM)
        environ = {
            "RANGESERVER_SERVER__HOST": "::",  # and the admin listener at its 127.0.0.1
            "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
            **getattr(request, "param", {}),
        }
        server = await stack.enter_async_context(
            served(
                *("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url),
                *("--cache-dir", str(tmp_path)),
                environ=environ,
                prefix=inside.prefix,
            )
        )
        yield Site(inside, server, fake, stack)


async def test_addresses_of_loopback_are_listened_on_without_any_other(site: Site) -> None:
    await site.idle(HERE)
    async with await site.inside.connect(site.server.admin_port) as admin:
        assert (await admin.get("/healthz")).status == 200


@pytest.mark.fault("B12")
@pytest.mark.parametrize("site", [{"RANGESERVER_SERVER__MAX_CONNECTIONS": "12"}], indirect=True)
async def test_whoever_hoards_with_all_addresses_of_a_network_is_one_client(site: Site) -> None:
    kept = [await site.idle(HERE) for _ in range(3)]
    for number in range(30):
        await site.idle(ELSEWHERE + number)
    for client in kept:
        assert (await client.get("/film")).body == FILM


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    "site", [{"RANGESERVER_SERVER__MAX_CONNECTIONS_PER_CLIENT": "2"}], indirect=True
)
async def test_the_limit_of_one_client_is_that_of_its_network(site: Site) -> None:
    site.fake.put("slow", bytes(1000))
    site.fake.misbehave(faults.stall_after(100), key="slow")
    for number in range(2):
        await (await site.client(ELSEWHERE + number)).ask("/slow")
    await eventually(lambda: site.fake.stalled > 0)
    assert (await (await site.client(ELSEWHERE + 2)).response()).status == 503
    await site.idle(HERE)
    site.fake.release()
