"""What repetitions leave behind, counted object by object: I7 for every case.

A thousand repetitions of every case would take an hour, for many wait for a deadline each time;
and within a tenth of the memory of a Python process some thousand responses can be hidden. So
repetitions come in rounds of :data:`PER_ROUND`, and between rounds is counted what is alive, by
type: what the collector knows, and what hangs on that and is too simple for it, such as strings
and bytes. Without a leak a round comes out even but for a few objects, or at least the next one
does: what is let go of late makes one round more and the next one less. With a leak of one object
in every second repetition each count is higher than all before, while a pool, a cache or a queue
fills once. So the first count that is no higher than one before ends it.

What was there before the tests is frozen (:func:`freeze`), so that a count takes some
milliseconds; of that, whether its containers grow is looked at. What C code keeps outside of
Python's objects is not seen here: for that, :mod:`tests.faults.memory` looks at resident memory
after a thousand repetitions of a fault of each kind.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Sized
from itertools import chain, pairwise
from types import BuiltinMethodType, MethodType

PER_ROUND = 24
ROUNDS = 8
_EVEN = PER_ROUND // 3
_METHODS = (BuiltinMethodType, MethodType)
_CONTAINERS = (list, dict, set, deque, OrderedDict)

_frozen: list[Sized] = []
"""The containers that were there before the tests, and those that came before this case."""

_before_tests = 0
"""How many of them are of the first kind."""


def freeze() -> None:
    """Let the collector forget all that there is by now, which stays, most of it to the end."""
    global _before_tests
    del _frozen[_before_tests:]
    gc.collect()
    _frozen.extend(each for each in gc.get_objects() if type(each) in _CONTAINERS)
    _before_tests = _before_tests or len(_frozen)
    gc.freeze()


async def leaves_nothing(round_: Callable[[], Awaitable[object]]) -> None:
    """Repeat ``round_``, which does a thing :data:`PER_ROUND` times and is over when all is over
    that it began, until there is as much as after one of the rounds before; fail if that never
    comes.
    """
    await round_()
    counts = [_alive([])]
    for _ in range(ROUNDS):
        await round_()
        now = _alive(counts)
        if not all(_uneven(before, now) for before in counts):
            return
        counts.append(now)
    each = (_uneven(before, after) for before, after in pairwise(counts))
    rounds = "\n".join(", ".join(f"{more:+d} {kind}" for kind, more in one) for one in each)
    raise AssertionError(f"{ROUNDS} rounds of {PER_ROUND} each left something behind:\n{rounds}")


def _uneven(before: Counter[str], after: Counter[str]) -> list[tuple[str, int]]:
    """The types of which there is more or less than before, and by how much."""
    changes = ((kind, after[kind] - before[kind]) for kind in after.keys() | before.keys())
    return sorted((kind, more) for kind, more in changes if abs(more) >= _EVEN)


def _alive(counts: list[Counter[str]]) -> Counter[str]:
    """How many objects there are of each type, without what is in ``counts`` and what measures
    coverage.
    """
    gc.collect()
    own = {id(counts), *map(id, counts)}
    known = [each for each in gc.get_objects() if id(each) not in own]
    tool = _of_coverage()
    if tool:
        known = [
            each for each in known if type(each) not in _METHODS or id(each.__self__) not in tool
        ]
    simple = {id(each): type(each) for each in gc.get_referents(*known) if not gc.is_tracked(each)}
    alive: Counter[str] = Counter()
    for kind, number in Counter(chain(map(type, known), simple.values())).items():
        if kind.__module__.partition(".")[0] != "coverage":
            alive[f"{kind.__module__}.{kind.__qualname__}"] += number
    alive["entries of what was there before"] = sum(
        len(each) for each in _frozen if id(each) not in tool
    )
    return alive


def _of_coverage() -> set[int]:
    """The ids of what coverage.py, while it measures, has more of with each thread that begins, and
    moto begins one for each connection: the list of its tracers, and what methods are bound to that
    it gives to each of them. Tracers it keeps to the end, and they are none of ours.
    """
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    collector = measuring._collector if measuring is not None else None
    if collector is None:
        return set()
    parts = (collector, collector.tracers, collector.data_lock)
    return {id(part) for part in parts if part is not None}
