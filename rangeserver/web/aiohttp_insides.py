"""What this server uses of aiohttp that is not public: all of it.

A test uses it with the aiohttp that is installed, and finds what other modules use. By public names
alone, ``RequestReader`` and ``Connection`` stand where aiohttp has its own protocol: for its parser
and bodies the one, for its requests and writers the other.
"""

from __future__ import annotations

from aiohttp import HttpVersion, HttpVersion11, web


def version_of(request: web.BaseRequest) -> HttpVersion:
    """The version of a request, which :func:`answer_as_http_1_1` can still change."""
    return request._version  # noqa: SLF001 (the public property keeps what it was first read as)


def answer_as_http_1_1(request: web.BaseRequest) -> None:
    """Have a request of a version that is not served answered with a head of HTTP/1.1."""
    request._version = HttpVersion11  # noqa: SLF001
