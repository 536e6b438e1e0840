"""Where the cache is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_directory(configured: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory: the configured one, or the one of the systemd service, or the user's.

    Raises ``OSError`` if there is none because the user has no home directory.
    """
    if configured:
        return Path(configured)
    given = environ.get("CACHE_DIRECTORY", "").partition(":")[0]  # systemd.exec(5)
    if given:
        return Path(given)
    base = environ.get("XDG_CACHE_HOME", "")
    if base:
        return Path(base) / "rangeserver"
    try:
        return Path.home() / ".cache" / "rangeserver"
    except RuntimeError:
        msg = "there is no home directory to keep it in; name one as cache.directory"
        raise OSError(0, msg) from None
