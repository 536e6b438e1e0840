"""What request targets mean: an object of a mount, how it is shown, and its name in the log."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import parse_qs

from rangeserver.errors import BadRequest, ObjectNotFound
from rangeserver.origin.base import Objects, Part, ResidentObjects
from rangeserver.origin.deadlines import Deadlines
from rangeserver.protocol.mounts import MountTable
from rangeserver.protocol.object_keys import check_length, object_key, split_target
from rangeserver.protocol.representation import ObjectKey
from rangeserver.protocol.response_plan import PlanRules
from rangeserver.web.prepared_head import PreparedHead

_KEPT = 1024
"""Targets whose meaning is kept; they are 8 KiB long at most."""

_MAX_QUERY_FIELDS = 100


@dataclass(frozen=True, slots=True)
class MountedOrigin:
    """A bucket: where its objects come from, and what is decided about them.

    ``prefix`` is what the origin puts before each key, ``first_byte`` how long a client waits at
    most for that, whatever is in between. ``resident`` is what can be answered without waiting, if
    anything can.
    """

    origin: Objects[Part]
    prefix: str
    rules: PlanRules
    first_byte: Deadlines
    resident: ResidentObjects | None = None


@dataclass(slots=True)
class Target:
    """An object that is asked for; ``logged`` is its key before the mount was taken off.

    ``download`` is ``None`` for inline viewing, else the wanted file name (``""``: the key's).
    """

    mounted: MountedOrigin
    key: ObjectKey
    logged: str
    download: str | None
    _head: PreparedHead | None = None

    def prepared_head(self) -> PreparedHead | None:
        """The head of a response of this moment, if the facts of the object are known."""
        resident = self.mounted.resident
        facts = resident.fresh_facts(self.key) if resident is not None else None
        if facts is None or not facts.size:
            return None
        head, now = self._head, int(time.time())
        if head is None or head.facts is not facts or head.now != now:
            age = facts.age(time.monotonic())
            head = PreparedHead(facts, self.mounted.rules, self.download, now=now, age=age)
            self._head = head
        return head


class Targets:
    """Reads request targets, and remembers what the last ones meant."""

    def __init__(self, mounts: MountTable[MountedOrigin]) -> None:
        self.mounts = mounts
        self._kept: OrderedDict[str, Target] = OrderedDict()

    def find(self, raw: str) -> Target:
        """What a target means, as it came in the request line. Raises :class:`ResponseError`."""
        target = self._kept.get(raw)
        if target is not None:
            self._kept.move_to_end(raw)
            return target
        path, query = split_target(raw)
        logged = object_key(path)
        found = self.mounts.find(logged)
        if found is None or not found[1]:
            raise ObjectNotFound
        mounted, key = found
        check_length(key, prefix=mounted.prefix)
        target = self._kept[raw] = Target(mounted, ObjectKey(key), logged, _download_of(query))
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return target


def _download_of(query: str) -> str | None:
    """The name in ``?download=name``, ``""`` for a bare ``?download``; other parameters count
    for nothing and never reach the origin.
    """
    if "download" not in query:
        return None
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return fields.get("download", [None])[0]
