"""Content-Disposition (RFC 6266, RFC 8187): a name any browser saves under, in any language."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

# attr-char of RFC 8187 §3.2.1 beyond letters and digits; all else is percent-encoded.
_ATTR_CHARS = "!#$&+-.^_`|~"
# Controls, and the marks that reverse the reading direction so that "gpj.exe" looks like a picture.
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_ASCII = re.compile(r'[^\x20-\x7e]|["\\%]')
_KIND = re.compile(r"[ \t]*(attachment|inline)[ \t]*(?=;|\Z)", re.ASCII | re.IGNORECASE)
# A value without quotes reaches to the next semicolon: many names are stored with their blanks.
_PARAMETER = re.compile(
    r";[ \t]*(?P<name>[^\s=;\"]*)[ \t]*"
    r'(?:=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"[ \t]*(?=;|\Z)|(?P<bare>(?![" \t])[^;]*)))?'
)
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_MAX_NAME_BYTES = 255
"""The longest file name common file systems take (NAME_MAX)."""


def safe_filename(name: str) -> str:
    """A name to save under: the last path segment, without controls, of a length disks accept.

    Returns ``""`` when nothing usable is left.
    """
    last = _UNWANTED.sub("", re.split(r"[/\\]", name)[-1])
    safe = _shortened(last.strip(" ")).strip(" ")
    return "" if safe in {".", ".."} else safe


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


def read_disposition(stored: str) -> tuple[str, str] | None:
    """Kind and safe file name of a stored Content-Disposition, to be written anew.

    The name is ``""`` where it has none that can be used; ``None`` stands for a value whose kind
    is neither ``attachment`` nor ``inline``. What follows a malformed parameter is not read.
    The standard library's mail parser is no help: it prefers ``filename`` to ``filename*`` and
    raises on what uploaders may write.
    """
    kind = _KIND.match(stored)
    if kind is None:
        return None
    names: dict[str, str] = {}
    position = kind.end()
    while (parameter := _PARAMETER.match(stored, position)) is not None:
        value = (parameter["bare"] or "").strip()
        if parameter["quoted"] is not None:
            # Other backslashes stay: they are those of a Windows path.
            value = _QUOTED_PAIR.sub(r"\1", parameter["quoted"])
        names.setdefault(parameter["name"].lower(), value)
        position = parameter.end()
    # The extended form comes first where both can be read (RFC 6266 §4.3).
    name = safe_filename(_extended_value(names.get("filename*", "")))
    return kind[1].lower(), name or safe_filename(names.get("filename", ""))


def _extended_value(value: str) -> str:
    """The text of an ext-value (RFC 8187 §3.2), ``""`` when it cannot be read."""
    charset, _, rest = value.partition("'")
    if charset.lower() not in {"utf-8", "iso-8859-1"}:
        return ""
    try:
        return unquote(rest.partition("'")[2], encoding=charset, errors="strict")
    except UnicodeError:
        return ""


def _shortened(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension if dot and len(extension) <= 16 else ""
    stem = stem if tail else name
    room = _MAX_NAME_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail
