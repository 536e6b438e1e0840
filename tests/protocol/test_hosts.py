from __future__ import annotations

import pytest

from rangeserver.protocol.hosts import is_ours


@pytest.mark.parametrize(
    "host",
    [
        *["127.0.0.1", "127.0.0.1:9090", "10.1.2.3:9090", "[::1]", "[::1]:9090", "[fe80::1%25lo]"],
        *["localhost", "localhost:9090", "LocalHost.", "rangeserver:9090", "a.localhost"],
        *["", "desk.local:9090", "ip-10-0-0-1.ec2.internal", "host.docker.internal:9090"],
        *["rangeserver.media.svc:9090", "rangeserver-0.rangeserver.media.svc.cluster.local"],
    ],
)
def test_hosts_that_no_stranger_can_have(host: str) -> None:
    assert is_ours(host, ())


@pytest.mark.parametrize(
    "host",
    [
        *["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example"],
        *["evil.example.", "[::1].evil.example:9090", "10.0.0.1.nip.io", "local.example"],
        *["127.0.0.1@evil.example", "a.xlocal", "256.1.1.1", "127.0.0", "metrics.example.com"],
    ],
)
def test_hosts_that_may_be_strangers(host: str) -> None:
    assert not is_ours(host, ())


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("metrics.example.com", True),
        ("Metrics.Example.COM.:9090", True),
        ("other.example.com", False),
        ("a.metrics.example.com", False),
        ("a.example.org", True),
        ("a.b.example.org:9090", True),
        ("example.org", False),
        ("evilexample.org", False),
    ],
)
def test_names_of_the_operator(host: str, ours: bool) -> None:
    assert is_ours(host, ("metrics.example.com", ".example.org")) is ours
