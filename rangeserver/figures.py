"""Figures as people read them."""

from __future__ import annotations

_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size_text(count: int) -> str:
    """A number of bytes: ``1.5 GiB``."""
    if count < 1024:
        return f"{count} B"
    size, unit = count / 1024, 0
    while round(size, 1) >= 1024 and unit < len(_SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_SIZES[unit]}"


def rate_text(bytes_per_second: float) -> str:
    """How fast bytes go, in bits as players and networks count: ``8.4 Mbit/s``."""
    kilobits = bytes_per_second * 8 / 1000
    if kilobits < 1000:
        return f"{kilobits:.0f} kbit/s"
    return f"{kilobits / 1000:.1f} Mbit/s"


def age_text(seconds: float) -> str:
    """A time span, by its largest unit: ``3 min``. What lies ahead is now: clocks differ."""
    return _time_text(seconds, units=1)


def duration_text(seconds: float) -> str:
    """A time span, by its two largest units: ``3 min 20 s``."""
    return _time_text(seconds, units=2)


def _time_text(seconds: float, *, units: int) -> str:
    left = max(int(seconds), 0)
    largest = next((n for n, (length, _) in enumerate(_TIMES) if left >= length), len(_TIMES) - 1)
    parts: list[str] = []
    for length, unit in _TIMES[largest : largest + units]:
        count, left = divmod(left, length)
        if count or not parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts)


def count_text(count: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
