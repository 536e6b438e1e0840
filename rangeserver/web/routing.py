"""One resource for every request target: keys are read from the raw path, not from a pattern.

aiohttp's own patterns decode the path before matching, and miss ``*``, line breaks and targets
without a path (CONNECT's, ``GET http://host``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import MatchedSubAppResource, ResourceRoute

HANDLER: web.AppKey[Handler] = web.AppKey("handler", Callable)  # type: ignore[arg-type]
"""What answers every request of an application whose only resource is :class:`EveryTarget`."""


def direct_handler(app: web.Application) -> Handler:
    """The handler of a frozen application inside its middlewares: just what aiohttp would call
    after it had looked for a route, which costs a request more than it can find out.

    ``request.match_info`` and ``request.app`` are not there for requests that come this way.
    """
    handler = app[HANDLER]
    for middleware in reversed(app.middlewares):
        handler = partial(middleware, handler=handler)
    return handler


async def _no_expectation(request: web.Request) -> None:
    """Leave Expect to the handler, whose errors the middlewares see."""


class EveryTarget(MatchedSubAppResource):
    """Matches every request, whatever its target and method.

    Of all resources only those of this base are asked without a look at the path.
    """

    def __init__(self, handler: Handler) -> None:
        web.AbstractResource.__init__(self)
        self._route = ResourceRoute("*", handler, self, expect_handler=_no_expectation)

    @property
    def canonical(self) -> str:
        """What aiohttp shows in place of a path."""
        return "*"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo, set[str]]:  # noqa: ARG002 (aiohttp's signature)
        """Match."""
        return web.UrlMappingMatchInfo({}, self._route), set()

    def add_prefix(self, prefix: str) -> None:
        """Refuse: this resource is for the top of an application."""
        msg = f"cannot be mounted below {prefix}"
        raise RuntimeError(msg)

    def get_info(self) -> Any:
        """What aiohttp shows of a route."""
        return {"path": self.canonical}

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter((self._route,))

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"<EveryTarget {self._route!r}>"
