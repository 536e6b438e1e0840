"""From a raw request target to an object key, once and strictly.

The path is decoded a single time from its raw bytes. Everything that some part on the way to
the bucket could read differently (dot segments, which a gateway may resolve into another
bucket; controls; backslashes; bytes that are not UTF-8) is refused before the origin is asked,
so one URL path names one key and signing, log and origin mean the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from rangeserver.errors import BadRequest, KeyTooLong
from rangeserver.protocol.representation import ObjectKey

MAX_KEY_BYTES = 1024
"""S3's limit, in bytes of UTF-8, for a whole key: the configured prefix included."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_SEPARATORS = re.compile(r"[/\\]")
_MAX_LOGGED = 512
"""Characters of a path that names no object."""

_END_OF_PATH = re.compile(r"[?#]")
_AUTHORITY = re.compile(r"[^/]*//[^/]*")
_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)


def split_target(target: str) -> tuple[str, str]:
    """The raw path and the raw query of a request target (RFC 9112 §3.2).

    The authority of an absolute-form target is dropped: it never decides anything here.
    Raises :class:`BadRequest` for any other form.
    """
    if not target.startswith("/"):
        match = _ABSOLUTE_FORM.match(target)
        if match is None:
            raise BadRequest("the request target is neither in origin form nor in absolute form")
        target = target[match.end() :]
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    if "#" in target:
        raise BadRequest("the request target has a fragment")
    return path, query


def named_by(target: str) -> str:
    """What stands for the key in the log until that is known, if it ever is: the raw path.

    Never the query, nor an authority with the user and the password that may stand in it: those,
    and tokens, are nobody's business there.
    """
    path = _END_OF_PATH.split(target, maxsplit=1)[0]
    if not path.startswith("/"):
        path = _AUTHORITY.sub("", path).rpartition("@")[2]
    return path[:_MAX_LOGGED].removeprefix("/")


@lru_cache(maxsize=1024)  # of few objects at a time, each many times
def object_key(path: str) -> ObjectKey:
    """The key that a raw path (with its leading slash) names.

    The empty key is returned as it is; it names no object. ``+`` is a plus sign, and ``%2F`` is
    a slash. Raises :class:`BadRequest`.
    """
    if _BAD_ESCAPE.search(path):
        raise BadRequest("a percent sign is not followed by two hexadecimal digits")
    try:
        # surrogateescape: aiohttp hands over raw bytes of the request line that way.
        raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
        key = raw[1:].decode("utf-8", "strict")
    except UnicodeError:
        raise BadRequest("the path is not UTF-8") from None
    if _FORBIDDEN.search(key):
        raise BadRequest("the path has a control character or a backslash")
    if _has_dot_segment(key):
        raise BadRequest("the path has a dot segment")
    return ObjectKey(key)


def check_length(key: str, *, prefix: str) -> None:
    """Raise :class:`KeyTooLong` when ``prefix`` and ``key`` together pass S3's limit."""
    length = len(prefix.encode()) + len(key.encode())
    if length > MAX_KEY_BYTES:
        raise KeyTooLong(f"{length} bytes")


def _has_dot_segment(key: str) -> bool:
    """Whether a segment is ``.`` or ``..``, also if it were decoded once more further on."""
    candidates = [key]
    if "%" in key:
        candidates.append(unquote_to_bytes(key).decode("utf-8", "replace"))
    return any(
        segment in {".", ".."}
        for candidate in candidates
        for segment in _SEPARATORS.split(candidate)
    )
