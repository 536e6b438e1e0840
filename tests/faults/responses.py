"""What every response must be, whatever happened to it (I1, and what I5 says of responses)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults.logs import FORBIDDEN
from tests.support import RawResponse


@dataclass(frozen=True, slots=True)
class Received:
    """A response that passed, how long it took, and whether its connection ended in an RST."""

    response: RawResponse
    seconds: float
    was_reset: bool

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    @property
    def body(self) -> bytes:
        return self.response.body

    @property
    def complete(self) -> bool:
        return self.response.complete

    @property
    def request_id(self) -> str:
        return self.response.headers["x-request-id"]

    @property
    def error_code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


def check(
    response: RawResponse, versions: Mapping[str, bytes], *, bucket: str, method: str = "GET"
) -> None:
    """Bytes of one of the ``versions``, which are known by their ETags, or an error that tells
    nothing which is not for clients.
    """
    headers = response.headers
    assert not FORBIDDEN.search(repr(headers))
    if response.status in {200, 206}:
        assert method == "HEAD" or _is_of_one_version(response, versions), headers
    elif method != "HEAD" and response.body:
        error = json.loads(response.body)["error"]
        assert error["request_id"] == headers["x-request-id"]
        text = response.body.decode()
        assert not FORBIDDEN.search(text), text
        assert bucket not in text


def _is_of_one_version(response: RawResponse, versions: Mapping[str, bytes]) -> bool:
    version = versions[response.headers["etag"]]
    start, stop = 0, len(version)
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers["content-range"])
        assert found is not None
        start, stop = int(found[1]), int(found[2]) + 1
        assert int(found[3]) == len(version)
    assert int(response.headers["content-length"]) == stop - start
    return version[start : start + len(response.body)] == response.body
