"""The principal that reads from the origin, as a short digest for cache entries.

What an origin returned to one principal is not for another. Written-down keys identify themselves.
Those of a role change every hour while the principal stays the same: it is identified by where the
keys come from.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping

from rangeserver.config import OriginConfig

ANONYMOUS = "anonymous"

_ROTATING = {
    *("assume-role", "assume-role-with-web-identity", "container-role", "custom-process"),
    *("iam-role", "login", "sso"),
}
"""Botocore's names of the sources whose keys change."""

_OF_PROFILES = (
    *("credential_process", "credential_source", "external_id", "login_session", "role_arn"),
    *("source_profile", "sso_account_id", "sso_role_name", "sso_session", "sso_start_url"),
)
_OF_ENVIRONMENTS = (
    *("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def principal(
    method: str,
    access_key: str,
    profile: str,
    settings: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The principal of keys that were found by ``method``, with the ``settings`` of a profile."""
    if method not in _ROTATING:
        return _digest(["key", access_key])
    of_profile = {name: str(settings[name]) for name in _OF_PROFILES if name in settings}
    of_environment = {name: environ[name] for name in _OF_ENVIRONMENTS if name in environ}
    return _digest([method, profile, of_profile, of_environment])


def reader(config: OriginConfig, whose: Callable[[], str]) -> Callable[[], str]:
    """Who reads a bucket: whose keys, and what else may change the origin's answers."""
    rest = ""
    if config.request_payer:
        rest += " pays"
    if config.expected_bucket_owner:
        rest += f" owner {config.expected_bucket_owner}"
    if config.use_version_ids:
        rest += " versions"
    return (lambda: whose() + rest) if rest else whose


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=12).hexdigest()
