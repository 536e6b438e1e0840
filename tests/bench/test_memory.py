"""What is read from /proc and ss: in the forms that they have, and of a process that is there."""

from __future__ import annotations

import os
import subprocess

from bench.memory import (
    Queues,
    read_queues,
    resident,
    settled,
    slab_bytes,
    tcp_bytes,
)
from bench.stalled_viewers import is_flat

SOCKSTAT = """sockets: used 35
TCP: inuse 19 orphan 0 tw 5138 alloc 19 mem 189
UDP: inuse 0 mem 7
"""
SHOWN = """0 131072 127.0.0.1:8080 127.0.0.1:5001
\t skmem:(r4096,rb131072,t0,tb2626560,f3072,w132096,o0,bl0,d0) cubic
0 0 127.0.0.1:8080 127.0.0.1:5002
\t skmem:(r0,rb131072,t0,tb2626560,f0,w1000,o0,bl0,d0) cubic
"""


def test_the_kernel_s_figures_are_taken_in_bytes() -> None:
    assert tcp_bytes(SOCKSTAT) == 189 * os.sysconf("SC_PAGE_SIZE")
    assert (
        slab_bytes("MemTotal: 5 kB\nSlab:             300 kB\nSReclaimable: 100 kB\n") == 300 * 1024
    )
    assert read_queues(SHOWN) == Queues(connections=2, sent=133_096, received=4096)
    assert read_queues("") == Queues(0, 0, 0)


def test_this_kernel_tells_them() -> None:
    assert tcp_bytes() >= 0
    assert slab_bytes() > 0


async def test_what_a_process_holds() -> None:
    """One that stands still: of this one, a look at it may cost a page."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:  # noqa: ASYNC220 (quick)
        found = await settled(child.pid)
        assert found.resident == resident(child.pid)
        assert 0 < found.proportional <= found.resident
        assert found.descriptors > 2


def test_waves_are_flat_when_the_last_ones_cost_the_same() -> None:
    assert not is_flat([100.0, 100.0])
    assert not is_flat([90.0, 100.0, 101.0])
    assert is_flat([50.0, 100.0, 101.0, 100.0])
