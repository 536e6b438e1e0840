"""What a single value must be: functions that return it or raise ``ValueError``.

None echoes the value, which may be a secret written in the wrong place.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_BUCKET = re.compile(r"[a-zA-Z0-9.\-_]{1,255}|arn:[!-~]{1,512}")  # as botocore takes them
_REGION = re.compile(r"(?![0-9]+$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")  # so too
_HOST_NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ACCOUNT = re.compile(r"[0-9]{12}")
_NOT_PLAIN = re.compile(r"[%?#\\\x00-\x1f\x7f-\x9f]")


def in_lower_case(value: object) -> object:
    """Text in lower case; anything else as it is, for the type to refuse."""
    return value.lower() if isinstance(value, str) else value


def bucket_name(name: str) -> str:
    """A bucket's name or an access point's ARN, or nothing."""
    if name and _BUCKET.fullmatch(name) is None:
        msg = "must be a bucket's name: letters, digits, dots, hyphens, underscores, up to 255"
        raise ValueError(msg)
    return name


def region_name(name: str) -> str:
    """A region's name, or nothing."""
    if name and _REGION.fullmatch(name) is None:
        msg = "must be a region's name like eu-west-1: letters, digits, hyphens"
        raise ValueError(msg)
    return name


def host_name(name: str) -> str:
    """A host's name, or a dot and the domain that it is in."""
    if _HOST_NAME.fullmatch(name) is None:
        msg = "must be a host name like metrics.example.com, or .example.com for all below it"
        raise ValueError(msg)
    return name


def plain_prefix(prefix: str) -> str:
    """What is put before keys, and cannot lead out of the bucket."""
    if prefix.startswith("/"):
        msg = "must not begin with a slash: keys do not"
        raise ValueError(msg)
    if {".", ".."} & set(prefix.split("/")):
        msg = "must not have a segment . or ..: a gateway may resolve it into another bucket"
        raise ValueError(msg)
    return prefix


def plain_endpoint(url: str) -> str:
    """Refuse what would send requests, or secrets, somewhere unexpected."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        msg = "must be a URL like https://s3.example.com"
        raise ValueError(msg) from None
    if parts.scheme not in {"http", "https"} or not host:
        msg = "must be a URL like https://s3.example.com"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = "must not hold a user name or password: credentials come from AWS's own chain"
        raise ValueError(msg)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        msg = "must end after the host and port: name the bucket in origin.bucket"
        raise ValueError(msg)
    return url


def keeps_secrets(url: str) -> bool:
    """Whether nobody on the way to this endpoint can read what is sent; the empty one is AWS."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return True
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def account_id(account: str) -> str:
    """An AWS account, or nothing."""
    if account and _ACCOUNT.fullmatch(account) is None:
        msg = "must be the 12 digits of an AWS account"
        raise ValueError(msg)
    return account


def mount_path(path: str) -> str:
    """A path as requests have it once decoded, so that it is compared and not interpreted."""
    if not (path.startswith("/") and path.endswith("/")):
        msg = 'must begin and end with a slash, like "/trailers/"'
        raise ValueError(msg)
    if path == "/":
        msg = 'must not be "/": that is where origin.bucket is'
        raise ValueError(msg)
    if _NOT_PLAIN.search(path):
        msg = "must be written plainly: without escapes (%), ?, #, backslashes, control characters"
        raise ValueError(msg)
    segments = path[1:-1].split("/")
    if {".", ".."} & set(segments):
        msg = "must not have a segment . or ..: no request with one is served"
        raise ValueError(msg)
    if "" in segments:
        msg = "must not have two slashes in a row"
        raise ValueError(msg)
    return path


def block_size(count: int) -> int:
    """A power of two between 16 KiB and 16 MiB."""
    if not 16 * 1024 <= count <= 16 * 1024 * 1024 or count & (count - 1):
        msg = "must be a power of two from 16KiB to 16MiB, like 256KiB"
        raise ValueError(msg)
    return count
