from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import OriginConfig
from rangeserver.errors import ConfigError
from rangeserver.origin.client import open_client
from rangeserver.origin.parameters import standing_parameters
from tests.fakes.s3 import FakeS3
from tests.support import config_for

KEY = b"k" * 32


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return str(path)


def test_by_default_there_are_none() -> None:
    assert standing_parameters(OriginConfig(bucket="b")) == {}


async def test_what_goes_over_the_wire(fake: FakeS3, key_file: str) -> None:
    """botocore derives a key and MD5 of its own when it takes the values for raw ones."""
    fake.put("a.mp4", b"bytes")
    config = config_for(
        fake,
        origin={
            "sse_customer_key_file": key_file,
            "request_payer": True,
            "expected_bucket_owner": "123456789012",
        },
    ).origin
    parameters = standing_parameters(config)
    async with open_client(config) as client:
        await client.head_object(Bucket=config.bucket, Key="a.mp4", **parameters)  # type: ignore[arg-type]
        answer: Any = await client.get_object(Bucket=config.bucket, Key="a.mp4", **parameters)  # type: ignore[arg-type]
        answer["Body"].close()
    md5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()
    for seen in fake.requests:
        assert seen.headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
        sent = seen.headers["x-amz-server-side-encryption-customer-key"]
        assert base64.b64decode(sent) == KEY
        assert seen.headers["x-amz-server-side-encryption-customer-key-md5"] == md5
        assert seen.headers["x-amz-request-payer"] == "requester"
        assert seen.headers["x-amz-expected-bucket-owner"] == "123456789012"
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET"]


def test_a_key_that_cannot_be_used(key_file: str) -> None:
    Path(key_file).write_bytes(b"short")
    with pytest.raises(ConfigError, match="must hold a key"):
        standing_parameters(OriginConfig(bucket="b", sse_customer_key_file=key_file))
