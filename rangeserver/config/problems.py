"""What is wrong with a configuration, in lines that name the setting and never its value."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from rangeserver.config.models import OriginConfig
from rangeserver.config.rules import keeps_secrets
from rangeserver.config.tree import Config, table_model

_CUTOFF = 0.6
"""How alike a misspelt name and a hint must be, from 0 to 1."""

_ANY = "0.0.0.0"  # noqa: S104 (compared with, not listened on)
"""Every address of IPv4; sockets of IPv6 leave those alone."""

_SIZE = 'must be a size like "8MiB" or "500MB", or a number of bytes'

_TEXTS = {
    "missing": "must be set",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list",
    "byte_size": _SIZE,
    "byte_size_unit": _SIZE,
}


def problems_of(error: ValidationError) -> list[str]:
    """One line for each of pydantic's findings."""
    # Values stay out of the messages: what was mistyped may be a secret.
    return [_problem(item) for item in error.errors(include_input=False)]


def contradictions(config: Config) -> Iterator[str]:
    """What is wrong with settings that are right one by one."""
    if _same_address(config):
        yield (
            f"admin.port: must differ from server.port, both are {config.admin.port}: "
            "each has a listener of its own"
        )
    yield from _half_of_tls(config)
    yield from _contradictions("origin", config.origin, set(OriginConfig.model_fields))
    for index, mount in enumerate(config.mounts):
        yield from _contradictions(
            f"mounts[{index}]", mount.over(config.origin), mount.model_fields_set
        )


def _same_address(config: Config) -> bool:
    """Whether both listeners are told to take one port of one address."""
    server, admin = config.server, config.admin
    if not admin.enabled or server.port != admin.port or not server.port:
        return False
    return server.host == admin.host or _ANY in {server.host, admin.host}


def _half_of_tls(config: Config) -> Iterator[str]:
    certificate, key = config.server.tls_certificate, config.server.tls_key
    if key and not certificate:
        yield "server.tls_certificate: must be set with tls_key: what the key is of"
    if certificate and not key:
        yield "server.tls_key: must be set with tls_certificate: its private key"


def _contradictions(section: str, origin: OriginConfig, own: set[str]) -> Iterator[str]:
    """Those that a setting of the section's ``own`` has a part in; the rest are told elsewhere."""
    if (
        own & {"sse_customer_key_file", "endpoint_url"}
        and origin.sse_customer_key_file
        and not keeps_secrets(origin.endpoint_url)
    ):
        yield (
            f"{section}.sse_customer_key_file: the key must not be sent over plain http: "
            "endpoint_url must begin with https, or name a loopback host"
        )
    if own & {"request_payer", "anonymous"} and origin.request_payer and origin.anonymous:
        yield f"{section}.request_payer: must not be set with anonymous: the payer has to sign"


def _problem(item: Any) -> str:
    location: Sequence[str | int] = item["loc"]
    path = _path(location)
    if item["type"] == "extra_forbidden":
        hint = _hint(location)
        return f"{path}: unknown setting" + (f", did you mean {hint}?" if hint else "")
    message = _TEXTS.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    if location == ("mounts",) and item["type"] == "tuple_type":
        message = "must be tables, each under a line [[mounts]]"
    return f"{path}: {message}"


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            # TOML allows any name within quotes, even one of several lines.
            name = part if part.isprintable() else ascii(part)
            path += f".{name}" if path else name
    return path


def _hint(location: Sequence[str | int]) -> str | None:
    """The setting that was meant: one that is spelt alike, or has this name in another section."""
    *above, name = location
    model: type[BaseModel] | None = Config
    for part in above:
        if isinstance(part, str) and model is not None:
            model = table_model(model.model_fields[part])
    if not isinstance(name, str) or model is None:
        return None
    alike = difflib.get_close_matches(name, model.model_fields, n=1, cutoff=_CUTOFF)
    if alike:
        return _path([*above, alike[0]])
    for section, field in Config.model_fields.items():
        other = table_model(field)
        if section != "mounts" and other is not None and name in other.model_fields:
            return f"{section}.{name}"
    return None
