"""Who is at the other end of a socket on this host.

Unix sockets: the kernel's socket diagnostics (sock_diag(7), UNIX_DIAG with UDIAG_SHOW_PEER and, for
connections that nobody has accepted yet, UDIAG_SHOW_ICONS).
Internet sockets: /proc/net/tcp and tcp6, the entry with the two addresses exchanged.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SOCK_DIAG_BY_FAMILY = 20
_NLM_REQUEST_DUMP = 0x301
_NLMSG_DONE, _NLMSG_ERROR = 3, 2
_UDIAG_SHOW_PEER, _UDIAG_SHOW_ICONS = 4, 8
_UNIX_DIAG_PEER, _UNIX_DIAG_ICONS = 2, 3
_ALL_STATES = 0xFFFFFFFF
_NETLINK_SOCK_DIAG = 4
_ACCEPTS = 0x10000
"""__SO_ACCEPTCON in the flags of /proc/net/unix: somebody listens (net.h)."""
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")


@dataclass(frozen=True, slots=True)
class UnixPeers:
    """Who is at the other end of the Unix sockets of this network namespace, by inode."""

    peers: Mapping[int, int]
    """Of every connected socket."""
    listeners: Mapping[int, int]
    """Of every socket that is connected and not accepted yet: the socket that listens."""


def unix_peers() -> UnixPeers:
    """Return the other ends of Unix sockets; none if the kernel cannot be asked."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
            link.settimeout(1.0)
            show = _UDIAG_SHOW_PEER | _UDIAG_SHOW_ICONS
            body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
            link.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_REQUEST_DUMP, 1, 0) + body)
            answers = list(_answers(link))
    except OSError:
        return UnixPeers({}, {})
    return UnixPeers(
        {inode: words[0] for kind, inode, words in answers if kind == _UNIX_DIAG_PEER},
        {client: inode for kind, inode, words in answers if kind == _UNIX_DIAG_ICONS for client in words},
    )


def _answers(link: socket.socket) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    while True:
        raw = link.recv(65536)
        while len(raw) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(raw)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                return
            yield from _attributes(raw[_HEADER.size : length])
            raw = raw[(length + 3) & ~3 :]


def _attributes(message: bytes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """The kind of an attribute, the socket's inode, and the attribute's numbers."""
    inode = _MESSAGE.unpack_from(message)[4]
    attributes = message[_MESSAGE.size :]
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if length < 4:
            return
        if kind in (_UNIX_DIAG_PEER, _UNIX_DIAG_ICONS) and length >= 8:
            yield kind, inode, struct.unpack_from(f"={(length - 4) // 4}I", attributes, 4)
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
