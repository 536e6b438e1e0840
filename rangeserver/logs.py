"""Logging that cannot stop the server: a bounded queue and one writer thread.

To log only puts a record into the queue. A thread formats and writes. When the sink blocks (a full
pipe, a stopped reader) the queue fills; further records are dropped and counted, and the count is
written when lines can be written again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import IO, Any

from pythonjsonlogger.json import JsonFormatter

from rangeserver.config import LogConfig

access_log = logging.getLogger("rangeserver.access")
"""One record per response; the fields are in ``record.access``."""

QUEUE_RECORDS = 8192
"""The most records in memory; a record has about 1 KiB."""

_STOP_SECONDS = 1.0

_REST_SECONDS = 0.02
"""The writer rests for so long after it has written, so that lines collect: woken for each one, it
would take the interpreter lock from the event loop a thousand times a second."""

_BATCH_RECORDS = 256
"""The most records that are formatted and written at a time."""


def log_access(fields: Mapping[str, object]) -> None:
    """Log the access line of one response. Check first whether ``access_log`` is enabled."""
    if _writing:
        _writing[-1].put((time.time(), fields))
    else:  # the logging of another program
        access_log.info("access", extra={"access": fields})


_Access = tuple[float, Mapping[str, object]]
"""When a response ended, and the fields of its line."""


class DroppingQueueHandler(logging.Handler):
    """Puts records into a bounded queue, or counts them as dropped. Never waits.

    Formatting is left to the writer thread.
    """

    def __init__(self, records: SimpleQueue[logging.LogRecord | _Access | None]) -> None:
        super().__init__()
        self._records = records
        self._left_out = 0
        self.unwritten = 0
        """Records that were queued and could not be written."""

    @property
    def dropped(self) -> int:
        """The number of records that were not written."""
        return self._left_out + self.unwritten  # each has one thread that counts

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue a record unless the queue is full; needs no lock of its own."""
        self.put(record)
        return True

    def put(self, record: logging.LogRecord | _Access) -> None:
        """Queue a record, or drop it."""
        # Threads that check at the same time may exceed the limit by one record each.
        if self._records.qsize() < QUEUE_RECORDS:
            self._records.put(record)
        else:
            self._left_out += 1


_writing: list[DroppingQueueHandler] = []
"""The handlers of :func:`logging_to`: the innermost gets the access lines, past the logger."""


class _Writer:
    """Writes queued records from a thread of its own, and reports how many were dropped."""

    def __init__(
        self,
        records: SimpleQueue[logging.LogRecord | _Access | None],
        source: DroppingQueueHandler,
        formatter: _JsonLines | _TextLines,
        write: Callable[[str], object],
    ) -> None:
        self._records = records
        self._source = source
        self._formatter = formatter
        self._write = write
        self._ending = threading.Event()
        self._reported = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end; do not wait for a blocked sink for over a second."""
        self._ending.set()
        self._records.put(None)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        over = False
        while not over:
            batch = self._next_batch()
            over = None in batch
            lines = [self._format(record) for record in batch if record is not None]
            lines[:0] = self._losses()
            # An error of the sink must not end the thread.
            try:
                self._write("".join(lines))
            except OSError:
                self._source.unwritten += len(lines)
            if len(batch) < _BATCH_RECORDS:
                self._ending.wait(_REST_SECONDS)

    def _next_batch(self) -> list[logging.LogRecord | _Access | None]:
        batch = [self._records.get()]
        with suppress(queue.Empty):
            while batch[-1] is not None and len(batch) < _BATCH_RECORDS:
                batch.append(self._records.get_nowait())
        return batch

    def _losses(self) -> list[str]:
        """A line about the records that were dropped since the last one, if any."""
        dropped = self._source.dropped
        if dropped == self._reported:
            return []
        self._reported = dropped
        text = "%d log lines dropped"
        note = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (dropped,), None)
        return [self._format(note)]

    def _format(self, record: logging.LogRecord | _Access) -> str:
        if isinstance(record, tuple):
            return self._formatter.access_line(*record) + "\n"
        try:
            return self._formatter.format(record) + "\n"
        except (TypeError, ValueError) as error:  # the arguments do not fit the text
            record.msg, record.args = f"{record.msg!r} cannot be formatted: {error}", ()
            return self._formatter.format(record) + "\n"


def _sink(stream: IO[str]) -> Callable[[str], object]:
    """Writes text to the descriptor of ``stream``, without its lock and buffer.

    When a process ends, Python waits for the locks of standard streams. A write to a blocked pipe
    that holds one would keep the process for ever.
    """
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return stream.write
    return lambda text: _write_all(descriptor, text)


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
"""``json.dumps`` would create an encoder for each line."""


class _JsonLines(JsonFormatter):
    """One JSON object per line. Access records are just their fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        access = getattr(record, "access", None)
        if access is not None:
            return self.access_line(record.created, access)
        return _printable(super().format(record))

    def access_line(self, created: float, access: Mapping[str, object]) -> str:
        """The line of one response."""
        line = _encode({"time": _timestamp(created), "log": "access", **access})
        # JSON escapes all control characters of ASCII but DEL.
        return line if line.isascii() and "\x7f" not in line else _printable(line)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 (logging's name)
        """UTC, with milliseconds, as in the access lines."""
        return _timestamp(record.created)


class _TextLines(logging.Formatter):
    """Lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        access = getattr(record, "access", None)
        if access is not None:
            return self.access_line(record.created, access)
        return super().format(record)

    def access_line(self, created: float, access: Mapping[str, Any]) -> str:
        """The line of one response."""
        asked = f" [{access['range']}]" if access["range"] else ""
        return _printable(
            f"{_timestamp(created)} {access['client']} {access['method']} "
            f"/{access['key']}{asked} {access['status']} "
            f"{access['bytes_sent']}/{access['bytes_promised']} {access['outcome']} "
            f"{access['duration_ms']:.0f}ms {access['request_id']}"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Format a record without its traceback, which has lines of its own."""
        return _printable(super().formatMessage(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 (logging's name)
        """UTC, with milliseconds, as in the access lines."""
        return _timestamp(record.created)


def _printable(line: str) -> str:
    """The line without characters that control a terminal or end a line.

    The escapes are those of JSON, where such characters occur only in strings.
    """
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else _escape(char) for char in line)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _timestamp(created: float) -> str:
    return _to_the_millisecond(int(created * 1000))


@lru_cache(maxsize=2)  # thousands of lines a second share one
def _to_the_millisecond(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"


def _formatter(kind: str) -> _JsonLines | _TextLines:
    if kind == "json":
        return _JsonLines(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            json_ensure_ascii=False,
        )
    return _TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextmanager
def logging_to(config: LogConfig, stream: IO[str] | None = None) -> Iterator[DroppingQueueHandler]:
    """Log to ``stream`` (default: standard error) inside of the block."""
    records: SimpleQueue[logging.LogRecord | _Access | None] = SimpleQueue()
    handler = DroppingQueueHandler(records)
    sink = _sink(stream if stream is not None else sys.stderr)
    writer = _Writer(records, handler, _formatter(config.format), sink)
    root = logging.getLogger()
    before = root.level
    root.setLevel(config.level.upper())
    root.addHandler(handler)
    access_log.disabled = not config.access
    access_log.setLevel(logging.INFO)
    # Libraries log much at INFO: botocore each lookup of credentials.
    for noisy in ("botocore", "aiobotocore", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    writer.start()
    _writing.append(handler)
    try:
        yield handler
    finally:
        _writing.remove(handler)
        root.removeHandler(handler)
        root.setLevel(before)
        access_log.disabled = False
        writer.stop()
