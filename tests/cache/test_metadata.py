"""Facts that are cached for a short time, and looked up once for many requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from rangeserver.cache import lookups, metadata
from rangeserver.cache.metadata import MAX_FACTS_BYTES, MetadataCache
from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginError,
    OriginThrottled,
    OriginUnreachable,
    RangeUnsatisfiable,
)
from rangeserver.metrics import Metrics
from rangeserver.origin.base import Begun, Part, Representation
from rangeserver.protocol.freshness import FreshnessRules
from rangeserver.protocol.ranges import WHOLE, AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.exposition import scrape
from tests.origin.clock import Clock
from tests.support import eventually

KEY = ObjectKey("a")
FACTS = ObjectFacts(KEY, 10, '"v1"')
TTL = 5.0


class Inner:
    """An origin that answers at once, or when told to, and counts what is open."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.age = 0.0
        self.described: list[ObjectKey] = []
        self.opened: list[tuple[ObjectKey, AskedRange]] = []
        self.facts = FACTS
        self.error: OriginError | None = None
        self.range_error: OriginError | None = None
        self.read_error: OriginError | None = None
        self.waiting = 0
        self.open_now = 0
        self._go_on = asyncio.Event()
        self._go_on.set()

    @property
    def asked(self) -> int:
        return len(self.described) + len(self.opened)

    def hold(self) -> None:
        self._go_on.clear()

    def release(self) -> None:
        self._go_on.set()

    async def _answer(self, key: ObjectKey) -> ObjectFacts:
        self.waiting += 1
        try:
            await self._go_on.wait()
        finally:
            self.waiting -= 1
        if self.error is not None:
            raise self.error
        return replace(self.facts, key=key, validated_at=self.clock() - self.age)

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        self.described.append(key)
        return await self._answer(key)

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        self.opened.append((key, wanted))
        facts = await self._answer(key)
        if self.range_error is not None:
            raise self.range_error
        span = wanted.span(facts.size)
        async with aclosing(self._parts()) as parts:
            self.open_now += 1
            try:
                yield Representation(facts, self, Begun(span, parts))
            finally:
                self.open_now -= 1

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[bytes]]:
        del facts, span
        async with aclosing(self._parts()) as parts:
            yield parts

    def representation(
        self, facts: ObjectFacts, *, unvalidated: bool = False
    ) -> Representation[bytes]:
        return Representation(facts, self, unvalidated=unvalidated)

    async def _parts(self) -> AsyncGenerator[bytes]:
        if self.read_error is not None:
            raise self.read_error
        yield b"part"


class Course:
    """What a test looks at."""

    def __init__(self, ttl_seconds: float = TTL) -> None:
        self.clock = Clock()
        self.inner = Inner(self.clock)
        self.purges = 0
        self._metrics = Metrics()
        self.known = MetadataCache(
            self.inner,
            FreshnessRules(ttl_seconds),
            clock=self.clock,
            wall_clock=self.clock,
            metrics=self._metrics.origin,
            last_purge=lambda: self.purges,
        )

    async def describe(self, key: ObjectKey = KEY) -> ObjectFacts:
        return await self.known.describe(key)

    async def open(self, key: ObjectKey = KEY, wanted: AskedRange = WHOLE) -> Representation[bytes]:
        """Open and leave again."""
        async with self.known.open(key, wanted) as opened:
            return opened

    async def open_and_read(self) -> list[Part]:
        async with self.known.open(KEY, WHOLE) as opened:
            assert opened.begun is not None
            async with opened.read(opened.begun.span) as parts:
                return [part async for part in parts]

    async def read(self, facts: ObjectFacts) -> list[Part]:
        async with self.known.read(facts, ByteSpan(0, 4)) as parts:
            return [part async for part in parts]

    def counted(self, result: str) -> float:
        return scrape(self._metrics)("rangeserver_object_facts_total", result=result)

    def started(
        self, asking: Callable[[], Awaitable[object]], times: int
    ) -> list[asyncio.Task[object]]:
        async def ask() -> object:
            return await asking()

        return [asyncio.create_task(ask()) for _ in range(times)]


def outcome(answer: object) -> object:
    """What can be compared: facts, and of what was opened whether they are unvalidated."""
    return (answer.facts, answer.unvalidated) if isinstance(answer, Representation) else answer


@pytest.fixture
async def course() -> AsyncIterator[Course]:
    """Fails on leaving if a lookup or a read is left open."""
    driven = Course()
    yield driven
    assert driven.known._in_flight == {}
    assert driven.inner.open_now == 0


# --- for a short time


async def test_facts_are_used_while_they_are_fresh(course: Course) -> None:
    assert await course.describe() == FACTS
    course.clock.now += TTL - 0.01
    assert await course.describe() == FACTS
    assert course.inner.asked == 1
    course.inner.facts = replace(FACTS, etag='"v2"')
    course.clock.now += 0.01
    assert (await course.describe()).etag == '"v2"'
    assert course.inner.asked == 2
    assert (course.counted("asked"), course.counted("known")) == (2, 1)


async def test_cached_facts_open_nothing_at_the_origin(course: Course) -> None:
    opened = await course.open()
    assert opened.begun is not None
    assert (opened.facts, opened.begun.span) == (FACTS, ByteSpan(0, 10))
    again = await course.open()
    assert (again.facts, again.begun, again.unvalidated) == (FACTS, None, True)
    assert course.inner.asked == 1


async def test_without_a_ttl_each_request_asks() -> None:
    course = Course(ttl_seconds=0)
    for _ in range(3):
        await course.describe()
        await course.open()
    assert course.inner.asked == 6
    assert course.known._entries == {}


async def test_errors_are_not_cached(course: Course) -> None:
    course.inner.error = ObjectNotFound("gone")
    for _ in range(2):
        with pytest.raises(ObjectNotFound):
            await course.describe()
    course.inner.error = None
    assert await course.describe() == FACTS
    assert course.inner.asked == 3


@pytest.mark.parametrize("kind", [ObjectChanged, ObjectNotFound])
@pytest.mark.parametrize("how", ["read", "open"])
async def test_facts_of_a_version_that_is_gone_are_dropped(
    course: Course, kind: type[OriginError], how: str
) -> None:
    if how == "read":
        facts = await course.describe()
        course.inner.read_error = kind()
        with pytest.raises(kind):
            await course.read(facts)
    else:
        course.inner.read_error = kind()
        with pytest.raises(kind):
            await course.open_and_read()
    await course.describe()
    assert course.inner.asked == 2


async def test_a_revalidation_asks_though_facts_are_cached(course: Course) -> None:
    await course.describe()
    async with course.known.open(KEY, WHOLE) as opened:
        assert opened.unvalidated
        course.inner.facts = replace(FACTS, etag='"v2"')
        await opened.revalidate()
        assert (opened.facts, opened.unvalidated) == (course.inner.facts, False)
    assert await course.describe() == course.inner.facts
    assert course.inner.asked == 2


async def test_facts_of_another_version_are_not_dropped(course: Course) -> None:
    old = replace(FACTS, etag='"v0"')
    await course.describe()
    course.inner.read_error = ObjectChanged()
    with pytest.raises(ObjectChanged):
        await course.read(old)
    await course.describe()
    assert course.inner.asked == 1


async def test_other_errors_of_a_read_change_nothing(course: Course) -> None:
    facts = await course.describe()
    course.inner.read_error = OriginUnreachable()
    with pytest.raises(OriginUnreachable):
        await course.read(facts)
    await course.describe()
    assert course.inner.asked == 1


async def test_the_number_of_objects_is_bounded(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "MAX_OBJECTS", 3)
    for name in ("a", "b", "c", "a", "d", "e"):  # a was used after b and c
        await course.describe(ObjectKey(name))
        assert len(course.known._entries) <= 3
    assert set(course.known._entries) == {"a", "d", "e"}


async def test_large_facts_are_not_cached(course: Course) -> None:
    course.inner.facts = replace(FACTS, content_disposition="x" * MAX_FACTS_BYTES)
    for _ in range(2):
        await course.describe()
    assert course.inner.asked == 2
    assert course.known._entries == {}


# --- single-flight


@pytest.mark.parametrize("leader", ["describe", "open"])
async def test_simultaneous_requests_share_one_lookup(course: Course, leader: str) -> None:
    course.inner.hold()
    first = course.started(course.describe if leader == "describe" else course.open, 1)
    await eventually(lambda: course.inner.waiting == 1)
    others = course.started(course.describe, 50) + course.started(course.open, 50)
    await asyncio.sleep(0.01)
    assert course.inner.asked == 1
    course.inner.release()
    results = await asyncio.gather(*first, *others)
    assert [outcome(each) for each in results[1:]] == [FACTS] * 50 + [(FACTS, False)] * 50
    assert course.inner.asked == 1
    assert (course.counted("asked"), course.counted("shared")) == (1, 100)


async def test_they_share_it_without_a_ttl_too() -> None:
    course = Course(ttl_seconds=0)
    course.inner.hold()
    tasks = course.started(course.describe, 10)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    assert list(await asyncio.gather(*tasks)) == [FACTS] * 10
    assert course.inner.asked == 1


async def test_a_lookup_that_began_before_a_purge_is_not_shared_after_it(
    course: Course,
) -> None:
    course.inner.hold()
    before = course.started(course.describe, 2)
    await eventually(lambda: course.inner.waiting == 1)
    course.purges += 1
    after = course.started(course.describe, 2) + course.started(course.open, 1)
    await asyncio.sleep(0.01)
    assert course.inner.asked == 1
    course.inner.release()
    assert await asyncio.gather(*before) == [FACTS] * 2
    await asyncio.gather(*after)
    assert course.inner.asked == 2  # for all three
    assert await course.describe() == FACTS
    assert course.inner.asked == 2


async def test_facts_from_before_a_purge_are_dropped(course: Course) -> None:
    await course.describe()
    assert course.known.fresh_facts(KEY) == FACTS
    course.purges += 1
    assert course.known.fresh_facts(KEY) is None
    await course.describe()
    assert course.inner.asked == 2


async def test_others_continue_while_the_leader_still_reads(course: Course) -> None:
    async with course.known.open(KEY, WHOLE) as opened:
        assert opened.begun is not None
        assert await course.describe() == FACTS
        assert outcome(await course.open()) == (FACTS, True)
    assert course.inner.asked == 1


async def test_lookups_of_other_objects_do_not_wait(course: Course) -> None:
    course.inner.hold()
    tasks = [asyncio.create_task(course.describe(ObjectKey(str(number)))) for number in range(10)]
    await eventually(lambda: course.inner.waiting == 10)
    course.inner.release()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("error", [ObjectNotFound("a"), AccessDenied("b"), OriginUnreachable("c")])
async def test_an_error_is_raised_to_all_that_waited(course: Course, error: OriginError) -> None:
    course.inner.hold()
    course.inner.error = error
    tasks = course.started(course.describe, 3) + course.started(course.open, 3)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {type(error)}
    assert {str(result) for result in results} == {str(error)}
    # Each has an exception of its own: a traceback that many add to grows without end.
    assert len({id(result) for result in results}) == 6
    assert course.inner.asked == 1


async def test_the_fields_of_an_error_reach_all_that_waited(course: Course) -> None:
    course.inner.hold()
    course.inner.error = OriginThrottled("slow down", headers={"Retry-After": "1"})
    tasks = course.started(course.describe, 2)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, OriginThrottled)
        assert result.headers == {"Retry-After": "1"}


@pytest.mark.parametrize("leader", ["describe", "open"])
async def test_a_leader_that_leaves_takes_nothing_from_the_others(
    course: Course, leader: str
) -> None:
    course.inner.hold()
    (first,) = course.started(course.describe if leader == "describe" else course.open, 1)
    await eventually(lambda: course.inner.waiting == 1)
    others = course.started(course.describe, 5) + course.started(course.open, 5)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    course.inner.release()
    results = await asyncio.gather(*others)
    assert [outcome(each) for each in results] == [FACTS] * 5 + [(FACTS, False)] * 5
    assert course.inner.asked == 1


async def test_leader_after_leader_may_leave(course: Course) -> None:
    """As long as one waits, it is the same question; with the last it ends."""
    course.inner.hold()
    tasks = course.started(course.describe, 20)
    await eventually(lambda: course.inner.waiting == 1)
    for task in tasks:
        assert course.inner.waiting == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: course.inner.waiting == 0)
    assert course.inner.asked == 1


async def test_a_lookup_lingers_when_no_request_waits(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LINGER_SECONDS", 60.0)
    course.inner.hold()
    for _ in range(20):
        (task,) = course.started(course.describe, 1)
        await eventually(lambda: course.inner.waiting == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    course.inner.release()
    assert await course.describe() == FACTS
    assert course.inner.asked == 1


async def test_a_body_that_comes_when_its_request_has_left_is_closed(course: Course) -> None:
    course.inner.hold()
    (first, other) = course.started(course.open, 2)
    await eventually(lambda: course.inner.waiting == 1)
    first.cancel()
    course.inner.release()
    assert outcome(await other) == (FACTS, False)
    await asyncio.gather(first, return_exceptions=True)
    assert course.inner.open_now == 0


@pytest.mark.parametrize("turns", range(8))
async def test_a_body_is_closed_whenever_its_request_leaves(course: Course, turns: int) -> None:
    """Before the answer, after it, and in the very moment."""
    course.inner.hold()
    (first,) = course.started(course.open, 1)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await eventually(lambda: not course.known._in_flight)
    assert course.inner.open_now == 0


async def test_a_request_that_waits_may_leave(course: Course) -> None:
    course.inner.hold()
    first, second, third = course.started(course.describe, 3)
    await eventually(lambda: course.inner.waiting == 1)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert course.inner.waiting == 1
    course.inner.release()
    assert list(await asyncio.gather(first, third)) == [FACTS] * 2
    assert course.inner.asked == 1


async def test_a_leader_that_leaves_after_the_facts_came_changes_nothing(course: Course) -> None:
    with pytest.raises(ZeroDivisionError):
        async with course.known.open(KEY, WHOLE):
            raise ZeroDivisionError
    assert await course.describe() == FACTS
    assert course.inner.asked == 1


async def test_a_bug_is_raised_to_the_leader_alone(course: Course) -> None:
    """Only what the origin says is shared."""
    course.inner.hold()
    course.inner.error = ZeroDivisionError()  # type: ignore[assignment]
    first, second = course.started(course.describe, 2)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    with pytest.raises(ZeroDivisionError):
        await first
    with pytest.raises(ZeroDivisionError):
        await second
    assert course.inner.asked == 2


async def test_an_unsatisfiable_range_is_not_the_outcome_for_others(course: Course) -> None:
    """The leader's 416 tells others nothing of their ranges; one then asks for the facts."""
    course.inner.range_error = RangeUnsatisfiable(size=10)
    course.inner.hold()
    beyond = AskedRange(1000, None)
    (first,) = course.started(lambda: course.open(KEY, beyond), 1)
    await eventually(lambda: course.inner.waiting == 1)
    others = course.started(course.open, 5) + course.started(course.describe, 5)
    await asyncio.sleep(0)
    course.inner.release()
    with pytest.raises(RangeUnsatisfiable):
        await first
    *opened, a, b, c, d, e = await asyncio.gather(*others)
    assert [a, b, c, d, e] == [FACTS] * 5
    assert {each.facts for each in opened if isinstance(each, Representation)} == {FACTS}
    assert (len(course.inner.opened), len(course.inner.described)) == (1, 1)


async def test_requests_that_come_and_leave_at_random_leave_nothing(course: Course) -> None:
    inner = course.inner

    async def come_and_go(number: int) -> None:
        asking = course.started(course.describe if number % 2 else course.open, 1)[0]
        for _ in range(number % 5):
            await asyncio.sleep(0)
        if number % 3 == 0:
            asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def toggle() -> None:
        for number in range(200):
            (inner.hold if number % 2 else inner.release)()
            inner.error = ObjectNotFound() if number % 7 == 0 else None
            course.clock.now += 1
            await asyncio.sleep(0)
        inner.error = None
        inner.release()

    await asyncio.gather(toggle(), *(come_and_go(number) for number in range(500)))
    assert inner.waiting == 0
    assert await course.describe() == FACTS


# --- stale-while-revalidate

STALE = 10.0
IF_ERROR = 100.0


@pytest.fixture
async def lenient() -> AsyncIterator[Course]:
    """One that tells facts whose time is over, and that a key is missing."""
    driven = Course()
    driven.known = MetadataCache(
        driven.inner,
        FreshnessRules(TTL, STALE, IF_ERROR),
        clock=driven.clock,
        wall_clock=driven.clock,
        metrics=driven._metrics.origin,
        missing_seconds=2.0,
    )
    yield driven
    await driven.known.close()
    assert driven.known._in_flight == {}


async def test_stale_facts_are_used_while_one_lookup_runs_in_the_background(
    lenient: Course,
) -> None:
    await lenient.describe()
    lenient.clock.now += TTL
    lenient.inner.facts = replace(FACTS, etag='"v2"')
    lenient.inner.hold()
    for _ in range(5):
        assert await lenient.describe() == FACTS
        assert outcome(await lenient.open()) == (FACTS, True)
        await asyncio.sleep(0)
    assert (lenient.inner.asked, lenient.inner.waiting) == (2, 1)
    lenient.inner.release()
    await eventually(lambda: not lenient.known._in_flight)
    assert (await lenient.describe()).etag == '"v2"'
    assert lenient.inner.asked == 2


async def test_stale_facts_are_not_used_for_ever(lenient: Course) -> None:
    await lenient.describe()
    lenient.clock.now += TTL + STALE
    lenient.inner.facts = replace(FACTS, etag='"v2"')
    assert (await lenient.describe()).etag == '"v2"'


@pytest.mark.parametrize("directive", ["must-revalidate", "no-cache"])
async def test_stale_facts_are_not_used_where_the_object_forbids_it(
    lenient: Course, directive: str
) -> None:
    lenient.inner.facts = replace(FACTS, cache_control=directive)
    await lenient.describe()
    lenient.clock.now += TTL
    await lenient.describe()
    assert lenient.inner.asked == 2
    assert not lenient.known._in_flight


async def test_each_request_for_a_no_cache_object_asks(lenient: Course) -> None:
    lenient.inner.facts = replace(FACTS, cache_control="max-age=9, No-Cache")
    for number in range(1, 4):
        await lenient.describe()
        assert lenient.inner.asked == number


async def test_a_background_lookup_that_fails_leaves_the_facts(lenient: Course) -> None:
    await lenient.describe()
    lenient.clock.now += TTL
    lenient.inner.error = OriginUnreachable()
    assert await lenient.describe() == FACTS
    await eventually(lambda: not lenient.known._in_flight)
    assert await lenient.describe() == FACTS
    await eventually(lambda: not lenient.known._in_flight)
    assert lenient.inner.asked == 3


@pytest.mark.parametrize(
    "error", [ObjectNotFound("gone"), AccessDenied("no"), ObjectChanged("new")]
)
async def test_a_background_lookup_learns_that_an_object_is_withdrawn(
    lenient: Course, error: OriginError
) -> None:
    await lenient.describe()
    lenient.clock.now += TTL
    lenient.inner.error = error
    assert await lenient.describe() == FACTS
    await eventually(lambda: not lenient.known._in_flight)
    with pytest.raises(type(error), match=str(error)):
        await lenient.describe()
    assert lenient.inner.asked == 2 + (not isinstance(error, ObjectNotFound))
    lenient.clock.now += TTL
    lenient.inner.error = OriginUnreachable()
    with pytest.raises(OriginUnreachable):
        await lenient.describe()


async def test_closing_cancels_lookups(lenient: Course) -> None:
    await lenient.describe()
    lenient.clock.now += TTL
    lenient.inner.hold()
    await lenient.describe()
    await eventually(lambda: lenient.inner.waiting == 1)
    await lenient.known.close()
    assert (lenient.inner.waiting, lenient.known._in_flight) == (0, {})


# --- missing


async def test_a_missing_key_is_cached_for_its_time(lenient: Course) -> None:
    lenient.inner.error = ObjectNotFound("no such key")
    for _ in range(3):
        with pytest.raises(ObjectNotFound, match="no such key"):
            await lenient.describe()
        with pytest.raises(ObjectNotFound):
            await lenient.open()
    assert lenient.inner.asked == 1
    lenient.inner.error = None
    lenient.clock.now += 2.0
    assert await lenient.describe() == FACTS
    assert lenient.known._missing == {}


@pytest.mark.parametrize("error", [AccessDenied(), OriginUnreachable(), OriginThrottled()])
async def test_no_other_refusal_is_cached(lenient: Course, error: OriginError) -> None:
    lenient.inner.error = error
    for number in range(1, 4):
        with pytest.raises(type(error)):
            await lenient.describe()
        assert lenient.inner.asked == number


# --- unvalidated facts


class Aged(Inner):
    """Gives facts of some seconds ago."""

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        self.opened.append((key, wanted))
        yield Representation(await self._answer(key), self, unvalidated=True)


@pytest.mark.parametrize(("age", "asked"), [(3.0, 1), (TTL, 2)])
async def test_the_age_of_facts_on_arrival_counts(course: Course, age: float, asked: int) -> None:
    course.known.inner = course.inner = inner = Aged(course.clock)
    inner.age = age
    await course.open()
    course.clock.now += TTL - 3.0 - 0.01
    await course.open()
    assert inner.asked == asked
    course.clock.now += 0.01
    await course.open()
    assert inner.asked == asked + 1


async def test_an_object_can_lower_the_limits(lenient: Course) -> None:
    lenient.inner.facts = replace(FACTS, cache_control="max-age=1")
    await lenient.describe()
    lenient.clock.now += 0.9
    assert lenient.known.fresh_facts(KEY) == FACTS_FOR_A_SECOND
    assert await lenient.describe() == FACTS_FOR_A_SECOND
    assert lenient.inner.asked == 1
    lenient.clock.now += 0.2
    assert lenient.known.fresh_facts(KEY) is None
    lenient.inner.hold()
    (waiting,) = lenient.started(lenient.describe, 1)
    await eventually(lambda: lenient.inner.waiting == 1)
    assert not waiting.done()
    lenient.inner.release()
    await waiting
    assert lenient.inner.asked == 2


FACTS_FOR_A_SECOND = replace(FACTS, cache_control="max-age=1")


@pytest.mark.parametrize(
    ("age", "kept", "kept_for_3_seconds"),
    [(20.0, True, True), (IF_ERROR - 3.0, True, False), (IF_ERROR, False, False)],
)
async def test_facts_that_are_stale_on_arrival_are_used_for_a_moment(
    lenient: Course, age: float, kept: bool, kept_for_3_seconds: bool
) -> None:
    """Not each request should wait until the origin has failed; in all no longer than the limit of
    facts that are used because of an error.
    """
    lenient.inner.age = age
    for _ in range(3):
        assert await lenient.describe() == FACTS
    assert lenient.inner.asked == (1 if kept else 3)
    lenient.clock.now += 3.0
    assert (lenient.known.fresh_facts(KEY) == FACTS) is kept_for_3_seconds
    lenient.clock.now += TTL + STALE
    asked = lenient.inner.asked
    await lenient.describe()
    assert lenient.inner.asked == asked + 1


async def test_all_that_share_unvalidated_facts_know_it(course: Course) -> None:
    course.known.inner = course.inner = Aged(course.clock)
    course.inner.hold()
    tasks = course.started(course.open, 3)
    await eventually(lambda: course.inner.waiting == 1)
    course.inner.release()
    results = await asyncio.gather(*tasks)
    assert [each.unvalidated for each in results if isinstance(each, Representation)] == [True] * 3
    assert course.inner.asked == 1
