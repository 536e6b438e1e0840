"""Turns: whoever has least comes first, and nobody is forgotten."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rangeserver.origin.fair_queue import FairQueue


def turns(queue: FairQueue[str]) -> list[str]:
    """Who gets one unit each, until nobody waits."""
    served = []
    while (first := queue.first()) is not None:
        client, waiter = first
        queue.leave(client, waiter)
        queue.take(client)
        served.append(waiter)
    return served


def test_one_client_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("first", "second", "third"):
        queue.wait("a", name)
    assert turns(queue) == ["first", "second", "third"]
    assert not queue


def test_several_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(3):
        queue.wait("a", f"a{number}")
    for number in range(2):
        queue.wait("b", f"b{number}")
    assert turns(queue) == ["a0", "b0", "a1", "b1", "a2"]


def test_whoever_has_less_catches_up() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.take("a", 2)
    for number in range(2):
        queue.wait("a", f"a{number}")
    for number in range(3):
        queue.wait("b", f"b{number}")
    assert turns(queue) == ["b0", "b1", "a0", "b2", "a1"]


def test_what_is_given_back_counts_no_longer() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.take("a", 5)
    queue.take("b", 1)
    queue.wait("a", "a")
    queue.wait("b", "b")
    queue.give("a", 5)
    assert queue.held == {"b": 1}
    assert turns(queue) == ["a", "b"]


def test_what_has_begun_goes_before_what_has_not() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.wait("a", "new")
    queue.wait("a", "begun", begun=True)
    queue.wait("a", "newer")
    assert list(queue.lines()) == [("a", 3, 1)]
    assert turns(queue) == ["begun", "new", "newer"]


def test_who_leaves_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("first", "second"):
        queue.wait("a", name)
    queue.wait("b", "alone")
    queue.leave("a", "first")
    queue.leave("b", "alone")
    queue.leave("b", "alone")
    assert turns(queue) == ["second"]
    queue.wait("b", "again")
    assert turns(queue) == ["again"]


CLIENTS = st.sampled_from("abc")


class AgainstAModel(RuleBasedStateMachine):
    """Whatever happens before, the client of the next turn has no more than any other has."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: dict[int, str] = {}
        self.held = dict.fromkeys("abc", 0)
        self.number = 0

    @rule(client=CLIENTS, begun=st.booleans())
    def wait(self, client: str, begun: bool) -> None:
        self.number += 1
        self.waiting[self.number] = client
        self.queue.wait(client, self.number, begun=begun)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.leave(self.waiting.pop(number), number)

    @rule(client=CLIENTS, amount=st.integers(1, 3))
    def take(self, client: str, amount: int) -> None:
        self.held[client] += amount
        self.queue.take(client, amount)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from([each for each, count in self.held.items() if count]))
        self.held[client] -= 1
        self.queue.give(client)

    @invariant()
    def the_next_has_least(self) -> None:
        first = self.queue.first()
        assert (first is None) == (not self.waiting) == (not self.queue)
        if first is not None:
            client, waiter = first
            assert self.waiting[waiter] == client
            assert self.held[client] == min(self.held[each] for each in self.waiting.values())

    @invariant()
    def it_holds_no_more_than_it_needs(self) -> None:
        assert len(self.queue._turns) <= 2 * len(set(self.waiting.values())) + 64
        assert self.queue.held == {each: count for each, count in self.held.items() if count}


TestAgainstAModel = AgainstAModel.TestCase
