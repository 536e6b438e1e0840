"""What the answers to requests for objects cost the origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, running_app

FILM = bytes(range(256)) * 4000


def asked(fake: FakeS3) -> list[tuple[str, str | None]]:
    return [(seen.method, seen.headers.get("range")) for seen in fake.requests]


@pytest.fixture(params=["cache", "no cache"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    if request.param == "no cache":
        return {}
    return {"enabled": True, "directory": str(tmp_path / "cache"), "min_free_bytes": 0}


async def refused(app: RunningApp, **fields: str) -> None:
    async with await RawClient.connect(app.port) as client:
        answer = await client.get("/film.mp4", **fields)
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(FILM)}"


@pytest.mark.parametrize("ttl_seconds", [0, 300])
async def test_a_reversed_range_costs_the_origin_facts_at_most(
    fake: FakeS3, cache: dict[str, object], ttl_seconds: float
) -> None:
    """A client that asks so does it thousands of times a day."""
    fake.put("film.mp4", FILM)
    async with running_app(config_for(fake, cache=cache, ttl_seconds=ttl_seconds)) as app:
        for _ in range(10):
            await refused(app, Range="bytes=9-3")
        cold = asked(fake)
        async with await RawClient.connect(app.port) as client:
            film = await client.get("/film.mp4")  # every byte is at hand now, if there is a cache
            assert film.body == FILM
            before = len(fake.requests)
            await refused(app, Range="bytes=9-3", If_Range=film.headers["etag"])
            await refused(app, Range="bytes=999999999999-3")
            head = await client.get("/film.mp4", method="HEAD", Range="bytes=9-3")
            assert (head.status, head.headers["content-length"]) == (200, str(len(FILM)))
    assert cold == [("HEAD", None)] * (1 if ttl_seconds else 10)
    assert asked(fake)[before:] == [("HEAD", None)] * (0 if ttl_seconds else 3)


async def test_a_reversed_range_counts_for_nothing_where_if_range_is_false(
    fake: FakeS3, cache: dict[str, object]
) -> None:
    fake.put("film.mp4", FILM)
    async with running_app(config_for(fake, cache=cache, ttl_seconds=300)) as app:
        for _ in range(2):  # cold, and from the cache if there is one
            async with await RawClient.connect(app.port) as client:
                answer = await client.get("/film.mp4", Range="bytes=9-3", If_Range='"other"')
            assert (answer.status, answer.body) == (200, FILM)
