"""The configuration: one typed, frozen tree, checked whole before anything starts.

Later sources win: a TOML file, then environment variables named
``RANGESERVER_<SECTION>__<KEY>``, then command-line flags. :mod:`.models` is the only list of
settings, :mod:`.tree` puts its sections together; ``config.toml`` shows each at its default and
a test compares the two.
"""

from rangeserver.config.loading import load_config
from rangeserver.config.models import (
    AccessConfig,
    AdminConfig,
    CacheConfig,
    LogConfig,
    OriginConfig,
    ServerConfig,
)
from rangeserver.config.tree import Config, Mount, MountConfig

__all__ = [
    "AccessConfig",
    "AdminConfig",
    "CacheConfig",
    "Config",
    "LogConfig",
    "Mount",
    "MountConfig",
    "OriginConfig",
    "ServerConfig",
    "load_config",
]
