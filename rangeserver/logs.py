"""Logging that cannot stop the server: a bounded queue and one writer thread.

Whoever logs only puts a record in memory. A thread formats and writes; when the sink blocks
(a full pipe, a stopped reader) the queue fills, further records are dropped and counted, and
the count is written once lines flow again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from typing import IO, Any

from pythonjsonlogger.json import JsonFormatter

from rangeserver.config import LogConfig

access_log = logging.getLogger("rangeserver.access")
"""One record per response; the fields are in ``record.access``."""

QUEUE_RECORDS = 8192
"""Records in memory at most; a record is about 1 KiB."""

_STOP_SECONDS = 1.0

_GATHER_SECONDS = 0.02
"""The writer looks again after this long, at once only when nothing came for a while: woken for
each line, it takes the interpreter from the event loop a thousand times a second."""


class DroppingQueueHandler(QueueHandler):
    """Puts records into a bounded queue, or counts them as dropped. Never waits."""

    def __init__(self, records: queue.Queue[Any]) -> None:
        super().__init__(records)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave formatting to the writer thread; all of it stays in this process."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record unless the queue is full."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Writer(QueueListener):
    """Writes queued records from its own thread and reports what had to be dropped."""

    def __init__(
        self, records: queue.Queue[Any], source: DroppingQueueHandler, sink: logging.Handler
    ) -> None:
        super().__init__(records, sink)
        self._records = records
        self._ending = threading.Event()
        self._source = source
        self._reported = 0

    def dequeue(self, block: bool) -> logging.LogRecord:  # noqa: FBT001 (the base's signature)
        """The next record; what comes in quick succession is left to gather."""
        if self._records.empty():
            self._ending.wait(_GATHER_SECONDS)
        record: logging.LogRecord = super().dequeue(block)
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """Write one record, and before it a note when records were lost."""
        dropped = self._source.dropped
        if dropped != self._reported:
            note = logging.LogRecord(
                __name__, logging.WARNING, __file__, 0, "%d log lines dropped", (dropped,), None
            )
            self._reported = dropped
            super().handle(note)
        super().handle(record)

    def stop(self) -> None:
        """Write what is queued, then end; a blocked sink is left behind after a second."""
        deadline = time.monotonic() + _STOP_SECONDS
        self._ending.set()
        thread: threading.Thread | None = self._thread
        if thread is None:
            return
        while time.monotonic() < deadline:
            try:
                self.enqueue_sentinel()
                break
            except queue.Full:
                time.sleep(0.01)
        thread.join(max(deadline - time.monotonic(), 0))
        self._thread = None


class _Sink(logging.Handler):
    """Writes straight to a file's descriptor, without a lock or a buffer.

    When the process ends, Python waits for the locks of handlers and standard streams; one that
    is held in a write to a blocked pipe would keep the process for ever.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        try:
            descriptor = stream.fileno()
        except OSError:  # a stream in memory
            self._write: Callable[[str], object] = stream.write
        else:
            self._write = lambda text: _write_all(descriptor, text)

    def createLock(self) -> None:  # noqa: N802 (logging's name)
        """Have none: one thread writes."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a sink that is gone must not stop the writer."""
        with suppress(OSError):
            self._write(self.format(record) + "\n")


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


class _JsonLines(JsonFormatter):
    """One JSON object a line; access records are their fields and nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        access = getattr(record, "access", None)
        if access is not None:
            line = {"time": _timestamp(record.created), "log": "access", **access}
            return _printable(json.dumps(line, ensure_ascii=False))
        return _printable(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 (logging's name)
        """UTC, with milliseconds, as in the access lines."""
        return _timestamp(record.created)


class _TextLines(logging.Formatter):
    """Lines for a person's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        access = getattr(record, "access", None)
        if access is not None:
            asked = f" [{access['range']}]" if access["range"] else ""
            return _printable(
                f"{_timestamp(record.created)} {access['client']} {access['method']} "
                f"/{access['key']}{asked} {access['status']} "
                f"{access['bytes_sent']}/{access['bytes_promised']} {access['outcome']} "
                f"{access['duration_ms']:.0f}ms {access['request_id']}"
            )
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Format a record but for its traceback, which has lines of its own."""
        return _printable(super().formatMessage(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 (logging's name)
        """UTC, with milliseconds, as in the access lines."""
        return _timestamp(record.created)


def _printable(line: str) -> str:
    """The line without what a terminal might obey or a reader might take for a line's end.

    The escapes are those of JSON, in which such characters stand only inside strings.
    """
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else _escape(char) for char in line)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _timestamp(created: float) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
    return f"{seconds}.{int(created * 1000) % 1000:03d}Z"


def _formatter(kind: str) -> logging.Formatter:
    if kind == "json":
        return _JsonLines(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            json_ensure_ascii=False,
        )
    return _TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextmanager
def logging_to(config: LogConfig, stream: IO[str] | None = None) -> Iterator[DroppingQueueHandler]:
    """Log to ``stream`` (default: standard error) until the context is left."""
    records: queue.Queue[Any] = queue.Queue(QUEUE_RECORDS)
    handler = DroppingQueueHandler(records)
    sink = _Sink(stream if stream is not None else sys.stderr)
    sink.setFormatter(_formatter(config.format))
    writer = _Writer(records, handler, sink)
    root = logging.getLogger()
    before = root.level
    root.setLevel(config.level.upper())
    root.addHandler(handler)
    access_log.disabled = not config.access
    access_log.setLevel(logging.INFO)
    # Libraries' own news is not ours: botocore tells each credential lookup at INFO.
    for noisy in ("botocore", "aiobotocore", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    writer.start()
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        access_log.disabled = False
        writer.stop()
