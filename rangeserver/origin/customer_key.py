"""The key of objects that S3 encrypts with a customer's key (SSE-C), read from a file.

S3 keeps no copy of it: it has to be in each request, with its MD5, which S3 checks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path

from rangeserver.errors import ConfigError

_KEY_BYTES = 32  # AES-256 is the only algorithm S3 has for it
_FILE_BYTES = 4096
"""Limit of the file, with white space around the base64."""


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """The three values of SSE-C, as they are sent. The secret is not in its ``repr``."""

    algorithm: str
    key: str = field(repr=False)
    key_md5: str = field(repr=False)


def load_customer_key(path: str, *, setting: str = "origin.sse_customer_key_file") -> CustomerKey:
    """The key in the file at ``path``: its 32 bytes, or their base64 with white space around.

    Raises :class:`ConfigError` that names ``setting``. It does not name the path, which may be a
    key in the wrong place, and shows nothing of the file.
    """
    data = _read(Path(path), setting)
    key = data if len(data) == _KEY_BYTES else _decoded(data)
    if len(data) > _FILE_BYTES or len(key) != _KEY_BYTES:
        raise ConfigError([f"{setting}: the file must hold a key of 32 bytes, or its base64"])
    # MD5 is S3's check of the transfer, and no protection.
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    return CustomerKey("AES256", base64.b64encode(key).decode(), base64.b64encode(digest).decode())


def _read(path: Path, setting: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe might never end
            raise ConfigError([f"{setting}: must be the path of a regular file"])
        with path.open("rb") as file:
            return file.read(_FILE_BYTES + 1)
    except OSError as error:
        problem = f"{setting}: the file cannot be read: {error.strerror}"
    except ValueError:  # a NUL in the path
        problem = f"{setting}: must be the path of a regular file"
    raise ConfigError([problem])


def _decoded(data: bytes) -> bytes:
    try:
        return base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        return b""
