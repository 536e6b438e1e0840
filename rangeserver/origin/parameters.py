"""Parameters of every request for a bucket, besides the object and the range."""

from __future__ import annotations

from collections.abc import Mapping

from rangeserver.config import OriginConfig
from rangeserver.origin.customer_key import load_customer_key


def standing_parameters(config: OriginConfig) -> dict[str, str]:
    """Parameters for every GetObject and HeadObject, by botocore's names.

    Reads the SSE-C key from its file. Raises :class:`~rangeserver.errors.ConfigError` if it cannot
    be used.
    """
    parameters: dict[str, str] = {}
    if config.sse_customer_key_file:
        key = load_customer_key(config.sse_customer_key_file)
        parameters |= {
            "SSECustomerAlgorithm": key.algorithm,
            "SSECustomerKey": key.key,
            "SSECustomerKeyMD5": key.key_md5,
        }
    if config.request_payer:
        parameters["RequestPayer"] = "requester"
    if config.expected_bucket_owner:
        parameters["ExpectedBucketOwner"] = config.expected_bucket_owner
    return parameters


def as_headers(parameters: Mapping[str, str]) -> dict[str, str]:
    """The same as header fields, as botocore writes them."""
    return {_HEADERS[name]: value for name, value in parameters.items()}


_HEADERS = {
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSECustomerKey": "x-amz-server-side-encryption-customer-key",
    "SSECustomerKeyMD5": "x-amz-server-side-encryption-customer-key-MD5",
    "RequestPayer": "x-amz-request-payer",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}
