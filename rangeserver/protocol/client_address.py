"""Who counts as one client when what all share is handed out."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address, IPv6Network

_OF_ONE_CLIENT = 64
"""Bits of an IPv6 address: whoever has one has the other 2**64 as well (RFC 6177)."""


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """The client behind a peer's address: an IPv4 address is one, and so is an IPv6 /64.

    ``""``, what the server wants for itself, stays as it is.
    """
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _OF_ONE_CLIENT), strict=False))
