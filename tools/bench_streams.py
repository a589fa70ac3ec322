"""How good the WebSocket clients are, as ratios to other clients in one interleaved run.

    python tools/bench_streams.py ceiling      an echo server of the ``websockets`` library: round trips/s
    python tools/bench_streams.py fidelity     a device of known service time: percentiles, to the truth

Servers run on core 0, clients on core 1. Only loopback is used. The other clients are those of ``websockets``
(on asyncio's loop and on uvloop) and of ``aiohttp``, each with a task per connection. The device is that of
bench_load.py; the control is a process with a blocking socket per connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from subprocess import PIPE
from typing import Any
from urllib.parse import urlsplit

from bench_blocking import echoed, times_of
from bench_load_engines import WARMUP_S, Result, summary
from bench_load_rig import Generator, child, device, interleaved, median, output, paired

from pytest_espperf.load import run_phase
from pytest_espperf.load.guard import fastest_loop
from pytest_espperf.model.workload import PhaseSpec, StreamSpec, Target

OURS = ("uvloop", "asyncio")
OTHERS = ("websockets-uvloop", "websockets", "aiohttp")
CONTROL = "blocking"
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


def blocking(url: str, clients: int, seconds: float, size: int, name: str) -> Result:
    """Run a process per connection, each with a plain blocking socket."""
    del name
    parts = urlsplit(url)
    place = str(parts.hostname), int(parts.port or 80)
    times = times_of(lambda: echoed(place, size), clients, seconds, WARMUP_S)
    return summary(times, seconds, 0, 0.0) | {"warmup_s": WARMUP_S}


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
    """Percentiles on a device that echoes each message so long after it came.

    ``blocking`` is the control: what it is off is the device's and the machine's.
    """
    tools = {name: client(name, args.size) for name in (*installed(), CONTROL)}
    print(f"fidelity, to the truth: {conditions(args)}")
    print(f"{'service':10}{'client':20}{'p50':>8}{'p95':>8}{'p99':>8}{'round trips/s':>15}{'errors':>8}")
    for service_ms in args.service_ms:
        with device("parallel", service_ms) as url:
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
    parser.add_argument("bench", choices=("ceiling", "fidelity", "client", "serve-echo"))
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message, 10 to 125")
    parser.add_argument("--service-ms", type=float, nargs="+", default=[2.0, 10.0, 40.0])
    parser.add_argument("--name", choices=(*OURS, *OTHERS, CONTROL), help="of one client")
    parser.add_argument("--url", help="of one client's server")
    args = parser.parse_args()
    if args.bench == "client":
        run = ours if args.name in OURS else blocking if args.name == CONTROL else other
        print(json.dumps(run(args.url, args.clients, args.seconds, args.size, args.name)))
    elif args.bench == "serve-echo":
        serve_echo()
    else:
        {"ceiling": ceiling, "fidelity": fidelity}[args.bench](args)


if __name__ == "__main__":
    main()
