"""The head of a response as it goes over the wire (RFC 9112 §4, §5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def response_head(version: tuple[int, int], status: int, fields: Mapping[str, str]) -> bytes:
    """Status line, header fields and the empty line after them.

    Raises ``ValueError`` where a value could be taken for more than a value (RFC 9110 §5.5).
    """
    # Nearly all are printable; only the tab may stand in a value and is not.
    if not "".join(fields.values()).isprintable():
        for name, value in fields.items():
            if _FORBIDDEN.search(value):
                msg = f"the field {name} has a control character"
                raise ValueError(msg)
    lines = "\r\n".join([f"{name}: {value}" for name, value in fields.items()])
    reason = _REASONS.get(status, "")
    return f"HTTP/{version[0]}.{version[1]} {status} {reason}\r\n{lines}\r\n\r\n".encode()
