"""Reading along in the log: what it says of each request, and what it must never say."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SECRET_KEY = "not-a-secret/but-looks+like-one"
SESSION_TOKEN = "not-a-token/but-looks+like-one"

FORBIDDEN = re.compile(
    "|".join(
        (
            *map(re.escape, (SECRET_KEY, SESSION_TOKEN)),
            r"Signature[=:]\s*[0-9a-f]{8}|AWS4-HMAC-SHA256",
            r"Traceback \(most recent call last\)",
            "never retrieved|never awaited|[Uu]nhandled exception|unexpected error",
            r"Unclosed (client|connection|connector)",
        )
    )
)
"""Secrets, and the signs of an error that nobody thought of."""


class LogWatch(logging.Handler):
    """Sees every record as it would be written; keeps the access lines and the faulty ones."""

    def __init__(self) -> None:
        super().__init__()
        self.access: dict[str, Mapping[str, Any]] = {}
        self.forbidden: list[str] = []
        self.lines: deque[str] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        access = getattr(record, "access", None)
        if access is not None:
            self.access[access["request_id"]] = access
        text = self.format(record) if access is None else json.dumps(access)
        self.lines.append(text)
        self.check(text)
        # As the real one does: an error in a record that is kept keeps all that it came through.
        record.msg, record.args = record.getMessage(), None

    def check(self, text: str) -> None:
        if FORBIDDEN.search(text):
            self.forbidden.append(text)

    def unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: nothing may come here."""
        self.forbidden.append(f"{context['message']}: {context.get('exception')!r}")

    def said(self, pattern: str) -> bool:
        """Whether one of the last lines matches."""
        return any(re.search(pattern, line) for line in self.lines)


@contextmanager
def reading_along() -> Iterator[LogWatch]:
    """Watch the log and the loop."""
    watch = LogWatch()
    loop = asyncio.get_running_loop()
    own = logging.getLogger("rangeserver")
    level = own.level
    own.setLevel(logging.INFO)
    logging.getLogger().addHandler(watch)
    loop.set_exception_handler(watch.unhandled)
    try:
        yield watch
    finally:
        loop.set_exception_handler(None)
        logging.getLogger().removeHandler(watch)
        own.setLevel(level)


@contextmanager
def keeping_no_lines(watch: LogWatch) -> Iterator[None]:
    """Keep pytest from storing each line, which would count as memory of the server."""
    own = logging.getLogger("rangeserver")
    own.addHandler(watch)
    own.propagate = False
    try:
        yield
    finally:
        own.propagate = True
        own.removeHandler(watch)
