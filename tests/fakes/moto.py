"""moto, serving one bucket."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "films"


@contextmanager
def moto_with(objects: Mapping[str, bytes]) -> Iterator[str]:
    """The endpoint of a moto whose bucket :data:`BUCKET` holds ``objects``."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        s3: Any = boto3.client("s3", endpoint_url=url)  # type: ignore[no-untyped-call]
        s3.create_bucket(Bucket=BUCKET)
        for key, body in objects.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        yield url
    finally:
        server.stop()
