"""The link to the board, apart from what its handlers do: how long a TCP connect takes while it is idle.

The board's network stack answers a connect, not its web server: what changes between two of them is the
link. Its first packet is sent again after a second where it was lost, so that a connect of a second or
more is a lost packet and no latency: those are counted, and left out of the times.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import httptools
import httpx

from pytest_espperf.model.computer import lack_of
from pytest_espperf.model.workload import Target, merge_headers

CONNECTS = 4
"""Connects of one reading."""

PAUSE_S = 0.01
"""Behind each connect, for the board to close it: before the next one, and before its heap is read.

Whatever the link's latency, so much lies between the two where the board sees them: a tick of FreeRTOS.
"""

RETRANSMITTED_S = 0.9
"""From here on a connect's first packet was sent again (RFC 6298: after one second)."""

_TCP_INFO_BYTES = 104
_TOTAL_RETRANS = struct.Struct("@I")


@dataclass(frozen=True)
class LinkReading:
    """What a few connects to an idle board met.

    Attributes:
        connect_ms: how long they took; those with a lost packet, and failed ones, are left out.
        retransmitted: connects whose first packet was sent again, or got no answer at all.
        failed: connects that were refused or reset.
    """

    connect_ms: tuple[float, ...] = ()
    retransmitted: int = 0
    failed: int = 0


def read_link(
    target: Target,
    *,
    budget_s: float,
    connects: int = CONNECTS,
    path: str = "",
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.perf_counter,
) -> LinkReading:
    """Connect to the board a few times, one after the other; never raises for a board that is not there.

    With a ``path`` a request follows each connect, after its time was taken: a small server may die of a
    connection that ends without one, or serve nobody else while it waits for it. No client does that to it.

    Args:
        target: the board; its address is numeric.
        budget_s: for all of it.
        connects: how many.
        path: what is asked for on each connection; "" for nothing.
        sleep: replaced in tests, as is ``clock``.
        clock: seconds.
    """
    ends = clock() + budget_s
    took: list[float] = []
    retransmitted = failed = 0
    for _ in range(connects):
        left = ends - clock()
        if left <= 0:
            break
        began = clock()
        try:
            with socket.create_connection((target.address, target.port), timeout=left) as sock:
                seconds = clock() - began
                lost = _retransmissions(sock)
                if path:
                    ask(sock, target, path, budget_s=ends - clock())
        except TimeoutError:  # of several packets none came through
            retransmitted += 1
            break
        except OSError as error:
            if lack_of(error):  # this computer's own fault
                break
            failed += 1
        else:
            if lost or seconds >= RETRANSMITTED_S:
                retransmitted += 1
            else:
                took.append(1e3 * seconds)
        sleep(PAUSE_S)
    return LinkReading(connect_ms=tuple(took), retransmitted=retransmitted, failed=failed)


class _Completion:
    """Whether an answer is complete, for httptools' parser."""

    is_complete = False

    def on_message_complete(self) -> None:
        """Take note of the end, for the parser."""
        self.is_complete = True


def ask(sock: socket.socket, target: Target, path: str, *, budget_s: float) -> None:
    """GET a path on a connection and read the answer, however it comes, for as long as the budget lasts."""
    ends = time.monotonic() + budget_s
    answer = _Completion()
    parser = httptools.HttpResponseParser(answer)
    with contextlib.suppress(OSError, httptools.HttpParserError):
        sock.settimeout(max(0.001, budget_s))
        sock.sendall(_request(target, path))
        while not answer.is_complete and (left := ends - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(65536)
            if not data:
                break
            parser.feed_data(data)


def _request(target: Target, path: str) -> bytes:
    """Encode a GET that asks the server to close behind its answer."""
    headers = merge_headers(target.own_headers(), target.headers, (("Connection", "close"),))
    request_target = httpx.URL(f"http://board{path}").raw_path.decode("ascii")
    lines = [f"GET {request_target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8")


def _retransmissions(sock: socket.socket) -> int:
    """Count the packets of a connection that were sent again; 0 where the platform does not count them."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, struct.error):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return int(_TOTAL_RETRANS.unpack_from(info, _TCP_INFO_BYTES - _TOTAL_RETRANS.size)[0])
    return 0
