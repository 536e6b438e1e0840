"""What TLS needs while the server runs: a context, and a new one when the files are new."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from rangeserver.background import running
from rangeserver.config import ServerConfig
from rangeserver.errors import ConfigError
from rangeserver.process.certificates import load_context

log = logging.getLogger(__name__)


class HandshakeFailure(StrEnum):
    """Why a connection never came to a request."""

    PLAIN_HTTP = "plain_http"
    CLIENT_REFUSED = "client_refused"  # it said so; mostly it does not trust the certificate
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"


class Tls:
    """The context for the next handshake; connections keep the one they began with."""

    def __init__(self, certificate: str, key: str) -> None:
        """Read both files, which blocks. Raises :class:`ConfigError`."""
        self._files = certificate, key
        self.context: ssl.SSLContext = load_context(certificate, key)
        self.handshake_failed: Callable[[str], None] = lambda _: None
        """Told why, each time that one fails."""

    async def renew(self) -> None:
        """Read the files again. What cannot be used changes nothing, and the log says why."""
        try:
            self.context = await asyncio.to_thread(load_context, *self._files)
        except ConfigError as error:
            log.error("the certificate is still the old one: %s", error)  # noqa: TRY400 (no fault)
        else:
            log.info("certificate and key were read again, for connections from now on")


def open_tls(config: ServerConfig) -> Tls | None:
    """TLS as configured, if it is. Blocks. Raises :class:`ConfigError`."""
    if not config.tls_certificate:
        return None
    return Tls(config.tls_certificate, config.tls_key)


@asynccontextmanager
async def renewed_on_hangup(tls: Tls | None) -> AsyncIterator[None]:
    """Take SIGHUP, until left, as the wish to read the certificate again, if there is one."""
    loop = asyncio.get_running_loop()
    wanted = asyncio.Event()

    async def renew() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            if tls is None:
                log.info("SIGHUP: there is no certificate to be read again")
            else:
                await tls.renew()

    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    try:
        async with running(renew()):
            yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
