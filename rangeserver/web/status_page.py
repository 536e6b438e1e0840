"""The status page: what the server is doing, for a person to read.

Keys, methods and request ids are chosen by clients: everything is escaped, and the page may
load and run nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rangeserver.web.exchange import Exchange, Outcome

Failure = tuple[float, Mapping[str, object]]
"""When it ended (Unix seconds), and its access line."""

FAILURES_KEPT = 20
STREAMS_SHOWN = 500


class RecentFailures:
    """The last responses that went wrong by no fault of the client; an exchange observer."""

    def __init__(self) -> None:
        self._kept: deque[Failure] = deque(maxlen=FAILURES_KEPT)

    def __call__(self, exchange: Exchange) -> None:
        """Keep a finished exchange if it failed."""
        if exchange.status >= 500 or exchange.outcome in _OUR_FAILURES:
            # Not the exchange itself, which would keep its connection's memory alive.
            self._kept.appendleft((time.time(), exchange.fields()))

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._kept)


_OUR_FAILURES = {Outcome.ORIGIN_FAILED, Outcome.FAILED}


@dataclass(frozen=True, slots=True)
class Status:
    """What the page shows."""

    buckets: Sequence[tuple[str, str, str | None]]
    """Path, name, and why it does not serve if it does not."""
    version: str
    uptime_seconds: float
    not_ready: str | None
    running: Sequence[Exchange]
    failures: Iterable[Failure]
    cache: str
    """What it holds, or why it does not."""


def render_status(status: Status) -> str:
    """The page."""
    now = time.monotonic()
    ready = "ready" if status.not_ready is None else f"not ready: {status.not_ready}"
    mark = "good" if status.not_ready is None else "bad"
    if len(status.buckets) == 1:
        buckets = f"bucket {_text(status.buckets[0][1])} &middot; "
        table = ""
    else:
        buckets = ""
        table = _table(
            ("path", "bucket", "state"),
            ((path, name, reason or "serves") for path, name, reason in status.buckets),
        )
    facts = (
        f"<p>{buckets}version {_text(status.version)} &middot; "
        f"up {_duration(status.uptime_seconds)}</p>"
        f'<p class="{mark}">{_text(ready)}</p>{table}'
        f"<p>cache: {_text(status.cache)}</p>"
    )
    streams = _table(
        ("key", "client", "sent / promised bytes", "age", "request id"),
        (
            (
                each.key,
                each.client,
                f"{each.bytes_sent:,} / {each.bytes_promised:,}",
                _duration(now - each.started),
                each.request_id,
            )
            for each in status.running[:STREAMS_SHOWN]
        ),
    )
    failures = _table(
        ("time", *_FAILURE_COLUMNS),
        (
            (
                time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(ended)),
                *(str(line[name]) for name in _FAILURE_COLUMNS),
            )
            for ended, line in status.failures
        ),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>rangeserver</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>rangeserver</h1>{facts}\n"
        f"<h2>Running now: {len(status.running)}</h2>{streams}\n"
        f"<h2>Last failures</h2>{failures}\n</body></html>\n"
    )


_FAILURE_COLUMNS = ("status", "outcome", "key", "client", "request_id")

_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em;color:#222;background:#fff}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2em .8em;"
    "border-bottom:1px solid #ccc;word-break:break-all}.good{color:#060}.bad{color:#a00}"
)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return "<p>none</p>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _text(value: str) -> str:
    # A key may hold half of a surrogate pair, which no encoding can write.
    return escape(value.encode("utf-8", "replace").decode("utf-8"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
