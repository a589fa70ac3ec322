"""A plain TCP socket that we read ourselves, for the time at which the kernel took its bytes in. Linux.

What an event loop's transport delivers is stamped when the interpreter gets round to it: 50-250 us late on
an idle machine (it was asleep), later behind other clients' answers, and by whole time slices on a busy one.
With ``SO_TIMESTAMPNS`` (socket(7)) each read brings the wall-clock time at which the network stack received
the last segment of what was read, whatever this process did meanwhile. On loopback, reads are then 8-40 us
late where those of a generator in C that stamps for itself are 60-140 us late (``tools/bench_load.py``).

A server that sends an answer in several writes, with Nagle's algorithm on, waits for the acknowledgement of
the first one, which this computer would hold back for 40 ms (:mod:`~pytest_espperf.load.acks`). So it is sent
as soon as everything that has arrived was read and the answer is not complete.

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
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns, time_ns
from typing import Protocol

from pytest_espperf.load.acks import acknowledge, prompt_acks
from pytest_espperf.system.dialing import connect_socket, numeric_address

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h: the socket module has no name for it
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = 64
_READ_BYTES = 64 * 1024
_MOST_READS = 128  # in a row: more than any receive buffer holds
_MOST_SENDS = 16  # in a row: other connections have their turn then
_BELIEVED_NS = 1_000_000
_TCP_INFO_BYTES = 228  # up to and with tcpi_rcv_ooopack, the last field read (Linux 5.4)
_OUT_OF_ORDER = struct.Struct("@I")
_TRIES = 50
_TRY_AGAIN_S = 0.01


class Receiver(Protocol):
    """The receiver of a connection's bytes."""

    def connection_made(self, transport: StampedTransport, /) -> None:
        """Take a transport that is ready."""

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes, and the ``perf_counter_ns`` at which the kernel had them; return if more are due."""

    def eof_received(self) -> None:
        """Take note that the server ended its side; ours is closed as well."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone; called once."""


class StampedTransport:
    """A connected socket in an event loop, as far as one request at a time needs it.

    Args:
        loop: one that has ``add_reader``.
        sock: connected, non-blocking; owned from here on.
        receiver: gets the connection before this returns, and may write at once.
    """

    __slots__ = (
        "_acknowledge",
        "_failure",
        "_loop",
        "_out_of_order",
        "_receiver",
        "_recvmsg",
        "_send",
        "_sock",
        "_unsent",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._receiver = receiver
        self._recvmsg = sock.recvmsg
        self._send = sock.send
        self._acknowledge = functools.partial(acknowledge, sock) if prompt_acks() else None
        self._unsent: deque[memoryview] = deque()
        self._failure: OSError | None = None
        self._out_of_order = 0
        loop.add_reader(sock, self._read)
        receiver.connection_made(self)

    def write(self, data: bytes | memoryview) -> None:
        """Send, now or as soon as the socket takes it; a failure is reported as the connection's loss.

        Nothing is sent any more where the connection is lost already, and that not reported yet.
        """
        if self._unsent or self._sock is None:
            self._unsent.append(memoryview(data))
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            self._unsent.append(memoryview(data))
            self._fail(exc)
            return
        if sent < len(data):
            self._unsent.append(memoryview(data)[sent:])
            assert self._sock is not None
            self._loop.add_writer(self._sock, self._write_on)

    def get_write_buffer_size(self) -> int:
        """Count the bytes that the socket has not taken yet, as event loops' own transports do."""
        return sum(map(len, self._unsent))

    def abort(self) -> None:
        """Close at once; the loss is reported soon."""
        self._release(None)

    def _write_on(self) -> None:
        assert self._sock is not None
        for _ in range(_MOST_SENDS):
            piece = self._unsent[0]
            try:
                sent = self._send(piece)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._fail(exc)
                return
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
                return
            self._unsent.popleft()
            if not self._unsent:
                self._loop.remove_writer(self._sock)
                return

    def _fail(self, exc: OSError) -> None:
        """Send no more. What the server said before it refused the rest is still to be read: 413, say."""
        self._failure = exc
        assert self._sock is not None
        self._loop.remove_writer(self._sock)
        self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        if self._sock is not None:
            self._read()
            self._release(self._failure)

    def _read(self) -> None:
        # To the end of what there is while an answer is incomplete: behind its data may stand a reset, for
        # which uvloop calls once and never again.
        incomplete = False
        for _ in range(_MOST_READS):
            try:
                data, ancillary, _, _ = self._recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                if incomplete and self._acknowledge is not None:
                    self._acknowledge()
                return
            except OSError as exc:
                self._release(exc)
                return
            if not data:
                if self._failure is None:  # else the reset that made the sending fail
                    self._receiver.eof_received()
                self._release(self._failure)
                return
            late_ns = 0
            if ancillary:
                # The stamp's clock may be set or slewed: only its distance from now is used.
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                late_ns = time_ns() - seconds * 1_000_000_000 - nanoseconds
                if late_ns < 0 or (late_ns > _BELIEVED_NS and self._hole_filled()):
                    late_ns = 0
            incomplete = self._receiver.received(data, perf_counter_ns() - late_ns)
            if not incomplete or self._sock is None:
                return

    def _hole_filled(self) -> bool:
        """Whether segments came out of order since this was last asked."""
        assert self._sock is not None
        before, self._out_of_order = self._out_of_order, _out_of_order(self._sock)
        return self._out_of_order != before

    def _release(self, exc: OSError | None) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()
            self._loop.call_soon(self._receiver.connection_lost, exc)


def _out_of_order(sock: socket.socket) -> int:
    """Count the segments of a connection that came out of order so far."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    count: int = _OUT_OF_ORDER.unpack_from(info, _TCP_INFO_BYTES - _OUT_OF_ORDER.size)[0]
    return count


async def connect_stamped(address: str, port: int, make: Callable[[], Receiver]) -> None:
    """Connect to a numeric address; ``make`` is called then, and what it made gets the connection soon.

    Raises:
        OSError: it cannot be reached.
    """
    family, place = numeric_address(address, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        loop = asyncio.get_running_loop()
        await connect_socket(loop, sock, place)
        receiver = make()
    except BaseException:
        sock.close()
        raise
    # From the loop, as its own transports do: what the receiver raises is not this task's.
    loop.call_soon(StampedTransport, loop, sock, receiver)


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
