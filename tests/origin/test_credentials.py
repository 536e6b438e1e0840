"""Credentials: every source of AWS's chain works, and renewing them costs no request anything."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from rangeserver.errors import (
    ConfigError,
    CredentialsExpired,
    NoCredentials,
    NoneFound,
    OriginRefused,
)
from rangeserver.metrics import Metrics, OriginMetrics
from rangeserver.origin.credentials import KeptCredentials, kept_credentials
from rangeserver.origin.refresh_timing import RefreshTiming
from rangeserver.origin.s3 import S3Origin
from rangeserver.origin.upstream import open_upstream
from rangeserver.protocol.representation import ObjectKey
from tests.exposition import scrape
from tests.fakes.aws import ROLE_ARN, FakeAws, process_answer
from tests.fakes.s3 import FakeS3
from tests.loops import FairUvloop
from tests.support import config_for, eventually, open_descriptors

KEY = ObjectKey("a.mp4")

QUICK = RefreshTiming(
    look_up_seconds=5.0,
    min_pause_seconds=0.01,
    max_pause_seconds=0.05,
    max_pause_without_seconds=0.05,
    renewal_pause_seconds=60.0,
    clock_seconds=0.01,
)
"""Retries at once, and sees at once that the clock was moved."""

CALM = replace(QUICK, min_pause_seconds=60.0, max_pause_seconds=60.0, max_pause_without_seconds=60)
"""Nothing happens that a test does not ask for."""


class Clock:
    """The time of day, which tests move."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return time.time() + self.moved


@pytest.fixture
async def aws() -> AsyncIterator[FakeAws]:
    async with FakeAws() as services:
        yield services


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials anywhere; AWS's files are ``config`` and ``credentials`` in ``tmp_path``."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


@dataclass(frozen=True, slots=True)
class Machine:
    """What a source of credentials is set up with."""

    aws: FakeAws
    environment: pytest.MonkeyPatch
    files: Path


@pytest.fixture
def machine(aws: FakeAws, bare: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(aws, bare, tmp_path)


@pytest.fixture
def with_imds(bare: pytest.MonkeyPatch, aws: FakeAws) -> FakeAws:
    """A machine with a role; its metadata service may take as long as it likes."""
    bare.setenv("AWS_EC2_METADATA_DISABLED", "false")
    bare.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{aws.url}/")
    bare.setenv("AWS_METADATA_SERVICE_TIMEOUT", "30")
    return aws


@pytest.fixture
def with_container(bare: pytest.MonkeyPatch, aws: FakeAws) -> FakeAws:
    bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.url}/container")
    return aws


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No look-up outlives a test."""
    yield
    assert look_up_threads() == []


def look_up_threads() -> list[threading.Thread]:
    """Those that live; one that has given its result is given time to end."""
    threads = [each for each in threading.enumerate() if each.name == "credentials"]
    for thread in threads:
        thread.join(1)
    return [thread for thread in threads if thread.is_alive()]


def refreshes(metrics: Metrics, outcome: str = "ok") -> float:
    return scrape(metrics)("rangeserver_credentials_refreshes_total", outcome=outcome)


def is_valid(kept: KeptCredentials) -> bool:
    try:
        kept.current()
    except OriginRefused:
        return False
    return True


def write_keys(path: Path, access_key: str) -> None:
    lines = f"aws_access_key_id = {access_key}\naws_secret_access_key = secret-of-{access_key}\n"
    path.write_text(f"[default]\n{lines}")


@asynccontextmanager
async def signing(fake: FakeS3, kept: KeptCredentials) -> AsyncIterator[S3Origin]:
    """An origin whose requests are signed with ``kept``."""
    fake.put(KEY, b"bytes", etag='"v1"')
    config = config_for(fake).origin
    async with open_upstream(config, OriginMetrics(), kept) as upstream:
        yield S3Origin(upstream, config)


async def signer_of_request(origin: S3Origin, fake: FakeS3) -> str:
    """Make a request; the access key that it was signed with."""
    await origin.describe(KEY)
    found = re.search(r"Credential=([^/]+)/", fake.requests[-1].headers["authorization"])
    assert found is not None
    return found[1]


# What AWS's chain finds


def from_environment(machine: Machine) -> str:
    machine.environment.setenv("AWS_ACCESS_KEY_ID", "AKENV")
    machine.environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-AKENV")
    return "AKENV"


def from_credentials_file(machine: Machine) -> str:
    write_keys(machine.files / "credentials", "AKFILE")
    return "AKFILE"


def from_web_identity(machine: Machine) -> str:
    (machine.files / "token").write_text("a-signed-token")
    machine.environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(machine.files / "token"))
    machine.environment.setenv("AWS_ROLE_ARN", ROLE_ARN)
    machine.environment.setenv("AWS_ENDPOINT_URL_STS", f"{machine.aws.url}/sts")
    return "AKSTS1"


def from_assumed_role(machine: Machine) -> str:
    machine.environment.setenv("AWS_ENDPOINT_URL_STS", f"{machine.aws.url}/sts")
    write_keys(machine.files / "credentials", "AKSOURCE")
    (machine.files / "config").write_text(
        f"[profile reader]\nrole_arn = {ROLE_ARN}\nsource_profile = default\n"
    )
    machine.environment.setenv("AWS_PROFILE", "reader")
    return "AKSTS1"


def from_container(machine: Machine) -> str:
    machine.environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{machine.aws.url}/container")
    return "AKECS1"


def from_instance(machine: Machine) -> str:
    machine.environment.setenv("AWS_EC2_METADATA_DISABLED", "false")
    machine.environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{machine.aws.url}/")
    return "AKIMDS1"


def from_process(machine: Machine) -> str:
    (machine.files / "answer").write_text(process_answer("AKPROC", "2099-01-01T00:00:00Z"))
    (machine.files / "config").write_text(
        f"[default]\ncredential_process = cat {machine.files}/answer\n"
    )
    return "AKPROC"


@pytest.mark.parametrize(
    "source",
    [
        from_environment,
        from_credentials_file,
        from_web_identity,
        from_assumed_role,
        from_container,
        from_instance,
        from_process,
    ],
)
async def test_every_source_of_the_chain_signs_requests(
    fake: FakeS3, machine: Machine, source: Callable[[Machine], str]
) -> None:
    expected, aws = source(machine), machine.aws
    async with kept_credentials("", timing=CALM) as kept, signing(fake, kept) as origin:
        assert await signer_of_request(origin, fake) == expected
        assert (kept.access_key, kept.secret_key) == (expected, f"secret-of-{expected}")
        token = fake.requests[-1].headers.get("x-amz-security-token")
        assert token == kept.token
        assert kept.account_id == (await kept.get_frozen_credentials()).account_id
    assert aws.imds.hits + aws.container.hits + aws.sts.hits <= 1


async def test_a_profile_that_is_named_goes_before_the_environment(machine: Machine) -> None:
    from_environment(machine)
    (machine.files / "credentials").write_text(
        "[films]\naws_access_key_id = AKFILMS\naws_secret_access_key = secret-of-AKFILMS\n"
    )
    async with kept_credentials("films", timing=CALM) as kept:
        assert kept.current().access_key == "AKFILMS"


async def test_a_role_is_assumed_with_the_source_keys_in_the_given_region(machine: Machine) -> None:
    from_assumed_role(machine)
    machine.environment.delenv("AWS_DEFAULT_REGION")
    async with kept_credentials("", region="eu-north-1", timing=CALM):
        (asked,) = machine.aws.sts.asked
    assert asked["Action"] == "AssumeRole"
    assert asked["RoleArn"] == ROLE_ARN
    assert re.search(r"Credential=AKSOURCE/\d+/eu-north-1/sts/", asked["authorization"])


async def test_a_web_identity_token_is_read_anew_each_time(machine: Machine) -> None:
    from_web_identity(machine)
    async with kept_credentials("", timing=CALM) as kept:
        (machine.files / "token").write_text("a-newer-token")
        assert await kept.renew(kept.current())
        assert kept.current().access_key == "AKSTS2"
    assert [asked["WebIdentityToken"] for asked in machine.aws.sts.asked] == [
        "a-signed-token",
        "a-newer-token",
    ]


# Ahead of time, in the background


async def test_credentials_are_renewed_ahead_of_their_expiry(
    fake: FakeS3, with_container: FakeAws
) -> None:
    clock, metrics = Clock(), Metrics()
    with_container.container.life_seconds = 3600
    async with (
        kept_credentials("", timing=QUICK, clock=clock, metrics=metrics.origin) as kept,
        signing(fake, kept) as origin,
    ):
        assert await signer_of_request(origin, fake) == "AKECS1"
        clock.moved = 3600 - 900 - 30
        await asyncio.sleep(5 * QUICK.clock_seconds)
        assert with_container.container.hits == 1
        clock.moved += 31
        with_container.container.life_seconds = 7200
        await eventually(lambda: kept.current().access_key == "AKECS2")
        assert await signer_of_request(origin, fake) == "AKECS2"
    assert (refreshes(metrics), refreshes(metrics, "failed")) == (2, 0)


async def test_short_lived_credentials_are_renewed_at_half_of_their_life(
    with_container: FakeAws,
) -> None:
    clock = Clock()
    with_container.container.life_seconds = 120
    async with kept_credentials("", timing=QUICK, clock=clock) as kept:
        clock.moved = 50
        await asyncio.sleep(5 * QUICK.clock_seconds)
        assert with_container.container.hits == 1
        with_container.container.life_seconds = 3600
        clock.moved = 62
        await eventually(lambda: kept.current().access_key == "AKECS2")
    assert with_container.container.hits == 2


async def test_the_same_keys_are_looked_at_again_soon_and_stay_the_same_object(
    with_imds: FakeAws,
) -> None:
    """Botocore tells a later expiry for the keys of an instance that are about to end."""
    clock, metrics = Clock(), Metrics()
    with_imds.imds.same_keys = True
    async with kept_credentials("", timing=QUICK, clock=clock, metrics=metrics.origin) as kept:
        first = kept.current()
        clock.moved = 6 * 3600 - 890
        await eventually(lambda: refreshes(metrics) == 2)
        assert kept.current() is first
        clock.moved += QUICK.same_keys_seconds + 1
        await eventually(lambda: refreshes(metrics) == 3)
        assert kept.current() is first


@pytest.mark.usefixtures("bare")
async def test_static_keys_are_not_looked_for_again(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    write_keys(tmp_path / "credentials", "AKFILE")
    async with kept_credentials("", timing=QUICK, clock=clock, metrics=metrics.origin) as kept:
        clock.moved = 10 * 365 * 86400
        await asyncio.sleep(5 * QUICK.clock_seconds)
        assert kept.current().access_key == "AKFILE"
    assert refreshes(metrics) == 1


# While the source fails (FAULTS D4)


async def test_a_stalled_refresh_delays_no_request(fake: FakeS3, with_imds: FakeAws) -> None:
    clock = Clock()
    async with (
        kept_credentials("", timing=QUICK, clock=clock) as kept,
        signing(fake, kept) as origin,
    ):
        await origin.describe(KEY)  # what is loaded once is loaded
        with_imds.imds.stall()
        clock.moved = 6 * 3600 - 60  # inside the window in which botocore has everyone wait
        await eventually(lambda: with_imds.imds.stalled == 1)
        for _ in range(50):
            assert await signer_of_request(origin, fake) == "AKIMDS1"
        # The look-up was begun before all of them and has not ended after all of them.
        assert with_imds.imds.stalled == 1
        with_imds.imds.release()
        await eventually(lambda: kept.current().access_key == "AKIMDS2")
        assert await signer_of_request(origin, fake) == "AKIMDS2"


@pytest.mark.parametrize("status", [500, 404])
async def test_old_credentials_are_used_while_the_source_fails(
    fake: FakeS3, with_imds: FakeAws, status: int
) -> None:
    clock, metrics = Clock(), Metrics()
    async with (
        kept_credentials("", timing=QUICK, clock=clock, metrics=metrics.origin) as kept,
        signing(fake, kept) as origin,
    ):
        with_imds.imds.status = status
        clock.moved = 6 * 3600 - 60
        await eventually(lambda: refreshes(metrics, "failed") >= 2)
        assert await signer_of_request(origin, fake) == "AKIMDS1"
        with_imds.imds.status = 200
        await eventually(lambda: kept.current().access_key == "AKIMDS2")


async def test_expired_and_the_source_down_is_a_refusal_until_it_is_back(
    fake: FakeS3, with_container: FakeAws
) -> None:
    clock = Clock()
    source = with_container.container
    source.life_seconds = 3600
    async with (
        kept_credentials("", timing=QUICK, clock=clock) as kept,
        signing(fake, kept) as origin,
    ):
        await origin.describe(KEY)
        source.stall()
        clock.moved = 3601
        with pytest.raises(CredentialsExpired, match=r"credentials expired at 20\d\d-") as refusal:
            await origin.describe(KEY)
        assert isinstance(refusal.value, OriginRefused)
        assert refusal.value.status == 502
        assert len(fake.requests) == 1
        source.life_seconds = 7200
        source.release()
        await eventually(lambda: is_valid(kept))
        assert await signer_of_request(origin, fake) == source.latest


@pytest.mark.usefixtures("bare")
async def test_without_credentials_requests_are_refused_until_there_are_some(
    fake: FakeS3, tmp_path: Path
) -> None:
    async with kept_credentials("", timing=QUICK) as kept, signing(fake, kept) as origin:
        with pytest.raises(NoneFound, match="no credentials found: environment, profile"):
            await origin.describe(KEY)
        assert fake.requests == []
        write_keys(tmp_path / "credentials", "AKLATE")
        await eventually(lambda: is_valid(kept))
        assert await signer_of_request(origin, fake) == "AKLATE"


async def test_a_clock_that_jumps_past_the_expiry_wakes_the_refresh(
    with_container: FakeAws,
) -> None:
    clock = Clock()
    with_container.container.life_seconds = 3600
    timing = replace(QUICK, clock_seconds=60.0)
    async with kept_credentials("", timing=timing, clock=clock) as kept:
        await eventually(lambda: bool(kept._wanted._waiters))  # it sleeps, for a minute
        with_container.container.life_seconds = 7200
        clock.moved = 3601
        with pytest.raises(CredentialsExpired):
            kept.current()
        await eventually(lambda: with_container.container.hits == 2)
        await eventually(lambda: is_valid(kept))
        assert kept.current().access_key == "AKECS2"


async def test_credentials_found_already_expired_are_none(with_container: FakeAws) -> None:
    with_container.container.life_seconds = -5
    async with kept_credentials("", timing=CALM) as kept:
        with pytest.raises(NoCredentials, match=r"those found .* had expired at"):
            kept.current()


def test_pauses_grow_and_shrink_towards_the_expiry() -> None:
    timing = RefreshTiming(uniform=lambda _, most: most)
    assert [timing.after_failure(n, 0) for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert [timing.after_failure(n, 3600) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert timing.after_failure(10**6, 3600) == 60
    assert timing.after_failure(9, 20) == 10
    assert timing.after_failure(9, 0.1) == 0.5


def test_pauses_are_jittered() -> None:
    pauses = [RefreshTiming().after_failure(7, 3600) for _ in range(200)]
    assert min(pauses) >= 30
    assert max(pauses) <= 60
    assert max(pauses) - min(pauses) > 10


def test_renewal_is_ahead_by_15_minutes_or_half_of_what_is_left() -> None:
    timing = RefreshTiming()
    assert timing.after_success(6 * 3600, same_keys=False) == 6 * 3600 - 900
    assert timing.after_success(1200, same_keys=False) == 600
    assert timing.after_success(1200, same_keys=True) == 120
    assert timing.after_success(1, same_keys=True) == 1
    assert timing.after_success(math.inf, same_keys=True) == math.inf


# Asked for by the origin


async def test_a_hundred_callers_share_one_renewal(with_container: FakeAws) -> None:
    source = with_container.container
    async with kept_credentials("", timing=CALM) as kept:
        rejected = kept.current()
        source.stall()
        callers = [asyncio.create_task(kept.renew(rejected)) for _ in range(100)]
        await eventually(lambda: source.stalled == 1)
        callers += [asyncio.create_task(kept.renew(rejected)) for _ in range(100)]
        for caller in callers[::2]:
            caller.cancel()  # one that leaves takes nothing from the others
        await asyncio.sleep(0)
        assert kept.current() is rejected  # others still sign with what there is
        source.release()
        assert await asyncio.gather(*callers[1::2]) == [True] * 100
        assert kept.current().access_key == "AKECS2"
        assert await kept.renew(rejected)  # a late one is told at once
    assert source.hits == 2


async def test_a_renewal_that_finds_nothing_new_is_not_repeated_at_once(
    with_container: FakeAws,
) -> None:
    source = with_container.container
    source.same_keys = True
    async with kept_credentials("", timing=CALM) as kept:
        for _ in range(20):
            assert not await kept.renew(kept.current())
    assert source.hits == 2


async def test_a_renewal_is_possible_again_after_its_pause(with_container: FakeAws) -> None:
    source = with_container.container
    source.same_keys = True
    async with kept_credentials("", timing=replace(CALM, renewal_pause_seconds=0.0)) as kept:
        assert not await kept.renew(kept.current())
        assert not await kept.renew(kept.current())
        source.same_keys = False
        assert await kept.renew(kept.current())
    assert source.hits == 4


async def test_a_renewal_joins_a_refresh_that_runs(with_container: FakeAws) -> None:
    clock = Clock()
    source = with_container.container
    source.life_seconds = 3600
    async with kept_credentials("", timing=QUICK, clock=clock) as kept:
        source.stall()
        clock.moved = 3000
        await eventually(lambda: source.stalled == 1)
        source.life_seconds = 7200
        renewal = asyncio.create_task(kept.renew(kept.current()))
        await asyncio.sleep(0)
        source.release()
        assert await renewal
    assert source.hits == 2


@pytest.mark.usefixtures("bare")
async def test_a_renewal_reads_a_rotated_file(tmp_path: Path) -> None:
    write_keys(tmp_path / "credentials", "AKOLD")
    async with kept_credentials("", timing=CALM) as kept:
        rejected = kept.current()
        write_keys(tmp_path / "credentials", "AKNEW")
        assert kept.current() is rejected
        assert await kept.renew(rejected)
        assert kept.current().access_key == "AKNEW"


async def test_a_renewal_asks_sts_again(machine: Machine) -> None:
    from_assumed_role(machine)
    async with kept_credentials("", timing=CALM) as kept:
        assert await kept.renew(kept.current())
        assert kept.current().access_key == "AKSTS2"
    assert machine.aws.sts.hits == 2


async def test_a_renewal_that_fails_keeps_what_there_is(with_container: FakeAws) -> None:
    async with kept_credentials("", timing=CALM) as kept:
        before = kept.current()
        with_container.container.life_seconds = -5
        assert not await kept.renew(before)
        assert kept.current() is before


# What cannot work


@pytest.mark.usefixtures("bare")
async def test_an_unknown_profile_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"origin: .*nobody"):
        async with kept_credentials("nobody", timing=CALM):
            raise AssertionError


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("[default]\nrole_arn = arn:x\nsource_profile = gone\n", "gone"),
        ("[default]\naws_access_key_id = AK\n", "aws_secret_access_key"),
        ("[default\n", "parse"),
        (
            "[default]\nrole_arn = arn:x\nsource_profile = s\nmfa_serial = arn:y\n"
            "[profile s]\naws_access_key_id = AK\naws_secret_access_key = very-secret\n",
            "MFA",
        ),
    ],
)
@pytest.mark.usefixtures("bare")
async def test_files_that_cannot_be_used_are_configuration_errors(
    tmp_path: Path, config: str, named: str
) -> None:
    (tmp_path / "config").write_text(config)
    with pytest.raises(ConfigError, match=rf"origin: .*{named}") as refusal:
        async with kept_credentials("", timing=CALM):
            raise AssertionError
    assert "very-secret" not in str(refusal.value)


@pytest.mark.usefixtures("bare")
async def test_a_file_that_breaks_later_keeps_what_there_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_keys(tmp_path / "credentials", "AKFILE")
    async with kept_credentials("", timing=CALM) as kept:
        (tmp_path / "credentials").write_text("[default\n")
        assert not await kept.renew(kept.current())
        assert kept.current().access_key == "AKFILE"
    (line,) = warnings_in(caplog)
    assert "the old ones stay in use" in line
    assert "parse" in line


# Log


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


async def test_no_failure_writes_a_secret_or_a_traceback_to_the_log(
    aws: FakeAws, bare: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even what a program wrote; each failure is one line."""
    caplog.set_level(logging.INFO)
    program = tmp_path / "program.py"
    command = f"credential_process = {sys.executable} {program}\n"
    (tmp_path / "config").write_text(f"[default]\n{command}")
    timing = replace(CALM, renewal_pause_seconds=0.0)
    program.write_text(f"print({process_answer('AKPROC')!r})")
    async with kept_credentials("", timing=timing) as kept:
        held = kept.current()
        for source in (
            "import sys; sys.exit('refused for secret-of-AKPROC')",
            "print('{ not json: secret-of-AKPROC')",
            f"print({json.dumps({'Version': 1, 'SecretAccessKey': 'secret-of-AKPROC'})!r})",
            "import os; os.write(1, b'secret-of-AKPROC \\xff')",
        ):
            program.write_text(source)
            assert not await kept.renew(held)
            assert kept.current() is held
        bare.setenv("AWS_ENDPOINT_URL_STS", f"{aws.url}/sts")
        (tmp_path / "config").write_text(
            f"[default]\nrole_arn = {ROLE_ARN}\nsource_profile = s\n[profile s]\n{command}"
        )
        program.write_text(f"print({process_answer('AKPROC')!r})")
        aws.sts.status = 403
        assert not await kept.renew(held)
    lines = warnings_in(caplog)
    assert "run it by hand" in lines[0]
    assert "not JSON" in lines[1]
    assert "may not assume the role" in lines[-1]
    for record in caplog.records:
        assert "secret-of" not in record.getMessage()
        assert "token-of" not in record.getMessage()
        assert record.exc_info is None
        assert "\n" not in record.getMessage()


async def test_a_failure_that_lasts_is_told_once_and_its_end_too(
    with_container: FakeAws, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rangeserver")
    clock, metrics = Clock(), Metrics()
    source = with_container.container
    source.life_seconds = 3600
    async with kept_credentials("", timing=QUICK, clock=clock, metrics=metrics.origin) as kept:
        source.life_seconds = -5
        clock.moved = 3000
        await eventually(lambda: refreshes(metrics, "failed") >= 5)
        source.life_seconds = 7200
        await eventually(lambda: kept._failures == 0)
    assert len(warnings_in(caplog)) <= 2  # the moment that is named may be another second
    assert "the old ones are good until 20" in warnings_in(caplog)[0]
    assert "credentials found again (container-role)" in caplog.messages


# Bounds


async def test_a_look_up_has_a_deadline(with_imds: FakeAws) -> None:
    with_imds.imds.stall()
    timing = replace(CALM, look_up_seconds=0.1)
    async with kept_credentials("", timing=timing) as kept:
        with pytest.raises(NoCredentials, match=r"took more than 0\.1 s"):
            kept.current()
        assert look_up_threads() == []


@pytest.mark.usefixtures("bare")
async def test_a_program_that_never_ends_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = {sys.executable} {program}\n"
    )
    async with asyncio.timeout(5):
        async with kept_credentials("", timing=replace(CALM, look_up_seconds=0.5)) as kept:
            with pytest.raises(NoCredentials):
                kept.current()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_a_look_up_that_blocks_holds_up_nothing_and_stays_alone(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that nobody writes to: opening it cannot be interrupted."""
    token = tmp_path / "token"
    os.mkfifo(token)
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    bare.setenv("AWS_ROLE_ARN", ROLE_ARN)
    bare.setattr("rangeserver.origin.credential_chain._GRACE_SECONDS", 0.05)
    began = time.monotonic()
    async with kept_credentials("", timing=replace(QUICK, look_up_seconds=0.05)) as kept:
        with pytest.raises(NoCredentials, match=r"took more than|still hangs"):
            kept.current()
        await eventually(lambda: kept._failures > 3)
        with pytest.raises(NoCredentials, match="still hangs"):
            kept.current()
        assert len([each for each in threading.enumerate() if each.name == "credentials"]) == 1
        assert all(each.daemon for each in threading.enumerate() if each.name == "credentials")
    assert time.monotonic() - began < 5
    with token.open("w"):  # let it go
        pass


def test_a_look_up_that_blocks_does_not_hold_up_the_end_of_the_process(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    os.mkfifo(token)
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    bare.setenv("AWS_ROLE_ARN", ROLE_ARN)
    program = """
import asyncio
from rangeserver.origin import credential_chain
from rangeserver.origin.credentials import kept_credentials
from rangeserver.origin.refresh_timing import RefreshTiming
credential_chain._GRACE_SECONDS = 0.1
async def main():
    async with kept_credentials("", timing=RefreshTiming(look_up_seconds=0.1)):
        pass
asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    (line,) = ended.stderr.splitlines()
    assert "took more than 0.1 s" in line


@pytest.mark.usefixtures("bare")
def test_programs_are_run_and_killed_beside_the_loop_of_production(tmp_path: Path) -> None:
    """It has ideas of its own about the end of child processes."""
    config = tmp_path / "config"

    async def use_both() -> None:
        config.write_text("[default]\ncredential_process = sleep 60\n")
        async with kept_credentials("", timing=replace(QUICK, look_up_seconds=0.2)) as kept:
            assert not is_valid(kept)
            (tmp_path / "answer").write_text(process_answer("AKPROC"))
            config.write_text(f"[default]\ncredential_process = cat {tmp_path}/answer\n")
            await eventually(lambda: is_valid(kept))

    with asyncio.Runner(loop_factory=FairUvloop) as runner:
        runner.run(use_both())


async def test_leaving_ends_a_look_up_and_those_who_wait_for_it(with_imds: FakeAws) -> None:
    async with kept_credentials("", timing=CALM) as kept:
        open_before = open_descriptors()
        with_imds.imds.stall()
        caller = asyncio.create_task(kept.renew(kept.current()))
        await eventually(lambda: with_imds.imds.stalled == 1)
    assert not await caller
    assert look_up_threads() == []
    await eventually(lambda: with_imds.imds.stalled == 0)
    await eventually(lambda: open_descriptors() <= open_before)
    assert not await kept.renew(kept.current())


async def test_leaving_while_the_first_look_up_runs_ends_it(with_imds: FakeAws) -> None:
    with_imds.imds.stall()

    async def enter() -> None:
        async with kept_credentials("", timing=CALM):
            raise AssertionError

    entering = asyncio.create_task(enter())
    await eventually(lambda: with_imds.imds.stalled == 1)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert look_up_threads() == []


async def test_neither_looking_nor_asking_blocks_the_loop(machine: Machine) -> None:
    from_assumed_role(machine)
    # The look-up itself blocks, as it may, where no loop but its own runs; whoever asks for one
    # does not, on a way that leads through this module.
    with blockbuster_ctx(scanned_modules=["rangeserver.origin.credentials"]):
        async with kept_credentials("", timing=CALM) as kept:
            assert await kept.renew(kept.current())
