"""The wheel and the sdist, built as they are released: ``python -m tests.distributions DIRECTORY``.

The wheel is built from what is in the sdist, so that neither needs anything that the sdist lacks.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Distributions:
    sdist: Path
    wheel: Path


def build(directory: Path) -> Distributions:
    """Build both into a directory, without the network."""
    _hatchling("sdist", ROOT, directory)
    (sdist,) = directory.glob("*.tar.gz")
    with TemporaryDirectory() as unpacked:
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (source,) = Path(unpacked).iterdir()
        _hatchling("wheel", source, directory)
    return built(directory)


def built(directory: Path) -> Distributions:
    """Those in a directory, which has one of each."""
    (sdist,) = directory.glob("*.tar.gz")
    (wheel,) = directory.glob("*.whl")
    return Distributions(sdist, wheel)


def _hatchling(kind: str, source: Path, directory: Path) -> None:
    options = ("--target", kind, "--directory", str(directory.resolve()))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", *options],
        cwd=source,
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
