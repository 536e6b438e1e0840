"""Wire table, section 3: the empty object."""

from __future__ import annotations

from dataclasses import dataclass

from tests.wire.http import exchange, request
from tests.wire.running import Site
from tests.wire.table import table


@dataclass(frozen=True, slots=True)
class Row:
    """What is asked of an object without a byte; the answer is the same to all."""

    row: str
    what: str
    fields: tuple[str, ...]
    method: str = "GET"
    asked: tuple[str, ...] = ("GET", "HEAD")


ROWS = (
    Row("3-get", "", (), asked=("GET",)),
    Row("3-get", "HEAD", (), "HEAD", ("HEAD",)),
    Row("3-from-zero", "open", ("Range: bytes=0-",), asked=("GET",)),
    Row("3-from-zero", "first byte", ("Range: bytes=0-0",)),
    Row("3-from-zero", "If-Range", ("Range: bytes=0-", 'If-Range: "empty"'), asked=("GET",)),
    Row("3-from-zero", "two", ("Range: bytes=0-0,5-5",), asked=("HEAD",)),
    Row("3-suffix", "", ("Range: bytes=-1",)),
    Row("3-suffix", "none", ("Range: bytes=-0",), asked=("HEAD",)),
    Row("3-inside", "", ("Range: bytes=5-9",)),
    Row("3-minus-one", "", ("Range: bytes=0--1",), asked=("GET",)),
)


@table(ROWS)
def test_empty(films: Site, case: Row) -> None:
    with films.asking() as asked:
        answer = exchange(
            films.address,
            request("/empty.bin", *case.fields, method=case.method),
            method=case.method,
        )
    assert answer.status == 200
    assert answer.body == b""
    assert answer.fields["content-length"] == "0"
    assert answer.fields["accept-ranges"] == "bytes"
    assert answer.fields["etag"] == '"empty"'
    assert answer.lacks("Content-Range")
    # S3 has no range of nothing: it answers 416, which does not tell the object's facts.
    assert tuple(seen.method for seen in asked) == case.asked
