"""Media types: a table for objects stored without one, and which types may show inline."""

from __future__ import annotations

import re
from collections.abc import Sequence

FALLBACK = "application/octet-stream"

# One whole media type (RFC 9110 §8.3.1). Each piece can match in one way only, so that no text
# makes it backtrack; possessive groups would say so, but are broken in Python 3.11.2.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_WELL_FORMED = re.compile(
    rf"{_WORD}/{_WORD}[ \t]*"
    rf'(?:;[ \t]*(?:{_WORD}=(?:{_WORD}|"(?:[^"\\]|\\.)*")[ \t]*)?)*'
)

# What S3, and tools that do not guess, store by default.
_PLACEHOLDERS = frozenset({"", "binary/octet-stream", "application/octet-stream"})

# Our own table and not the standard library's, which reads files of the machine: the same
# object must have the same type wherever the server runs.
_BY_EXTENSION = {
    "3g2": "video/3gpp2",
    "3gp": "video/3gpp",
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "apng": "image/apng",
    "ass": "text/x-ssa",
    "avi": "video/x-msvideo",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "cmfa": "audio/mp4",
    "cmfv": "video/mp4",
    "css": "text/css",
    "csv": "text/csv",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "jxl": "image/jxl",
    "m2ts": "video/mp2t",
    "m3u": "audio/mpegurl",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4a": "audio/mp4",
    "m4s": "video/iso.segment",
    "m4v": "video/mp4",
    "mka": "audio/matroska",
    "mkv": "video/matroska",
    "mov": "video/quicktime",
    "mp2": "audio/mpeg",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpd": "application/dash+xml",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mts": "video/mp2t",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "srt": "application/x-subrip",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "ts": "video/mp2t",
    "ttml": "application/ttml+xml",
    "txt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "webp": "image/webp",
    "wmv": "video/x-ms-wmv",
    "xml": "application/xml",
    "zip": "application/zip",
}


def media_type(key: str, stored: str | None) -> str:
    """The object's own type; by the key's extension where the stored one says nothing."""
    if stored is not None and essence(stored) not in _PLACEHOLDERS:
        return stored
    _, dot, extension = key.rpartition(".")
    return _BY_EXTENSION.get(extension.lower(), FALLBACK) if dot else FALLBACK


def essence(content_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def may_show_inline(content_type: str, allowed: Sequence[str]) -> bool:
    """Whether this type is in the list of passive ones, in which ``video/*`` stands for a family.

    ``image/svg+xml`` is never covered by ``image/*``: it can carry script. Nor does anything
    malformed show: of ``image/png, text/html`` browsers take the last.
    """
    if _WELL_FORMED.fullmatch(content_type) is None:
        return False
    kind = essence(content_type)
    family = kind.partition("/")[0] + "/*"
    return kind in allowed or (family in allowed and not kind.endswith("xml"))
