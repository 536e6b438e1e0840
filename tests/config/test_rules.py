from __future__ import annotations

import pytest

from rangeserver.config import load_config
from rangeserver.config.rules import account_id, host_name, keeps_secrets, mount_path
from rangeserver.errors import ConfigError
from tests.config.written import BUCKET


@pytest.mark.parametrize("name", ["My Videos!", "a/b", "film\ne", "x" * 256])
def test_a_bucket_has_a_buckets_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.bucket: must be a bucket's name"):
        load_config(environ={}, flags={"origin": {"bucket": name}})


@pytest.mark.parametrize("prefix", ["a/../b/", "./", ".."])
def test_a_prefix_cannot_leave_its_bucket(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.prefix: must not have a segment"):
        load_config(environ={"RANGESERVER_ORIGIN__PREFIX": prefix}, flags=BUCKET)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@store",
        "https://store/hunter2",
        "https://store?token=hunter2",
        "http://[hunter2",
        "https://store:hunter2",
        "hunter2",
    ],
)
def test_a_wrong_endpoint_is_refused_without_being_echoed(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"RANGESERVER_ORIGIN__ENDPOINT_URL": url}, flags=BUCKET)
    (problem,) = caught.value.problems
    assert problem.startswith("origin.endpoint_url: must")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://store",
        "HTTPS://store:9000/",
        "http://localhost:9000",
        "http://LOCALHOST",
        "http://127.0.0.1:9000",
        "http://127.9.9.9",
        "http://[::1]:9000",
    ],
)
def test_an_endpoint_that_may_have_a_secret(url: str) -> None:
    assert keeps_secrets(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://store",
        "HTTP://store:9000",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[fe80::1]",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://127.1",
    ],
)
def test_an_endpoint_that_may_not(url: str) -> None:
    assert not keeps_secrets(url)


@pytest.mark.parametrize("name", ["metrics.example.com", ".example.com", "a_b-c", "xn--9ca.kr"])
def test_a_host_name(name: str) -> None:
    assert host_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "*", "a:9090", "http://a", "a/b", "a..b", "a.", "[::1]", "*.example.com", "é"]
)
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"admin\.names.*: must be a host name"):
        load_config(environ={}, flags={**BUCKET, "admin": {"names": [name]}})


@pytest.mark.parametrize("account", ["", "123456789012", "000000000000"])
def test_an_account(account: str) -> None:
    assert account_id(account) == account


@pytest.mark.parametrize(
    "account",
    ["1", "1234567890123", "12345678901a", "1234-5678-9012", "\u0661" * 12, "123456789012\n"],
)
def test_what_is_no_account_is_not_echoed(account: str) -> None:
    with pytest.raises(ValueError, match=r"^must be the 12 digits of an AWS account$"):
        account_id(account)


@pytest.mark.parametrize("path", ["/x/", "/x/y/", "/ф 🎬+=&;/", "/.x/..y/..../", "/x:y@z/"])
def test_a_path_of_a_mount(path: str) -> None:
    assert mount_path(path) == path


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "begin and end with a slash"),
        ("x", "begin and end with a slash"),
        ("x/", "begin and end with a slash"),
        ("/x", "begin and end with a slash"),
        ("https://host/x/", "begin and end with a slash"),
        ("/", 'must not be "/"'),
        ("//", "two slashes in a row"),
        ("//x/", "two slashes in a row"),
        ("/x//y/", "two slashes in a row"),
        ("/../", "segment . or .."),
        ("/x/./", "segment . or .."),
        ("/x/../y/", "segment . or .."),
        ("/a%20b/", "without escapes"),
        ("/%2e%2e/", "without escapes"),
        ("/a?b/", "without escapes"),
        ("/a#b/", "without escapes"),
        ("/a\\b/", "backslashes"),
        ("/a\nb/", "control characters"),
        ("/a\x00/", "control characters"),
        ("/a\x85/", "control characters"),
    ],
)
def test_what_is_no_path_of_a_mount(path: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^must") as caught:
        mount_path(path)
    assert fault in str(caught.value)
