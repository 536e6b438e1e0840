"""Whether a Host field (RFC 9110 §7.2) has a name that no stranger can point at this server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

_HOST = re.compile(r"(?:\[(?P<literal>[^]]*)\]|(?P<name>[^:\[]*))(?::[0-9]*)?")

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".svc")
"""Names below these cannot be registered: RFC 6761, RFC 6762, ICANN's private-use domain, and
services of Kubernetes, whose full names end in .cluster.local."""


def is_ours(host: str, names: Sequence[str]) -> bool:
    """Whether ``host``, with or without a port, is an address, a name that only the local network
    resolves, or one of ``names``. A name that begins with a dot stands for all names below it.

    An empty host is accepted: browsers always name one.
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
