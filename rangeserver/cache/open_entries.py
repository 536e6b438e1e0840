"""The entries of a cache whose files this process keeps open, least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.entry import Entry

MAX_OPEN = 512
"""Files kept open at a time. Files with fills, and those that responses still send from, stay open
beyond it until they are not in use.
"""


class OpenEntries:
    """Entries by cache key, at most ``max_open`` of them unless more have fills."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self.max_open = max_open
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def find(self, cache_key: str, *, seen_within: float = 0.0) -> Entry | None:
        """The entry of an object. Its file had its name at most ``seen_within`` seconds ago."""
        entry = self._entries.get(cache_key)
        if entry is None:
            return None
        if entry.is_current(seen_within):
            self._entries.move_to_end(cache_key)
            return entry
        del self._entries[cache_key]
        return None

    def add(self, cache_key: str, file: CacheFile, *, new: bool = False) -> Entry:
        """The entry for a file that was opened, or the one that another reader added meanwhile."""
        known = self._entries.get(cache_key)
        if known is not None and known.file.is_current():
            return known
        entry = self._entries[cache_key] = Entry(cache_key, file, new=new)
        self._entries.move_to_end(cache_key)
        if len(self._entries) > self.max_open:
            unused = next((each for each in self._entries.values() if not each.filling), None)
            if unused is not None:
                del self._entries[unused.cache_key]
        return entry

    def remove(self, entry: Entry) -> None:
        """Have nobody find this entry any more."""
        if self._entries.get(entry.cache_key) is entry:
            del self._entries[entry.cache_key]

    def close_unlinked(self) -> None:
        """Close files that were removed, by whatever process: the disk gets their space back only
        when nobody has them open.
        """
        for entry in self:
            if not entry.file.is_current():
                self.remove(entry)

    def clear(self) -> None:
        """Close all."""
        self._entries.clear()
