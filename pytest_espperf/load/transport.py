"""A TCP connection, plain or encrypted, that an event loop watches and that we read and write ourselves.

An event loop's own transports copy what they read, allocate a buffer for each TLS connection, need a task to
open one, and have no way to take up a TLS session. Opening one costs the load generator twice what it costs
here (``tools/bench_load.py workloads``).

A server that sends an answer in several writes, with Nagle's algorithm on, waits for the acknowledgement of
the first one, which this computer would hold back for 40 ms (:mod:`~pytest_espperf.load.acks`). So it is sent
as soon as everything that has arrived was read and the answer is not complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import ClassVar, Protocol

from pytest_espperf.load.acks import acknowledge, prompt_acks
from pytest_espperf.system.dialing import connect_error

READ_BYTES = 64 * 1024
NOT_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket raises that has nothing to read, or takes nothing, for now."""

_RECORD_BYTES = 16 * 1024  # the longest TLS record: more at once is not taken in parts
_MOST_READS = 128  # in a row: other connections have their turn then
_MOST_SENDS = 16  # in a row: other connections have their turn then


class Receiver(Protocol):
    """The receiver of a connection's bytes."""

    def connection_made(self, transport: Transport, /) -> None:
        """Take a transport that is ready."""

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes, and the ``perf_counter_ns`` at which they arrived; return if more are due."""

    def eof_received(self) -> None:
        """Take note that the server ended its side; ours is closed as well."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone; called once, unless it was closed from this side."""


class Transport:
    """A connected socket in an event loop, as far as one request at a time needs it.

    Args:
        loop: one that has ``add_reader``.
        sock: connected (and through with the TLS handshake), non-blocking; owned from here on.
        receiver: gets the connection before this returns, and may write at once.
    """

    OPTIONS: ClassVar[Sequence[tuple[int, int, int]]] = ()
    """What its socket is set to before it connects: level, name, value."""

    MOST_BYTES: ClassVar[int] = sys.maxsize
    """What is sent at once: what the socket takes of more would not be known."""

    IN_RECORDS: ClassVar[bool] = False
    """Whether something may have come and yet there is nothing to read, since a record is not complete."""

    __slots__ = (
        "_failure",
        "_loop",
        "_receiver",
        "_sock",
        "_unsent",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._receiver = receiver
        self._unsent: deque[memoryview] = deque()
        self._failure: OSError | None = None
        loop.add_reader(sock, self._read)
        loop.remove_writer(sock)  # that of the dialling: only now, so that the loop keeps what it has of it
        receiver.connection_made(self)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The encrypted socket; None for a plain one, and once it is closed."""
        return None

    @property
    def unsent_bytes(self) -> int:
        """How many bytes the socket has not taken yet."""
        return sum(map(len, self._unsent))

    def write(self, data: bytes | memoryview) -> None:
        """Send, now or as soon as the socket takes it; a failure is reported as the connection's loss.

        Nothing is sent any more where the connection is lost already, and that not reported yet.
        """
        if self._unsent or self._sock is None or len(data) > self.MOST_BYTES:
            self._unsent.append(memoryview(data))
            if len(self._unsent) == 1 and self._sock is not None:
                self._write_on()
            return
        try:
            sent = self.send(data)
        except NOT_YET:
            sent = 0
        except OSError as exc:
            self._unsent.append(memoryview(data))
            self._fail(exc)
            return
        if sent < len(data):
            self._unsent.append(memoryview(data)[sent:])
            self._loop.add_writer(self._sock, self._write_on)

    def abort(self) -> None:
        """Close at once; nothing more is reported."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()

    def send(self, data: bytes | memoryview) -> int:
        """Give the socket bytes; return how many it took.

        Raises:
            OSError: it takes none for now (``NOT_YET``), or never will.
        """
        assert self._sock is not None
        return self._sock.send(data)

    def receive(self) -> tuple[bytes, int]:
        """Read from the socket; return the bytes and for how many ns this computer has had them.

        Raises:
            OSError: there is nothing (``NOT_YET``), or never will be.
        """
        assert self._sock is not None
        return self._sock.recv(READ_BYTES), 0

    def _write_on(self) -> None:
        sock = self._sock
        assert sock is not None
        for _ in range(_MOST_SENDS):
            piece = self._unsent[0]
            part = piece[: self.MOST_BYTES]
            try:
                sent = self.send(part)
            except ssl.SSLWantReadError:  # something of the server's comes first: then _read goes on here
                self._loop.remove_writer(sock)
                return
            except NOT_YET:
                sent = 0
            except OSError as exc:
                self._fail(exc)
                return
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
            else:
                self._unsent.popleft()
                if not self._unsent:
                    self._loop.remove_writer(sock)
                    return
            if sent < len(part):
                break
        self._loop.add_writer(sock, self._write_on)

    def _fail(self, exc: OSError) -> None:
        """Send no more. What the server said before it refused the rest is still to be read: 413, say."""
        # Without the frames, which hold this object.
        self._failure = exc.with_traceback(None)
        self._failure.__context__ = None
        assert self._sock is not None
        self._loop.remove_writer(self._sock)
        self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        if self._sock is not None:
            self._read_on()
            self._release(self._failure)

    def _read(self) -> None:
        if self._sock is not None:  # this may be a later turn of the loop
            self._read_on()
            if self._unsent and self._sock is not None and self._failure is None:
                self._write_on()

    def _read_on(self) -> None:
        # To the end of what there is while an answer is incomplete: behind its data may stand a reset, for
        # which uvloop calls once and never again.
        incomplete = self.IN_RECORDS
        for _ in range(_MOST_READS):
            try:
                data, late_ns = self.receive()
            except NOT_YET:
                if incomplete:
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
            incomplete = self._receiver.received(data, perf_counter_ns() - late_ns)
            if not incomplete or self._sock is None:
                return
        self._loop.call_soon(self._read)

    def _acknowledge(self) -> None:
        if self._sock is not None and prompt_acks():
            with contextlib.suppress(OSError):  # reset by the other side: the next read finds out
                acknowledge(self._sock)

    def _release(self, exc: OSError | None) -> None:
        if self._sock is not None:
            self.abort()
            self._loop.call_soon(self._receiver.connection_lost, exc)


class EncryptedTransport(Transport):
    """A connection over TLS; its socket must not suppress ragged ends."""

    MOST_BYTES = _RECORD_BYTES
    IN_RECORDS = True

    __slots__ = ("_tls",)

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        self._tls = sock
        super().__init__(loop, sock, receiver)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """See :class:`Transport`."""
        return self._tls if self._sock is not None else None

    def abort(self) -> None:
        """See :class:`Transport`."""
        if self._sock is not None:
            # A socket that is closed with something unread, a farewell say, resets the connection.
            with contextlib.suppress(OSError):
                socket.socket.recv(self._tls, READ_BYTES)
        super().abort()

    def send(self, data: bytes | memoryview) -> int:
        """See :class:`Transport`."""
        try:
            return self._tls.send(data)
        except ssl.SSLEOFError:
            raise _reset_error() from None

    def receive(self) -> tuple[bytes, int]:
        """See :class:`Transport`."""
        try:
            return self._tls.recv(READ_BYTES), 0
        except ssl.SSLWantWriteError:  # an answer to a new handshake in the midst of it
            if not self._unsent:
                self._loop.add_writer(self._tls, self._read_again)
            raise
        except ssl.SSLEOFError as exc:
            if _is_reset(exc):
                raise _reset_error() from None
            return b"", 0

    def _read_again(self) -> None:
        self._loop.remove_writer(self._tls)
        self._read()


def _is_reset(exc: ssl.SSLEOFError) -> bool:
    """Whether a reset, and not the server's end without a farewell, is behind an error of OpenSSL 3.

    Python before 3.11.9 and 3.12.3 makes the same error of both, but for the reason. With an older OpenSSL it
    raises what the socket says.
    """
    return ssl.OPENSSL_VERSION_INFO >= (3,) and exc.reason != "UNEXPECTED_EOF_WHILE_READING"


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class Dial:
    """A connection on its way, driven by callbacks; it may be given up at any time.

    Args:
        loop: one that has ``add_writer``.
        connect: begins to connect, see :func:`~pytest_espperf.system.dialing.begin_connect`.
        wrap: makes an encrypted socket of a connected one; None for a plain connection.
        make: makes the receiver once TCP is up; it gets the transport once that is ready.
        kind: of transport.
        failed: takes the reason where there is no connection; called from the loop.
    """

    __slots__ = ("_failed", "_kind", "_loop", "_make", "_receiver", "_sock", "_wrap")

    def __init__(  # noqa: PLR0917 - once per connection
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], socket.socket],
        wrap: Callable[[socket.socket], ssl.SSLSocket] | None,
        make: Callable[[], Receiver],
        kind: type[Transport],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._wrap = wrap
        self._make = make
        self._kind = kind
        self._failed: Callable[[BaseException], None] | None = failed
        self._receiver: Receiver | None = None
        self._sock: socket.socket | None = None
        try:
            self._sock = connect()
        except (OSError, ValueError) as error:  # ValueError: an address that is none
            loop.call_soon(self._fail, error)
        else:
            loop.add_writer(self._sock, self._settle)

    def cancel(self) -> None:
        """Give it up; ``failed`` is not called."""
        self._failed = None
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()

    def _settle(self) -> None:
        """Go on once TCP is up, or cannot be had."""
        sock = self._sock
        assert sock is not None
        if error := connect_error(sock):
            self._fail(error)
            return
        self._receiver = self._make()
        if self._wrap is None:
            self._hand_over(sock)
            return
        self._loop.remove_writer(sock)
        self._sock = None  # the encrypted one owns what it is made of
        try:
            encrypted = self._wrap(sock)
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate can have
            sock.close()
            self._fail(error)
            return
        self._sock = encrypted
        self._loop.add_reader(encrypted, self._shake, encrypted)
        self._shake(encrypted)

    def _shake(self, sock: ssl.SSLSocket) -> None:
        """Go on with the TLS handshake."""
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.remove_writer(sock)
        except ssl.SSLWantWriteError:
            self._loop.add_writer(sock, self._shake, sock)
        except (OSError, ValueError) as error:
            self._fail(error)
        else:
            self._hand_over(sock)

    def _hand_over(self, sock: socket.socket) -> None:
        self._sock = None
        assert self._receiver is not None
        self._kind(self._loop, sock, self._receiver)

    def _fail(self, error: BaseException) -> None:
        failed = self._failed
        self.cancel()
        if failed is not None:
            failed(error)
