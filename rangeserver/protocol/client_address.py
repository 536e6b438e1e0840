"""What counts as one client where shares and limits are per client."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address, IPv6Network

_OF_ONE_CLIENT = 64
"""Prefix length of IPv6: the owner of one address has the other 2**64 too (RFC 6177)."""


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """The client of a peer's address: an IPv4 address, or an IPv6 /64.

    ``""`` stands for the server itself, and stays as it is.
    """
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _OF_ONE_CLIENT), strict=False))
