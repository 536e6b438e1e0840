"""The facts of one version of an object, read from an origin's header fields."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from rangeserver.protocol.validators import EntityTag, parse_entity_tag, parse_http_date

ObjectKey = NewType("ObjectKey", str)
"""A key as the client named it: decoded and checked, without the configured prefix."""

# What may stand in a header field of ours. A stored value with anything else (a control
# character would make aiohttp drop the whole response) is treated as absent.
_SAFE_VALUE = re.compile(r"[\t\x20-\x7e]+")

_AGE = re.compile("[0-9]{1,10}")
_MAX_AGE = 2.0**31
"""Whatever is older is as old (RFC 9111 §1.2.2)."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One version of one object: its identity (``key``, ``etag``), size and metadata.

    ``size`` is in bytes. ``etag`` is the entity tag as it stands on the wire, with its quotes.
    ``last_modified`` is in seconds since the epoch. ``version_id`` names the version in a bucket
    that keeps them. The other fields are the values stored with
    the object, or ``None``. All can be sent on as they are but for ``content_disposition``, which
    must be read and written anew.

    Two facts are equal whatever their age. ``validated_at`` is when the origin gave them, by the
    monotonic clock, and ``upstream_age`` how many seconds old they were then (Age, RFC 9111 §5.1).
    """

    key: ObjectKey
    size: int
    etag: str
    last_modified: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    expires: str | None = None
    version_id: str | None = None
    upstream_age: int = field(default=0, compare=False)
    validated_at: float = field(default=-math.inf, compare=False)

    def age(self, now: float) -> int:
        """The value of Age, in whole seconds; ``now`` by the monotonic clock."""
        return self.upstream_age + int(min(max(now - self.validated_at, 0.0), _MAX_AGE))

    def __hash__(self) -> int:
        # Each response looks some up. Hashing all fields would take longer than making a header.
        return hash(self.etag)

    @property
    def entity_tag(self) -> EntityTag:
        """The entity tag in parsed form."""
        tag = parse_entity_tag(self.etag)
        assert tag is not None, self.etag
        return tag


def stored_coding(headers: Mapping[str, str]) -> str | None:
    """The coding of the bytes of an origin answer (lower-case names); ``None``: they are plain.

    ``aws-chunked`` is a coding of the upload alone. AWS takes it out of what it stores; many
    S3-compatible servers leave it in, though the bytes they send are plain.
    """
    members = [member.strip(" \t") for member in _safe(headers, "content-encoding").split(",")]
    return ", ".join(m for m in members if m and m.lower() != "aws-chunked") or None


def facts_from_headers(
    key: ObjectKey,
    size: int,
    headers: Mapping[str, str],
    *,
    now: int,
    validated_at: float = -math.inf,
) -> ObjectFacts:
    """Facts from an origin answer's header fields (lower-case names), which came ``now``, in
    seconds since the epoch, or ``validated_at`` by the monotonic clock.

    Values that could not be sent on are dropped. Raises ``ValueError`` when there is no strong
    entity tag: without one no two reads can be known to be of the same bytes, and If-Match,
    which compares strongly, can never hold (RFC 9110 §13.1.1).
    """
    etag = _safe(headers, "etag")
    tag = parse_entity_tag(etag)
    if tag is None or tag.weak:
        msg = f"no strong entity tag: {headers.get('etag')!r}"
        raise ValueError(msg)
    return ObjectFacts(
        key=key,
        size=size,
        etag=etag,
        last_modified=parse_http_date(headers.get("last-modified", ""), now=now),
        content_type=_safe(headers, "content-type") or None,
        content_encoding=stored_coding(headers),
        content_language=_safe(headers, "content-language") or None,
        content_disposition=_text(headers, "content-disposition"),
        cache_control=_safe(headers, "cache-control") or None,
        expires=_safe(headers, "expires") or None,
        version_id=_version_id(headers),
        upstream_age=_age(headers),
        validated_at=validated_at,
    )


def _age(headers: Mapping[str, str]) -> int:
    """What a cache before the origin says of its answer (RFC 9111 §5.1)."""
    value = headers.get("age", "")
    return int(value) if _AGE.fullmatch(value) else 0


def _version_id(headers: Mapping[str, str]) -> str | None:
    """Objects from before versioning was turned on have the version "null", which is replaced
    like any object in a bucket without versions.
    """
    version_id = _safe(headers, "x-amz-version-id")
    return version_id if version_id not in {"", "null"} else None


def _text(headers: Mapping[str, str], name: str) -> str | None:
    """A value that often holds a name in raw UTF-8; what is no text at all counts as absent."""
    value = headers.get(name)
    # aiohttp hands over other bytes as halves of surrogate pairs.
    return value if value is None or value.isascii() or _is_text(value) else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _safe(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    return value if _SAFE_VALUE.fullmatch(value) else ""
