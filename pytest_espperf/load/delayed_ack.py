"""Detection of answers that wait for an acknowledgement which clients delay.

A server that sends head and body by two writes, with Nagle's algorithm on (RFC 896), sends the second one
when the first is acknowledged. Clients delay that acknowledgement by 40 to 200 ms (RFC 1122 4.2.3.2). The
load engine does not, where it can (:mod:`~pytest_espperf.load.acks`), and so measures the board. The client
here delays it as others do, and looks for a pause within an answer that disappears once the acknowledgement
is sent at once.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import httpx

from pytest_espperf.load.acks import acknowledge, prompt_acks
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import prepare_requests
from pytest_espperf.load.wire import ResponseReader
from pytest_espperf.model.workload import Profile, Target
from pytest_espperf.system.tls import tls_for

LEAST_PAUSE_MS = 20.0
"""Shortest pause within an answer that is looked into: half of the shortest timer, Linux's 40 ms."""

SETTLED_REQUESTS = 4
"""Requests on a connection before a kernel holds acknowledgements back: the first ones are sent at once."""

LOOK = 4
"""Answers of a path that have to pause, all of them, before it is suspected; one without settles it."""

MOST_BYTES = 16 * 1024
"""Longest answer that is looked at: a longer one has pauses of its own."""

_READ_BYTES = 64 * 1024
_NUDGE = b"\r\n"
"""Carries the acknowledgement where the kernel sends none by itself; a server skips an empty line in front of
a request (RFC 9112 2.2)."""

Promptness = Literal["held back", "quickack", "nudge"]


@dataclass(frozen=True)
class DelayedAcks:
    """Which paths answer clients late that hold acknowledgements back.

    Attributes:
        asked: the paths of which it is known.
        waits_ms: how long the answers of a path wait, in milliseconds; paths that do not are missing.
        measured: whether the load engine waits as well: its figures contain this computer's timer.
    """

    asked: tuple[str, ...] = ()
    waits_ms: dict[str, float] = field(default_factory=dict)
    measured: bool = False


class _BlockingClient:
    """A client with one kept-alive connection and blocking reads.

    Attributes:
        answered: requests of the present connection.
    """

    def __init__(
        self, target: Target, context: ssl.SSLContext | None, acks: Promptness, left: Callable[[], float]
    ) -> None:
        self._target = target
        self._context = context
        self._acks = acks
        self._left = left
        self._sock: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._arrived, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.answered = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, which neither side has announced to close."""
        return self._sock is not None

    def longest_pause_ms(self, wire: bytes) -> float:
        """Ask, and return the longest time between two reads of the answer, in milliseconds.

        Raises:
            OSError: no answer in the time that is left.
            httpx.TransportError: no answer that can be read.
            ValueError: the answer is longer than ``MOST_BYTES``.
        """
        reused = self.is_open
        try:
            return self._ask(wire)
        except (ConnectionError, httpx.RemoteProtocolError):
            self.close()
            if not reused:
                raise
            return self._ask(wire)  # the board had closed the connection meanwhile

    def _ask(self, wire: bytes) -> float:
        if self._sock is None:
            self._connect()
        self._send(wire)
        reader, nudged, longest, read_s = ResponseReader(), False, 0.0, 0.0
        complete = False
        while not complete:
            data = self._read()
            if not data:
                complete = reader.eof()
                self.close()
                break
            now_s = time.perf_counter()
            longest = max(longest, now_s - read_s) if read_s else 0.0
            read_s = now_s
            plain = self._decrypted(data)
            complete = bool(plain) and reader.feed(plain)
            if reader.body_bytes > MOST_BYTES:
                raise ValueError(f"an answer above {MOST_BYTES} bytes")
            if not complete and self._acks == "quickack":
                assert self._sock is not None
                acknowledge(self._sock)
            elif not complete and self._acks == "nudge" and not nudged:
                self._send(_NUDGE)
                nudged = True
        self.answered += 1
        if nudged or not reader.keep_alive:
            self.close()
        return 1e3 * longest

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = self._tls = None

    def _connect(self) -> None:
        self.answered = 0
        place = self._target.address, self._target.port
        self._sock = socket.create_connection(place, timeout=self._time_left())
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return
        self._arrived, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = self._target.tls_name or self._target.address
        self._tls = self._context.wrap_bio(self._arrived, self._to_send, server_hostname=name)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._arrived.write(self._read() or b"")
            else:
                self._flush()
                return

    def _time_left(self) -> float:
        left_s = self._left()
        if left_s <= 0:
            raise TimeoutError("no time is left")
        return left_s

    def _read(self) -> bytes:
        assert self._sock is not None
        self._sock.settimeout(self._time_left())
        data = self._sock.recv(_READ_BYTES)
        if not data and self._tls is not None:
            raise ConnectionResetError("closed inside a TLS connection")
        return data

    def _decrypted(self, data: bytes) -> bytes:
        """Decrypt the bytes; b"" while a TLS record is not complete."""
        if self._tls is None:
            return data
        self._arrived.write(data)
        plain = b""
        while True:
            try:
                piece = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                return plain
            if not piece:
                raise ConnectionResetError("closed inside an answer")
            plain += piece

    def _send(self, data: bytes) -> None:
        assert self._sock is not None
        if self._tls is None:
            self._sock.sendall(data)
        else:
            self._tls.write(data)
            self._flush()

    def _flush(self) -> None:
        assert self._sock is not None
        if self._to_send.pending:
            self._sock.sendall(self._to_send.read())


def find_delayed_acks(target: Target, profiles: Sequence[Profile], *, budget_s: float) -> DelayedAcks:
    """Ask the board for the paths of some profiles, each once; see :func:`read_delayed_acks`.

    Raises:
        UsageError: a request cannot be made.
    """
    requests: dict[str, bytes] = {}
    for profile in profiles:
        if not profile.requests:  # streams alone
            continue
        prepared = prepare_requests(
            target, profile.requests, profile.headers, OutcomeTable([]), own_connection=True
        )
        for spec, request in zip(profile.requests, prepared, strict=True):
            requests.setdefault(spec.path, request.wire)
    return read_delayed_acks(target, list(requests.items()), budget_s=budget_s, context=tls_for(target))


def read_delayed_acks(
    target: Target,
    requests: Sequence[tuple[str, bytes]],
    *,
    budget_s: float,
    context: ssl.SSLContext | None = None,
    clock: Callable[[], float] = time.monotonic,
    prompt: Promptness | None = None,
) -> DelayedAcks:
    """Ask for each path a few times; never raises for what a board does, whatever that is.

    A path whose answers pause each time is asked for by two clients, one after the other: one that holds
    acknowledgements back, and one that does not. It waits where the first one has a pause and the other none.

    Args:
        target: the board; its address is numeric.
        requests: paths, and the bytes of their requests.
        budget_s: for all of it; a path for which no time is left is not known.
        context: TLS settings, None for plain TCP.
        clock: seconds.
        prompt: how the second client sends acknowledgements at once; None for what this computer can.
    """
    ends_s = clock() + budget_s

    def left() -> float:
        return ends_s - clock()

    if prompt is None:
        prompt = "quickack" if prompt_acks() else "nudge"
    usual, quick = (_BlockingClient(target, context, acks, left) for acks in ("held back", prompt))
    # One client after the other: a board may serve one connection at a time.
    pauses = {path: found for path, wire in requests if (found := _pauses_ms(usual, wire))}
    usual.close()
    suspects = {path: wire for path, wire in requests if len(pauses.get(path, ())) == LOOK}
    promptly = {path: found for path, wire in suspects.items() if (found := _pauses_ms(quick, wire, LOOK))}
    quick.close()
    waits_ms = {
        path: round(waited, 1)
        for path, found in promptly.items()
        if (waited := _waited_ms(pauses[path], found)) >= LEAST_PAUSE_MS
    }
    asked = [path for path in pauses if path not in suspects or path in promptly]
    return DelayedAcks(tuple(asked), waits_ms, measured=bool(waits_ms) and not prompt_acks())


def _pauses_ms(client: _BlockingClient, wire: bytes, at_least: int = 1) -> list[float]:
    """Measure the pauses within ``LOOK`` answers; fewer if one has none, and [] if one does not come.

    Args:
        client: who asks.
        wire: the request.
        at_least: go on without a pause up to so many.
    """
    found: list[float] = []
    try:
        while len(found) < LOOK:
            found.append(_settled_pause_ms(client, wire))
            if len(found) >= at_least and found[-1] < LEAST_PAUSE_MS:
                break
    except (OSError, httpx.TransportError, ValueError):
        client.close()
        return []
    return found


def _waited_ms(pauses: Sequence[float], promptly: Sequence[float]) -> float:
    """Compute how long answers wait for an acknowledgement; 0.0 if most of the pause stays."""
    waited = median(pauses) - median(promptly)
    return waited if waited >= median(pauses) / 2 else 0.0


def _settled_pause_ms(client: _BlockingClient, wire: bytes) -> float:
    """Measure the pause within an answer, if possible on a connection that is not new."""
    pause = client.longest_pause_ms(wire)
    for _ in range(SETTLED_REQUESTS):
        if not client.is_open or client.answered > SETTLED_REQUESTS:
            break
        pause = client.longest_pause_ms(wire)
    return pause
