"""Where the cache is when the configuration does not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_directory(configured: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory: as configured, else what systemd made for the service, else in the user's.

    Raises ``OSError`` if there is none: the user has no home.
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
