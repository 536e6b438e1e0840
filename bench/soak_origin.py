"""The origin of the soak: breaks some bodies, stalls some, slows down, replaces objects.

A process of its own. Prints its port; when its standard input ends, prints what it did and ends.
Run by :mod:`bench.soak`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

import uvloop

from bench.soak_content import KEYS, OBJECT_BYTES, content_of, etag_of
from tests.fakes.faults import Answer, Ending, error_answer
from tests.fakes.s3 import FakeS3, SeenRequest

CUT = 0.05
STALLED = 0.02
SLOW_DOWN = 0.01
OVERWRITTEN = 0.01
"""Shares of the bodies that are asked for."""


@dataclass(slots=True, eq=False)
class Misbehaving(FakeS3):
    """Objects of many versions, and an answer that is now and then another than it should be."""

    chance: random.Random = field(default_factory=random.Random)
    did: Counter[str] = field(default_factory=Counter)
    latest: dict[str, int] = field(default_factory=dict)

    def renew(self, key: str) -> None:
        """Put the next version of an object in place of the last."""
        self.latest[key] = version = self.latest.get(key, 0) + 1
        etag = etag_of(key, version)
        self.put(key, content_of(etag, 0, OBJECT_BYTES), etag=etag)

    def _answer(self, request: SeenRequest) -> Answer:
        self.requests.clear()
        self.did[request.method] += 1
        if request.method != "GET" or request.key not in self.latest:
            return FakeS3._answer(self, request)
        lot = self.chance.random()
        if lot < SLOW_DOWN:
            self.did["told to slow down"] += 1
            return error_answer(503, "SlowDown")
        if lot < SLOW_DOWN + OVERWRITTEN:
            self.did["overwritten"] += 1
            self.renew(request.key)
        answer = FakeS3._answer(self, request)
        if answer.status != 206:
            return answer
        offset = self.chance.randrange(len(answer.body))
        lot = self.chance.random()
        if lot < CUT:
            self.did["cut"] += 1
            ending = self.chance.choice((Ending.FIN, Ending.RESET))
            return replace(answer, end_at=offset, ending=ending)
        if lot < CUT + STALLED:
            self.did["stalled for good"] += 1
            return replace(answer, stall_at=offset)
        return answer


async def main(seed: int) -> None:
    """Serve until standard input ends."""
    async with Misbehaving(chance=random.Random(seed)) as origin:
        for key in KEYS:
            origin.renew(key)
        print(origin.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(origin.did), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
