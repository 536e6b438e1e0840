from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from rangeserver.process.limits import descriptors_needed, raise_descriptor_limit


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_as_far_as_needed(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert raise_descriptor_limit(600)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptors_needed(600)


def test_a_limit_that_suffices_is_left_alone(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    assert raise_descriptor_limit(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024


def test_a_hard_limit_that_is_too_low_is_reported(
    limits: tuple[int, int],
) -> None:
    _, hard = limits
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    assert not raise_descriptor_limit(hard + 1)
