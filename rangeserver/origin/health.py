"""Whether the origin serves us: the readiness of the server, kept without asking on its behalf.

Traffic tells most of it. An answer that only a good bucket and good credentials bring about
proves the origin healthy at once. A failure only raises a doubt: it may be about one object,
which whoever knows its key could ask for again and again. What a doubt is worth is found out by
a probe, for a key that no client chooses, and only a failed probe makes the server not ready.
While it is not ready, and before the first answer, the probe goes on every few seconds.
"""

from __future__ import annotations

import asyncio
import logging

from rangeserver.errors import (
    AccessDenied,
    KeyRefused,
    ObjectChanged,
    ObjectNotFound,
    OriginError,
    OriginRefused,
    OriginSuspended,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.base import Origin, Part
from rangeserver.origin.obstacles import explained
from rangeserver.protocol.representation import ObjectKey

log = logging.getLogger(__name__)

PROBE_PAUSE_SECONDS = 2.0
"""Between two probes at least."""

PROBE_SECONDS = 5.0
"""For the answer to a probe."""

FAILURES_IN_A_ROW = 3
"""Timeouts and failed connections, with no answer between them, that raise a doubt."""

PROBE_KEY = ObjectKey(".rangeserver-readiness")
"""No client chooses it, and no object has it."""

_NOT_ASKED = "The origin has not answered yet."

# Given by a bucket that exists to credentials it knows. Whoever may read objects and not list
# them is told AccessDenied where there is no object, so a probe can expect nothing better.
_PROOFS = (AccessDenied, ObjectChanged, ObjectNotFound)


def is_proof(error: OriginError) -> bool:
    """Whether only a good bucket and good credentials bring about such an answer."""
    return isinstance(error, _PROOFS) and not isinstance(error, KeyRefused)


class OriginHealth:
    """What is known of the origin; ``reason`` says why it is not ready, ``None`` that it is."""

    def __init__(self, path: str = "/") -> None:
        """``path`` is where the bucket is served, for the log."""
        self._where = "" if path == "/" else f"{path} "
        self.reason: str | None = _NOT_ASKED
        self._failures = 0
        self._doubt = asyncio.Event()
        self._doubt.set()

    @property
    def ready(self) -> bool:
        """Whether requests can be expected to succeed."""
        return self.reason is None

    def answered(self) -> None:
        """The origin gave an answer that proves bucket and credentials good."""
        self._failures = 0
        if self._doubt.is_set():
            self._doubt.clear()
            if self.reason is not None and self.reason != _NOT_ASKED:
                log.info("%sready again: the origin answers", self._where)
            self.reason = None

    def failed(self, error: OriginError) -> None:
        """A request of a client failed at the origin."""
        if is_proof(error):
            self.answered()
        elif isinstance(error, OriginRefused):
            self._doubt.set()
        elif isinstance(error, (OriginTimeout, OriginUnreachable)):
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                self._doubt.set()

    def probe_failed(self, reason: str) -> None:
        """The probe was not answered as a good origin answers."""
        if reason != self.reason:
            log.warning("%snot ready: %s", self._where, reason)
        self.reason = reason

    def not_asked(self, error: OriginSuspended) -> None:
        """The probe was not sent either: what the one before it found is still the reason."""
        if self.reason is None or self.reason == _NOT_ASKED:
            self.probe_failed(error.message)

    async def doubted(self) -> None:
        """Return once there is cause for a probe."""
        await self._doubt.wait()


async def keep_probing(origin: Origin[Part], health: OriginHealth, endpoint_url: str = "") -> None:
    """Settle every doubt by asking ``origin``, which reports its answers to ``health``. It is at
    ``endpoint_url``, if that is not AWS.
    """
    while True:
        await health.doubted()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await origin.describe(PROBE_KEY)
        except KeyRefused:
            health.answered()  # it knows us well enough to look at the name
        except _PROOFS:
            pass
        except TimeoutError:
            health.probe_failed("The origin did not answer in time.")
        except OriginSuspended as error:
            health.not_asked(error)
        except OriginError as error:
            found = await explained(error, endpoint_url)
            reason = f"{error}" if found is None else f"{found.found}: {found.advice}"
            health.probe_failed(f"{error.message} ({reason})")
        except Exception as error:
            # A probe that died could never say ready again.
            log.exception("the probe of the origin failed unexpectedly")
            health.probe_failed(f"Unexpected: {type(error).__name__}")
        await asyncio.sleep(PROBE_PAUSE_SECONDS)
