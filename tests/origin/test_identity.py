"""Who asks: the same as long as the same right stands behind it, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rangeserver.config import OriginConfig
from rangeserver.origin.identity import principal, reader


def whose(
    method: str,
    access_key: str = "A",
    profile: str = "",
    settings: Mapping[str, object] | None = None,
    **environ: str,
) -> str:
    return principal(method, access_key, profile, settings or {}, environ)


@pytest.mark.parametrize("method", ["env", "shared-credentials-file", "something new"])
def test_keys_that_were_written_down_stand_for_themselves(method: str) -> None:
    assert whose(method) == whose("env", profile="x", settings={"role_arn": "y"}, AWS_ROLE_ARN="z")
    assert whose(method, "B") != whose(method)


@pytest.mark.parametrize("method", ["iam-role", "assume-role", "sso", "custom-process"])
def test_keys_of_a_role_do_not(method: str) -> None:
    assert whose(method, "B") == whose(method, "A")
    assert whose(method) != whose("env")
    of_secrets = {"aws_secret_access_key": "s", "region": "eu-west-1"}
    assert whose(method, settings=of_secrets) == whose(method)


def test_where_they_come_from_does() -> None:
    different = {
        whose("iam-role"),
        whose("assume-role"),
        whose("assume-role", profile="x"),
        whose("assume-role", settings={"role_arn": "arn:1"}),
        whose("assume-role", settings={"role_arn": "arn:2"}),
        whose("assume-role", AWS_ROLE_ARN="arn:1"),
        whose("container-role", AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/1"),
        whose("container-role", AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/2"),
        whose("custom-process", settings={"credential_process": "a"}),
        whose("custom-process", settings={"credential_process": "b"}),
    }
    assert len(different) == 10
    assert not any("arn" in each for each in different)


def test_what_else_an_answer_depends_on() -> None:
    wishes = (
        OriginConfig(),
        OriginConfig(request_payer=True),
        OriginConfig(expected_bucket_owner="123456789012"),
        OriginConfig(use_version_ids=True),
    )
    assert len({reader(config, lambda: "me")() for config in wishes}) == 4
    assert reader(OriginConfig(forbidden_as_not_found=True), lambda: "me")() == "me"


def test_who_it_is_may_change_while_it_is_asked() -> None:
    people = iter(["", "me"])
    ask = reader(OriginConfig(), lambda: next(people))
    assert [ask(), ask()] == ["", "me"]
