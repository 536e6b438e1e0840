"""What request targets mean, and that it is remembered."""

from __future__ import annotations

from typing import cast

import pytest

from rangeserver.errors import BadRequest, ObjectNotFound
from rangeserver.origin.base import Objects, Part
from rangeserver.origin.deadlines import Deadlines
from rangeserver.protocol.mounts import MountTable
from rangeserver.protocol.response_plan import PlanRules
from rangeserver.web import targets
from rangeserver.web.targets import MountedOrigin, Targets


def mounted() -> MountedOrigin:
    rules = PlanRules(5, ())
    return MountedOrigin(cast("Objects[Part]", None), "", rules, cast("Deadlines", None))


@pytest.fixture
def found() -> Targets:
    return Targets(MountTable([("/", mounted()), ("/films/", mounted())]))


def test_a_target_is_an_object_of_a_mount(found: Targets) -> None:
    plain = found.find("/a%20b.mp4?x=1")
    assert (plain.logged, plain.key, plain.download) == ("a b.mp4", "a b.mp4", None)
    below = found.find("/films/c.mp4?download=d.mp4")
    assert (below.logged, below.key, below.download) == ("films/c.mp4", "c.mp4", "d.mp4")
    assert below.mounted is not plain.mounted
    assert below.prepared_head() is None  # nothing is known of it


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/", ObjectNotFound),
        ("/films/", ObjectNotFound),
        ("/a/../b", BadRequest),
        ("/a?download&" + "x&" * 200, BadRequest),
    ],
)
def test_what_is_no_object_is_refused_each_time(
    found: Targets, target: str, error: type[Exception]
) -> None:
    for _ in range(2):
        with pytest.raises(error):
            found.find(target)


def test_the_last_ones_are_remembered(found: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_KEPT", 2)
    first, second = found.find("/a"), found.find("/b")
    assert found.find("/a") is first
    found.find("/c")
    assert found.find("/a") is first
    assert found.find("/b") is not second
