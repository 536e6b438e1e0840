"""One resource for every request target: keys are read from the raw path, not from a pattern.

aiohttp's own patterns decode the path before matching, and miss ``*`` and line breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import ResourceRoute
from yarl import URL


async def _no_expectation(request: web.Request) -> None:
    """Leave Expect to the handler, whose errors the middlewares see."""


class EveryTarget(web.AbstractResource):
    """Matches whatever no more specific resource matched, with any method."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._route = ResourceRoute("*", handler, self, expect_handler=_no_expectation)

    @property
    def canonical(self) -> str:
        """The path under which the dispatcher indexes this resource: the root of all."""
        return "/"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo, set[str]]:  # noqa: ARG002 (aiohttp's signature)
        """Match."""
        return web.UrlMappingMatchInfo({}, self._route), set()

    def url_for(self, **kwargs: str) -> URL:  # noqa: ARG002 (aiohttp's signature)
        """The root: this resource stands for no single path."""
        return URL("/")

    def add_prefix(self, prefix: str) -> None:
        """Refuse: this resource is for the top of an application."""
        msg = f"cannot be mounted below {prefix}"
        raise RuntimeError(msg)

    def get_info(self) -> Any:
        """What aiohttp shows of a route."""
        return {"path": "/"}

    def raw_match(self, path: str) -> bool:  # noqa: ARG002 (aiohttp's signature)
        """Never the same as another resource."""
        return False

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter((self._route,))

    def __len__(self) -> int:
        return 1
