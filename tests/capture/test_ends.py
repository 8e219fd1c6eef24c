"""What the kernel tells of the other ends of sockets and terminals, and of threads that have ended."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qtrace.capture import procfs
from qtrace.capture.identity import identify_link
from qtrace.capture.peers import unix_peers
from qtrace.model.kinds import ObjectKind
from tests.support.processes import running


def inode(end: socket.socket) -> int:
    """Return the number by which /proc knows a socket."""
    return os.fstat(end.fileno()).st_ino


def test_a_unix_connection_that_nobody_accepted_leads_to_who_listens(tmp_path: Path) -> None:
    """Once it is accepted, to the socket of the connection."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "service"))
        server.listen()
        client.connect(str(tmp_path / "service"))
        waiting = unix_peers()
        assert waiting.listeners[inode(client)] == inode(server)
        assert not waiting.peers.get(inode(client))
        accepted, _ = server.accept()
        with accepted:
            served = unix_peers()
            assert served.peers[inode(client)] == inode(accepted)
            assert inode(client) not in served.listeners


def test_the_two_sides_of_a_pseudo_terminal_have_one_number() -> None:
    """All masters are called /dev/ptmx: fdinfo tells which is which."""
    pairs = [pty.openpty() for _ in range(2)]
    try:
        for master, slave in pairs:
            number = os.ttyname(slave).rpartition("/")[2]
            link = os.readlink(f"/proc/self/fd/{master}")
            assert identify_link(os.getpid(), master, link) == (f"ptmx:{number}", ObjectKind.TTY)
            link = os.readlink(f"/proc/self/fd/{slave}")
            assert identify_link(os.getpid(), slave, link) == (f"tty:/dev/pts/{number}", ObjectKind.TTY)
    finally:
        for fd in (fd for pair in pairs for fd in pair):
            os.close(fd)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_process_that_had_another_thread_is_known(threads: int) -> None:
    """glibc keeps the heap that it made for it."""
    code = f"""
import sys, threading
for _ in range({threads}):
    thread = threading.Thread(target=lambda: [str(n) for n in range(10_000)])
    thread.start()
    thread.join()
print("ready", flush=True)
sys.stdin.read()
"""
    with running([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert procfs.maps_of(process.pid).thread_heap is bool(threads)
