"""One load generator on one URL, for bench_load.py: prints one line of JSON.

    python tools/bench_load_engines.py uvloop http://127.0.0.1:8080/f1k --clients 12 --seconds 3

``uvloop`` and ``asyncio`` are this package's engine, ``unstamped`` is it on the fastest loop without the
kernel's time stamps (as on macOS and Windows, and with TLS), ``threads`` a thread with an ``http.client``
connection per client (the tool that was replaced), ``blocking`` a process with a plain blocking socket per
client, ``httpx`` a plain ``httpx.AsyncClient``, ``locust`` its FastHttpUser.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import math
import os
import resource
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from bench_blocking import asking, times_of

from pytest_espperf.device import resolve_target
from pytest_espperf.load import connector, run_phase
from pytest_espperf.load.guard import fastest_loop
from pytest_espperf.model.workload import PhaseSpec, RequestSpec

Result = dict[str, Any]
WARMUP_S = 0.3
ENGINES = ("uvloop", "asyncio", "unstamped", "threads", "blocking", "httpx", "locust")


def summary(latencies_s: list[float], elapsed_s: float, errors: int, cpu_s: float) -> Result:
    """Figures of one run; percentiles linearly interpolated, in ms."""
    ordered = sorted(latencies_s)

    def percentile(q: float) -> float:
        if not ordered:
            return math.nan
        place = q / 100 * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return (ordered[low] + (ordered[high] - ordered[low]) * (place - low)) * 1e3

    return {
        "requests": len(ordered),
        "rps": len(ordered) / elapsed_s,
        "p50": percentile(50),
        "p95": percentile(95),
        "p99": percentile(99),
        "errors": errors,
        "cpu_s_per_1000": cpu_s / max(1, len(ordered)) * 1000,
    }


def ours(args: argparse.Namespace) -> Result:
    """Run this package's engine."""
    if args.engine == "unstamped":
        vars(connector)["kernel_stamps"] = lambda: False
    rate: float | None = args.rate
    parts = urlsplit(args.url)
    target = resolve_target(
        str(parts.hostname), int(parts.port or 80), scheme=parts.scheme, insecure=parts.scheme == "https"
    )
    body = b"x" * args.body_bytes if args.body_bytes else None
    samples = run_phase(
        target,
        [RequestSpec(parts.path, method=args.method, body=body)],
        PhaseSpec(
            "bench", args.clients, args.seconds, rate, reuse=not args.reconnect, tls_resumption=args.resume
        ),
        warmup_s=WARMUP_S,
        loop_factory=asyncio.new_event_loop if args.engine == "asyncio" else fastest_loop(),
    )
    errors = sum(samples.outcomes[index].error is not None for index in samples.outcome)
    response = (
        [lag + service for lag, service in zip(samples.lag_s, samples.service_s, strict=True)]
        if rate
        else list(samples.service_s)
    )
    health = samples.generator
    assert health is not None
    result = summary(response, samples.elapsed_s, errors, health.cpu_share * samples.elapsed_s)
    return result | {
        "connect": _median_ms(samples.connect_s),
        "handshake": _median_ms(samples.handshake_s),
        "warmup_s": WARMUP_S,
        "dropped": samples.dropped_starts,
        "engine": health.engine,
        "bound": health.bound,
        "lag_p99": health.lag_p99_ms,
        "turnaround": health.turnaround_ms,
        "stale": samples.stale_retries,
    }


def _median_ms(seconds: Sequence[float]) -> float | None:
    return statistics.median(seconds) * 1e3 if seconds else None


def threads(url: str, clients: int, seconds: float) -> Result:
    """Run a thread per client, each with an ``http.client`` connection."""
    parts = urlsplit(url)
    latencies: list[float] = []
    lock = threading.Lock()
    cpu = time.process_time()
    begun = time.perf_counter()

    def client() -> None:
        mine: list[float] = []
        connection = http.client.HTTPConnection(parts.netloc, timeout=6)
        while (start := time.perf_counter()) < begun + seconds:
            connection.request("GET", parts.path, headers={"Accept-Encoding": "identity"})
            connection.getresponse().read()
            mine.append(time.perf_counter() - start)
        connection.close()
        with lock:
            latencies.extend(mine)

    workers = [threading.Thread(target=client) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return summary(latencies, seconds, 0, time.process_time() - cpu)


def blocking(args: argparse.Namespace) -> Result:
    """Run a process per client, each with a plain blocking socket."""
    parts = urlsplit(args.url)
    place = str(parts.hostname), int(parts.port or 80)
    body = b"x" * args.body_bytes
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{args.method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{length}\r\n"
    request = head.encode() + body
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = times_of(
        lambda: asking(place, request, reconnect=args.reconnect), args.clients, args.seconds, WARMUP_S
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return summary(times, args.seconds, 0, cpu_s) | {"warmup_s": WARMUP_S}


def plain_httpx(url: str, clients: int, seconds: float) -> Result:
    """One httpx.AsyncClient as it comes, a task per client."""
    import httpx  # noqa: PLC0415 - only this generator pays for it

    latencies: list[float] = []

    async def client(session: httpx.AsyncClient, end: float) -> None:
        while (start := time.perf_counter()) < end:
            await session.get(url, headers={"Accept-Encoding": "identity"})
            latencies.append(time.perf_counter() - start)

    async def main() -> None:
        async with httpx.AsyncClient() as session:
            end = time.perf_counter() + seconds
            await asyncio.gather(*(client(session, end) for _ in range(clients)))

    cpu = time.process_time()
    asyncio.run(main())
    return summary(latencies, seconds, 0, time.process_time() - cpu)


def locust(url: str, clients: int, seconds: float) -> Result:
    """Locust's FastHttpUser (extra ``[bench]``)."""
    import gevent.monkey  # noqa: PLC0415 - comes with locust; patches first

    gevent.monkey.patch_all()
    from locust import FastHttpUser, constant, task  # noqa: PLC0415 - optional
    from locust.env import Environment  # noqa: PLC0415 - optional

    parts = urlsplit(url)

    class User(FastHttpUser):  # type: ignore[misc]  # locust is optional and, where absent, Any
        """Asks without a pause."""

        host = f"http://{parts.netloc}"
        wait_time = constant(0)

        @task  # type: ignore[untyped-decorator]  # as above
        def get(self) -> None:
            """One request."""
            self.client.get(parts.path)

    latencies: list[float] = []
    environment = Environment(user_classes=[User])
    environment.events.request.add_listener(lambda response_time, **_: latencies.append(response_time / 1e3))
    runner = environment.create_local_runner()
    runner.start(clients, spawn_rate=1000)
    gevent.sleep(0.5)
    latencies.clear()
    cpu = time.process_time()
    begun = time.perf_counter()
    gevent.sleep(seconds)
    span_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    result = summary(list(latencies), span_s, environment.stats.total.num_failures, cpu_s)
    runner.quit()
    return result


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--core", type=int, default=None)
    parser.add_argument("--method", default="GET", help="of the request, this package's engine only")
    parser.add_argument("--body-bytes", type=int, default=0, help="that are sent with it, likewise")
    parser.add_argument("--reconnect", action="store_true", help="a connection for each request, likewise")
    parser.add_argument("--resume", action="store_true", help="take TLS sessions up again, likewise")
    args = parser.parse_args()
    if args.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    if args.engine == "threads":
        result = threads(args.url, args.clients, args.seconds)
    elif args.engine == "blocking":
        result = blocking(args)
    elif args.engine == "httpx":
        result = plain_httpx(args.url, args.clients, args.seconds)
    elif args.engine == "locust":
        result = locust(args.url, args.clients, args.seconds)
    else:
        result = ours(args)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
