"""The cache against its promise: bytes of exactly one version of an object, or an error.

Two processes share a directory, and everything happens that may: objects are replaced while they
are read, files are removed, bytes rot, the origin and the disk fail, processes die. Whatever
comes out is compared with what was put in; where nothing is wrong, something must come out.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rangeserver.cache.cache import Cache
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.caching_origin import CachingOrigin
from rangeserver.cache.directory import Directory
from rangeserver.cache.limits import Limits
from rangeserver.cache.metadata import MetadataCache
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.purging import purge_object
from rangeserver.cache.read_ahead import MIN_FETCH_BYTES
from rangeserver.cache.space import Space
from rangeserver.config import CacheConfig, OriginConfig
from rangeserver.errors import ObjectChanged, ObjectNotFound, OriginError, RangeUnsatisfiable
from rangeserver.origin.base import FileSlice, Part
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.amount import ALL
from tests.cache.model_origin import MemoryOrigin
from tests.loops import FairUvloop

T = TypeVar("T")

BLOCK = 16 * 1024
RANDOM = random.Random(1).randbytes(4 << 20)
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 100_000, 1_100_000, 2_500_000)
SECONDS = 20.0
"""For anything to come out; only a failing test takes as long."""

keys = st.sampled_from(("a", "b"))
processes = st.integers(0, 1)
FAILING = ("checksums", "write", "record", "warm", "change_header", "reread_header", "opened")


class Process:
    """What one process has of the cache."""

    def __init__(self, directory: Path, inner: MemoryOrigin, config: CacheConfig) -> None:
        self.cache = Cache(directory, config, CacheMetrics(), wait_seconds=5.0)
        caching = CachingOrigin(inner, self.cache, OriginConfig(bucket="films"), lambda: "me")
        self.origin = MetadataCache(caching, config.freshness_rules, clock=time.monotonic)

    async def die(self) -> None:
        """Leave everything as it is. The kernel closes the files, and with them go the locks."""
        await asyncio.sleep(0)
        for task in tuple(self.cache.tasks):
            task.cancel()
        await asyncio.gather(*self.cache.tasks, return_exceptions=True)
        self.cache.disk.shut_down()

    def check_at_rest(self) -> None:
        assert self.cache.budget.taken == 0
        assert not self.cache.tasks
        assert all(not entry.filling for entry in self.cache.entries)


class Reader:
    """A read that was begun; its parts are looked at when the model pleases."""

    def __init__(self, process: Process, facts: ObjectFacts, span: ByteSpan) -> None:
        self.process = process
        self.facts = facts
        self.span = span
        self.position = span.start
        self.over = False
        self._stack = AsyncExitStack()
        self._parts: Any = None
        self._held: list[tuple[int, Part]] = []

    async def step(self, count: int) -> None:
        """Take parts; raises what the read raises."""
        if self._parts is None:
            context = self.process.origin.read(self.facts, self.span)
            self._parts = await self._stack.enter_async_context(context)
        for _ in range(count):
            try:
                part = await anext(self._parts)
            except StopAsyncIteration:
                self.over = True
                break
            self._held.append((self.position, part))
            self.position += len(part)

    async def leave(self) -> None:
        await self._stack.aclose()

    def check(self, data: bytes) -> None:
        """Look at all that came since the last time."""
        for position, part in self._held:
            # What a file that was given up had not told yet is read again from elsewhere.
            wanted = b"" if given_up(part) else data[position : position + len(part)]
            assert content(part) == wanted, self.span
        self._held.clear()
        assert self.position <= self.span.stop
        assert not self.over or self.position == self.span.stop


def content(part: Part) -> bytes:
    if isinstance(part, FileSlice):
        return os.pread(part.file.fileno(), part.length, part.offset)
    return part


def given_up(part: Part) -> bool:
    return isinstance(part, FileSlice) and isinstance(part.file, CacheFile) and part.file.gone


class Model(RuleBasedStateMachine):
    """Two processes, two keys, and a history of everything that was ever stored."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = FairUvloop()
        self.directory = Path(tempfile.mkdtemp())
        self.inner = MemoryOrigin()
        self.readers: list[Reader] = []
        self.config = CacheConfig()
        self.processes: list[Process] = []
        self.disk_fails = dict.fromkeys(FAILING, 0)
        self.patch = pytest.MonkeyPatch()
        for name in FAILING:
            owner: type = Directory if name == "opened" else CacheFile
            method = "create" if name == "opened" else name
            self.patch.setattr(owner, method, self._failing(name, getattr(owner, method)))

    def _failing(self, name: str, real: Callable[..., T]) -> Callable[..., T]:
        def call(*args: Any, **kwargs: Any) -> T:
            if self.disk_fails[name]:
                self.disk_fails[name] -= 1
                raise OSError(errno.EIO, "the disk fails")
            return real(*args, **kwargs)

        return call

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, SECONDS))

    @property
    def all_is_well(self) -> bool:
        return not (self.inner.refusals or self.inner.breaks or any(self.disk_fails.values()))

    @property
    def all_may_write(self) -> bool:
        return all(process.cache.may_write() for process in self.processes)

    @initialize(ttl=st.sampled_from((0.0, 60.0)), stale=st.sampled_from((0.0, 60.0)))
    def begin(self, ttl: float, stale: float) -> None:
        self.config = CacheConfig.model_validate(
            {
                "block_bytes": BLOCK,
                "max_bytes": "64MiB",
                "min_free_bytes": 0,
                "read_ahead_bytes": "2MiB",
                "max_in_flight_bytes": "1MiB",
                "ttl_seconds": ttl,
                "stale_if_error_seconds": stale,
            }
        )
        self.processes = [self._started() for _ in range(2)]
        self.put("a", 2_500_000, 1)
        self.put("b", 100_000, 2)

    def _started(self) -> Process:
        process = Process(self.directory, self.inner, self.config)
        self.run(process.cache.open())
        return process

    # --- what users do

    @rule(
        key=keys, process=processes, first=st.integers(0, 2_600_000), length=st.integers(1, 10**6)
    )
    def read_range(self, key: str, process: int, first: int, length: int) -> None:
        self._read(key, process, AskedRange(first, first + length - 1))

    @rule(key=keys, process=processes, first=st.sampled_from((0, 1, BLOCK, 5 * BLOCK - 1)))
    def read_to_the_end(self, key: str, process: int, first: int) -> None:
        self._read(key, process, AskedRange(first, None))

    @rule(key=keys, process=processes, length=st.integers(1, 2_600_000))
    def read_suffix(self, key: str, process: int, length: int) -> None:
        self._read(key, process, AskedRange(None, length))

    def _read(self, key: str, number: int, wanted: AskedRange) -> None:
        well = self.all_is_well
        try:
            self.run(self._opened_and_read(key, self.processes[number], wanted))
        except ObjectNotFound:
            assert not well or key not in self.inner.current
        except RangeUnsatisfiable:
            assert not wanted.span(self.inner.current[key].size).length
        except OriginError:
            assert not well

    async def _opened_and_read(self, key: str, process: Process, wanted: AskedRange) -> None:
        """As the server does: what turns out to be replaced is asked for again."""
        origin = process.origin
        for attempt in range(3):
            try:
                async with origin.open(ObjectKey(key), wanted) as opened:
                    facts = opened.facts
                    if not opened.unvalidated:
                        assert facts == self.inner.current[key]
                    span = wanted.span(facts.size)
                    if not span.length:
                        return
                    data = self.inner.versions[facts.etag][span.start : span.stop]
                    async with opened.read(span) as parts:
                        got = [content(part) async for part in parts]
            except ObjectChanged:
                if attempt == 2:
                    raise
            else:
                assert b"".join(got) == data
                return

    @rule(
        key=keys, process=processes, start=st.integers(0, 2_400_000), length=st.integers(1, 10**6)
    )
    def begin_to_read(self, key: str, process: int, start: int, length: int) -> None:
        facts = self.inner.current.get(key)
        if facts is not None and start < facts.size and len(self.readers) < 5:
            span = ByteSpan(start, min(start + length, facts.size))
            self.readers.append(Reader(self.processes[process], facts, span))

    # What was drawn must not depend on how fast things went: an index, not one of the readers.

    @rule(which=st.integers(0, 4), count=st.integers(1, 4), look=st.booleans(), all_=st.booleans())
    def go_on_reading(self, which: int, count: int, look: bool, all_: bool) -> None:
        chosen = list(self.readers) if all_ else self.readers[which : which + 1]
        well, failed = self.all_is_well, []

        async def go_on() -> list[BaseException | None]:
            steps = (reader.step(count) for reader in chosen)
            return await asyncio.gather(*steps, return_exceptions=True)

        for reader, error in zip(chosen, self.run(go_on()), strict=True):
            if error is not None:
                gone = self.inner.current.get(reader.facts.key) != reader.facts
                assert isinstance(error, OriginError), error
                assert gone or not well, error
                failed.append(reader)
            elif look or reader.over:
                reader.check(self.inner.versions[reader.facts.etag])
        for reader in [each for each in self.readers if each in failed or each.over]:
            self._leave(reader)

    @rule(which=st.integers(0, 4), turns=st.none() | st.integers(0, 5))
    def leave(self, which: int, turns: int | None) -> None:
        """At rest, or in the midst of a step."""

        async def leave_in_the_midst(reader: Reader, turns: int) -> None:
            step = asyncio.ensure_future(reader.step(3))
            for _ in range(turns):
                await asyncio.sleep(0)
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)

        for reader in self.readers[which : which + 1]:
            if turns is not None:
                self.run(leave_in_the_midst(reader, turns))
            self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        self.run(reader.leave())
        reader.check(self.inner.versions[reader.facts.etag])
        self.readers.remove(reader)

    @rule(size=st.sampled_from(SIZES), viewers=st.integers(2, 4))
    def many_come_at_once(self, size: int, viewers: int) -> None:
        """What nobody has is asked for once, by whichever process."""
        if not (self.all_is_well and self.all_may_write):
            return
        key = f"c{len(self.inner.versions)}"
        self.inner.put(key, RANDOM[:size])

        async def all_read() -> None:
            wanted = AskedRange(0, None)
            coming = (
                self._opened_and_read(key, self.processes[number % 2], wanted)
                for number in range(viewers)
            )
            await asyncio.gather(*coming)

        self.run(all_read())
        # One who finds the new file before its maker has locked the first blocks asks for them too.
        # What an earlier reader has left to a fill may still be asked for meanwhile, of other keys.
        asked = sum(span.length for of, span in self.inner.requests if span and of == key)
        assert size <= asked <= size + min(size, MIN_FETCH_BYTES)

    # --- what happens at the origin

    @rule(key=keys, size=st.sampled_from(SIZES), seed=st.integers(0, 1000))
    def put(self, key: str, size: int, seed: int) -> None:
        self.inner.put(key, RANDOM[seed * 977 : seed * 977 + size])

    @rule(key=keys, seed=st.integers(0, 1000), process=processes)
    def put_of_the_same_size(self, key: str, seed: int, process: int) -> None:
        """What one process had read, it and the other read again."""
        size = self.inner.current[key].size if key in self.inner.current else BLOCK
        for number in (process, process, 1 - process):
            self._read(key, number, AskedRange(0, None))
            if number == process:
                self.put(key, size, seed)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.inner.delete(key)

    @rule(refusals=st.integers(0, 2), breaks=st.integers(0, 2))
    def origin_fails(self, refusals: int, breaks: int) -> None:
        self.inner.refusals, self.inner.breaks = refusals, breaks

    @rule()
    def all_works_again(self) -> None:
        self.inner.refusals = self.inner.breaks = 0
        self.disk_fails = dict.fromkeys(FAILING, 0)
        for process in self.processes:
            process.cache.maintenance._left_alone_until = 0.0

    # --- what happens on the disk

    @rule(name=st.sampled_from(FAILING), times=st.integers(1, 3))
    def disk_fails_next(self, name: str, times: int) -> None:
        self.disk_fails[name] = times

    @rule(key=keys)
    def file_is_removed(self, key: str) -> None:
        directory = self.processes[0].cache.directory
        purge_object(directory, cache_key_of("", "films", key))

    @rule(process=processes)
    def all_is_evicted(self, process: int) -> None:
        Space(self.processes[process].cache.directory, Limits(0, 0)).reclaim()

    @rule(process=processes)
    def removed_files_are_given_up(self, process: int) -> None:
        for file in self.processes[process].cache.directory.open_files():
            if file.unlinked:
                file.give_up()

    @rule(number=processes)
    def one_dies(self, number: int) -> None:
        self._dies(number)
        self.processes[number] = self._started()

    @rule(
        seed=st.integers(0, 2**32),
        how=st.sampled_from(("data", "records", "header", "cut", "zeros")),
    )
    def all_die_and_bytes_rot(self, seed: int, how: str) -> None:
        for number in range(2):
            self._dies(number)
        chance = random.Random(seed)
        for path in sorted((self.directory / "objects").glob("*/*")):
            damage(path, chance, how)
        self.processes = [self._started() for _ in range(2)]
        for number, key in enumerate(("a", "b")):
            self._read(key, number, AskedRange(0, None))

    def _dies(self, number: int) -> None:
        process = self.processes[number]
        for reader in [each for each in self.readers if each.process is process]:
            self._leave(reader)
        self.run(process.die())

    # --- what must hold

    @invariant()
    def no_budget_is_made_up(self) -> None:
        assert all(process.cache.budget.taken >= 0 for process in self.processes)

    def teardown(self) -> None:
        try:
            for reader in tuple(self.readers):
                self._leave(reader)
            for process in self.processes:
                self.run(process.cache.stop())
                self.run(process.cache.close())
                process.check_at_rest()
            assert self.inner.open_now == 0
            assert not asyncio.all_tasks(self.loop)
        finally:
            self.patch.undo()
            self.loop.close()
            shutil.rmtree(self.directory)


def damage(path: Path, chance: random.Random, how: str) -> None:
    """Change a file as disks and crashes do."""
    size = path.stat().st_size
    first, stop = {"header": (0, 8192), "records": (8192, 12288)}.get(how, (8192, size))
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(chance.randrange(size))
            return
        for _ in range(30):
            at = chance.randrange(first, max(min(stop, size), first + 1))
            file.seek(at)
            old = file.read(1) or b"\0"
            file.seek(at)
            count = max(min(5000, size - at), 0)
            file.write(bytes(count) if how == "zeros" else bytes([old[0] ^ chance.randint(1, 255)]))


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=60 if ALL else 20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
