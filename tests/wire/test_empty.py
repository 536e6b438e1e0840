"""Wire table, section 3: the empty object."""

from __future__ import annotations

from dataclasses import dataclass

from tests.wire.http import exchange, request
from tests.wire.running import DESCRIBES, Asked, Site, opens, requests
from tests.wire.table import table


@dataclass(frozen=True, slots=True)
class Row:
    """What is asked of an object without a byte, here and at the origin; the answer is the same
    to all.
    """

    row: str
    what: str
    fields: tuple[str, ...]
    asked: list[Asked]
    method: str = "GET"


ROWS = (
    Row("3-get", "", (), [opens()]),
    Row("3-get", "HEAD", (), [DESCRIBES], "HEAD"),
    Row("3-from-zero", "open", ("Range: bytes=0-",), [opens()]),
    # S3 has no range of nothing, and its refusal does not tell what the object is like.
    Row("3-from-zero", "first byte", ("Range: bytes=0-0",), [opens("bytes=0-0"), DESCRIBES]),
    Row("3-from-zero", "If-Range", ("Range: bytes=0-", 'If-Range: "empty"'), [opens()]),
    Row("3-from-zero", "two", ("Range: bytes=0-0,5-5",), [DESCRIBES]),
    Row("3-suffix", "", ("Range: bytes=-1",), [opens("bytes=-1"), DESCRIBES]),
    Row("3-suffix", "none", ("Range: bytes=-0",), [DESCRIBES]),
    Row("3-inside", "", ("Range: bytes=5-9",), [opens("bytes=5-9"), DESCRIBES]),
    Row("3-inside", "reversed", ("Range: bytes=9-3",), [DESCRIBES]),
    Row("3-minus-one", "", ("Range: bytes=0--1",), [opens()]),
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
    assert requests(asked) == case.asked
