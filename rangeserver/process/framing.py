"""Whether everybody on the way agrees where a request ends (RFC 9112 §6, §11.2).

A proxy that sees the end elsewhere sends what somebody else has put behind it, as a request of its
own. aiohttp's parser refuses most of what can be read in two ways; the rest is here.
"""

from __future__ import annotations

from aiohttp import HttpVersion11, hdrs
from aiohttp.http_parser import RawRequestMessage


def end_is_certain(message: RawRequestMessage) -> bool:
    """Whether the length of a request, which the parser has let pass, is read alike by all."""
    headers = message.headers
    has_coding = hdrs.TRANSFER_ENCODING in headers
    if message.method == hdrs.METH_CONNECT:  # which the parser takes to have no body, whatever
        return not has_coding and hdrs.CONTENT_LENGTH not in headers
    # An empty field is one for some and none for others, and HTTP/1.0 does not know it (§6.1).
    return not has_coding or (message.chunked and message.version >= HttpVersion11)
