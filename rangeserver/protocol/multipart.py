"""The framing of multipart/byteranges (RFC 9110 §14.6): computed whole before the first byte."""

from __future__ import annotations

from collections.abc import Sequence

from rangeserver.protocol.ranges import ByteSpan

Segment = bytes | ByteSpan
"""A piece of a response body: literal bytes, or a span to be read from the object."""


def frame_byteranges(
    spans: Sequence[ByteSpan], *, size: int, content_type: str, boundary: str
) -> tuple[Segment, ...]:
    """The body for these spans of an object of ``size`` bytes, each with its own part header."""
    segments: list[Segment] = []
    opening = f"--{boundary}\r\n"
    for span in spans:
        head = (
            f"{opening}Content-Type: {content_type}\r\n"
            f"Content-Range: {span.content_range(size)}\r\n\r\n"
        )
        segments += [head.encode("ascii"), span]
        opening = f"\r\n--{boundary}\r\n"
    segments.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return tuple(segments)


def body_length(segments: Sequence[Segment]) -> int:
    """Exact number of bytes these segments make."""
    return sum(len(part) if isinstance(part, bytes) else part.length for part in segments)
