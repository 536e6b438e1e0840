"""What every test may use."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

# First of all, for it sets the clock.
from tests.loops import FairLoop, FairUvloop, RealLoop, kernel_comes_last  # isort: split

from rangeserver.sparing import Sparing
from tests.amount import ALL
from tests.chromium import EXECUTABLE, Page, chromium_page
from tests.clients import cheap_clients, read_models
from tests.fakes.s3 import FakeS3
from tests.faults.leaks import freeze
from tests.stepped_loop import SteppedLoop

settings.register_profile("default", max_examples=200 if ALL else 60, deadline=None)
settings.load_profile("default")


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": FairUvloop,
    "asyncio": FairLoop,
    "stepped": SteppedLoop,
    "real": RealLoop,
}

USUAL_LOOPS = {**dict.fromkeys(("cache", "faults", "process", "web"), "uvloop"), "bench": "real"}
"""That of production where servers run, and real time where it is measured."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that a test is marked with, or what is usual for its directory."""
    mark = item.get_closest_marker("loops")
    names = mark.args if mark is not None else (USUAL_LOOPS.get(item.path.parent.name, "asyncio"),)
    return {name: LOOPS[name] for name in names}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = [] if ALL else [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


def pytest_collection_finish() -> None:
    """What was imported, read and collected stays until the end: the garbage collector need not
    look at those half a million objects again each time, nor do tests that count what they leave.
    """
    read_models()
    freeze()


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heeded() -> None:
    """Also where a shell has started the tests in the background: commands inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def shared_by_clients() -> Iterator[None]:
    with cheap_clients():
        yield


@pytest.fixture(autouse=True, scope="session")
def deadlines_by_our_clock() -> Iterator[None]:
    with kernel_comes_last():
        yield


@pytest.fixture(autouse=True, scope="session")
def aws_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Credentials that are nobody's, nothing of the machine's own AWS set-up, and caches of our own
    where a test does not say which.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "RANGESERVER_")):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.delenv("CACHE_DIRECTORY", raising=False)
        yield


@pytest.fixture(autouse=True)
def talkative() -> None:
    """What another test has had logged is news again."""
    for name, log in logging.Logger.manager.loggerDict.items():
        if name.startswith("rangeserver.") and isinstance(log, logging.Logger):
            for each in log.filters:
                if isinstance(each, Sparing):
                    each.forget()


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    """What an origin has from the start; tests that want something there have a fixture of their
    own by this name.
    """
    return {}


@pytest.fixture
async def fake(stored: Mapping[str, bytes]) -> AsyncIterator[FakeS3]:
    async with FakeS3() as origin:
        for key, body in stored.items():
            origin.put(key, body)
        yield origin


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A browser's page, for tests marked ``browser``."""
    if EXECUTABLE is None:
        pytest.skip("there is no Chromium on this machine")
    async with chromium_page(tmp_path / "profile") as opened:
        yield opened
