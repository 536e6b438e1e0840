"""A request to S3 as it is sent, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp


@dataclass(frozen=True, slots=True)
class Ask:
    """GET or HEAD of an object; ``key`` is the bucket's, ``range_header`` a whole field value.

    ``if_match`` is an entity tag as it stands on the wire.
    """

    method: Literal["GET", "HEAD"]
    bucket: str
    key: str
    range_header: str | None = None
    if_match: str | None = None
    version_id: str | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """A good answer (status below 300), header names in lower case or case-insensitive.

    Has to be closed, whatever happens: nothing else gives its connection back.
    """

    status: int
    headers: Mapping[str, str]
    response: aiohttp.ClientResponse | None

    async def read(self, at_most: int) -> bytes:
        """The next bytes of the body; ``b""`` at its end. Raises what aiohttp raises."""
        assert self.response is not None, "a HEAD has no body"
        return await self.response.content.read(at_most)

    def close(self) -> None:
        """Give the connection back: for other requests if the body was read to its end, else
        closed, for the rest of a film is not worth a connection.
        """
        if self.response is not None:
            self.response.close()
