"""What an origin can do wrong: answers as data, and faults as functions from answer to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from itertools import cycle

BEFORE_HEADER = -1
"""An offset in an answer: before anything of it was sent."""


class Ending(Enum):
    """How a connection is broken."""

    FIN = auto()
    RESET = auto()


class Framing(Enum):
    """How the end of a body is told."""

    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and how it goes over the wire. Offsets count body bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
    whole: bytes = field(default=b"", repr=False)
    status_line: str | None = None
    framing: Framing = Framing.LENGTH
    stall_at: int | None = None
    end_at: int | None = None
    ending: Ending = Ending.FIN
    drip_bytes: int = 0
    drip_seconds: float = 0.0
    late_seconds: float = 0.0
    stray: bytes = b""
    stray_before_next: bool = False

    def with_header(self, name: str, value: str | None) -> Answer:
        kept = tuple(line for line in self.headers if line[0].lower() != name.lower())
        return replace(self, headers=kept if value is None else (*kept, (name, value)))

    def head(self) -> bytes:
        line = self.status_line or f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{line}\r\n{fields}\r\n".encode("latin-1")


Fault = Callable[[Answer], Answer]


def error_answer(status: int, code: str) -> Answer:
    """An answer as S3 gives it when it cannot give the object."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>It is {code}.</Message>"
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>host</HostId></Error>"
    ).encode()
    headers = (("Content-Type", "application/xml"), ("Content-Length", str(len(body))))
    return Answer(status, headers, body)


def error(status: int, code: str) -> Fault:
    return lambda _: error_answer(status, code)


def answered(status: int, body: bytes) -> Fault:
    """This status with this body."""
    return lambda _: Answer(status, (("Content-Length", str(len(body))),), body)


def redirect(status: int, location: str) -> Fault:
    code = "PermanentRedirect" if status == 301 else "TemporaryRedirect"
    return lambda _: error_answer(status, code).with_header("Location", location)


def with_status(status: int) -> Fault:
    return lambda answer: replace(answer, status=status)


def header(name: str, value: str | None) -> Fault:
    """This field with this value, or without the field."""
    return lambda answer: answer.with_header(name, value)


def status_line(line: str) -> Fault:
    return lambda answer: replace(answer, status_line=line)


def whole_object(answer: Answer) -> Answer:
    """Ignore Range: everything, with status 200."""
    answer = replace(answer, status=200, body=answer.whole)
    return answer.with_header("Content-Range", None).with_header(
        "Content-Length", str(len(answer.whole))
    )


def no_total(answer: Answer) -> Answer:
    """A range without the size of the object (RFC 9110 §14.4 allows it)."""
    told = dict(answer.headers).get("Content-Range")
    return answer.with_header("Content-Range", told and told.partition("/")[0] + "/*")


def longer_range(more: int) -> Fault:
    """A range that goes on for ``more`` bytes, where the object does, and says so."""

    def fault(answer: Answer) -> Answer:
        told = dict(answer.headers).get("Content-Range", "").removeprefix("bytes ")
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            return answer
        start, stop = (int(number) for number in told.partition("/")[0].split("-"))
        stop = min(stop + more + 1, len(answer.whole))
        answer = replace(answer, body=answer.whole[start:stop])
        answer = answer.with_header("Content-Length", str(stop - start))
        return answer.with_header("Content-Range", f"bytes {start}-{stop - 1}/{len(answer.whole)}")

    return fault


def no_bytes_beyond(answer: Answer) -> Answer:
    """A range that cannot be satisfied is answered as if it could: with none of the bytes."""
    size = dict(answer.headers).get("Content-Range", "").removeprefix("bytes */")
    if answer.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return answer
    fields = ("ETag", '"v1"'), ("Content-Length", "0")
    return Answer(206, (*fields, ("Content-Range", f"bytes {size}-{int(size) - 1}/{size}")))


def promised_length(more: int) -> Fault:
    """A Content-Length that differs by ``more`` from the body, which stays as it was."""
    return lambda answer: answer.with_header("Content-Length", str(len(answer.body) + more))


def body_length(more: int) -> Fault:
    """A body longer or shorter by ``more``; the header fields stay as they were."""

    def fault(answer: Answer) -> Answer:
        body = answer.body + b"\xff" * more if more > 0 else answer.body[:more]
        return replace(answer, body=body)

    return fault


def both_lengths(more: int) -> Fault:
    """A body and a Content-Length that agree with each other and not with the range."""

    def fault(answer: Answer) -> Answer:
        answer = body_length(more)(answer)
        return answer.with_header("Content-Length", str(len(answer.body)))

    return fault


def chunked(answer: Answer) -> Answer:
    """No Content-Length: chunked."""
    answer = replace(answer, framing=Framing.CHUNKED).with_header("Content-Length", None)
    return answer.with_header("Transfer-Encoding", "chunked")


def until_close(answer: Answer) -> Answer:
    """No Content-Length: the body ends with the connection."""
    answer = replace(answer, framing=Framing.UNTIL_CLOSE).with_header("Content-Length", None)
    return answer.with_header("Connection", "close")


def fin_after(offset: int) -> Fault:
    return lambda answer: replace(answer, end_at=offset, ending=Ending.FIN)


def reset_after(offset: int) -> Fault:
    return lambda answer: replace(answer, end_at=offset, ending=Ending.RESET)


def stall_after(offset: int) -> Fault:
    """Stop there until the fake is told to go on, the peer leaves or the fake closes."""
    return lambda answer: replace(answer, stall_at=offset)


def drip(size: int, seconds: float) -> Fault:
    """``size`` bytes of body at a time, ``seconds`` apart."""
    return lambda answer: replace(answer, drip_bytes=size, drip_seconds=seconds)


def late(seconds: float) -> Fault:
    """The first byte comes after so long."""
    return lambda answer: replace(answer, late_seconds=seconds)


def stray_bytes(data: bytes, *, before_next: bool = False) -> Fault:
    """Bytes that belong to no answer, after this one: with its end, or once the next request on
    this connection has come.
    """
    return lambda answer: replace(answer, stray=data, stray_before_next=before_next)


def all_of(*faults: Fault) -> Fault:
    """These faults one after another."""

    def fault(answer: Answer) -> Answer:
        for each in faults:
            answer = each(answer)
        return answer

    return fault


def every_other(broken: Fault) -> Fault:
    """Apply ``broken`` to the first answer, not to the second, and so on."""
    turns = cycle((True, False))
    return lambda answer: broken(answer) if next(turns) else answer


def when_good(fault: Fault) -> Fault:
    """Leave errors as they are."""
    return lambda answer: fault(answer) if answer.status < HTTPStatus.MULTIPLE_CHOICES else answer


def after_doing(action: Callable[[], object], then: Fault | None = None) -> Fault:
    """Do something once this answer is decided, such as replacing the object."""

    def fault(answer: Answer) -> Answer:
        action()
        return then(answer) if then is not None else answer

    return fault


def with_a_flipped_byte(body: bytes, offset: int) -> bytes:
    flipped = bytearray(body)
    flipped[offset] ^= 0xFF
    return bytes(flipped)


def corrupted(offset: int) -> Fault:
    """One byte of the body is another."""
    return lambda answer: replace(answer, body=with_a_flipped_byte(answer.body, offset))
