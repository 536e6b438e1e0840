"""What comes over a TLS connection, record by record (RFC 8446 §5.1).

OpenSSL, given many at once, goes through all that hold no bytes of the application before it
returns. One by one they can be counted, and others have a turn in between.
"""

from __future__ import annotations

RECORD_BYTES = 16 * 1024
"""What one record holds at most. Written one by one, records leave OpenSSL's side with a buffer of
this size and not with that of the largest write."""

_HEADER_BYTES = 5
_LONGEST_BYTES = RECORD_BYTES + 2048
"""Encrypted, by TLS 1.2 (RFC 5246 §6.2.3)."""

_KINDS = range(20, 24)
"""In the first byte: change_cipher_spec, alert, handshake, application_data."""


class Records:
    """Bytes that came, and where the records in them end."""

    __slots__ = ("_arrived", "_whole")

    def __init__(self) -> None:
        self._arrived = bytearray()
        self._whole = 0
        """The length of the first record, if all of it is here."""

    def add(self, data: bytes) -> None:
        """More has come."""
        self._arrived += data
        self._measure()

    @property
    def has_whole(self) -> bool:
        """Whether there is one to take."""
        return self._whole > 0

    def take(self) -> bytes | None:
        """The next record, if all of it is here; or what cannot be one, for OpenSSL to refuse."""
        if not self._whole:
            return None
        record = bytes(self._arrived[: self._whole])
        del self._arrived[: self._whole]
        self._measure()
        return record

    def _measure(self) -> None:
        arrived = self._arrived
        self._whole = 0
        if len(arrived) >= _HEADER_BYTES:
            length = _HEADER_BYTES + int.from_bytes(arrived[3:_HEADER_BYTES])
            if length > _HEADER_BYTES + _LONGEST_BYTES or arrived[0] not in _KINDS:
                self._whole = len(arrived)
            elif length <= len(arrived):
                self._whole = length
