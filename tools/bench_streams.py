"""How good the WebSocket clients are, as ratios to other clients in one interleaved run.

    python tools/bench_streams.py ceiling      an echo server of the ``websockets`` library: round trips/s
    python tools/bench_streams.py fidelity     a device of known service time: percentiles, to the truth

Servers run on core 0, clients on core 1. Only loopback is used. The other clients are those of ``websockets``
(on asyncio's loop and on uvloop) and of ``aiohttp``, each with a task per connection.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import importlib.util
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from subprocess import PIPE
from typing import Any
from urllib.parse import urlsplit

from bench_load_engines import WARMUP_S, Result, summary
from bench_load_rig import Generator, child, interleaved, median, output, paired

from pytest_espperf.load import run_phase
from pytest_espperf.load.guard import fastest_loop
from pytest_espperf.model.workload import PhaseSpec, StreamSpec, Target

OURS = ("uvloop", "asyncio")
OTHERS = ("websockets-uvloop", "websockets", "aiohttp")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455 1.3."""

CLOSE = 0x88
"""First byte of a close frame."""

Exchange = Callable[[str, int, Callable[[], bool], list[float]], Coroutine[Any, Any, None]]


# --- clients


def ours(url: str, clients: int, seconds: float, size: int, loop: str) -> Result:
    """Run this package's phase."""
    parts = urlsplit(url)
    stream = StreamSpec(parts.path, size=size)
    samples = run_phase(
        Target("http", str(parts.hostname), int(parts.port or 80), parts.netloc),
        (),
        PhaseSpec("bench", clients, seconds, kind="websocket", stream=stream),
        warmup_s=WARMUP_S,
        loop_factory=asyncio.new_event_loop if loop == "asyncio" else fastest_loop(),
    )
    errors = sum(samples.outcomes[index].error is not None for index in samples.outcome)
    health = samples.generator
    assert health is not None
    return summary(
        list(samples.service_s), samples.elapsed_s, errors, health.cpu_share * samples.elapsed_s
    ) | {"warmup_s": WARMUP_S}


async def talk_websockets(url: str, size: int, goes_on: Callable[[], bool], times: list[float]) -> None:
    """Exchange messages with the client of ``websockets``."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - only this client pays for it

    message = "x" * size
    async with connect(url.replace("http", "ws"), compression=None, ping_interval=None) as websocket:
        while goes_on():
            begun = time.perf_counter()
            await websocket.send(message)
            await websocket.recv()
            times.append(time.perf_counter() - begun)


async def talk_aiohttp(url: str, size: int, goes_on: Callable[[], bool], times: list[float]) -> None:
    """Exchange messages with the client of ``aiohttp``."""
    import aiohttp  # noqa: PLC0415 - only this client pays for it

    message = "x" * size
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=0) as websocket:
        while goes_on():
            begun = time.perf_counter()
            await websocket.send_str(message)
            await websocket.receive_str()
            times.append(time.perf_counter() - begun)


def other(url: str, clients: int, seconds: float, size: int, name: str) -> Result:
    """Run another client, a task per connection."""
    exchange: Exchange = talk_aiohttp if name == "aiohttp" else talk_websockets
    times: list[float] = []
    spent = [0.0, 0.0]

    async def main() -> None:
        began = time.perf_counter() + WARMUP_S
        ends = began + seconds
        tasks = [
            asyncio.create_task(exchange(url, size, lambda: time.perf_counter() < ends, times))
            for _ in range(clients)
        ]
        await asyncio.sleep(WARMUP_S)
        times.clear()
        cpu, now = time.process_time(), time.perf_counter()
        await asyncio.gather(*tasks)
        spent[:] = time.process_time() - cpu, time.perf_counter() - now

    make_loop = asyncio.new_event_loop if name == "websockets" else fastest_loop()
    loop = make_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return summary(times, spent[1], 0, spent[0]) | {"warmup_s": WARMUP_S}


def client(name: str, size: int) -> Generator:
    """Return a client that runs in a process of its own."""

    def run(url: str, clients: int, seconds: float) -> Result:
        command = [sys.executable, __file__, "client", "--name", name, "--url", url, "--size", str(size)]
        command += ["--clients", str(clients), "--seconds", str(seconds)]
        result: Result = json.loads(output(command)[0].splitlines()[-1])
        return result

    return run


def installed() -> list[str]:
    """Names of the clients that can be run here; the missing ones are printed."""
    needs = {"uvloop": "uvloop", "websockets-uvloop": "uvloop", "aiohttp": "aiohttp"}
    names = [*OURS, *OTHERS]
    missing = [name for name in names if importlib.util.find_spec(needs.get(name, "asyncio")) is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    return [name for name in names if name not in missing]


# --- servers


def serve_echo() -> None:
    """Run an echo server of ``websockets`` on the fastest loop, and print its port."""
    from websockets.asyncio.server import ServerConnection, serve  # noqa: PLC0415 - only a server pays for it

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            print(next(iter(server.sockets)).getsockname()[1], flush=True)
            await asyncio.get_running_loop().create_future()

    loop = fastest_loop()()
    loop.run_until_complete(main())


class SlowEcho:
    """A device that sends each message back exactly so long after it came; it polls, and never sleeps.

    Args:
        service_ms: the time that an echo takes.
    """

    def __init__(self, service_ms: float) -> None:
        self._service_ns = round(service_ms * 1e6)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._socks: dict[int, tuple[socket.socket, bytearray]] = {}
        self._due: deque[tuple[int, socket.socket, bytes]] = deque()
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for number, _ in self._poll.poll(0):
                now = time.perf_counter_ns()
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._read(number, now)
            while self._due and self._due[0][0] <= time.perf_counter_ns():
                _, sock, data = self._due.popleft()
                with contextlib.suppress(OSError):
                    sock.send(data)
                    if data[0] == CLOSE:  # which clients await
                        sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socks[sock.fileno()] = sock, bytearray()
        self._poll.register(sock, select.EPOLLIN)

    def _read(self, number: int, now: int) -> None:
        sock, came = self._socks[number]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(number)
            del self._socks[number]
            sock.close()
            return
        came += data
        if came.startswith(b"GET "):
            if b"\r\n\r\n" in came:
                self._due.append((now, sock, upgrade(bytes(came))))
                came.clear()
            return
        while (frame := take_frame(came)) is not None:
            self._due.append((now + self._service_ns, sock, frame))


def upgrade(request: bytes) -> bytes:
    """Make the answer that switches protocols."""
    lines = [line.partition(b": ") for line in request.split(b"\r\n")]
    (asked,) = [value for name, _, value in lines if name.lower() == b"sec-websocket-key"]
    key = base64.b64encode(hashlib.sha1(asked + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
    )


def take_frame(came: bytearray) -> bytes | None:
    """Take a client's message of less than 126 bytes out, as the frame of its echo; None before its end."""
    if len(came) < 6 or len(came) < (size := came[1] & 127) + 6:
        return None
    mask, payload = came[2:6], came[6 : 6 + size]
    head = bytes((came[0], size))
    del came[: 6 + size]
    return head + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


@contextlib.contextmanager
def server(*words: str) -> Iterator[tuple[str, int]]:
    """Run a server of this file; its URL and process id."""
    with child([sys.executable, __file__, *words], stdout=PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/ws", process.pid


# --- benches


def conditions(args: argparse.Namespace) -> str:
    """Describe what is measured."""
    each = f"{args.repeat} rounds of {args.seconds:g} s"
    return f"{args.size} bytes, {args.clients} connections, {each}"


def ceiling(args: argparse.Namespace) -> None:
    """Round trips/s on an echo server, and the processor time that they cost."""
    tools = {name: client(name, args.size) for name in installed()}
    with server("serve-echo") as (url, process):
        results = interleaved(tools, url, args.clients, args.seconds, args.repeat, server=process)
    print(f"ceiling, to the best other client: {conditions(args)}")
    best = max((name for name in OTHERS if name in results), key=lambda name: median(results[name], "rps"))
    print(
        f"{'client':20}{'round trips/s':>14}{'to best':>9}{'CPU, to best':>14}{'its core':>10}{'server':>8}"
    )
    for name, own in results.items():
        print(
            f"{name:20}{median(own, 'rps'):14.0f}{paired(own, results[best], 'rps'):9.2f}"
            f"{paired(own, results[best], 'cpu_s_per_1000'):14.2f}"
            f"{median(own, 'own_share'):10.2f}{median(own, 'server_share'):8.2f}"
        )


def fidelity(args: argparse.Namespace) -> None:
    """Percentiles on a device that echoes each message so long after it came."""
    tools = {name: client(name, args.size) for name in installed()}
    print(f"fidelity, to the truth: {conditions(args)}")
    print(f"{'service':10}{'client':20}{'p50':>8}{'p95':>8}{'p99':>8}{'round trips/s':>15}{'errors':>8}")
    for service_ms in args.service_ms:
        with server("serve-slow", "--service-ms", str(service_ms)) as (url, _):
            results = interleaved(tools, url, args.clients, args.seconds, args.repeat)
        rate = args.clients / service_ms * 1e3
        for name, own in results.items():
            ratios = [median(own, key) / service_ms for key in ("p50", "p95", "p99")]
            print(
                f"{service_ms:<10g}{name:20}"
                + "".join(f"{ratio:8.3f}" for ratio in ratios)
                + f"{median(own, 'rps') / rate:15.3f}{median(own, 'errors'):8.0f}"
            )


def main() -> None:
    """Parse the command line and run one bench, or a part of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=("ceiling", "fidelity", "client", "serve-echo", "serve-slow"))
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message, 10 to 125")
    parser.add_argument("--service-ms", type=float, nargs="+", default=[2.0, 10.0, 40.0])
    parser.add_argument("--name", choices=(*OURS, *OTHERS), help="of one client")
    parser.add_argument("--url", help="of one client's server")
    args = parser.parse_args()
    if args.bench == "client":
        run = ours if args.name in OURS else other
        print(json.dumps(run(args.url, args.clients, args.seconds, args.size, args.name)))
    elif args.bench == "serve-echo":
        serve_echo()
    elif args.bench == "serve-slow":
        device = SlowEcho(args.service_ms[0])
        print(device.port, flush=True)
        device.run()
    else:
        {"ceiling": ceiling, "fidelity": fidelity}[args.bench](args)


if __name__ == "__main__":
    main()
