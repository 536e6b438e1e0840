"""What is in the wheel and in the sdist. ``make release`` has those checked that it has built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.metadata import Metadata

from rangeserver import __version__
from tests.distributions import ROOT, Distributions, build, built

PACKAGE = ROOT / "rangeserver"
SAMPLES = PACKAGE / "demo" / "samples"
INFO = f"rangeserver-{__version__}.dist-info"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    released = os.environ.get("RELEASED")
    return built(Path(released)) if released else build(tmp_path_factory.mktemp("dist"))


def sources() -> set[str]:
    """What the package is made of, as a wheel names it: all but the samples."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in {".py", ".html", ".typed"}
    }


def test_the_wheel_has_the_package_and_nothing_else(distributions: Distributions) -> None:
    with ZipFile(distributions.wheel) as wheel:
        names = set(wheel.namelist())
        assert wheel.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert b"rangeserver = rangeserver.cli.main:main" in wheel.read(f"{INFO}/entry_points.txt")
    assert "rangeserver/py.typed" in names
    assert {name for name in names if not name.startswith(f"{INFO}/")} == sources()
    assert distributions.wheel.stat().st_size < 1_000_000


def test_the_sdist_is_what_make_needs(distributions: Distributions) -> None:
    """With the samples, for the demo, and the tests; with nothing that a run has left behind."""
    with tarfile.open(distributions.sdist) as archive:
        names = {
            name.partition("/")[2] for name in archive.getnames() if not name.endswith("PKG-INFO")
        }
    samples = {p.relative_to(ROOT).as_posix() for p in SAMPLES.rglob("*") if p.is_file()}
    for name in sources() | samples:
        assert name in names
    for name in (
        *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
        *("Makefile", "pyproject.toml", ".pre-commit-config.yaml", "config.toml"),
        *("requirements.txt", "requirements-demo.txt", "requirements-dev.txt"),
        *("tests/test_distributions.py", "docs/wire.md", "bench/node/package.json"),
    ):
        assert name in names
    left_behind = re.compile(r"(^|/)(__pycache__|node_modules|\.venv.*|\.git|\.coverage.*)(/|$)")
    assert not [name for name in names if left_behind.search(name)]


def test_both_have_valid_metadata(distributions: Distributions) -> None:
    with ZipFile(distributions.wheel) as wheel:
        texts = [wheel.read(f"{INFO}/METADATA")]
    with tarfile.open(distributions.sdist) as archive:
        info = archive.extractfile(f"rangeserver-{__version__}/PKG-INFO")
        assert info is not None
        texts.append(info.read())
    for text in texts:
        metadata = Metadata.from_email(text, validate=True)
        assert (metadata.name, str(metadata.version)) == ("rangeserver", __version__)
        assert metadata.license_expression == "MIT"
        assert metadata.description_content_type == "text/markdown"
        assert metadata.description == (ROOT / "README.md").read_text()
        assert str(metadata.requires_python) == ">=3.11"


def test_the_package_of_the_wheel_runs(distributions: Distributions, tmp_path: Path) -> None:
    """From another directory: nothing of the source tree is there to help."""
    with ZipFile(distributions.wheel) as wheel:
        wheel.extractall(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rangeserver", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("--version").stdout == f"rangeserver, version {__version__}\n"
    assert run("config").stdout == (ROOT / "config.toml").read_text()
    demo = run("demo")
    assert demo.returncode == 2
    assert demo.stderr == (
        "rangeserver: demo: the sample videos are in the source tree only: name a file of yours "
        "with --video FILE, or run `make demo` there\n"
    )
