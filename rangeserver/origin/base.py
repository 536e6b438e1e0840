"""The seam: what the server needs of any place that bytes come from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from rangeserver.origin.deadlines import Deadline
from rangeserver.origin.retrying import RetryBudget
from rangeserver.protocol.client_address import client_of
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey


class HasDescriptor(Protocol):
    """An open file. A reference to it keeps it open."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


@dataclass(slots=True, eq=False)  # not frozen: twice as quickly made
class FileSlice:
    """Bytes in a file that were in the page cache a moment ago."""

    file: HasDescriptor
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


Part: TypeAlias = bytes | FileSlice
"""A piece of an object's bytes, of bounded size."""

P = TypeVar("P", bound=Part, covariant=True)
"""The kind of parts: only bytes from an origin itself, also slices of files from a cache."""


@dataclass(slots=True)
class ReadReport:
    """What one response asks of the layers that read for it, and what happens there: ``cached``
    bytes were available, ``fetched`` ones had to be waited for. ``client`` is an address.

    Work for several responses has a report of its own (:meth:`shared`); ``asker`` is that of the
    response that began it, and ``ahead`` says that no response has waited for it yet.
    """

    request_id: str = ""
    client: str = ""
    resumes: int = 0
    cached: int = 0
    fetched: int = 0
    begun: bool = False
    """Whether the client has received something, so that the answer cannot change any more."""
    ahead: bool = False
    asker: ReadReport | None = None
    budget: RetryBudget | None = None
    """Its attempts, once one has failed."""
    deadline: Deadline | None = None
    """For the first byte of the response, if it has one."""

    def shared(self, *, ahead: bool = False) -> ReadReport:
        """A report for work that others may wait for as well."""
        asker = self.asker or self
        return ReadReport(
            self.request_id, self.client, ahead=ahead, asker=asker, deadline=self.deadline
        )

    def delivered(self, count: int) -> None:
        """Bytes were handed to the client."""
        first, self.begun = not self.begun, True
        if self.budget is not None:
            self.budget.delivered(count, first=first)

    def join(self, other: ReadReport) -> None:
        """Charge this response for shared work that it has waited for."""
        if other.budget is not None and other.budget.failed:
            if self.budget is None:
                self.budget = other.budget.unspent()
            self.budget.failed = max(self.budget.failed, other.budget.failed)


_report: ContextVar[ReadReport | None] = ContextVar("report", default=None)
"""The one implicit parameter of the seam. Facts and spans decide what is read; the report only says
for whom. Most layers pass it on without a use for it, and tasks that they start inherit it. Below
:mod:`rangeserver.origin.resuming` it is a field of the attempt, which is a parameter."""


class reporting:  # noqa: N801 (reads as what it does)
    """Read for the response of ``report`` inside of the block."""

    __slots__ = ("_report", "_token")

    def __init__(self, report: ReadReport) -> None:
        self._report = report

    def __enter__(self) -> None:
        self._token = _report.set(self._report)

    def __exit__(self, *exception: object) -> None:
        _report.reset(self._token)


def current_report() -> ReadReport:
    """The report of the response that is read for; a new one outside of :class:`reporting`."""
    return _report.get() or ReadReport()


def current_client() -> str:
    """The client that the origin is asked for, as shares are divided; ``""`` for the server."""
    report = _report.get()
    return client_of(report.client) if report is not None else ""


@dataclass(frozen=True, slots=True)
class Begun(Generic[P]):
    """A read that has begun: ``parts`` yields the bytes of ``span``, and ends cleanly only after
    the last of them.
    """

    span: ByteSpan
    parts: AsyncIterator[P]


class Representation(Generic[P]):
    """One version of an object: its facts, and reads of its bytes. Opened once, read for each span.

    ``unvalidated`` facts are those of a moment ago. A request is answered with them but never
    refused because of them: call :meth:`revalidate` first.

    ``begun`` is the read that the opening has brought along. Set it to ``None`` if that is closed.
    """

    __slots__ = ("_origin", "begun", "facts", "unvalidated")

    def __init__(
        self,
        facts: ObjectFacts,
        origin: Origin[P],
        begun: Begun[P] | None = None,
        *,
        unvalidated: bool = False,
    ) -> None:
        self.facts = facts
        self.begun = begun
        self.unvalidated = unvalidated
        self._origin = origin

    def read(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """The bytes of ``span`` of exactly this version: the read that has begun, if it is of just
        that span, or a new one.

        Raises :class:`~rangeserver.errors.ObjectChanged` when the version is gone.
        """
        begun = self.begun
        if begun is None or begun.span != span:
            return self._open(span)
        self.begun = None
        return nullcontext(begun.parts)

    async def revalidate(self) -> None:
        """Ask the origin what is current. The facts, and what is read, are of that version then."""
        self.facts = await self._origin.describe(self.facts.key)
        self.unvalidated = False

    def _open(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """A new read."""
        return self._origin.read(self.facts, span)


class ResidentRead(Protocol):
    """The bytes of a span that is cached whole: slices of its file, without waiting for each."""

    slice: FileSlice
    """The current one, at first the first."""

    def advance(self) -> bool:
        """Go on to the next slice. ``False``: it is not in memory. Not called after the last."""
        ...

    def was_read(self) -> None:
        """Count the read. Not called if the rest was read otherwise."""
        ...


class ResidentReads(Protocol):
    """Reads bytes that are in memory."""

    def resident(
        self, facts: ObjectFacts, span: ByteSpan, report: ReadReport
    ) -> ResidentRead | None:
        """The bytes of ``span`` of just this version, if all of them are cached, and those of the
        first slice in memory.
        """
        ...


class ResidentObjects(ResidentReads, Protocol):
    """What can be answered without waiting for anything."""

    def fresh_facts(self, key: ObjectKey) -> ObjectFacts | None:
        """The cached facts of an object, if they are fresh."""
        ...

    def count_use(self, facts: ObjectFacts) -> None:
        """A response is made from cached facts alone; a resident read counts by itself."""
        ...


class Reads(Protocol[P]):
    """Where bytes of a version come from that is known."""

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """The bytes of ``span`` of exactly the version that ``facts`` describes.

        Raises :class:`~rangeserver.errors.ObjectChanged` when that version is gone.
        """
        ...


class Origin(Reads[P], Protocol[P]):
    """Where bytes come from: S3, or something stacked in front of it.

    All of it raises subclasses of :class:`~rangeserver.errors.OriginError`, while entering and
    while iterating. Leaving a context, for whatever reason, gives back every resource at once.
    """

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the object's current version."""
        ...

    def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[P]]:
        """The object's current version and, where one answer of the origin brings both, a read of
        what ``wanted`` means for it.

        Raises :class:`~rangeserver.errors.RangeUnsatisfiable` if it is known to mean nothing.
        """
        ...


class Objects(Origin[P], Protocol[P]):
    """An origin that requests are answered from."""

    def representation(self, facts: ObjectFacts, *, unvalidated: bool = False) -> Representation[P]:
        """The version that these facts describe, without asking for it."""
        ...
