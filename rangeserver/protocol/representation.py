"""What is known of one version of one object, read from an origin's header fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from rangeserver.protocol.validators import EntityTag, parse_entity_tag, parse_http_date

ObjectKey = NewType("ObjectKey", str)
"""A key as the client named it: decoded and checked, without the configured prefix."""

# What may stand in a header field of ours. A stored value with anything else (a control
# character would make aiohttp drop the whole response) is treated as absent.
_SAFE_VALUE = re.compile(r"[\t\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One version of one object: its identity (``key``, ``etag``), size and metadata.

    ``size`` is in bytes. ``etag`` is the entity tag as it stands on the wire, with its quotes.
    ``last_modified`` is in seconds since the epoch. The other fields are the values stored with
    the object, or ``None``.
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

    @property
    def entity_tag(self) -> EntityTag:
        """The entity tag in parsed form."""
        tag = parse_entity_tag(self.etag)
        assert tag is not None, self.etag
        return tag


def facts_from_headers(
    key: ObjectKey, size: int, headers: Mapping[str, str], *, now: int
) -> ObjectFacts:
    """Facts from an origin answer's header fields (lower-case names).

    Values that could not be sent on are dropped. Raises ``ValueError`` when there is no entity
    tag: without one no two reads can be known to be of the same version.
    """

    def safe(name: str) -> str | None:
        value = headers.get(name, "").strip()
        return value if _SAFE_VALUE.fullmatch(value) else None

    etag = safe("etag")
    if etag is None or parse_entity_tag(etag) is None:
        msg = f"entity tag missing or malformed: {headers.get('etag')!r}"
        raise ValueError(msg)
    return ObjectFacts(
        key=key,
        size=size,
        etag=etag,
        last_modified=parse_http_date(headers.get("last-modified", ""), now=now),
        content_type=safe("content-type"),
        content_encoding=safe("content-encoding"),
        content_language=safe("content-language"),
        content_disposition=safe("content-disposition"),
        cache_control=safe("cache-control"),
        expires=safe("expires"),
    )
