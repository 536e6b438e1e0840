"""What repetitions leave behind, counted object by object: I7 for every case.

A thousand repetitions of every case would take an hour, for many wait for a deadline each time;
and within a tenth of the memory of a Python process some thousand responses can be hidden. So
repetitions come in rounds of :data:`PER_ROUND`, and between rounds is counted what is alive, by
type: what the collector knows, and what hangs on that and is too simple for it, such as strings
and bytes. A round without a leak comes out even but for a few objects; with a leak of one object
in every second repetition none does, while a pool, a cache or a queue fills once. So the first
even round ends the count.

What was there before the tests is frozen (:func:`freeze`), so that a count takes some
milliseconds; of that, whether its containers grow is looked at. What C code keeps outside of
Python's objects is not seen here: for that, :mod:`tests.faults.memory` looks at resident memory
after a thousand repetitions of a fault of each kind.
"""

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Sized
from itertools import chain

PER_ROUND = 24
ROUNDS = 8
_EVEN = PER_ROUND // 3
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
    that it began, until it leaves as much as it found; fail if it never does.
    """
    await round_()
    seen: list[str] = []
    for _ in range(ROUNDS):
        before = _alive()
        await round_()
        after = _alive(but=before)
        uneven = {
            kind: after[kind] - before[kind]
            for kind in after.keys() | before.keys()
            if abs(after[kind] - before[kind]) >= _EVEN
        }
        if not uneven:
            return
        seen.append(", ".join(f"{more:+d} {kind}" for kind, more in sorted(uneven.items())))
        del before, after, uneven
    rounds = "\n".join(seen)
    raise AssertionError(f"{ROUNDS} rounds of {PER_ROUND} each left something behind:\n{rounds}")


def _alive(but: object = None) -> Counter[str]:
    """How many objects there are of each type, without ``but`` and what is in it."""
    gc.collect()
    known = [each for each in gc.get_objects() if each is not but]
    simple = {id(each): type(each) for each in gc.get_referents(*known) if not gc.is_tracked(each)}
    alive: Counter[str] = Counter()
    for kind, number in Counter(chain(map(type, known), simple.values())).items():
        alive[f"{kind.__module__}.{kind.__qualname__}"] += number
    alive["entries of what was there before"] = sum(map(len, _frozen))
    return alive
