from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from rangeserver.cache.open_entries import MAX_OPEN
from rangeserver.config import Config
from rangeserver.process.limits import OpenFiles, allowed_open_files, open_files
from rangeserver.process.monitoring import ADMIN_CONNECTIONS


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_as_far_as_needed(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert allowed_open_files(600) == 600
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600


def test_a_limit_that_suffices_is_left_alone(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    assert allowed_open_files(10) == 1024
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024


@pytest.mark.fault("C6")
def test_a_hard_limit_that_is_too_low_is_reported(
    limits: tuple[int, int],
) -> None:
    _, hard = limits
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    assert allowed_open_files(hard + 1) == hard


def wanted(**sections: dict[str, Any]) -> OpenFiles:
    sections["origin"] = {"bucket": "films", **sections.get("origin", {})}
    return open_files(Config.model_validate(sections))


def test_all_who_open_files_are_counted() -> None:
    most = wanted(server={"max_connections": 1000}, origin={"max_connections": 50})
    without_cache = wanted(
        server={"max_connections": 1000},
        origin={"max_connections": 50},
        cache={"enabled": False},
    )
    without_admin = wanted(
        server={"max_connections": 1000},
        origin={"max_connections": 50},
        admin={"enabled": False},
    )
    assert most.total - without_cache.total == 1000 + MAX_OPEN
    assert most.total - without_admin.total == ADMIN_CONNECTIONS
    more = wanted(server={"max_connections": 1000}, origin={"max_connections": 60})
    assert more.total - most.total == 10
    assert without_cache.total > 1000 + 50 + ADMIN_CONNECTIONS


def test_what_is_allowed_is_enough_for_all_who_then_fit() -> None:
    most = wanted(server={"max_connections": 10_000})
    for allowed in (*range(600, 4000, 7), most.total - 1):
        fits = most.within(allowed)
        assert fits.total <= allowed
        assert 1 <= fits.clients < most.clients
        assert 1 <= fits.cache <= most.cache
        assert fits.origins == most.origins
    for allowed in (most.total, most.total + 1, 1 << 40):
        assert most.within(allowed) == most


def test_where_nothing_fits_somebody_can_still_ask() -> None:
    fits = wanted().within(100)
    assert (fits.clients, fits.cache) == (1, 1)
