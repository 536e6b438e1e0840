"""Whether a Host field (RFC 9110 §7.2) has a name that no stranger can have made lead here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

_HOST = re.compile(r"(?:\[(?P<literal>[^]]*)\]|(?P<name>[^:\[]*))(?::[0-9]*)?")

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".svc")
"""Nobody can register a name below these: RFC 6761, RFC 6762, ICANN's choice for private use,
and Kubernetes' services, which go on with .cluster.local where they are written in full."""


def is_ours(host: str, names: Sequence[str]) -> bool:
    """Whether ``host``, with a port or without, is an address, a name that only the network around
    can resolve, or one of ``names``; one of these that begins with a dot stands for all below it.

    A client that names no host is no browser.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match["literal"] or match["name"] or "").lower().removesuffix(".")
    if not name or "." not in name or _is_address(name):
        return True
    return any(
        name.endswith(known) if known.startswith(".") else name == known
        for known in (*_NOT_PUBLIC, *names)
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
