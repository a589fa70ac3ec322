"""One answer of two segments, the first 0.3 s after the second: what a lost packet looks like.

A program for a network namespace of its own (it needs raw sockets): drives one phase against such a server,
prints whether the kernel stamps, the phase's statuses, and its service times.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import threading
import time
from pathlib import Path

from support.load_servers import HELLO, phase

from pytest_espperf.load import run_phase
from pytest_espperf.load.stamped import kernel_stamps
from pytest_espperf.model.workload import Target

DELAY_S = 0.3
BODY = b"x" * 1000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
PUSH_ACK = 0x18


def checksum(data: bytes) -> int:
    """Of IP's protocols (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(ports: tuple[int, int], seq: int, ack: int, payload: bytes) -> bytes:
    """A TCP segment from and to 127.0.0.1; the payload has an even length."""
    fields = (*ports, seq, ack, 5 << 4, PUSH_ACK, 65535, 0, 0)
    header = struct.pack("!HHIIBBHHH", *fields)
    pseudo = socket.inet_aton("127.0.0.1") * 2 + struct.pack("!BBH", 0, 6, len(header) + len(payload))
    total = struct.pack("!H", checksum(pseudo + header + payload))
    return header[:16] + total + header[18:] + payload


def serve(listener: socket.socket) -> None:
    """Answer one request."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw, listener, listener.accept()[0] as peer:
        ports = (peer.getsockname()[1], peer.getpeername()[1])
        peer.recv(65536)
        while True:  # the request itself says where the connection's numbers stand
            packet = raw.recv(65536)
            tcp = packet[(packet[0] & 15) * 4 :]
            source, target, seq, ack = struct.unpack("!HHII", tcp[:12])
            length = len(tcp) - (tcp[12] >> 4) * 4
            if (target, source) == ports and length:
                break
        raw.sendto(segment(ports, ack + len(HEAD), seq + length, BODY), ("127.0.0.1", 0))
        time.sleep(DELAY_S)
        peer.sendall(HEAD)
        time.sleep(DELAY_S)


def main() -> None:
    """Set the namespace up, serve, drive, print."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("0")
    listener = socket.create_server(("127.0.0.1", 0))
    target = Target("http", "127.0.0.1", listener.getsockname()[1], "x")
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    samples = run_phase(target, HELLO, phase(), deadline_s=30, each_once=True)
    statuses = [outcome.status for outcome in samples.outcomes]
    print(json.dumps([kernel_stamps(), statuses, list(samples.service_s)]))


if __name__ == "__main__":
    main()
