"""What bench_load.py stands on: other generators, servers, pinning, and ratios.

wrk adds to its histogram what it believes it omitted (one entry per missed interval below any latency above
twice the mean interval): on a disturbed machine its upper percentiles are its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_process import cpu_s

HERE = Path(__file__).resolve().parent
SERVER_CORE, CLIENT_CORE = 0, 1
BODY_BYTES = 64
"""Of the answers of the bench's own device."""

FULL_SHARE = 0.9
"""Share of its core from which on a process counts as the limit."""

Result = dict[str, Any]
Generator = Callable[[str, int, float], Result]

WRK_SCRIPT = """
done = function(summary, latency, requests)
  io.write(string.format("FIGURES %d %d %f %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), summary.errors.status +
    summary.errors.read + summary.errors.write + summary.errors.connect + summary.errors.timeout))
end
"""


def pinned(core: int) -> Callable[[], None] | None:
    """Return what a child process does to stay on ``core``, where the platform knows how."""
    if not hasattr(os, "sched_setaffinity") or core not in os.sched_getaffinity(0):
        return None
    return lambda: os.sched_setaffinity(0, {core})


def output(command: list[str]) -> tuple[str, float]:
    """Return the output of a pinned child and its CPU seconds; its standard error if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=pinned(CLIENT_CORE), cwd=HERE.parent
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wrk(url: str, clients: int, seconds: float, setting: str = "") -> Result:
    """Wrk, percentiles in microseconds by its own script interface; ``setting`` is Lua that goes before."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(setting + WRK_SCRIPT)
        script.flush()
        text, cpu_s = output(["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "-s", script.name, url])
    figures = re.search(r"FIGURES (\d+) (\d+) (\S+) (\S+) (\S+) (\d+)", text)
    assert figures, text
    count, duration_us, p50, p95, p99, errors = map(float, figures.groups())
    rps = count / duration_us * 1e6
    times = {"p50": p50 / 1e3, "p95": p95 / 1e3, "p99": p99 / 1e3}
    return {"rps": rps, "errors": errors, "cpu_s_per_1000": cpu_s / count * 1e3, **times}


def hey(url: str, clients: int, seconds: float) -> Result:
    """Hey; its summary gives the rate."""
    text, cpu_s = output(
        ["hey", "-z", f"{seconds:g}s", "-c", str(clients), "-cpus", "1", "-disable-compression", url]
    )
    found = re.search(r"Requests/sec:\s+(\S+)", text)
    assert found, text
    rps = float(found[1])
    return {"rps": rps, "cpu_s_per_1000": cpu_s / (rps * seconds) * 1e3}


def ab(url: str, clients: int, seconds: float, options: Sequence[str] = ("-k",)) -> Result:
    """Apache's ab."""
    words = ["ab", "-q", *options, "-t", f"{max(1, round(seconds))}", "-n", "100000000", "-c", str(clients)]
    text, cpu_s = output([*words, url])
    found = re.search(r"Requests per second:\s+(\S+)", text)
    assert found, text
    rps = float(found[1])
    return {"rps": rps, "cpu_s_per_1000": cpu_s / (rps * max(1, round(seconds))) * 1e3}


def h2load(url: str, clients: int, seconds: float, *, reconnect: bool = False) -> Result:
    """Nghttp2's h2load by HTTP/1.1; with ``reconnect`` a connection for each request.

    The server closes each connection then, since the request asks for it. By time h2load does not end in that
    case (1.52), so it makes as many requests as a short run says will take so long.
    """
    words = ["h2load", "--h1", "-t1", f"-c{clients}"]
    if reconnect:
        words += ["-H", "Connection: close"]
        rate, _, _ = _of_h2load([*words, "-n", str(50 * clients), url])
        rate, count, cpu_s = _of_h2load([*words, "-n", str(max(clients, round(rate * seconds))), url])
    else:
        rate, count, cpu_s = _of_h2load([*words, "-D", f"{round(seconds * 1e3)}ms", url])
    return {"rps": rate, "cpu_s_per_1000": cpu_s / count * 1e3}


def _of_h2load(command: list[str]) -> tuple[float, int, float]:
    """Return requests/s, requests and CPU seconds of one run in which all requests succeeded."""
    text, cpu_s = output(command)
    rate = re.search(r"finished in \S+, (\S+) req/s", text)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    assert rate, text
    assert counts, text
    succeeded, *wrong = map(int, counts.groups())
    assert succeeded, text
    assert not any(wrong), text
    return float(rate[1]), succeeded, cpu_s


def python(engine: str, *options: str) -> Generator:
    """Return a generator of bench_load_engines.py."""

    def run(url: str, clients: int, seconds: float) -> Result:
        command = [sys.executable, str(HERE / "bench_load_engines.py"), engine, url]
        command += ["--clients", str(clients), "--seconds", str(seconds), *options]
        result: Result = json.loads(output(command)[0].splitlines()[-1])
        return result

    return run


def generators(wanted: list[str]) -> dict[str, Generator]:
    """Those of the wanted generators that are installed; the missing ones are printed."""
    known: dict[str, tuple[bool, Generator]] = {
        "wrk": (shutil.which("wrk") is not None, wrk),
        "hey": (shutil.which("hey") is not None, hey),
        "ab": (shutil.which("ab") is not None, ab),
        "uvloop": (importlib.util.find_spec("uvloop") is not None, python("uvloop")),
        "asyncio": (True, python("asyncio")),
        "unstamped": (True, python("unstamped")),
        "threads": (True, python("threads")),
        "httpx": (True, python("httpx")),
        "locust": (importlib.util.find_spec("locust") is not None, python("locust")),
    }
    missing = [name for name in wanted if not known[name][0]]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    return {name: known[name][1] for name in wanted if known[name][0]}


TLS = "ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.2;"
RESUMES = {True: "ssl_session_cache shared:one:1m;", False: "ssl_session_cache off; ssl_session_tickets off;"}


def make_certificate(folder: str) -> None:
    """Make a self-signed certificate, ``cert.pem`` and ``key.pem``, with the key that is fastest to use."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run(words, check=True, cwd=folder, capture_output=True)


@contextlib.contextmanager
def child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a pinned server process for the time of the block."""
    pin = pinned(SERVER_CORE)
    with subprocess.Popen(command, text=True, preexec_fn=pin, **options) as process:  # noqa: PLW1509 - no threads
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def device(
    mode: str,
    service_ms: float,
    *,
    stall_every_s: float = 0.0,
    stall_s: float = 0.0,
    close_after: int = 0,
    writes: int = 1,
) -> Iterator[str]:
    """Run the bench's own device, compiled from bench_load_device.c, and yield its URL."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the bench's device is a C program, and there is no C compiler (cc)")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/device"
        subprocess.run([compiler, "-O2", "-o", program, str(HERE / "bench_load_device.c")], check=True)
        times_ns = (round(service_ms * 1e6), round(stall_every_s * 1e9), round(stall_s * 1e9))
        command = [program, mode, *map(str, times_ns), str(close_after), str(BODY_BYTES), str(writes)]
        with child(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/f1k"


@contextlib.contextmanager
def nginx(*, tls: bool = False, resumes: bool = True) -> Iterator[tuple[str, int]]:
    """Run an nginx of one worker with a 1 KB file, which drops bodies; its URL and its process id.

    With ``tls`` it speaks TLS 1.2, which all peers do, and ``resumes`` is whether it takes sessions up again:
    h2load asks for that on each connection.
    """
    if shutil.which("nginx") is None:
        raise SystemExit("the ceiling is measured on nginx, which is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        places = "".join(
            f"{kind}_temp_path {folder}/{kind}; "
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (Path(folder) / "f1k").write_bytes(b"x" * 1024)
        if tls:
            make_certificate(folder)
        spoken = TLS + RESUMES[resumes] if tls else ""
        config = Path(folder) / "nginx.conf"
        config.write_text(
            "worker_processes 1; daemon off; master_process off;\n"
            f"pid {folder}/pid; error_log {folder}/errors;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; {places}\n"
            f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; root {folder}; {spoken}\n"
            "client_max_body_size 0; location = /sink { return 204; } } }\n"
        )
        with child(["nginx", "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"http{'s' if tls else ''}://127.0.0.1:{port}/f1k", process.pid


def interleaved(
    tools: dict[str, Generator],
    url: str,
    clients: int,
    seconds: float,
    repeat: int,
    *,
    server: int | None = None,
) -> dict[str, list[Result]]:
    """``repeat`` rounds, each with every generator once; the results of each.

    With the process id of the server each result says what share of a core generator (``own_share``) and
    server (``server_share``) took while requests were made.
    """
    results: dict[str, list[Result]] = {name: [] for name in tools}
    for _ in range(repeat):
        for name, tool in tools.items():
            before_s = cpu_s(server) if server is not None else 0.0
            result = tool(url, clients, seconds)
            if server is not None:
                # All of a generator's requests, its warm-up's as well, fall into those seconds.
                busy_s = seconds + float(result.get("warmup_s", 0.0))
                result["server_share"] = (cpu_s(server) - before_s) / busy_s
                result["own_share"] = float(result["cpu_s_per_1000"]) * float(result["rps"]) / 1e3
            results[name].append(result)
    return results


def median(results: list[Result], key: str) -> float:
    """Median of one figure over the rounds."""
    return statistics.median(float(result[key]) for result in results)


def paired(mine: list[Result], other: list[Result], key: str) -> float:
    """Median over the rounds of the ratio within a round: a machine's slow minutes cancel out."""
    return statistics.median(float(a[key]) / float(b[key]) for a, b in zip(mine, other, strict=True))


def limit(results: list[Result]) -> str:
    """Which of the two had no processor time left, by the median of the rounds."""
    own, server = median(results, "own_share"), median(results, "server_share")
    if max(own, server) < FULL_SHARE:
        return "neither"
    return "generator" if own > server else "server"
