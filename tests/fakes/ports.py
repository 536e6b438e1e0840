"""Ports of servers that stop listening and come back."""

from __future__ import annotations

import socket


def reserve(host: str) -> socket.socket:
    """A socket that has a port there and does not listen. Servers can listen on it again and again,
    and while none does, no connection gets it as its own.
    """
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((host, 0))
    return reserved
