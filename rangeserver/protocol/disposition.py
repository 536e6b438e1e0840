"""Content-Disposition (RFC 6266, RFC 8187): a name any browser saves under, in any language."""

from __future__ import annotations

import re
from email.message import Message
from urllib.parse import quote

# attr-char of RFC 8187 §3.2.1 beyond letters and digits; all else is percent-encoded.
_ATTR_CHARS = "!#$&+-.^_`|~"
# Controls, and the marks that reverse the reading direction so that "gpj.exe" looks like a picture.
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_ASCII = re.compile(r'[^\x20-\x7e]|["\\%]')
_MAX_NAME_BYTES = 255
"""The longest file name common file systems take (NAME_MAX)."""


def safe_filename(name: str) -> str:
    """A name to save under: the last path segment, without controls, of a length disks accept.

    Returns ``""`` when nothing usable is left.
    """
    last = _UNWANTED.sub("", re.split(r"[/\\]", name)[-1]).strip(" ")
    if last in {".", ".."}:
        return ""
    return _shortened(last)


def content_disposition(kind: str, filename: str) -> str:
    """A Content-Disposition value, for instance of kind ``attachment``.

    ``filename`` must come from :func:`safe_filename`; when it is empty the value has no name.
    A name outside plain ASCII is given twice: spelled out for clients that know RFC 8187, and
    with ``_`` in place of what ASCII lacks for those that do not (RFC 6266 appendix D).
    """
    if not filename:
        return kind
    fallback = _UNSAFE_ASCII.sub("_", filename)
    value = f'{kind}; filename="{fallback}"'
    if fallback != filename:
        value += f"; filename*=UTF-8''{quote(filename, safe=_ATTR_CHARS)}"
    return value


def rebuilt_disposition(stored: str) -> str | None:
    """A stored Content-Disposition, read and written anew; ``None`` if it says nothing usable."""
    message = Message()
    message["Content-Disposition"] = stored
    kind = message.get_content_disposition()
    if kind not in {"attachment", "inline"}:
        return None
    return content_disposition(kind, safe_filename(message.get_filename() or ""))


def _shortened(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension if dot and len(extension) <= 16 else ""
    stem = stem if tail else name
    room = _MAX_NAME_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail
