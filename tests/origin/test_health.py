"""What makes the server ready or not: traffic proves and raises doubts, the probe decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginRefused,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin import health as module
from rangeserver.origin.base import Part, Representation
from rangeserver.origin.health import FAILURES_IN_A_ROW, OriginHealth, keep_probing
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import config_for, eventually, opened_origin

REFUSED = OriginRefused("origin answered 403 InvalidAccessKeyId")


class Answers:
    """An origin that answers a probe as it is told, and reports as S3Origin does."""

    def __init__(self, health: OriginHealth) -> None:
        self.health = health
        self.asked = 0
        self.answer: OriginError | Exception = ObjectNotFound()
        self.silent = False

    async def describe(self, key: ObjectKey) -> ObjectFacts:  # noqa: ARG002 (the seam's)
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if isinstance(self.answer, OriginError):
            self.health.failed(self.answer)
        raise self.answer

    def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[bytes]]:
        raise NotImplementedError

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    """An origin that is probed and found ready."""
    answers = Answers(OriginHealth())
    async with probed(answers):
        await eventually(lambda: answers.health.ready)
        yield answers


@asynccontextmanager
async def probed(answers: Answers) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_probing(answers, answers.health))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("proof", [ObjectNotFound, AccessDenied, ObjectChanged])
async def test_ready_by_any_answer_of_a_good_bucket(proof: Callable[[], OriginError]) -> None:
    answers = Answers(OriginHealth())
    answers.answer = proof()
    assert answers.health.reason == "The origin has not answered yet."
    async with probed(answers):
        await eventually(lambda: answers.health.ready)
    assert answers.asked == 1


async def test_a_ready_origin_is_not_probed(answers: Answers) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    answers.health.failed(ObjectNotFound())
    answers.health.answered()
    assert answers.asked == 1


async def test_refused_until_an_answer_proves_otherwise(answers: Answers) -> None:
    answers.answer = REFUSED
    answers.health.failed(REFUSED)
    await eventually(lambda: not answers.health.ready)
    reason = answers.health.reason
    assert reason == f"{OriginRefused.message} (origin answered 403 InvalidAccessKeyId)"
    asked = answers.asked
    await eventually(lambda: answers.asked > asked + 1)  # the probe goes on
    answers.answer = ObjectNotFound()
    await eventually(lambda: answers.health.ready)


async def test_an_object_that_is_refused_is_no_fault_of_the_origin(answers: Answers) -> None:
    """Whoever knows the key of one could otherwise take the server out of service."""
    answers.health.failed(REFUSED)
    await eventually(lambda: answers.asked == 2)
    assert answers.health.ready


@pytest.mark.parametrize("error", [OriginTimeout(), OriginUnreachable()])
async def test_some_failures_in_a_row(error: OriginError, answers: Answers) -> None:
    answers.answer = error
    for _ in range(FAILURES_IN_A_ROW - 1):
        answers.health.failed(error)
    answers.health.answered()  # they must be in a row
    for _ in range(FAILURES_IN_A_ROW - 1):
        answers.health.failed(error)
    assert not answers.health._doubt.is_set()
    answers.health.failed(error)
    await eventually(lambda: not answers.health.ready)


async def test_a_probe_that_is_not_sent_changes_no_reason(answers: Answers) -> None:
    """Nobody was asked, so nothing can be said of what listens there."""
    answers.answer = OriginSuspended("nothing answered lately; not asked for 0.8 s more")
    for _ in range(FAILURES_IN_A_ROW):
        answers.health.failed(OriginTimeout())
    await eventually(lambda: not answers.health.ready)
    assert answers.health.reason == OriginSuspended.message
    answers.answer = REFUSED
    await eventually(lambda: answers.health.reason != OriginSuspended.message)
    reason = answers.health.reason
    answers.answer = OriginSuspended()
    asked = answers.asked
    await eventually(lambda: answers.asked > asked + 1)
    assert answers.health.reason == reason


@pytest.mark.parametrize("error", [OriginBusy(), OriginThrottled(), OriginBodyError()])
async def test_what_says_nothing_about_readiness(error: OriginError) -> None:
    health = OriginHealth()
    health.failed(error)
    assert not health.ready
    health.answered()
    for _ in range(10):
        health.failed(error)
    assert health.ready
    assert not health._doubt.is_set()


async def test_a_silent_origin(answers: Answers) -> None:
    answers.silent = True
    answers.health.failed(REFUSED)
    await eventually(lambda: answers.health.reason == "The origin did not answer in time.")
    answers.silent = False
    await eventually(lambda: answers.health.ready)


async def test_traffic_proves_health_before_the_next_probe(answers: Answers) -> None:
    answers.answer = REFUSED
    answers.health.failed(REFUSED)
    await eventually(lambda: not answers.health.ready)
    answers.health.answered()
    assert answers.health.ready


async def test_the_probe_survives_what_nobody_thought_of(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    answers.answer = RuntimeError("surprise")
    answers.health.failed(REFUSED)
    await eventually(lambda: answers.health.reason == "Unexpected: RuntimeError")
    assert "surprise" in caplog.text
    answers.answer = ObjectNotFound()
    await eventually(lambda: answers.health.ready)


async def test_changes_are_logged_once(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert not caplog.messages  # the usual start is no news
    answers.answer = REFUSED
    answers.health.failed(REFUSED)
    await eventually(lambda: answers.asked > 3)
    answers.answer = ObjectNotFound()
    await eventually(lambda: answers.health.ready)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "not ready",
        "ready again",
    ]


async def test_an_s3_origin_reports_what_it_sees(fake: FakeS3) -> None:
    fake.put("film.mp4", b"0123456789")
    async with opened_origin(config_for(fake)) as opened:
        origin, health = opened.origin, opened.origin._health
        facts = await origin.describe(ObjectKey("film.mp4"))
        assert health.ready
        fake.misbehave(faults.error(403, "ExpiredToken"))
        with pytest.raises(OriginRefused):
            async with origin.read(facts, ByteSpan(0, 5)):
                pass
        assert health._doubt.is_set()
        fake.behave()
        async with origin.read(facts, ByteSpan(0, 5)) as parts:
            assert not health._doubt.is_set()
            assert b"".join([part async for part in parts]) == b"01234"


async def test_after_a_refusal_a_missing_object_is_explained_anew(fake: FakeS3) -> None:
    """HEAD answers 404 for a bucket that is gone, too: that must not count as a proof."""
    fake.put("film.mp4", b"0123456789")
    async with opened_origin(config_for(fake)) as opened:
        facts = await opened.origin.describe(ObjectKey("film.mp4"))
        fake.misbehave(faults.error(404, "NoSuchBucket"), method=None)
        with pytest.raises(OriginRefused):
            async with opened.origin.read(facts, ByteSpan(0, 5)):
                pass
        with pytest.raises(OriginRefused):
            await opened.origin.describe(ObjectKey("film.mp4"))
        assert opened.origin._health._doubt.is_set()
