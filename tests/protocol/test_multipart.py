from __future__ import annotations

import email
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.protocol.multipart import Segment, body_length, frame_byteranges
from rangeserver.protocol.ranges import ByteSpan

BOUNDARY = "0123456789abcdef0123456789abcdef"


def assembled(segments: Sequence[Segment], content: bytes) -> bytes:
    return b"".join(
        part if isinstance(part, bytes) else content[part.start : part.stop] for part in segments
    )


def test_framing_byte_by_byte() -> None:
    segments = frame_byteranges(
        [ByteSpan(5, 7), ByteSpan(0, 1)], size=10, content_type="video/mp4", boundary="B"
    )
    assert assembled(segments, b"0123456789") == (
        b"--B\r\nContent-Type: video/mp4\r\nContent-Range: bytes 5-6/10\r\n\r\n56"
        b"\r\n--B\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-0/10\r\n\r\n0"
        b"\r\n--B--\r\n"
    )


def test_spans_stand_between_their_headers_in_the_asked_order() -> None:
    spans = [ByteSpan(500, 600), ByteSpan(0, 10), ByteSpan(900, 1000)]
    segments = frame_byteranges(spans, size=1000, content_type="a/b", boundary=BOUNDARY)
    assert [part for part in segments if isinstance(part, ByteSpan)] == spans
    assert [isinstance(part, bytes) for part in segments] == [True, False] * 3 + [True]


def test_length_is_known_without_the_bytes() -> None:
    spans = [ByteSpan(0, 4 * 2**40), ByteSpan(5 * 2**40 - 1, 5 * 2**40)]
    segments = frame_byteranges(spans, size=5 * 2**40, content_type="a/b", boundary=BOUNDARY)
    framing = sum(len(part) for part in segments if isinstance(part, bytes))
    assert body_length(segments) == 4 * 2**40 + 1 + framing


@pytest.mark.parametrize(
    ("segments", "expected"),
    [((), 0), ((ByteSpan(3, 10),), 7), ((b"abc", ByteSpan(0, 1)), 4), ((b"",), 0)],
)
def test_length_is_the_sum_of_literals_and_spans(
    segments: tuple[Segment, ...], expected: int
) -> None:
    assert body_length(segments) == expected


@st.composite
def objects_and_spans(draw: st.DrawFn) -> tuple[bytes, list[ByteSpan]]:
    awkward = st.text("\r\n-a", min_size=1, max_size=60).map(str.encode)
    content = draw(st.one_of(st.binary(min_size=1, max_size=200), awkward))
    starts = st.integers(0, len(content) - 1)
    one = starts.flatmap(
        lambda start: st.integers(start + 1, len(content)).map(lambda stop: ByteSpan(start, stop))
    )
    return content, draw(st.lists(one, min_size=1, max_size=5))


@given(
    objects_and_spans(),
    st.sampled_from(["video/mp4", "text/vtt; charset=utf-8", "application/octet-stream"]),
)
def test_a_mail_parser_finds_every_byte(
    case: tuple[bytes, list[ByteSpan]], content_type: str
) -> None:
    content, spans = case
    segments = frame_byteranges(
        spans, size=len(content), content_type=content_type, boundary=BOUNDARY
    )
    body = assembled(segments, content)
    assert len(body) == body_length(segments)
    head = f"Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\n\r\n"
    message = email.message_from_bytes(head.encode() + body)
    assert not message.defects
    assert not message.preamble
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == len(spans)
    for part, span in zip(parts, spans, strict=True):
        assert isinstance(part, email.message.Message)
        assert part["Content-Type"] == content_type
        assert part["Content-Range"] == f"bytes {span.start}-{span.stop - 1}/{len(content)}"
        assert part.get_payload(decode=True) == content[span.start : span.stop]
