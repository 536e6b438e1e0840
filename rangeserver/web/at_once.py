"""Answers that need no waiting: a head alone about a version that is known, or with it bytes of the
cache, to one who takes them.

What a request costs otherwise is mostly its way there: a task, a request object, contexts that may
have to wait. Most requests for a film that is watched find all they need in memory. These are
answered as they arrive, in the same words; whatever is out of the ordinary, or turns out to
need patience, goes the usual way: from the beginning or, once bytes have left, from where they end.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_parser import RawRequestMessage

from rangeserver.errors import ResponseError
from rangeserver.origin.base import AtHand
from rangeserver.protocol.object_keys import object_key, split_target
from rangeserver.protocol.preconditions import Conditions, Verdict, evaluate, range_applies
from rangeserver.protocol.ranges import ByteSpan, plain_span
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.web.direct_answer import Around, DirectAnswer
from rangeserver.web.exchange import new_exchange
from rangeserver.web.flush import Client
from rangeserver.web.middlewares.errors import host_is_sound
from rangeserver.web.objects import MountedOrigin, ObjectHandler, conditions_of, download_of
from rangeserver.web.prepared_head import PreparedHead

_TARGETS = 1024
"""Request targets of which is kept what they mean; they are 8 KiB long at most."""

_CONDITIONS = (
    hdrs.IF_RANGE,
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
)

_METHODS = (hdrs.METH_GET, hdrs.METH_HEAD)
_NO_RANGE: list[str] = []
_NO_SPAN = ByteSpan(0, 0)


class AtOnce:
    """Decides which requests for ``objects`` are answered at once."""

    def __init__(self, objects: ObjectHandler, around: Around) -> None:
        self._objects = objects
        self._around = around
        self._targets: OrderedDict[str, _Target] = OrderedDict()

    def __call__(
        self, message: RawRequestMessage, client: Client, peer: str
    ) -> tuple[DirectAnswer, bytes] | None:
        """An answer and its head, not begun yet; ``None`` if there is more to it.

        ``message`` has no body and is the only one that ``client`` waits for.
        """
        headers = message.headers
        if (
            message.method not in _METHODS
            or message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or hdrs.EXPECT in headers
            or hdrs.TRANSFER_ENCODING in headers
            or not host_is_sound(headers)
            or self._around.active.draining
        ):
            return None
        target = self._targets.get(message.path) or self._find(message.path)
        prepared = target.prepared_head() if target is not None else None
        if target is None or prepared is None:
            return None
        facts = prepared.facts
        verdict = Verdict.PROCEED
        for name in _CONDITIONS:
            if name in headers:
                verdict = _verdict(conditions_of(headers), facts, prepared.now)
                break
        if message.method == hdrs.METH_HEAD or verdict is not Verdict.PROCEED:
            return self._head_alone(message, client, peer, target, prepared, verdict)
        ranges = headers.getall(hdrs.RANGE, _NO_RANGE)
        span = ByteSpan(0, facts.size) if not ranges else plain_span(ranges[0], facts.size)
        if span is None or len(ranges) > 1:
            return None
        exchange = new_exchange(headers, message.method, peer, client.transport)
        held = target.at_hand.held(facts, span, exchange.origin)
        if held is None:
            return None
        exchange.key = target.logged
        exchange.bytes_promised = span.length
        exchange.from_object = True
        if ranges:
            exchange.status = 206
            exchange.content_range = span.content_range(facts.size)
            head = prepared.part(exchange.request_id, span)
        else:
            exchange.status = 200
            head = prepared.whole(exchange.request_id)
        self._targets.move_to_end(message.path)
        answer = DirectAnswer(self._around, client, exchange, target.origin, facts, span, held)
        return answer, head

    def _head_alone(
        self,
        message: RawRequestMessage,
        client: Client,
        peer: str,
        target: _Target,
        prepared: PreparedHead,
        verdict: Verdict,
    ) -> tuple[DirectAnswer, bytes] | None:
        """The same where no body follows."""
        if verdict is Verdict.FAILED:
            return None
        facts = prepared.facts
        exchange = new_exchange(message.headers, message.method, peer, client.transport)
        exchange.key = target.logged
        exchange.from_object = True
        if verdict is Verdict.NOT_MODIFIED:
            exchange.status = 304
            head = prepared.not_modified(exchange.request_id)
        else:
            exchange.status = 200
            head = prepared.whole(exchange.request_id)
        target.at_hand.told(facts)
        self._targets.move_to_end(message.path)
        answer = DirectAnswer(self._around, client, exchange, target.origin, facts, _NO_SPAN, None)
        return answer, head

    def _find(self, path: str) -> _Target | None:
        """What a request target means, if that is an object of which something may be at hand."""
        try:
            target = _Target.of(path, self._objects)
        except ResponseError:
            return None
        if target is None or target.prepared_head() is None:
            return None
        self._targets[path] = target
        if len(self._targets) > _TARGETS:
            self._targets.popitem(last=False)
        return target


def _verdict(conditions: Conditions, facts: ObjectFacts, now: int) -> Verdict:
    """What is decided at once; ``FAILED`` is left to others, and so is a range that is to be
    ignored.
    """
    verdict = evaluate(conditions, facts, now=now)
    if verdict is Verdict.PROCEED and not range_applies(conditions, facts, now=now):
        return Verdict.FAILED
    return verdict


class _Target:
    """What a request target means: an object, which of its bytes may be at hand, and its name in
    the log.
    """

    __slots__ = ("_download", "_head", "_key", "_rules", "at_hand", "logged", "origin")

    def __init__(
        self,
        mounted: MountedOrigin,
        at_hand: AtHand,
        key: ObjectKey,
        *,
        logged: str,
        download: str | None,
    ) -> None:
        self.origin = mounted.origin
        self.at_hand = at_hand
        self.logged = logged
        self._rules = mounted.rules
        self._key = key
        self._download = download
        self._head: PreparedHead | None = None

    @classmethod
    def of(cls, target: str, objects: ObjectHandler) -> _Target | None:
        """What it means; ``None`` if nothing is ever at hand there. Raises
        :class:`ResponseError` for what is no object's.
        """
        path, query = split_target(target)
        logged = object_key(path)
        mounted, key = objects.find(logged)
        if mounted.at_hand is None:
            return None
        return cls(mounted, mounted.at_hand, key, logged=logged, download=download_of(query))

    def prepared_head(self) -> PreparedHead | None:
        """The head of what is answered now, if the facts of the object are known."""
        facts = self.at_hand.known(self._key)
        if facts is None or not facts.size:
            return None
        head, now = self._head, int(time.time())
        if head is None or head.facts is not facts or head.now != now:
            age = facts.age(time.monotonic())
            head = PreparedHead(facts, self._rules, self._download, now=now, age=age)
            self._head = head
        return head


AT_ONCE = web.AppKey("at_once", AtOnce)
"""Only where there is a cache."""
