"""How good the load engine is, as ratios to other generators in one interleaved run.

    python tools/bench_load.py ceiling      1 KB from nginx: requests/s, to wrk and to http.client threads
    python tools/bench_load.py fidelity     a device of known service time: rps and percentiles, to wrk
    python tools/bench_load.py open-loop    a device that stalls: response-time p99, to the analytic value
    python tools/bench_load.py workloads    POST, uploads, reconnects, TLS: to wrk, curl, ab, h2load, openssl
    python tools/bench_load.py memory       bytes and time per sample, up to 10 minutes at 5,000 requests/s
    python tools/bench_load.py leak         a long phase: descriptors, threads, memory

Servers run on core 0, generators on core 1. Only loopback is used. wrk, hey, ab, curl, h2load, openssl, nginx
and locust are used where they are found; missing ones are reported.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time

from bench_load_rig import (
    CLIENT_CORE,
    device,
    generators,
    interleaved,
    limit,
    median,
    nginx,
    paired,
    pinned,
    python,
)
from bench_load_workloads import ceilings, truths
from bench_process import descriptors, resident_mb

from pytest_espperf.load import run_phase
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target


def ceiling(args: argparse.Namespace) -> None:
    """Requests/s on 1 KB from nginx, the processor time that they cost, and what was the limit.

    Where the server is the limit, a generator's rate is the server's, and only its processor time compares.
    """
    tools = generators(["wrk", "uvloop", "asyncio", "unstamped", "threads", "ab", "hey", "httpx", "locust"])
    with nginx() as (url, server):
        results = interleaved(tools, url, args.clients, args.seconds, args.repeat, server=server)
    print(f"ceiling: 1 KB from nginx, {args.clients} connections, {args.repeat} rounds of {args.seconds:g} s")
    print(
        f"{'generator':10}{'rps':>9}{'to wrk':>8}{'to threads':>12}{'CPU s/1000':>12}{'CPU/wrk CPU':>13}"
        f"{'its core':>10}{'server':>8}  limit"
    )
    yardstick = results.get("wrk", results["threads"])
    for name, own in results.items():
        print(
            f"{name:10}{median(own, 'rps'):9.0f}{paired(own, yardstick, 'rps'):8.2f}"
            f"{paired(own, results['threads'], 'rps'):12.2f}{median(own, 'cpu_s_per_1000'):12.4f}"
            f"{paired(own, yardstick, 'cpu_s_per_1000'):13.2f}"
            f"{median(own, 'own_share'):10.2f}{median(own, 'server_share'):8.2f}  {limit(own)}"
        )


def fidelity(args: argparse.Namespace) -> None:
    """Rate and percentiles on a device of known service time."""
    tools = generators(["wrk", "uvloop", "asyncio", "unstamped", "httpx"])
    print(
        f"fidelity: {args.clients} connections, {args.repeat} rounds of {args.seconds:g} s; to the truth (a "
        "closed loop of clients that turn round in no time), and to wrk in the same round"
    )
    print(
        f"{'device':22}{'generator':10}{'truth: rps':>11}{'p50':>8}{'p95':>8}{'p99':>8}{'p50 + ms':>10}"
        f"{'turn ms':>9}{'wrk: rps':>11}{'p50':>8}{'p95':>8}{'p99':>8}"
    )
    cases = [(mode, ms, 1) for mode in ("fifo", "parallel") for ms in args.service_ms]
    cases += [("fifo", ms, 2) for ms in args.service_ms]
    for mode, service_ms, writes in cases:
        with device(mode, service_ms, writes=writes) as url:
            results = interleaved(tools, url, args.clients, args.seconds, args.repeat)
        at_once = 1 if mode == "fifo" else args.clients
        true_ms = service_ms * args.clients / at_once
        truth = {"rps": at_once / service_ms * 1e3, "p50": true_ms, "p95": true_ms, "p99": true_ms}
        case = f"{mode} {service_ms:g} ms" + (f", {writes} writes" if writes > 1 else "")
        for name, own in results.items():
            to_truth = [median(own, key) / true for key, true in truth.items()]
            turn = median(own, "turnaround") if "turnaround" in own[0] else float("nan")
            to_wrk = [paired(own, results["wrk"], key) for key in truth] if "wrk" in results else []
            print(
                f"{case:22}{name:10}{to_truth[0]:11.4f}"
                + "".join(f"{ratio:8.3f}" for ratio in to_truth[1:])
                + f"{median(own, 'p50') - true_ms:10.3f}{turn:9.3f}   "
                + "".join(f"{ratio:8.3f}" for ratio in to_wrk)
            )


def open_loop(args: argparse.Namespace) -> None:
    """Offered and achieved rate; p99 on a device that stalls 500 ms every 5 s."""
    seconds = max(5.0, round(args.seconds / 5) * 5.0)  # whole periods
    print(f"open loop: {args.repeat} rounds of {seconds:g} s")
    for engine in ("uvloop", "asyncio"):
        with device("fifo", 1) as url:
            for rate in (40.0, 200.0, 500.0):
                runs = [python(engine, "--rate", str(rate))(url, 12, seconds) for _ in range(args.repeat)]
                achieved = median(runs, "requests") / seconds
                print(
                    f"{engine:8} offered {rate:5.0f}/s: achieved/offered {achieved / rate:.4f}, dropped "
                    f"{median(runs, 'dropped'):.0f}, response p50 {median(runs, 'p50'):.3f} ms of 1, "
                    f"lag p99 {median(runs, 'lag_p99'):.3f} ms"
                )
        every_s, stall_s, service_s, rate = 5.0, 0.5, 0.001, 100.0
        # An arrival u seconds into the stall is answered after stall + service - u * (1 - rate * service).
        analytic_ms = (stall_s + service_s - 0.01 * every_s * (1 - rate * service_s)) * 1e3
        with device("fifo", service_s * 1e3, stall_every_s=every_s, stall_s=stall_s) as url:
            opened = [python(engine, "--rate", str(rate))(url, 64, seconds) for _ in range(args.repeat)]
            closed = [python(engine)(url, 4, seconds) for _ in range(args.repeat)]
        print(
            f"{engine:8} 500 ms stall every 5 s at {rate:.0f}/s: p99 analytic {analytic_ms:.1f} ms, "
            f"open loop {median(opened, 'p99'):.1f} ms ({median(opened, 'p99') / analytic_ms:.3f}), "
            f"closed loop of 4 {median(closed, 'p99'):.1f} ms ({median(closed, 'p99') / analytic_ms:.3f})"
        )


def workloads(args: argparse.Namespace) -> None:
    """Measure workloads other than GET on keep-alive: the ceiling, and percentiles to the truth."""
    ceilings(args.clients, args.seconds, args.repeat)
    truths(args.clients, args.service_ms, args.seconds, args.repeat)


def memory(args: argparse.Namespace) -> None:
    """Bytes and time per sample; ``--seconds`` is not used."""
    del args
    print("memory: samples of a phase at 5,000 requests/s")
    for rate in (None, 5000.0):
        for minutes in (1, 2.5, 5, 10):
            samples = PhaseSamples(("/f1k",), 12, minutes * 60, rate)
            recorder = Recorder(samples)
            recorder.start_at(1)
            outcome = recorder.table.index(200, None)
            count = round(minutes * 60 * 5000)
            begun = time.perf_counter()
            for number in range(count):
                start = 1 + number * 200_000
                recorder.add(0, outcome, start, start + 1000, start + 2000, start)
            spent_us = (time.perf_counter() - begun) / count * 1e6
            columns = (
                samples.start_s,
                samples.lag_s,
                samples.service_s,
                samples.ttfb_s,
                samples.path,
                samples.outcome,
            )
            size_mb = sum(map(sys.getsizeof, columns)) / 1e6
            kind = "closed" if rate is None else "open"
            print(
                f"{kind:6} {minutes:4g} min {count:8} samples {size_mb:6.1f} MB {spent_us:6.3f} us per sample"
            )


def leak(args: argparse.Namespace) -> None:
    """Drive a phase against a device that closes after 16 requests, watched from inside."""
    if (pin := pinned(CLIENT_CORE)) is not None:
        pin()
    spec = PhaseSpec("leak", args.clients, args.seconds)
    with device("fifo", 0.2, close_after=16) as url:
        port = int(url.split(":")[2].split("/")[0])
        target = Target("http", "127.0.0.1", port, "127.0.0.1")
        run_phase(target, [RequestSpec("/f1k")], PhaseSpec("first", args.clients, 0.5))
        gc.collect()
        before = (descriptors(), threading.active_count(), gc.get_freeze_count())
        start_mb = resident_mb()
        print(f"before: {before[0]} descriptors, {before[1]} threads, {start_mb:.1f} MB")
        samples = run_phase(
            target,
            [RequestSpec("/f1k")],
            spec,
            heartbeat_s=max(1.0, args.seconds / 10),
            on_heartbeat=lambda beat: print(
                f"{beat.elapsed_s:7.1f} s {beat.completed:9} requests {descriptors():5} descriptors "
                f"{resident_mb():8.1f} MB, of it samples {beat.completed * 14e-6:.1f}"
            ),
        )
        gc.collect()
        after = (descriptors(), threading.active_count(), gc.get_freeze_count())
    errors = sum(samples.outcomes[index].error is not None for index in samples.outcome)
    print(
        f"after:  {after[0]} descriptors, {after[1]} threads, {resident_mb():.1f} MB; "
        f"{len(samples)} requests, {len(samples.connect_s)} connections, "
        f"{samples.stale_retries} stale retries, {errors} errors"
    )
    print("no leak" if after == before else f"LEAK: {before} -> {after}")


def main() -> None:
    """Parse the command line and run one bench."""
    benches = {
        "ceiling": ceiling,
        "fidelity": fidelity,
        "open-loop": open_loop,
        "workloads": workloads,
        "memory": memory,
        "leak": leak,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=benches)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--service-ms", type=float, nargs="+", default=[0.5, 2.0, 10.0, 40.0])
    args = parser.parse_args()
    benches[args.bench](args)


if __name__ == "__main__":
    main()
