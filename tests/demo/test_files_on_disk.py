from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

from rangeserver.demo.files_on_disk import READ_BYTES, FilesOnDisk

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONTENT = bytes(range(256)) * 1000


def elsewhere(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("299 Passed On", [])
    return [environ["PATH_INFO"].encode("latin-1")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def client(file: Path) -> Client:
    return Client(FilesOnDisk(elsewhere, {"/bucket/영화 +1.mp4": file}))


KEY = "/bucket/영화 +1.mp4"


def test_the_whole_file(client: Client) -> None:
    got = client.get(KEY, buffered=True)
    assert (got.status_code, got.data) == (200, CONTENT)
    assert got.headers["Accept-Ranges"] == "bytes"
    assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', got.headers["ETag"])
    head = client.head(KEY, buffered=True)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("0-255999", 0, 256_000),
        (f"{READ_BYTES - 1}-{READ_BYTES}", READ_BYTES - 1, READ_BYTES + 1),
        ("255999-", 255_999, 256_000),
        ("-7", 255_993, 256_000),
    ],
)
def test_a_range_of_the_right_version(client: Client, asked: str, start: int, stop: int) -> None:
    etag = client.head(KEY, buffered=True).headers["ETag"]
    got = client.get(KEY, buffered=True, headers={"Range": f"bytes={asked}", "If-Match": etag})
    assert (got.status_code, got.data) == (206, CONTENT[start:stop])
    assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/256000"
    assert got.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-9"}])
def test_another_version_is_refused(client: Client, file: Path, asked: dict[str, str]) -> None:
    etag = client.head(KEY, buffered=True).headers["ETag"]
    file.write_bytes(CONTENT + b"more")
    got = client.get(KEY, buffered=True, headers={"If-Match": etag, **asked})
    assert (got.status_code, got.data) == (412, b"")


def test_a_range_beyond_the_end(client: Client) -> None:
    assert client.get(KEY, buffered=True, headers={"Range": "bytes=256000-"}).status_code == 416


def test_a_file_that_is_gone(client: Client, file: Path) -> None:
    file.unlink()
    assert client.get(KEY, buffered=True).status_code == 404


def test_everything_else_is_passed_on(client: Client) -> None:
    assert client.get("/bucket/other").data == b"/bucket/other"
    assert client.put(KEY).status_code == 299


@pytest.mark.skipif(sys.platform != "linux", reason="reads are counted in /proc")
def test_no_more_is_read_than_asked_for(client: Client, file: Path) -> None:
    with file.open("r+b") as handle:
        handle.truncate(5 * 1024**3)

    def bytes_read() -> int:
        found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
        assert found
        return int(found[1])

    before = bytes_read()
    start = 3 * 1024**3
    got = client.get(KEY, buffered=True, headers={"Range": f"bytes={start}-{start + 99}"})
    assert (got.status_code, got.data) == (206, bytes(100))
    assert bytes_read() - before < 2 * READ_BYTES
