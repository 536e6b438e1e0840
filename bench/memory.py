"""What processes and the kernel hold, as the kernel tells it in /proc (proc(5))."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.command import require

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SETTLED_SECONDS = 1.0
_SETTLED_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process: resident bytes; those of them that are no file's, pages shared with others
    divided among them (Pss of what is anonymous: the files of libraries count for more when another
    process ends that has them); and open descriptors.
    """

    resident: int
    proportional: int
    descriptors: int


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def memory_of(pid: int) -> Memory:
    """What a process holds in user space."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss_Anon: +(\d+) kB$", rollup, re.MULTILINE)
    assert found is not None
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Memory(resident(pid), int(found[1]) * 1024, descriptors)


async def settled(pid: int) -> Memory:
    """What a process holds once that has stopped moving."""
    last = resident(pid)
    while True:
        await asyncio.sleep(_SETTLED_SECONDS)
        now = resident(pid)
        if abs(now - last) <= last * _SETTLED_SHARE:
            return memory_of(pid)
        last = now


def tcp_bytes(sockstat: str | None = None) -> int:
    """Bytes of buffers that the kernel charges to all TCP sockets of this network namespace: what
    was sent and not acknowledged, and what was received and not read (``mem`` of
    /proc/net/sockstat, in pages).
    """
    text = Path("/proc/net/sockstat").read_text() if sockstat is None else sockstat
    found = re.search(r"^TCP:.* mem (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * _PAGE


def slab_bytes(meminfo: str | None = None) -> int:
    """Bytes of kernel objects of the whole machine: sockets, files, epoll items, and whatever
    anybody else makes meanwhile.
    """
    text = Path("/proc/meminfo").read_text() if meminfo is None else meminfo
    found = re.search(r"^Slab: +(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@dataclass(frozen=True, slots=True)
class Queues:
    """Buffers of established connections from a port: ``sent`` is charged to the server's ends
    for what waits to be taken, pages of a cached file that it refers to included.
    """

    connections: int
    sent: int
    received: int


def queues_of(port: int, *, clients: bool = False) -> Queues:
    """The buffers of connections to the server at ``port``, at its end, or at its ``clients``'
    (iproute2's ss).
    """
    end = "dport" if clients else "sport"
    command = (require("ss", "iproute2"), "-tmnH", "state", "established", end, "=", f":{port}")
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return read_queues(shown)


def read_queues(shown: str) -> Queues:
    """What ``ss -tm`` prints: r is what was received, w what was queued to send (sock_diag(7))."""
    found = re.findall(r"skmem:\(r(\d+),[^)]*?,w(\d+),", shown)
    return Queues(len(found), sum(int(w) for _, w in found), sum(int(r) for r, _ in found))
