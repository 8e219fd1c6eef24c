"""Who is at the other end of a socket on this host.

Unix sockets: the kernel's socket diagnostics (sock_diag(7), UNIX_DIAG with UDIAG_SHOW_PEER).
Internet sockets: /proc/net/tcp and tcp6, the entry with the two addresses exchanged.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_SOCK_DIAG_BY_FAMILY = 20
_NLM_REQUEST_DUMP = 0x301
_NLMSG_DONE, _NLMSG_ERROR = 3, 2
_UDIAG_SHOW_PEER = 4
_UNIX_DIAG_PEER = 2
_ALL_STATES = 0xFFFFFFFF
_NETLINK_SOCK_DIAG = 4
_ACCEPTS = 0x10000
"""__SO_ACCEPTCON in the flags of /proc/net/unix: somebody listens (net.h)."""
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")


def unix_peers() -> Mapping[int, int]:
    """Return inode to the peer's inode of every connected Unix socket; empty if it cannot be asked."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
            link.settimeout(1.0)
            body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _UDIAG_SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
            link.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_REQUEST_DUMP, 1, 0) + body)
            return dict(_answers(link))
    except OSError:
        return {}


def _answers(link: socket.socket) -> Iterator[tuple[int, int]]:
    while True:
        raw = link.recv(65536)
        while len(raw) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(raw)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                return
            yield from _peer_of(raw[_HEADER.size : length])
            raw = raw[(length + 3) & ~3 :]


def _peer_of(message: bytes) -> Iterator[tuple[int, int]]:
    inode = _MESSAGE.unpack_from(message)[4]
    attributes = message[_MESSAGE.size :]
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if length < 4:
            return
        if kind == _UNIX_DIAG_PEER:
            yield inode, struct.unpack_from("=I", attributes, 4)[0]
        attributes = attributes[(length + 3) & ~3 :]


def unix_listener(address: bytes) -> int | None:
    """Return the inode of the Unix socket that listens at a sockaddr_un, or None."""
    if len(address) < 3 or struct.unpack_from("=H", address)[0] != socket.AF_UNIX:
        return None
    raw = address[2:]
    name = "@" + raw[1:].decode("utf-8", "replace") if raw[0] == 0 else raw.split(b"\0")[0].decode("utf-8", "replace")
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == name and int(fields[3], 16) & _ACCEPTS:
            return int(fields[6])
    return None


def internet_sockets() -> Mapping[tuple[tuple[str, int], tuple[str, int]], int]:
    """Return (local, remote) to the inode of every TCP socket of this network namespace."""
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            found[_address(fields[1]), _address(fields[2])] = int(fields[9])
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    words = [int(host[place : place + 8], 16) for place in range(0, len(host), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    return plain_host(socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)), int(port, 16)


def plain_host(host: str) -> str:
    """Return an address without the clothes of IPv4 in IPv6."""
    return host.removeprefix("::ffff:") if host.count(".") == 3 else host
