"""Credentials that are renewed early, in the background, and never while a request waits.

Botocore refreshes within requests: from 15 minutes before the expiry the first request waits for
the metadata service, and from 10 minutes on each one fails if that fails, although the old
credentials are still good. Here one task renews them early, and requests use what is there for as
long as it is valid.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials

from rangeserver.background import running
from rangeserver.errors import ConfigError, CredentialsExpired, NoCredentials, OriginRefused
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.credential_chain import (
    CredentialChain,
    FoundCredentials,
    mute_aiobotocore_log,
)
from rangeserver.origin.refresh_timing import RefreshTiming

log = logging.getLogger(__name__)


class KeptCredentials(AioCredentials):
    """The current credentials. For use from one event loop.

    An :class:`AioSession` takes them for those of its own chain (:func:`use`).
    """

    def __init__(
        self,
        chain: CredentialChain,
        metrics: OriginMetrics,
        timing: RefreshTiming,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Not super().__init__(): it would store keys, which are properties here.
        self.method = "kept"
        self._chain = chain
        self._metrics = metrics
        self._timing = timing
        self._clock = clock
        self._held: FoundCredentials | None = None
        self._problem = NoCredentials("not looked for yet")
        self._failures = 0
        self._due = -math.inf
        self._retry_at = -math.inf
        self._warned: tuple[object, float] = (None, -math.inf)
        self._renewed = -math.inf
        self._looking = False
        self._wanted = asyncio.Event()
        self._round = asyncio.Event()
        self._closed = False

    def current(self) -> ReadOnlyCredentials:
        """The keys to sign with, the same object until they change.

        Raises :class:`NoCredentials` or :class:`CredentialsExpired`.
        """
        held = self._held
        if held is not None and (held.expires is None or self._clock() < held.expires):
            return held.keys
        if not self._failures and not self._looking:
            self._wanted.set()  # unforeseen: the clock was set, or the machine slept
        raise self._refusal()

    def whose(self) -> str:
        """Whose the current keys are, or the last ones; empty before any were found."""
        return self._held.whose if self._held is not None else ""

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override]
        """The same for botocore's signer, without waiting."""
        return self.current()

    @property
    def access_key(self) -> str | None:  # type: ignore[override]
        """Of the current keys, like the three below."""
        return self.current().access_key

    @property
    def secret_key(self) -> str | None:  # type: ignore[override]
        """See ``access_key``."""
        return self.current().secret_key

    @property
    def token(self) -> str | None:  # type: ignore[override]
        """See ``access_key``."""
        return self.current().token

    @property
    def account_id(self) -> str | None:
        """See ``access_key``."""
        return self.current().account_id

    async def renew(self, rejected: ReadOnlyCredentials) -> bool:
        """Look for others, as the origin says that ``rejected`` have expired. Returns whether there
        are others now, so that the request is worth repeating.

        All callers share one lookup, and soon after one there is no other.
        """
        if self._has_others(rejected):
            return True
        if self._closed:
            return False
        if not self._looking and not self._wanted.is_set():
            now = time.monotonic()
            if now - self._renewed < self._timing.renewal_pause_seconds:
                return False
            self._renewed = now
            self._wanted.set()
        await self._round.wait()
        return self._has_others(rejected)

    async def first(self) -> None:
        """Make the first lookup.

        Raises :class:`ConfigError` when no lookup can succeed before something is changed.
        """
        try:
            self._found(await self._chain.resolve())
        except NoCredentials as error:
            self._failed(error)

    async def keep(self) -> None:
        """Make a lookup whenever it is time; never returns."""
        while True:
            await self._due_or_wanted()
            self._wanted.clear()
            self._looking = True
            try:
                self._found(await self._chain.resolve())
            except (ConfigError, NoCredentials) as error:
                self._failed(error)
            finally:
                self._looking = False
                self._end_round()

    async def close(self) -> None:
        """End all waiting and a running lookup."""
        self._closed = True
        self._end_round()
        await self._chain.close()

    def _has_others(self, rejected: ReadOnlyCredentials) -> bool:
        held = self._held
        return held is not None and held.keys != rejected and self._left(held) > 0

    def _left(self, held: FoundCredentials) -> float:
        """The seconds for which they are still valid."""
        return math.inf if held.expires is None else held.expires - self._clock()

    def _end_round(self) -> None:
        self._round.set()
        self._round = asyncio.Event()

    async def _due_or_wanted(self) -> None:
        while (left := self._pause()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, self._timing.clock_seconds)):
                    await self._wanted.wait()
                return

    def _pause(self) -> float:
        """Seconds until the next lookup."""
        if self._failures:
            return self._retry_at - time.monotonic()
        return self._due - self._clock()

    def _found(self, found: FoundCredentials) -> None:
        left = self._left(found)
        if left <= 0:
            msg = f"those found ({found.method}) had expired at {_moment(found.expires)}"
            raise NoCredentials(msg)
        same_keys = self._held is not None and self._held.keys == found.keys
        if self._held is not None and same_keys:
            # Keep the old object: signatures made with it stay in use.
            found = replace(found, keys=self._held.keys)
        if self._failures:
            log.info("credentials found again (%s)", found.method)
        self._held = found
        self._failures = 0
        self._due = self._clock() + self._timing.after_success(left, same_keys=same_keys)
        self._metrics.credentials_refreshed(ok=True)

    def _failed(self, error: ConfigError | NoCredentials) -> None:
        self._problem = (
            error.again() if isinstance(error, NoCredentials) else NoCredentials(str(error))
        )
        self._metrics.credentials_refreshed(ok=False)
        left = 0.0 if self._held is None else self._left(self._held)
        self._failures += 1
        self._retry_at = time.monotonic() + self._timing.after_failure(self._failures, left)
        self._warn(left)

    def _warn(self, left: float) -> None:
        now = time.monotonic()
        warning = (str(self._problem), left > 0)
        last, warned_at = self._warned
        if warning == last and now - warned_at < self._timing.same_warning_seconds:
            return
        self._warned = (warning, now)
        if self._held is None:
            state = "there are none yet"
        elif self._held.expires is None:
            state = "the old ones stay in use"
        else:
            state = "the old ones " + ("are good until " if left > 0 else "expired at ")
            state += _moment(self._held.expires)
        log.warning("credentials not refreshed, %s: %s", state, self._problem)

    def _refusal(self) -> OriginRefused:
        if self._held is None:
            return self._problem.again()
        msg = f"the credentials expired at {_moment(self._held.expires)}"
        if self._failures:
            msg += f", and no others were found: {self._problem}"
        return CredentialsExpired(msg)


def _moment(expires: float | None) -> str:
    assert expires is not None
    return datetime.fromtimestamp(expires, UTC).isoformat(timespec="seconds")


@asynccontextmanager
async def kept_credentials(
    profile: str,
    *,
    region: str = "",
    metrics: OriginMetrics | None = None,
    timing: RefreshTiming | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[KeptCredentials]:
    """The credentials of AWS's chain for ``profile`` (empty: the default one), kept fresh.

    Entering waits for the first lookup, and succeeds without credentials too: there is a lookup
    every few seconds then. It raises :class:`ConfigError` when the chain cannot work as it is
    configured. ``clock`` returns seconds since 1970.
    """
    timing = timing or RefreshTiming()
    chain = CredentialChain(profile, region, timing.look_up_seconds)
    kept = KeptCredentials(chain, metrics or OriginMetrics(), timing, clock=clock)
    with mute_aiobotocore_log():
        try:
            await kept.first()
            async with running(kept.keep()):
                yield kept
        finally:
            await kept.close()


class _Provider:
    """Takes the place of a session's chain."""

    def __init__(self, credentials: KeptCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> KeptCredentials:
        return self._credentials


def use(session: AioSession, credentials: KeptCredentials) -> None:
    """Make the future clients of ``session`` sign with ``credentials``."""
    session.register_component("credential_provider", _Provider(credentials))
