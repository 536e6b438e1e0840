from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rangeserver import logs
from rangeserver.config import LogConfig
from rangeserver.logs import QUEUE_RECORDS, access_log, logging_to

FIELDS = {
    "request_id": "abc12345",
    "client": "192.0.2.7",
    "method": "GET",
    "key": "바다.mp4",
    "status": 206,
    "range": "bytes=0-9",
    "bytes_promised": 10,
    "bytes_sent": 10,
    "outcome": "complete",
    "ttfb_ms": 1.25,
    "duration_ms": 2.5,
    "source": "origin",
}


def written(log: Callable[[], None], **settings: Any) -> list[str]:
    stream = io.StringIO()
    with logging_to(LogConfig(**settings), stream):
        log()
    return stream.getvalue().splitlines()


def log_access() -> None:
    access_log.info("access", extra={"access": FIELDS})


def test_an_access_line_is_one_json_object_with_the_fields() -> None:
    (line,) = written(log_access)
    assert "바다.mp4" in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    assert fields.pop("log") == "access"
    assert fields == FIELDS


def test_the_server_s_own_way_to_it_leads_to_the_same_line() -> None:
    for format in ("json", "text"):  # noqa: A001 (the setting's name)
        lines = [written(log, format=format)[0] for log in (log_access, log_own)]
        without_time = [line.partition("192.0.2.7")[2] for line in lines]
        assert without_time[0] == without_time[1]


def log_own() -> None:
    logs.log_access(FIELDS)


@pytest.mark.parametrize("odd", ["\x7f", "\x1b[2J", "\n", "\u2028", "\ud800", '"'])
def test_nothing_odd_gets_into_an_access_line(odd: str) -> None:
    for format in ("json", "text"):  # noqa: A001
        (line,) = written(lambda: logs.log_access({**FIELDS, "key": f"a{odd}b"}), format=format)
        assert line.isprintable()
    assert json.loads(written(lambda: logs.log_access({**FIELDS, "key": odd}))[0])["key"] == odd


def test_access_lines_beyond_the_queue_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rangeserver.logs._STOP_SECONDS", 60.0)  # it has much to write
    stream = GatedSink()
    with logging_to(LogConfig(), stream) as handler:
        for _ in range(QUEUE_RECORDS * 3):
            logs.log_access(FIELDS)
        dropped = handler.dropped
        stream.gate.set()
    lines = stream.getvalue().splitlines()
    assert dropped > QUEUE_RECORDS
    assert len([line for line in lines if '"access"' in line]) == QUEUE_RECORDS * 3 - dropped
    assert any(f"{dropped} log lines dropped" in line for line in lines)


def test_without_our_own_logging_it_is_a_record_like_any(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "rangeserver.access"):
        logs.log_access(FIELDS)
    (record,) = caplog.records
    assert record.__dict__["access"] == FIELDS


def test_an_access_line_as_text_fits_one_line() -> None:
    (line,) = written(log_access, format="text")
    assert line.endswith("192.0.2.7 GET /바다.mp4 [bytes=0-9] 206 10/10 complete 2ms abc12345")


def test_no_access_lines_when_they_are_off() -> None:
    assert written(log_access, access=False) == []


def test_access_lines_are_written_at_any_level() -> None:
    assert len(written(log_access, level="error")) == 1


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_message_has_its_time_level_and_logger(format_: str) -> None:
    (line,) = written(lambda: logging.getLogger("rangeserver.x").warning("n=%d", 3), format=format_)
    assert "WARNING" in line
    assert "rangeserver.x" in line
    assert "n=3" in line
    if format_ == "json":
        assert json.loads(line)["level"] == "WARNING"


def test_a_line_break_in_a_key_cannot_forge_a_json_line() -> None:
    forged = {**FIELDS, "key": 'x"}\n{"log": "access"'}
    (line,) = written(lambda: access_log.info("access", extra={"access": forged}))
    assert json.loads(line)["key"] == forged["key"]


def test_a_traceback_stays_inside_one_json_line() -> None:
    def fail() -> None:
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger("rangeserver").exception("it broke")

    (line,) = written(fail)
    assert "ValueError: boom" in json.loads(line)["exc_info"]


@pytest.mark.parametrize("format_", ["json", "text"])
def test_nothing_that_a_terminal_obeys_is_written(format_: str) -> None:
    hostile = {**FIELDS, "range": "bytes=\x9b31m\u2028\u202e\U000e0001", "key": "바다\u2029.mp4"}

    def log() -> None:
        access_log.info("access", extra={"access": hostile})
        logging.getLogger("rangeserver").warning("answered: %s", "a\nb\x1b[2J")

    lines = written(log, format=format_)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "바다" in lines[0]
    if format_ == "json":
        assert json.loads(lines[0])["range"] == hostile["range"]
        assert json.loads(lines[1])["message"] == "answered: a\nb\x1b[2J"


class GatedSink(io.StringIO):
    """A sink that takes nothing until its gate opens, like a pipe whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.gate.wait()
        return super().write(text)


@pytest.mark.fault("C12")
def test_a_blocked_sink_drops_and_counts_and_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rangeserver.logs._STOP_SECONDS", 60.0)
    sink = GatedSink()
    surplus = 100
    with logging_to(LogConfig(), sink) as handler:
        log_access()
        assert sink.reached.wait(10)  # the writer now holds one record, the queue is empty
        for _ in range(QUEUE_RECORDS + surplus):
            log_access()
        assert handler.dropped == surplus
        sink.gate.set()
    lines = sink.getvalue().splitlines()
    assert json.loads(lines[1])["message"] == f"{surplus} log lines dropped"
    assert len(lines) == 1 + QUEUE_RECORDS + 1


def test_leaving_does_not_wait_for_a_blocked_sink() -> None:
    sink = GatedSink()
    with logging_to(LogConfig(), sink):
        log_access()
        assert sink.reached.wait(10)
    sink.gate.set()  # left, with the writer still in its first write
