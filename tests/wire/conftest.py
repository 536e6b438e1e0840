"""One running server for all tables; tests that need other settings start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.film import put_film
from tests.wire.running import Site, elsewhere, site


@pytest.fixture(scope="session", params=["per-object", "per-request"])
def signing(request: pytest.FixtureRequest) -> str:
    """How requests to the origin are signed; nothing on the wire may depend on it."""
    return str(request.param)


@pytest.fixture(
    scope="session",
    params=["ours", "run_app", pytest.param("gunicorn", marks=pytest.mark.long)],
)
def films(request: pytest.FixtureRequest, aws_environment: None) -> Iterator[Site]:  # noqa: ARG001 (must be set up before)
    """The server as it is, or its application run by others, who sign each request."""
    with site() if request.param == "ours" else elsewhere(str(request.param)) as place:
        put_film(place.origin)
        yield place


@pytest.fixture(autouse=True)
def row(request: pytest.FixtureRequest) -> str:
    """The rows that a test covers; here so that their names stand in its id."""
    return str(getattr(request, "param", ""))
