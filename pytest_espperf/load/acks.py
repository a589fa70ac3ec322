"""Acknowledgements that this computer does not hold back. Linux.

A kernel delays the acknowledgement of what it received (RFC 1122 4.2.3.2), for 40 ms on Linux, to send it
with the next request. A server that sends an answer in several writes, with Nagle's algorithm on (RFC 896),
sends the second one when the first is acknowledged: each answer then takes 40 ms of *this computer's*
timer, whatever the handler does. ``TCP_QUICKACK`` (tcp(7)) sends an acknowledgement that is due at once. It
has to be set again for each one, and works once everything that has arrived was read.
"""

from __future__ import annotations

import functools
import socket
import sys
from typing import Protocol

_TCP_QUICKACK = 12  # linux/tcp.h: the socket module has a name for it on Linux alone


class _Socket(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


@functools.cache
def prompt_acks() -> bool:
    """Whether this computer can send acknowledgements at once where a program asks for it."""
    if sys.platform != "linux":
        return False
    try:
        with socket.socket() as sock:
            acknowledge(sock)
    except OSError:  # an emulated kernel
        return False
    return True


def acknowledge(sock: _Socket) -> None:
    """Send the acknowledgement that is due, if one is; everything that arrived must have been read.

    Raises:
        OSError: a kernel without this option, or a connection that is gone.
    """
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)
