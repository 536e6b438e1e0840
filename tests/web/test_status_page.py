"""The status page as a person sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from rangeserver.app import WATCHED
from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.status_page import (
    STREAMS_SHOWN,
    CacheState,
    Failure,
    RecentFailures,
    Status,
    render_status,
)
from tests.chromium import Page
from tests.fakes.s3 import FakeS3
from tests.support import config_for, running_app
from tests.web.status_rows import rows

GIB = 1024**3
NONE = "\N{EN DASH}"
SENT = {"cache": 3 * GIB, "origin": GIB, "none": 0}


def exchange(key: str = "a.mp4", *, cached: int = 0, fetched: int = 0) -> Exchange:
    made = Exchange("0123456789abcdef", "192.0.2.7", "GET", key=key, status=206)
    made.response_begun = made.from_object = True
    made.bytes_promised, made.bytes_sent = 2 * GIB, GIB // 2
    made.origin.cached, made.origin.fetched = cached, fetched
    made.started = time.monotonic() - 200.5
    return made


def page_of(
    running: Sequence[Exchange] = (),
    failures: Sequence[Failure] = (),
    cache: CacheState | None = None,
) -> str:
    bucket = ("/", "films", None)
    return render_status(Status([bucket], "1.2.3", 90_061.0, None, SENT, running, failures, cache))


def test_a_stream_in_units_that_people_read() -> None:
    (row,) = rows(page_of([exchange()]))
    assert row == {
        "key": "a.mp4",
        "source": "origin",
        "sent": "512.0 MiB of 2.0 GiB",
        "on average": "21.4 Mbit/s",
        "for": "3 min 20 s",
        "client": "192.0.2.7",
        "request id": "0123456789abcdef",
    }


@pytest.mark.parametrize(
    ("cached", "fetched", "source"), [(9, 0, "cache"), (0, 9, "origin"), (9, 9, "mixed")]
)
def test_where_a_stream_comes_from(cached: int, fetched: int, source: str) -> None:
    (row,) = rows(page_of([exchange(cached=cached, fetched=fetched)]))
    assert row["source"] == source


def test_a_stream_that_has_not_begun() -> None:
    waiting = Exchange("0123456789abcdef", "192.0.2.7", "GET", key="a.mp4")
    (row,) = rows(page_of([waiting]))
    assert (row["source"], row["sent"], row["on average"]) == (NONE, "nothing yet", NONE)


def test_many_streams_are_counted_and_the_oldest_shown() -> None:
    page = page_of([exchange(f"{number}.mp4") for number in range(STREAMS_SHOWN + 1000)])
    assert f"Running now: 1,200, of which the {STREAMS_SHOWN} oldest" in page
    assert [row["key"] for row in rows(page)] == [f"{n}.mp4" for n in range(STREAMS_SHOWN)]


def test_the_facts_at_the_top() -> None:
    page = page_of(cache=CacheState(5 * GIB, 10 * GIB, usable=True)).replace("&nbsp;", " ")
    assert "<dd>films</dd>" in page
    assert "<dd>1 d 1 h, version 1.2.3</dd>" in page
    assert "<dd>4.0 GiB, 75 % from the cache</dd>" in page
    assert "<dd>5.0 GiB of 10.0 GiB<progress" in page
    assert "cannot be written to" not in page
    assert "cannot be written to" in page_of(cache=CacheState(0, GIB, usable=False))
    counting = page_of(cache=CacheState(None, GIB, usable=True)).replace("&nbsp;", " ")
    assert "<dt>Cache</dt><dd>being counted, of 1.0 GiB</dd>" in counting
    assert "<dt>Cache</dt><dd>off</dd>" in page_of()


def test_the_last_failure_is_led_to() -> None:
    failures = RecentFailures()
    for status, outcome in ((206, Outcome.ORIGIN_FAILED), (503, Outcome.COMPLETE)):
        failed = exchange()
        failed.status, failed.outcome = status, outcome
        failures(failed)
    page = page_of(failures=list(failures))
    assert '<a href="#failures">0 s ago: 503</a>' in page
    assert [(row["status"], row["outcome"]) for row in rows(page)] == [
        ("503", "complete"),
        ("206", "origin_failed"),
    ]
    assert "<dd>none</dd>" in page_of()


def test_a_key_that_no_encoding_can_write() -> None:
    (row,) = rows(page_of([exchange("a\udc80.mp4")]))
    assert row["key"] == "a?.mp4"


def test_it_renews_itself_without_a_script_too() -> None:
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page_of()


# Of each cell whose text must not be broken, how many lines it takes.
_LINES = """[...document.querySelectorAll("td:not(.key):not(.id)")].map((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].filter((box) => box.height > 8)
    .map((box) => Math.round(box.top))).size;
})"""


@pytest.mark.browser
async def test_in_a_browser(fake: FakeS3, page: Page) -> None:
    """At a desk and on a phone nothing is cut off, and no figure broken; it renews itself."""
    async with running_app(config_for(fake, admin=True)) as app:
        watched = app.app[WATCHED]
        keys = ("a.mp4", "x" * 1024, "a/" * 500 + "한국어 동영상.mp4")
        running = [exchange(key, cached=9) for key in keys]
        running[0].client = "2001:db8:85a3:1234:5678:8a2e:370:7334"
        running[1].request_id = "a" * 64
        for each in running:
            watched.exchanges.add(each)
            each.outcome = Outcome.ORIGIN_FAILED
            watched.failures(each)
        await page.send("Page.navigate", url=f"http://127.0.0.1:{app.admin_port}/")
        await page.until("document.querySelectorAll('td.key').length === 6")
        grounds = set()
        for width, dark in ((1280, False), (1280, True), (390, False)):
            await page.resize(width, 800, dark=dark)
            assert await page.evaluate("document.documentElement.scrollWidth") == width
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
            if width > 1000:
                assert set(await page.evaluate(_LINES)) == {1}
        assert len(grounds) == 2
        for each in running:
            each.outcome = None
        for each in running[1:]:
            watched.exchanges.finish(each, Outcome.COMPLETE)
        await page.evaluate("renew()")
        await page.until("document.querySelectorAll('td.key').length === 4")
        watched.exchanges.finish(running[0], Outcome.COMPLETE)
    assert page.problems == []
    await page.evaluate("renew()")
    await page.until("document.querySelector('footer').textContent.endsWith('No answer now.')")
