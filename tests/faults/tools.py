"""Programs that some faults are made with; CI must have them, a developer's machine need not."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(*programs: str, root: bool = False) -> pytest.MarkDecorator:
    """Skip a test, saying why, where a program or the right to use it is missing.

    As root in CI it is not skipped but fails for want of what is missing: there all is to run.
    """
    is_root = os.geteuid() == 0
    reasons = [f"no {program}" for program in programs if shutil.which(program) is None]
    if root and not is_root:
        reasons.append("not root")
    all_is_to_run = is_root and os.environ.get("CI") == "true"
    return pytest.mark.skipif(bool(reasons) and not all_is_to_run, reason=", ".join(reasons))
