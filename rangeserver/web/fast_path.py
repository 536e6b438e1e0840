"""The fast path: answers that need no waiting are given as their requests arrive, without a task.

These are heads alone (HEAD, 304) about facts that are known, and ranges whose bytes are resident
in the cache. What a request costs otherwise is mostly its way: a task, a request object, contexts
that may have to wait. The answer is the same: it is read, planned, sent and ended by the same code
as any other (:mod:`.targets`, :mod:`.prepared_head`, :mod:`.body_writer`, :mod:`.exchanges`).
Whatever is out of the ordinary, or turns out to need patience, goes the usual way: from the
beginning or, once bytes have left, from where they end.
"""

from __future__ import annotations

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy

from rangeserver.errors import ResponseError
from rangeserver.protocol.hosts import is_ours
from rangeserver.protocol.preconditions import Verdict, evaluate, range_applies
from rangeserver.protocol.ranges import ByteSpan, plain_span
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.web.body_writer import BodyWriter
from rangeserver.web.delivery import Delivery
from rangeserver.web.exchange import new_exchange
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.flush import Client
from rangeserver.web.middlewares.errors import host_is_sound
from rangeserver.web.objects import ObjectHandler, conditions_of
from rangeserver.web.prepared_head import PreparedHead
from rangeserver.web.targets import Target

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


class FastPath:
    """Decides which requests for ``objects`` are answered here."""

    def __init__(
        self, objects: ObjectHandler, exchanges: Exchanges, *, for_strangers: bool = True
    ) -> None:
        self._objects = objects
        self._exchanges = exchanges
        self._for_strangers = for_strangers

    def __call__(
        self, message: RawRequestMessage, client: Client, peer: str
    ) -> tuple[Delivery, bytes] | None:
        """An answer and its head, not begun yet; ``None`` if there is more to it.

        ``message`` has no body, and is the only one that ``client`` waits for.
        """
        headers = message.headers
        if self._exchanges.draining or not _is_plain(message):
            return None
        if not self._for_strangers and not is_ours(headers.get(hdrs.HOST, ""), ()):
            return None
        try:
            target = self._objects.targets.find(message.path)
        except ResponseError:
            return None
        prepared = target.prepared_head()
        objects = target.mounted.resident
        if prepared is None or objects is None:
            return None
        facts = prepared.facts
        verdict = _verdict(headers, facts, prepared.now)
        if message.method == hdrs.METH_HEAD or verdict is not Verdict.PROCEED:
            if verdict is Verdict.FAILED:
                return None
            objects.count_use(facts)
            return self._head_alone(message, client, peer, target, prepared, verdict)
        ranges = headers.getall(hdrs.RANGE, _NO_RANGE)
        span = _span(ranges, facts.size)
        if span is None:
            return None
        exchange = new_exchange(headers, message.method, peer, client.transport)
        resident = objects.resident(facts, span, exchange.origin)
        if resident is None:
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
        writer = BodyWriter(exchange, self._objects.room)
        origin = target.mounted.origin
        return Delivery(self._exchanges, client, writer, origin, facts, span, resident), head

    def _head_alone(
        self,
        message: RawRequestMessage,
        client: Client,
        peer: str,
        target: Target,
        prepared: PreparedHead,
        verdict: Verdict,
    ) -> tuple[Delivery, bytes]:
        """The same where no body follows."""
        exchange = new_exchange(message.headers, message.method, peer, client.transport)
        exchange.key = target.logged
        exchange.from_object = True
        if verdict is Verdict.NOT_MODIFIED:
            exchange.status = 304
            head = prepared.not_modified(exchange.request_id)
        else:
            exchange.status = 200
            head = prepared.whole(exchange.request_id)
        writer = BodyWriter(exchange, self._objects.room)
        opened = target.mounted.origin, prepared.facts, _NO_SPAN
        return Delivery(self._exchanges, client, writer, *opened, None), head


def _is_plain(message: RawRequestMessage) -> bool:
    """Whether the request is of the kind that nearly all are."""
    headers = message.headers
    return (
        message.method in _METHODS
        and message.version == HttpVersion11
        and not message.should_close
        and not message.upgrade
        and hdrs.EXPECT not in headers
        and host_is_sound(headers)
    )


def _span(ranges: list[str], size: int) -> ByteSpan | None:
    """The one span that is asked for; ``None`` if it takes more to tell."""
    if not ranges:
        return ByteSpan(0, size)
    return plain_span(ranges[0], size) if len(ranges) == 1 else None


def _verdict(headers: CIMultiDictProxy[str], facts: ObjectFacts, now: int) -> Verdict:
    """What the conditions of a request come to; ``FAILED`` is left to the usual way, and so is a
    range that is to be ignored.
    """
    for name in _CONDITIONS:
        if name in headers:
            break
    else:
        return Verdict.PROCEED
    conditions = conditions_of(headers)
    verdict = evaluate(conditions, facts, now=now)
    if verdict is Verdict.PROCEED and not range_applies(conditions, facts, now=now):
        return Verdict.FAILED
    return verdict


FAST_PATH = web.AppKey("fast_path", FastPath)
"""Only where there is a cache."""
