"""The seam: what the server needs of any place that bytes come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

Part = bytes
"""A piece of an object's bytes, of bounded size."""


@dataclass(slots=True)
class ReadReport:
    """What happened at the origin while one response was made."""

    request_id: str = ""
    resumes: int = 0


_report: ContextVar[ReadReport | None] = ContextVar("report", default=None)


@contextmanager
def reporting(report: ReadReport) -> Iterator[None]:
    """Let the reads of this context note in ``report`` what happens to them."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


def note_resume() -> str:
    """Note that a body is continued; the id of the request for which."""
    report = _report.get()
    if report is None:
        return ""
    report.resumes += 1
    return report.request_id


class Origin(Protocol):
    """Where bytes come from: S3, or something stacked in front of it."""

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the object's current version.

        Raises a subclass of :class:`~rangeserver.errors.OriginError`.
        """
        ...

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        """The bytes of ``span`` of exactly the version that ``facts`` describes.

        Entering asks the origin and checks its answer; iterating yields the span's bytes and
        ends cleanly only after the last of them; leaving, for whatever reason, gives back
        every resource at once. Both entering and iterating raise subclasses of
        :class:`~rangeserver.errors.OriginError`; :class:`~rangeserver.errors.ObjectChanged`
        when that version is gone.
        """
        ...
