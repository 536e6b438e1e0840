from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.written import loaded, problems

IN_THE_CLEAR = (
    "sse_customer_key_file: the key must not be sent over plain http: endpoint_url must begin "
    "with https, or name a loopback host"
)
UNSIGNED = "request_payer: must not be set with anonymous: the payer has to sign"


def test_all_problems_are_told_at_once_and_each_names_its_key(tmp_path: Path) -> None:
    text = """
    wrokers = 4
    [server]
    hots = "0.0.0.0"
    port = 70000
    keep_alive_seconds = "soon"
    [origin]
    addressing_style = "paths"
    prefix = "/films"
    endpoint_url = "ftp://store"
    """
    found = problems(text, tmp_path, {"RANGESERVER_LOG__LEVEL": "loud"})
    assert found == [
        "server.port: must be less than or equal to 65535",
        "server.keep_alive_seconds: must be a valid number, unable to parse string as a number",
        "server.hots: unknown setting, did you mean server.host?",
        "origin.prefix: must not begin with a slash: keys do not",
        "origin.endpoint_url: must be a URL like https://s3.example.com",
        "origin.addressing_style: must be 'auto', 'path' or 'virtual'",
        "log.level: must be 'debug', 'info', 'warning' or 'error'",
        "wrokers: unknown setting",
        "origin.bucket: must name the bucket to serve",
    ]


@pytest.mark.parametrize("level", ["INFO", "Info"])
def test_a_level_in_any_case(level: str, tmp_path: Path) -> None:
    environ = {"RANGESERVER_LOG__LEVEL": level}
    assert loaded("origin.bucket = 'films'", tmp_path, environ).log.level == "info"


def test_a_section_that_is_no_table_is_one_problem(tmp_path: Path) -> None:
    assert problems("server = 3", tmp_path)[0] == "server: must be a table"


NEW_KEYS = {
    "origin.signing": ('"never"', "must be 'per-object' or 'per-request'"),
    "origin.hedge_percent": ("51", "must be less than or equal to 50"),
    "origin.use_version_ids": ('"hunter2"', "must be a valid boolean, unable to interpret input"),
    "origin.sse_customer_key_file": ("3", "must be a valid string"),
    "origin.request_payer": ("3", "must be a valid boolean, unable to interpret input"),
    "origin.expected_bucket_owner": ('"hunter2"', "must be the 12 digits of an AWS account"),
    "cache.max_bytes": ('"10 Gigs"', 'must be a size like "8MiB" or "500MB", or a number of bytes'),
    "cache.min_free_bytes": (
        '"hunter2"',
        'must be a size like "8MiB" or "500MB", or a number of bytes',
    ),
    "cache.ttl_seconds": ("86401", "must be less than or equal to 86400"),
}


@pytest.mark.parametrize(("value", "fault"), NEW_KEYS.values(), ids=NEW_KEYS)
def test_a_value_that_cannot_be(
    value: str, fault: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = request.node.callspec.id
    section, key = name.split(".")
    text = f"[{section}]\n{key} = {value}\n"
    assert problems(text, tmp_path, {"RANGESERVER_ORIGIN__BUCKET": "films"}) == [f"{name}: {fault}"]


def test_what_a_mount_lacks_or_has_wrong(tmp_path: Path) -> None:
    text = """
    [[mounts]]
    path = "/x/"
    [[mounts]]
    path = "/y"
    bucket = ""
    prefix = "/films"
    [[mounts]]
    bukcet = "films"
    hedge_percent = 99
    paht = "/z/"
    [mounts.access]
    inlin_types = []
    """
    assert problems(text, tmp_path) == [
        "mounts[0].bucket: must be set",
        "mounts[1].bucket: must not be empty",
        "mounts[1].prefix: must not begin with a slash: keys do not",
        'mounts[1].path: must begin and end with a slash, like "/trailers/"',
        "mounts[2].bucket: must be set",
        "mounts[2].hedge_percent: must be less than or equal to 50",
        "mounts[2].path: must be set",
        "mounts[2].access.inlin_types: unknown setting, did you mean "
        "mounts[2].access.inline_types?",
        "mounts[2].bukcet: unknown setting, did you mean mounts[2].bucket?",
        "mounts[2].paht: unknown setting, did you mean mounts[2].path?",
    ]


@pytest.mark.parametrize("text", ["mounts = 3", '[mounts]\npath = "/x/"', 'mounts = "/x/"'])
def test_mounts_that_are_no_tables(text: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == ["mounts: must be tables, each under a line [[mounts]]"]


def test_a_mount_that_is_no_table(tmp_path: Path) -> None:
    assert problems("mounts = [3]", tmp_path) == ["mounts[0]: must be a table"]


def test_a_list_that_is_none(tmp_path: Path) -> None:
    text = '[origin]\nbucket = "films"\n[access]\ninline_types = '
    assert problems(text + "3", tmp_path) == ["access.inline_types: must be a list"]
    assert problems(text + "[3]", tmp_path) == ["access.inline_types[0]: must be a valid string"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[server]\nprot = 1", "server.prot: unknown setting, did you mean server.port?"),
        ("[log]\nbucket = 1", "log.bucket: unknown setting, did you mean origin.bucket?"),
        ("bucket = 1", "bucket: unknown setting, did you mean origin.bucket?"),
        ("[[mount]]\npath = 1", "mount: unknown setting, did you mean mounts?"),
        ("[origin]\nzzz = 1", "origin.zzz: unknown setting"),
        ("[origin]\npath = 1", "origin.path: unknown setting"),
        ('"a\\nb" = 1', r"'a\nb': unknown setting"),
    ],
)
def test_an_unknown_setting_and_what_may_have_been_meant(
    text: str, found: str, tmp_path: Path
) -> None:
    assert found in problems(text, tmp_path)


KEY_FILE = 'sse_customer_key_file = "hunter2"\n'
FAR = 'endpoint_url = "http://store"\n'
NEAR = 'endpoint_url = "http://127.0.0.1:9000"\n'
ORIGIN = '[origin]\nbucket = "films"\n'
MOUNT = '[[mounts]]\npath = "/x/"\nbucket = "cuts"\n'


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (ORIGIN + KEY_FILE + FAR, ["origin"]),
        (ORIGIN + KEY_FILE + FAR + MOUNT, ["origin"]),  # inherited, and told once
        (ORIGIN + KEY_FILE + MOUNT + FAR, ["mounts[0]"]),
        (ORIGIN + FAR + MOUNT + KEY_FILE, ["mounts[0]"]),
        (ORIGIN + FAR + KEY_FILE + MOUNT + FAR, ["origin", "mounts[0]"]),
        (ORIGIN + FAR + KEY_FILE + MOUNT + NEAR, ["origin"]),
    ],
)
def test_a_key_is_not_sent_in_the_clear(text: str, sections: list[str], tmp_path: Path) -> None:
    found = problems(text, tmp_path)
    assert found == [f"{section}.{IN_THE_CLEAR}" for section in sections]


@pytest.mark.parametrize("text", [KEY_FILE, KEY_FILE + NEAR, FAR])
def test_a_key_is_sent_where_nobody_else_reads_it(text: str, tmp_path: Path) -> None:
    loaded(ORIGIN + text + MOUNT + text, tmp_path)


def test_who_pays_signs(tmp_path: Path) -> None:
    text = ORIGIN + "request_payer = true\n"
    assert problems(text + "anonymous = true\n" + MOUNT, tmp_path) == [f"origin.{UNSIGNED}"]
    assert problems(text + MOUNT + "anonymous = true\n", tmp_path) == [f"mounts[0].{UNSIGNED}"]
    loaded(text + MOUNT + "anonymous = true\nrequest_payer = false\n", tmp_path)


@pytest.mark.parametrize("hosts", [("127.0.0.1",) * 2, ("0.0.0.0", "127.0.0.1"), ("::", "0.0.0.0")])
def test_one_port_for_both_listeners(hosts: tuple[str, str], tmp_path: Path) -> None:
    text = f"""
    origin.bucket = "films"
    server = {{host = "{hosts[0]}", port = 8080}}
    admin = {{host = "{hosts[1]}", port = 8080}}
    """
    assert problems(text, tmp_path) == [
        "admin.port: must differ from server.port, both are 8080: each has a listener of its own"
    ]


@pytest.mark.parametrize(
    "listeners",
    [
        "server.port = 0\nadmin.port = 0",
        'server.port = 9090\nadmin.host = "::1"',
        "server.port = 9090\nadmin.enabled = false",
    ],
)
def test_ports_that_do_not_meet(listeners: str, tmp_path: Path) -> None:
    loaded(f'origin.bucket = "films"\n{listeners}', tmp_path)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("tls_key", "server.tls_certificate: must be set with tls_key: what the key is of"),
        ("tls_certificate", "server.tls_key: must be set with tls_certificate: its private key"),
    ],
)
def test_half_of_tls(given: str, fault: str, tmp_path: Path) -> None:
    text = f"""
    [server]
    {given} = "hunter2"
    [origin]
    bucket = "films"
    """
    assert problems(text, tmp_path) == [fault]


def test_all_of_tls(tmp_path: Path) -> None:
    environ = {"RANGESERVER_SERVER__TLS_CERTIFICATE": "a", "RANGESERVER_SERVER__TLS_KEY": "b"}
    server = loaded("origin.bucket = 'films'", tmp_path, environ).server
    assert (server.tls_certificate, server.tls_key) == ("a", "b")
