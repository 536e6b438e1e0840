"""Answers that need no waiting: bytes of the cache, whose version is known, to one who takes them.

What a request costs otherwise is mostly its way there: a task, a request object, contexts that may
have to wait. Most requests for a film that is watched find all they need in memory. These are
answered as they arrive, by the same plan, in the same words; whatever turns out to need
patience goes the usual way, from the beginning or, once bytes have left, from where they end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_parser import RawRequestMessage

from rangeserver.errors import ResponseError
from rangeserver.protocol.object_keys import object_key, split_target
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectKey
from rangeserver.protocol.response_plan import ObjectRequest, plan_response
from rangeserver.web.direct_answer import Around, Content, DirectAnswer
from rangeserver.web.exchange import new_exchange
from rangeserver.web.flush import Client
from rangeserver.web.middlewares.errors import host_is_sound
from rangeserver.web.objects import (
    MountedOrigin,
    ObjectHandler,
    conditions_of,
    download_of,
    new_boundary,
)
from rangeserver.web.relay import head_of

_TARGETS = 1024


@dataclass(frozen=True, slots=True)
class _Target:
    """What a request target means: an object's key, where it is mounted and in the log."""

    mounted: MountedOrigin
    key: ObjectKey
    logged: str
    download: str | None


class AtOnce:
    """Decides which requests for ``objects`` are answered at once."""

    def __init__(self, objects: ObjectHandler, around: Around) -> None:
        self._objects = objects
        self._around = around
        self._target = lru_cache(maxsize=_TARGETS)(self._find)

    def __call__(
        self, message: RawRequestMessage, client: Client, peer: str
    ) -> tuple[DirectAnswer, bytes] | None:
        """An answer and its head, not begun yet; ``None`` if there is more to it.

        ``message`` has no body and is the only one that ``client`` waits for.
        """
        headers = message.headers
        if (
            message.method != hdrs.METH_GET
            or message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or hdrs.EXPECT in headers
            or not host_is_sound(headers)
            or self._around.active.draining
        ):
            return None
        try:
            target = self._target(message.path)
        except ResponseError:
            return None
        at_hand, rules = target.mounted.at_hand, target.mounted.rules
        facts = at_hand.known(target.key) if at_hand is not None else None
        if at_hand is None or facts is None:
            return None
        asked = ObjectRequest(hdrs.METH_GET, conditions_of(headers), target.download)
        now = int(time.time())
        plan = plan_response(asked, facts, rules, now=now, new_boundary=new_boundary)
        if len(plan.body) != 1 or not isinstance(span := plan.body[0], ByteSpan):
            return None
        exchange = new_exchange(headers, message.method, peer, client.transport)
        held = at_hand.held(facts, span, exchange.origin)
        if held is None:
            return None
        exchange.key = target.logged
        exchange.status = plan.status
        exchange.content_range = plan.headers.get(hdrs.CONTENT_RANGE)
        exchange.bytes_promised = span.length
        exchange.from_object = True
        head = head_of(exchange, plan, message.version, keep_alive=True)
        content = Content(target.mounted.origin, facts, span, held)
        return DirectAnswer(self._around, client, exchange, content), head

    def _find(self, target: str) -> _Target:
        path, query = split_target(target)
        logged = object_key(path)
        mounted, key = self._objects.find(logged)
        return _Target(mounted, key, logged, download_of(query))


AT_ONCE = web.AppKey("at_once", AtOnce)
"""Only where there is a cache."""
