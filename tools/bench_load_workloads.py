"""Workloads beyond GET on keep-alive, beside the generators that can make them: rows of bench_load.py.

A row is a workload. Its generators take turns on one server, and each figure is a ratio within a round. wrk
sends bodies by a Lua script, curl uploads over several connections; ab without ``-k``, h2load whose requests
ask for the close and ``openssl s_time`` open a connection for each request.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench_load_rig import (
    Generator,
    Result,
    ab,
    device,
    h2load,
    interleaved,
    limit,
    median,
    nginx,
    output,
    paired,
    python,
    wrk,
)

POST_BYTES, UPLOAD_BYTES = 1024, 1_000_000
UPLOADS_PER_S = 300
"""Uploads that curl is asked for, per second that a measurement is to last."""


def wrk_sending(method: str, size: int) -> Generator:
    """Return a wrk that sends a body with each request."""
    return partial(wrk, setting=f'wrk.method = "{method}"\nwrk.body = string.rep("x", {size})\n')


def curl_uploading(size: int) -> Generator:
    """Return a curl that uploads a file again and again, over several connections at once."""

    def run(url: str, clients: int, seconds: float) -> Result:
        count = max(clients, round(UPLOADS_PER_S * seconds))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "body"
            file.write_bytes(b"x" * size)
            many = f"{url}?[1-{count}]"
            words = ["curl", "-sS", "-Z", "--parallel-immediate", "--parallel-max", str(clients)]
            began = time.perf_counter()
            _, cpu_s = output([*words, "-H", "Expect:", "-o", "/dev/null", "-T", str(file), many])
            took_s = time.perf_counter() - began
        return {"rps": count / took_s, "cpu_s_per_1000": cpu_s / count * 1e3}

    return run


def s_time(*, reuse: bool) -> Generator:
    """Return OpenSSL's s_time: one client that shakes hands and asks once."""

    def run(url: str, clients: int, seconds: float) -> Result:
        assert clients == 1
        place, _, path = url.removeprefix("https://").partition("/")
        words = ["openssl", "s_time", "-connect", place, "-reuse" if reuse else "-new", "-tls1_2"]
        text, cpu_s = output([*words, "-www", f"/{path}", "-time", str(max(1, round(seconds)))])
        found = re.search(r"(\d+) connections in (\d+) real seconds", text)
        assert found, text
        count, took_s = map(int, found.groups())
        return {"rps": count / max(1, took_s), "cpu_s_per_1000": cpu_s / max(1, count) * 1e3}

    return run


@dataclass(frozen=True)
class Row:
    """One workload.

    Attributes:
        name: as it is printed.
        clients: that ask at once.
        server: makes the server, whose URL and process id it gives.
        path: that is asked for.
        peers: the program of each, and the generator.
        ours: options of bench_load_engines.py.
    """

    name: str
    clients: int
    server: Callable[[], AbstractContextManager[tuple[str, int]]]
    path: str
    peers: Mapping[str, Generator]
    ours: Sequence[str]


def rows(clients: int) -> list[Row]:
    """All workloads that have a ceiling."""
    tls, full = partial(nginx, tls=True), partial(nginx, tls=True, resumes=False)
    sending, uploading = ("--body-bytes", str(POST_BYTES)), ("--body-bytes", str(UPLOAD_BYTES))
    plain, again = partial(ab, options=()), partial(h2load, reconnect=True)
    return [
        Row("GET 1 KB", clients, nginx, "/f1k", {"wrk": wrk, "h2load": h2load}, []),
        Row("GET, no content", clients, nginx, "/sink", {"wrk": wrk, "h2load": h2load}, []),
        Row(
            "POST 1 KB",
            clients,
            nginx,
            "/sink",
            {"wrk": wrk_sending("POST", POST_BYTES)},
            ["--method", "POST", *sending],
        ),
        Row(
            "upload 1 MB",
            4,
            nginx,
            "/sink",
            {"wrk": wrk_sending("PUT", UPLOAD_BYTES), "curl": curl_uploading(UPLOAD_BYTES)},
            ["--method", "PUT", *uploading],
        ),
        Row("keep-alive, TLS", clients, tls, "/f1k", {"wrk": wrk, "h2load": h2load}, []),
        Row("reconnect", clients, nginx, "/f1k", {"ab": plain, "h2load": again}, ["--reconnect"]),
        Row(
            "TLS handshakes",
            clients,
            full,
            "/f1k",
            {"ab": partial(ab, options=("-f", "TLS1.2")), "h2load": again},
            ["--reconnect"],
        ),
        Row("TLS handshakes", 1, full, "/f1k", {"openssl": s_time(reuse=False)}, ["--reconnect"]),
        Row("TLS resumption", clients, tls, "/f1k", {"h2load": again}, ["--reconnect", "--resume"]),
        Row("TLS resumption", 1, tls, "/f1k", {"openssl": s_time(reuse=True)}, ["--reconnect", "--resume"]),
    ]


def ceilings(clients: int, seconds: float, repeat: int) -> None:
    """Print what each generator reaches, as ratios to the best peer in the same round."""
    print(f"workloads on nginx: {repeat} rounds of {seconds:g} s")
    print(
        f"{'workload':18}{'clients':>8}  {'generator':10}{'per s':>9}{'to best peer':>14}{'CPU s/1000':>12}"
        f"{'CPU/peer CPU':>14}{'its core':>10}{'server':>8}  limit"
    )
    for row in rows(clients):
        peers = {name: tool for name, tool in row.peers.items() if shutil.which(name)}
        if missing := set(row.peers) - set(peers):
            print(f"not installed, left out: {', '.join(sorted(missing))}")
        tools = {**peers, "uvloop": python("uvloop", *row.ours), "asyncio": python("asyncio", *row.ours)}
        with row.server() as (place, pid):
            url = f"{place.rpartition('/')[0]}{row.path}"
            results = interleaved(tools, url, row.clients, seconds, repeat, server=pid)
        best = max(peers, key=lambda name: median(results[name], "rps"), default="")
        for name, own in results.items():
            ratio, cpu = (
                paired(own, results[best], key) if best else math.nan for key in ("rps", "cpu_s_per_1000")
            )
            print(
                f"{row.name:18}{row.clients:8}  {name:10}{median(own, 'rps'):9.0f}{ratio:14.2f}"
                f"{median(own, 'cpu_s_per_1000'):12.4f}{cpu:14.2f}{median(own, 'own_share'):10.2f}"
                f"{median(own, 'server_share'):8.2f}  {limit(own)}"
            )


def truths(clients: int, service_ms: Sequence[float], seconds: float, repeat: int) -> None:
    """Print percentiles as multiples of the truth, on a device that answers in exactly the given time.

    ``blocking`` is the control: what it is off is the device's and the machine's.
    """
    print(f"{'workload':18}{'device':18}{'generator':10}{'p50':>8}{'p95':>8}{'p99':>8}")
    cases = {
        "GET": [],
        "POST 1 KB": ["--method", "POST", "--body-bytes", str(POST_BYTES)],
        "reconnect": ["--reconnect"],
    }
    for name, options in cases.items():
        for ms in service_ms:
            with device("parallel", ms) as url:
                tools = {engine: python(engine, *options) for engine in ("uvloop", "asyncio", "blocking")}
                results = interleaved(tools, url, clients, seconds, repeat)
            for engine, own in results.items():
                ratios = "".join(f"{median(own, key) / ms:8.3f}" for key in ("p50", "p95", "p99"))
                print(f"{name:18}{f'parallel {ms:g} ms':18}{engine:10}{ratios}")
