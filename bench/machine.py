"""What was measured with what, for whoever reads a figure later."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bench.command import ROOT, require
from bench.servers import NODE_DIRECTORY, NODE_PACKAGES

_PACKAGES = ("aiohttp", "aiobotocore", "botocore", "uvloop", "aiofastnet")


def print_machine() -> None:
    """The machine and the code that is measured."""
    load = os.getloadavg()[0]
    print(
        f"machine: {os.cpu_count()} x {_processor()}, Linux {platform.release()}, load {load:.1f}"
    )
    print(f"rangeserver at {_commit()}; Python {platform.python_version()}, {_packages()}")


def print_nginx(*, origin: bool = True) -> None:
    """The version of nginx; ``origin``: it is the origin as well."""
    shown = _output(require("nginx", "nginx-light"), "-v")
    print(shown + ("; the origin is nginx with static files" if origin else ""))


def print_node() -> None:
    """The versions of Node and of what the peer is built from."""
    versions = [f"Node {_output(require('node', 'nodejs'), '--version')}"]
    for name in NODE_PACKAGES:
        package = json.loads((NODE_DIRECTORY / "node_modules" / name / "package.json").read_text())
        versions.append(f"{name} {package['version']}")
    print(", ".join(versions) + "; keep-alive to the origin, up to 256 connections")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    if not (ROOT / ".git").exists():
        return "no commit"
    changed = " with changes" if _output("git", "status", "--porcelain", "-uno") else ""
    return _output("git", "rev-parse", "--short", "HEAD") + changed


def _packages() -> str:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _output(*command: str) -> str:
    """What a command prints, or why it cannot be had."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"({command[0]}: {error})"
    return (done.stdout + done.stderr).strip()
