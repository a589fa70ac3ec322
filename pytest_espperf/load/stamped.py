"""A plain connection whose bytes are stamped with the time at which the kernel took them in. Linux.

What an event loop's callback reads is stamped when the interpreter gets round to it: 50-250 us late on
an idle machine (it was asleep), later behind other clients' answers, and by whole time slices on a busy one.
With ``SO_TIMESTAMPNS`` (socket(7)) each read brings the wall-clock time at which the network stack received
the last segment of what was read, whatever this process did meanwhile. On loopback, reads are then 8-40 us
late where those of a generator in C that stamps for itself are 60-140 us late (``tools/bench_load.py``).

The stamp is that of the segment which is last in sequence. Where an earlier one was lost, the last came in
time and the answer did not: a stamp from before the hole was filled is not used (``tcpi_rcv_ooopack``
of ``TCP_INFO`` counts segments that came out of order).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import sys
import time
from time import time_ns

from pytest_espperf.load.transport import READ_BYTES, Receiver, Transport

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h: the socket module has no name for it
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = 64
_BELIEVED_NS = 1_000_000
_TCP_INFO_BYTES = 228  # up to and with tcpi_rcv_ooopack, the last field read (Linux 5.4)
_OUT_OF_ORDER = struct.Struct("@I")
_TRIES = 50
_TRY_AGAIN_S = 0.01


class StampedTransport(Transport):
    """A plain transport that knows when bytes arrived."""

    OPTIONS = ((socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1),)

    __slots__ = ("_out_of_order", "_recvmsg")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver) -> None:
        self._recvmsg = sock.recvmsg
        self._out_of_order = 0
        super().__init__(loop, sock, receiver)

    def receive(self) -> tuple[bytes, int]:
        """See :class:`~pytest_espperf.load.transport.Transport`."""
        data, ancillary, _, _ = self._recvmsg(READ_BYTES, _ANCILLARY_BYTES)
        if not ancillary:
            return data, 0
        # The stamp's clock may be set or slewed: only its distance from now is used.
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        late_ns = time_ns() - seconds * 1_000_000_000 - nanoseconds
        if late_ns < 0 or (late_ns > _BELIEVED_NS and self._hole_filled()):
            late_ns = 0
        return data, late_ns

    def _hole_filled(self) -> bool:
        """Whether segments came out of order since this was last asked."""
        assert self._sock is not None
        before, self._out_of_order = self._out_of_order, _out_of_order(self._sock)
        return self._out_of_order != before


def _out_of_order(sock: socket.socket) -> int:
    """Count the segments of a connection that came out of order so far."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    count: int = _OUT_OF_ORDER.unpack_from(info, _TCP_INFO_BYTES - _OUT_OF_ORDER.size)[0]
    return count


@functools.cache
def kernel_stamps() -> bool:
    """Whether this machine's kernel stamps what TCP sockets receive; found out by receiving something."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(Exception), contextlib.ExitStack() as stack:  # any refusal is a no
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=1))
        theirs = stack.enter_context(listener.accept()[0])
        ours.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        for _ in range(_TRIES):  # the first socket of a machine to ask for stamps gets them a moment later
            theirs.send(b"x")
            found = ours.recvmsg(1, _ANCILLARY_BYTES)[1]
            if found and found[0][:2] == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                return len(found[0][2]) == _TIMESPEC.size and _out_of_order(ours) == 0
            time.sleep(_TRY_AGAIN_S)
    return False
