"""The AWS environment of the demo: credentials that are nobody's, nothing of the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_DEMO_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def demo_credentials() -> Iterator[None]:
    """Replace every ``AWS_*`` variable by the demo's own until the context is left.

    The server has no setting for credentials on purpose; this is AWS's own way to give them.
    """
    before = _take_aws_variables()
    os.environ.update(_DEMO_ENVIRONMENT)
    try:
        yield
    finally:
        _take_aws_variables()
        os.environ.update(before)


def _take_aws_variables() -> dict[str, str]:
    return {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
