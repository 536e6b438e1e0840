from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from rangeserver.errors import ConfigError
from rangeserver.origin.customer_key import CustomerKey, load_customer_key

KEY = bytes(range(200, 232))
TEXT = base64.b64encode(KEY)
EXPECTED = CustomerKey(
    "AES256", TEXT.decode(), base64.b64encode(hashlib.md5(KEY).digest()).decode()
)

FILES = {
    "32 bytes": KEY,
    "base64": TEXT,
    "base64 and a line break": TEXT + b"\n",
    "base64 amid white space": b"\r\n " + TEXT + b" \r\n",
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_key_as_it_is_or_as_base64(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    assert load_customer_key(str(path)) == EXPECTED


def test_32_bytes_that_look_like_base64_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"A" * 32)
    assert base64.b64decode(load_customer_key(str(path)).key) == b"A" * 32


UNUSABLE = {
    "nothing": b"",
    "a byte short": KEY[:-1],
    "a byte more": KEY + b"\n",
    "base64 of less": base64.b64encode(KEY[:-1]),
    "base64 of more": base64.b64encode(KEY + b"!"),
    "base64 without its end": TEXT[:-1],
    "base64 of the other alphabet": base64.urlsafe_b64encode(b"\xff" * 32),
    "base64 and more": TEXT + b"\n" + TEXT,
    "hexadecimal": KEY.hex().encode(),
    "a long file": TEXT + b" " * 10_000 + b"x",
    "other letters": "ключ".encode() * 8,
}


@pytest.mark.parametrize("data", UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_key_is_refused_and_not_told(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_customer_key(str(path), setting="mounts[3].sse_customer_key_file")
    assert caught.value.problems == [
        "mounts[3].sse_customer_key_file: the file must hold a key of 32 bytes, or its base64"
    ]


def test_a_file_that_cannot_be_read_is_not_named() -> None:
    """Someone may have written the key in place of its path."""
    with pytest.raises(ConfigError) as caught:
        load_customer_key(TEXT.decode())
    assert caught.value.problems == [
        "origin.sse_customer_key_file: the file cannot be read: No such file or directory"
    ]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_directory_a_pipe_and_no_path_at_all(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(tmp_path), str(pipe), "a\x00b"):
        with pytest.raises(ConfigError) as caught:
            load_customer_key(path)
        assert caught.value.problems == [
            "origin.sse_customer_key_file: must be the path of a regular file"
        ]


def test_the_secret_is_in_no_text(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    key = load_customer_key(str(path))
    for text in (repr(key), str(key), f"{key}"):
        assert key.key not in text
        assert key.key_md5 not in text
        assert "AES256" in text
