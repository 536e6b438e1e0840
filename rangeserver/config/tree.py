"""The sections put together, and the mounts, which are [origin] and [access] with changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, Field
from pydantic.fields import FieldInfo

from rangeserver.config import rules
from rangeserver.config.models import (
    AccessConfig,
    AdminConfig,
    BucketName,
    CacheConfig,
    LogConfig,
    OriginConfig,
    Section,
    ServerConfig,
)


class MountConfig(OriginConfig):
    """A bucket of its own below a path; the longest path wins.

    As a piece of a file it says only what differs from [origin]; what it makes of that is
    :meth:`over`, and by itself it is no origin.
    """

    bucket: BucketName = Field(
        min_length=1, description="Name of the bucket, or the ARN of an access point."
    )
    path: Annotated[str, AfterValidator(rules.mount_path)] = Field(
        description="Where it is served; begins and ends with a slash. What follows is the key.",
    )
    access: AccessConfig = AccessConfig()

    def over(self, origin: OriginConfig) -> OriginConfig:
        """``origin`` with what was set here in place of its own; bucket and prefix always are."""
        names = self.model_fields_set & OriginConfig.model_fields.keys() | {"bucket", "prefix"}
        return origin.model_copy(update={name: getattr(self, name) for name in names})

    def access_over(self, access: AccessConfig) -> AccessConfig:
        """``access`` with what was set here in place of its own."""
        own = {name: getattr(self.access, name) for name in self.access.model_fields_set}
        return access.model_copy(update=own)


def _different_paths(mounts: tuple[MountConfig, ...]) -> tuple[MountConfig, ...]:
    seen: set[str] = set()
    for mount in mounts:
        if mount.path in seen:
            msg = f"must have different paths: {mount.path} is there twice"
            raise ValueError(msg)
        seen.add(mount.path)
    return mounts


@dataclass(frozen=True, slots=True)
class Mount:
    """What is served below ``path``: the settings of [origin] and of the mount made one."""

    path: str
    origin: OriginConfig
    access: AccessConfig
    section: str = "origin"
    """What the configuration file calls it: ``origin``, or like ``mounts[0]``."""


class Config(Section):
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    admin: AdminConfig = AdminConfig()
    origin: OriginConfig = OriginConfig()
    cache: CacheConfig = CacheConfig()
    access: AccessConfig = AccessConfig()
    log: LogConfig = LogConfig()
    mounts: Annotated[
        tuple[MountConfig, ...], Field(max_length=1000), AfterValidator(_different_paths)
    ] = ()

    def mounted(self) -> tuple[Mount, ...]:
        """Everything that is served, longest path first; at ``/`` is [origin]'s bucket, if any."""
        found = [
            Mount(
                mount.path,
                mount.over(self.origin),
                mount.access_over(self.access),
                f"mounts[{index}]",
            )
            for index, mount in enumerate(self.mounts)
        ]
        if self.origin.bucket:
            found.append(Mount("/", self.origin, self.access))
        return tuple(sorted(found, key=lambda mount: -len(mount.path)))

    def origin_connections(self) -> int:
        """Connections to the origins at most: one pool for equal endpoints."""
        endpoints = {mount.origin.endpoint() for mount in self.mounted()}
        return sum(endpoint.max_connections for endpoint in endpoints)

    def customer_key_files(self) -> dict[str, str]:
        """The files with SSE-C keys, by the setting that names them."""
        sections = {"origin": self.origin, **{f"mounts[{i}]": m for i, m in enumerate(self.mounts)}}
        return {
            f"{section}.sse_customer_key_file": settings.sse_customer_key_file
            for section, settings in sections.items()
            if settings.sse_customer_key_file
        }


def table_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a table, or a list of tables."""
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None
