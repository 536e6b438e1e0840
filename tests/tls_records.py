"""TLS 1.3 records made by hand (RFC 8446 §5.2, §7): so small and so many, no library makes them."""

from __future__ import annotations

import ssl
import struct
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.tls import TlsClient

_APPLICATION_DATA = 23
_HANDSHAKE = 22
_KEY_UPDATE = b"\x18\x00\x00\x01\x01"
"""One that wants ours to be updated as well."""

_TAG_BYTES = 16


class Records:
    """What one side of a connection says, encrypted with its keys; nobody else may use them."""

    def __init__(self, cipher: str, secret: bytes) -> None:
        self._hash = hashes.SHA384() if cipher.endswith("SHA384") else hashes.SHA256()
        self._key_bytes = 32 if "256_GCM" in cipher else 16
        self._use(secret)

    @classmethod
    async def of_client(
        cls, port: int, context: ssl.SSLContext, directory: Path
    ) -> tuple[TlsClient, Self]:
        """A new connection, and what its client says; it still hears by itself."""
        log = directory / "keys"
        context.keylog_filename = str(log)
        client = await TlsClient.open(port, context)
        lines = (line.split() for line in log.read_text().splitlines())
        (*_, secret) = (line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        cipher = client.tls.cipher()
        assert cipher is not None
        return client, cls(cipher[0], bytes.fromhex(secret))

    def data(self, data: bytes) -> bytes:
        """A record of the application's bytes."""
        return self._record(_APPLICATION_DATA, data)

    def key_update(self) -> bytes:
        """A record that says that the next one is encrypted with other keys."""
        record = self._record(_HANDSHAKE, _KEY_UPDATE)
        self._use(self._expand(b"traffic upd", self._hash.digest_size))
        return record

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(self._expand(b"key", self._key_bytes))
        self._start = int.from_bytes(self._expand(b"iv", 12))
        self._sent = 0

    def _record(self, kind: int, data: bytes) -> bytes:
        inner = data + bytes([kind])
        header = b"\x17\x03\x03" + struct.pack("!H", len(inner) + _TAG_BYTES)
        nonce = (self._start ^ self._sent).to_bytes(12)
        self._sent += 1
        return header + self._cipher.encrypt(nonce, inner, header)

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", length, len(label)) + label + b"\0"
        return HKDFExpand(self._hash, length, info).derive(self._secret)
