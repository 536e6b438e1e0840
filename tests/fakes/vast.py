"""Bodies that are larger than any memory."""

from __future__ import annotations

from typing import cast

_PERIOD = bytes(range(251)) * 4178
"""Of a length that no block and no page is a multiple of."""


class _Vast:
    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        skipped = start % len(_PERIOD)
        times = -(-(skipped + stop - start) // len(_PERIOD))
        return (_PERIOD * times)[skipped : skipped + stop - start]


def vast(size: int) -> bytes:
    """A body of ``size`` bytes, each made when it is read; only to be sliced, and its length."""
    return cast("bytes", _Vast(size))
