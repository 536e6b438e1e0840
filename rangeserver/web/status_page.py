"""The status page: what the server is doing, for a person to read.

Keys, methods and request ids are chosen by clients: everything is escaped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rangeserver.figures import age_text, duration_text, rate_text, size_text
from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.page_frame import REFRESH_SECONDS, framed

Failure = tuple[float, Mapping[str, object]]
"""When it ended (Unix seconds), and its access line."""

FAILURES_KEPT = 20
STREAMS_SHOWN = 200


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
class CacheState:
    """What the cache holds; ``bytes`` and ``max_bytes`` are of the disk, ``bytes`` are not known
    before the files were counted once.
    """

    bytes: int | None
    max_bytes: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What the page shows."""

    buckets: Sequence[tuple[str, str, str | None]]
    """Path, name, and why it does not serve if it does not."""
    version: str
    uptime_seconds: float
    not_ready: str | None
    sent: Mapping[str, int]
    """Body bytes since the start, by where they came from."""
    running: Sequence[Exchange]
    failures: Iterable[Failure]
    cache: CacheState | None


def render_status(status: Status) -> str:
    """The page."""
    ready = "ready" if status.not_ready is None else f"not ready: {status.not_ready}"
    mark = "good" if status.not_ready is None else "bad"
    running = status.running[:STREAMS_SHOWN]
    more = f", of which the {len(running)} oldest" if len(running) < len(status.running) else ""
    main = (
        f'<header><h1>rangeserver</h1><p class="state {mark}">{_text(ready)}</p></header>\n'
        f"<dl>{_facts(status)}</dl>\n{_buckets(status.buckets)}"
        f"<h2>Running now: {len(status.running):,}{more}</h2>{_streams(running)}\n"
        f'<h2 id="failures">Last failures</h2>{_failures(status.failures)}\n'
    )
    return framed(main, f"As of {_utc(time.time())}; renewed every {REFRESH_SECONDS} seconds.")


def _facts(status: Status) -> str:
    sent = sum(status.sent.values())
    of_cache = status.sent.get("cache", 0)
    part = f", {100 * of_cache // sent} % from the cache" if of_cache else ""
    facts = {
        "Up": f"{duration_text(status.uptime_seconds)}, version {_text(status.version)}",
        "Sent since the start": f"{_size(sent)}{part}",
        "Cache": _cache(status.cache),
        "Last failure": _last(status.failures),
    }
    if len(status.buckets) == 1:
        facts = {"Bucket": _text(status.buckets[0][1]), **facts}
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())


def _last(failures: Iterable[Failure]) -> str:
    for ended, line in failures:
        outcome = line["outcome"] if int(str(line["status"])) < 500 else line["status"]
        return f'<a href="#failures">{age_text(time.time() - ended)} ago: {outcome}</a>'
    return "none"


def _cache(cache: CacheState | None) -> str:
    if cache is None:
        return "off"
    if cache.bytes is None:
        text, bar = f"being counted, of {_size(cache.max_bytes)}", ""
    else:
        text = f"{_size(cache.bytes)} of {_size(cache.max_bytes)}"
        bar = _bar(cache.bytes, cache.max_bytes, "part of the cache that is full")
    if not cache.usable:
        text += '<br><span class="bad">cannot be written to at the moment</span>'
    return text + bar


def _buckets(buckets: Sequence[tuple[str, str, str | None]]) -> str:
    if len(buckets) == 1:
        return ""
    rows = (
        (_Cell(_text(path)), _Cell(_text(name)), _Cell(_text(reason or "serves"), "key"))
        for path, name, reason in buckets
    )
    return "<h2>Buckets</h2>" + _table(("path", "bucket", "state"), rows)


def _streams(running: Sequence[Exchange]) -> str:
    now = time.monotonic()
    return _table(
        ("key", "source", "sent", "on average", "for", "client", "request id"),
        (
            (
                _long(each.key, "key"),
                _Cell(each.source or "&ndash;"),
                _Cell(_progress(each)),
                _Cell(_rate(each, now)),
                _Cell(duration_text(now - each.started)),
                _Cell(_text(each.client), "small"),
                _long(each.request_id, "id"),
            )
            for each in running
        ),
    )


def _progress(exchange: Exchange) -> str:
    if not exchange.response_begun:
        return "nothing yet"
    sent, promised = exchange.bytes_sent, exchange.bytes_promised
    bar = _bar(sent, promised, "part of the response that is sent")
    return f"{_size(sent)} of {_size(promised)}{bar}"


def _rate(exchange: Exchange, now: float) -> str:
    """On average so far; of the first second it would say little."""
    if not exchange.bytes_sent:
        return "&ndash;"
    return rate_text(exchange.bytes_sent / max(now - exchange.started, 1.0))


def _failures(failures: Iterable[Failure]) -> str:
    return _table(
        ("time", "status", "outcome", "key", "source", "client", "request id"),
        (
            (
                _Cell(_utc(ended)),
                _Cell(str(line["status"])),
                _Cell(str(line["outcome"])),
                _long(str(line["key"]), "key"),
                _Cell(str(line["source"] or "&ndash;")),
                _Cell(_text(str(line["client"])), "small"),
                _long(str(line["request_id"]), "id"),
            )
            for ended, line in failures
        ),
    )


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of a table; ``html`` is written as it is."""

    html: str
    kind: str = ""


def _long(value: str, kind: str) -> _Cell:
    """What clients chose, and may be long: three lines are shown, and all to who points there."""
    text = _text(value)
    return _Cell(f'<span title="{text}">{text}</span>', kind)


def _table(names: Sequence[str], rows: Iterable[Sequence[_Cell]]) -> str:
    lines = [
        "<tr>"
        + "".join(
            f'<td class="{cell.kind}" data-name="{name}">{cell.html}</td>'
            if cell.kind
            else f'<td data-name="{name}">{cell.html}</td>'
            for name, cell in zip(names, row, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    if not lines:
        return '<p class="soft">none</p>'
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>" + "\n".join(lines) + "</tbody></table>"


def _bar(value: int, of: int, label: str) -> str:
    return f'<progress value="{min(value, of)}" max="{max(of, 1)}" aria-label="{label}"></progress>'


def _size(count: int) -> str:
    return size_text(count).replace(" ", "&nbsp;")


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _text(value: str) -> str:
    # A key may hold half of a surrogate pair, which no encoding can write.
    return escape(value.encode("utf-8", "replace").decode("utf-8"))
