"""The services that hand out AWS credentials, each of which can fail, stall and count.

The instance metadata service (IMDSv2: a GET needs the token that a PUT gives), the endpoint of a
container (ECS, EKS), and STS. Every set of keys handed out is another one, unless the source is
told to keep handing out the last.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from aiohttp import web

from tests.fakes.ports import reserve

ROLE = "video-reader"
ROLE_ARN = f"arn:aws:iam::123456789012:role/{ROLE}"
SESSION_TOKEN = "imds-session-token"


@dataclass(slots=True, eq=False)
class Source:
    """One service: ``hits`` counts the sets of keys it was asked for, with what in ``asked``."""

    name: str
    hits: int = 0
    asked: list[Mapping[str, str]] = field(default_factory=list)
    life_seconds: float = 6 * 3600
    same_keys: bool = False
    status: int = 200
    stalled: int = 0
    _issued: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def stall(self) -> None:
        """Answer nothing until :meth:`release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer all that wait, and from now on."""
        self._open.set()

    @property
    def latest(self) -> str:
        """The access key handed out last."""
        return f"AK{self.name.upper()}{self._issued}"

    async def answer(self, asked: Mapping[str, str]) -> dict[str, str]:
        """The keys, after all that is wrong with this service."""
        self.hits += 1
        self.asked.append(asked)
        await self.gate()
        if not self.same_keys or not self._issued:
            self._issued += 1
        expires = datetime.fromtimestamp(time.time() + self.life_seconds, UTC)
        return {
            "AccessKeyId": self.latest,
            "SecretAccessKey": f"secret-of-{self.latest}",
            "Token": f"token-of-{self.latest}",
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def gate(self) -> None:
        """Stall or fail, if so told."""
        self.stalled += 1
        try:
            await self._open.wait()
        finally:
            self.stalled -= 1
        if self.status != 200:
            raise _Failing(self.status)


class _Failing(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True, eq=False)
class FakeAws:
    """All of them on one port; use as an asynchronous context manager."""

    imds: Source = field(default_factory=lambda: Source("imds"))
    container: Source = field(default_factory=lambda: Source("ecs"))
    sts: Source = field(default_factory=lambda: Source("sts"))
    _runner: web.AppRunner | None = None
    _reserved: socket.socket = field(default_factory=lambda: reserve("127.0.0.1"))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    @property
    def port(self) -> int:
        port: int = self._reserved.getsockname()[1]
        return port

    async def listen(self) -> None:
        """Take connections, on the port of before if there was one."""
        app = web.Application()
        app.router.add_put("/latest/api/token", self._imds_token)
        app.router.add_get("/latest/meta-data/iam/security-credentials/{role:.*}", self._imds_role)
        app.router.add_get("/container", self._container)
        app.router.add_post("/sts", self._sts)
        app.router.add_post("/sts/", self._sts)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        self._reserved.close()

    async def refuse(self) -> None:
        """Drop all connections and take no more."""
        for source in (self.imds, self.container, self.sts):
            source.release()
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _imds_token(self, request: web.Request) -> web.Response:
        try:
            await self.imds.gate()
        except _Failing as error:
            return web.Response(status=error.status)
        if "x-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
            return web.Response(status=400)
        return web.Response(text=SESSION_TOKEN)

    async def _imds_role(self, request: web.Request) -> web.Response:
        if request.headers.get("x-aws-ec2-metadata-token") != SESSION_TOKEN:
            return web.Response(status=401)
        try:
            if request.match_info["role"] != ROLE:
                await self.imds.gate()
                return web.Response(text=ROLE)
            keys = await self.imds.answer(request.headers)
        except _Failing as error:
            return web.Response(status=error.status)
        return web.json_response({"Code": "Success", "Type": "AWS-HMAC", **keys})

    async def _container(self, request: web.Request) -> web.Response:
        try:
            keys = await self.container.answer(request.headers)
        except _Failing as error:
            return web.Response(status=error.status, text="no role today")
        return web.json_response({"RoleArn": ROLE_ARN, **keys})

    async def _sts(self, request: web.Request) -> web.Response:
        asked = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        asked["authorization"] = request.headers.get("authorization", "")
        action = asked["Action"]
        try:
            keys = await self.sts.answer(asked)
        except _Failing as error:
            refusal = (
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
                "<Message>may not assume the role</Message></Error></ErrorResponse>"
            )
            return web.Response(status=error.status, text=refusal, content_type="text/xml")
        keys["SessionToken"] = keys.pop("Token")
        fields = "".join(f"<{name}>{text}</{name}>" for name, text in keys.items())
        user = f"<Arn>{ROLE_ARN}/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId>"
        return web.Response(
            text=f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<{action}Result><Credentials>{fields}</Credentials>"
            f"<AssumedRoleUser>{user}</AssumedRoleUser></{action}Result></{action}Response>",
            content_type="text/xml",
        )


def process_answer(access_key: str, expires: str | None = None) -> str:
    """What a ``credential_process`` has to print."""
    answer = {
        "Version": 1,
        "AccessKeyId": access_key,
        "SecretAccessKey": f"secret-of-{access_key}",
        "SessionToken": f"token-of-{access_key}",
    }
    if expires is not None:
        answer["Expiration"] = expires
    return json.dumps(answer)
