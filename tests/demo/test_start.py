"""What the command says before anything runs, and what it leaves alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rangeserver.cli.main import main
from rangeserver.demo import run
from rangeserver.demo.bucket import own_file
from rangeserver.demo.environment import demo_credentials


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_unusable_videos_are_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "back\\slash.mp4").touch()
    (tmp_path / os.fsdecode(b"latin-\xe9.mp4")).touch()
    for name, reason in [
        ("missing.mp4", "No such file or directory"),
        (".", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("back\\slash.mp4", "its name cannot be served: the path has a control character"),
        (os.fsdecode(b"latin-\xe9.mp4"), "its name cannot be served: the path is not UTF-8"),
    ]:
        result = CliRunner().invoke(main, ["demo", "--video", str(tmp_path / name)])
        assert result.exit_code == 2
        assert result.output.startswith("rangeserver: demo: --video ")
        assert reason in result.output
        assert result.output.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_video_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.touch(mode=0)
    result = CliRunner().invoke(main, ["demo", "--video", str(path)])
    assert result.exit_code == 2
    assert result.output == f"rangeserver: demo: --video {path}: Permission denied\n"


def test_own_file_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "100% +내 것?.mp4"
    path.write_bytes(b"12345")
    file = own_file(path)
    assert (file.key, file.size, file.own) == (path.name, 5, True)


def test_without_the_extra_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rangeserver.demo.run", "rangeserver.demo.embedded_s3"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "moto"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "moto", None)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert result.output == (
        "rangeserver: demo: more packages are needed: `make demo`, or `pip install '.[demo]'` "
        "in the source tree\n"
    )


def test_a_taken_port_is_an_error_only_if_it_was_asked_for(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(main, ["demo", "--port", str(taken_port)])
    assert result.exit_code == 1
    assert result.output == (
        f"rangeserver: demo: cannot listen on 127.0.0.1 port {taken_port}: Address already in use\n"
    )
    monkeypatch.setattr(run, "USUAL_PORT", taken_port)
    (listening,) = run.listening_sockets(None)
    with listening:
        assert listening.getsockname()[1] != taken_port


def test_credentials_are_the_demos_only_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    before = dict(os.environ)
    with demo_credentials():
        assert "AWS_PROFILE" not in os.environ
        assert "AWS_ENDPOINT_URL" not in os.environ
        assert os.environ["AWS_ACCESS_KEY_ID"] == "demo"
        assert os.environ["AWS_CONFIG_FILE"] == os.devnull
    assert dict(os.environ) == before
