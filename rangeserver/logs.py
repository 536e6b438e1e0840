"""Logging that cannot stop the server: a bounded queue and one writer thread.

Whoever logs only puts a record in memory. A thread formats and writes; when the sink blocks
(a full pipe, a stopped reader) the queue fills, further records are dropped and counted, and
the count is written once lines flow again.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from typing import IO, Any

from pythonjsonlogger.json import JsonFormatter

from rangeserver.config import LogConfig

access_log = logging.getLogger("rangeserver.access")
"""One record per response; the fields are in ``record.access``."""

QUEUE_RECORDS = 8192
"""Records in memory at most; a record is about 1 KiB."""

_STOP_SECONDS = 1.0


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
        self._source = source
        self._reported = 0

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


class _JsonLines(JsonFormatter):
    """One JSON object a line; access records are their fields and nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        access = getattr(record, "access", None)
        if access is not None:
            line = {"time": _timestamp(record.created), "log": "access", **access}
            return json.dumps(line, ensure_ascii=False)
        return super().format(record)

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
            return (
                f"{_timestamp(record.created)} {access['client']} {access['method']} "
                f"/{access['key']}{asked} {access['status']} "
                f"{access['bytes_sent']}/{access['bytes_promised']} {access['outcome']} "
                f"{access['duration_ms']:.0f}ms {access['request_id']}"
            )
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 (logging's name)
        """UTC, with milliseconds, as in the access lines."""
        return _timestamp(record.created)


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
    sink = logging.StreamHandler(stream if stream is not None else sys.stderr)
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
