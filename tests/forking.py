"""Processes that are there within milliseconds: forked off one that has imported everything and
read botocore's files, which otherwise takes half a second of each.
"""

from __future__ import annotations

import multiprocessing

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.preloaded"])
