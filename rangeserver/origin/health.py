"""Readiness: whether the origin serves us. A healthy origin gets no requests just for that.

An answer that takes a good bucket and good credentials proves the origin healthy at once. A failure
only raises a doubt: it may be about one object, which a client could request again and again. A
probe settles the doubt, with a key that no client chooses, and only a failed probe makes the server
not ready. While it is not ready, and before the first answer, there is a probe every few seconds.
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
"""The shortest time between two probes."""

PROBE_SECONDS = 5.0
"""The deadline for the answer to a probe."""

FAILURES_IN_A_ROW = 3
"""So many timeouts and failed connections in a row raise a doubt."""

PROBE_KEY = ObjectKey(".rangeserver-readiness")
"""A key that no client chooses and no object has."""

_NOT_ASKED = "The origin has not answered yet."

# Answers of a bucket that exists to credentials it knows. To credentials that may read but not
# list, a missing object is AccessDenied, so a probe cannot expect better.
_PROOFS = (AccessDenied, ObjectChanged, ObjectNotFound)


def is_proof(error: OriginError) -> bool:
    """Whether such an answer takes a good bucket and good credentials."""
    return isinstance(error, _PROOFS) and not isinstance(error, KeyRefused)


class OriginHealth:
    """The state of the origin; ``reason`` says why it is not ready, ``None`` if it is."""

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
        """An answer has proved bucket and credentials good."""
        self._failures = 0
        if self._doubt.is_set():
            self._doubt.clear()
            if self.reason is not None and self.reason != _NOT_ASKED:
                log.info("%sready again: the origin answers", self._where)
            self.reason = None

    def failed(self, error: OriginError) -> None:
        """A client's request has failed at the origin."""
        if is_proof(error):
            self.answered()
        elif isinstance(error, OriginRefused):
            self._doubt.set()
        elif isinstance(error, (OriginTimeout, OriginUnreachable)):
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                self._doubt.set()

    def probe_failed(self, reason: str) -> None:
        """The probe did not get the answer of a good origin."""
        if reason != self.reason:
            log.warning("%snot ready: %s", self._where, reason)
        self.reason = reason

    def not_asked(self, error: OriginSuspended) -> None:
        """The probe was not sent, because the circuit is open: the reason stays what it was."""
        if self.reason is None or self.reason == _NOT_ASKED:
            self.probe_failed(error.message)

    async def doubted(self) -> None:
        """Return when there is a reason for a probe."""
        await self._doubt.wait()


async def keep_probing(origin: Origin[Part], health: OriginHealth, endpoint_url: str = "") -> None:
    """Settle each doubt by a request to ``origin``, which reports its answers to ``health``.
    ``endpoint_url`` is empty for AWS.
    """
    while True:
        await health.doubted()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await origin.describe(PROBE_KEY)
        except KeyRefused:
            health.answered()  # it knows us, or it would not have looked at the name
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
            # If this task ended, the server would never be ready again.
            log.exception("the probe of the origin failed unexpectedly")
            health.probe_failed(f"Unexpected: {type(error).__name__}")
        await asyncio.sleep(PROBE_PAUSE_SECONDS)
