"""One small request outside of a measurement, bounded in time and size."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

from pytest_espperf.errors import ComputerError, DeviceError
from pytest_espperf.model.computer import advice, describe_lack, lack_of
from pytest_espperf.model.workload import Target, merge_headers
from pytest_espperf.system.loops import run_async
from pytest_espperf.system.tls import tls_for

MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True)
class HttpAnswer:
    """An answer.

    Attributes:
        status: its status.
        body: the first ``MAX_BODY_BYTES`` of its body.
        location: where a redirect leads, "" without one.
        took_s: seconds from the request to its end, connecting included; what this process took before is
            not.
    """

    status: int
    body: bytes
    location: str = ""
    took_s: float = 0.0


class _Handshake:
    """Whether an exchange waits for its TLS handshake, as httpx tells it."""

    def __init__(self) -> None:
        self._in_handshake = False

    async def take(self, event: str, _: object) -> None:
        if event.startswith("connection.start_tls."):
            self._in_handshake = not event.endswith(".complete")

    def what_lacks(self, error: Exception) -> str:
        if self._in_handshake:
            return " (the TLS handshake did not end)"
        return f" ({type(error).__name__})" if isinstance(error, httpx.TimeoutException) else ""


def get(target: Target, path: str, *, timeout_s: float) -> HttpAnswer:
    """GET a path; see :func:`send`."""
    return send(target, "GET", path, timeout_s=timeout_s)


def send(target: Target, method: str, path: str, *, timeout_s: float) -> HttpAnswer:
    """Send a request without a body on a fresh connection; the whole exchange takes ``timeout_s`` at most.

    Proxies and other settings of the environment are left out: the board is asked directly.

    Raises:
        ComputerError: this computer lacks what a connection needs, in one sentence.
        DeviceError: no answer, in one sentence.
        UsageError: the CA file cannot be used.
    """
    verify = tls_for(target) or False
    handshake = _Handshake()

    async def exchange() -> HttpAnswer:
        # A request of its own, and not the client's, which would add headers and put Host behind them.
        request = httpx.Request(
            method,
            target.origin + path,
            headers=merge_headers(target.own_headers(), target.headers, (("Connection", "close"),)),
            # What is connected to is an address; the certificate is the name's.
            extensions={
                "timeout": httpx.Timeout(timeout_s).as_dict(),
                "trace": handshake.take,
                **({"sni_hostname": target.tls_name} if target.tls_name else {}),
            },
        )
        async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
            began_s = time.perf_counter()
            response = await client.send(request, stream=True)
            try:
                body = b""
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) >= MAX_BODY_BYTES:
                        break
            finally:
                await response.aclose()
            location = response.headers.get("location", "") if response.is_redirect else ""
            took_s = time.perf_counter() - began_s
            return HttpAnswer(response.status_code, body[:MAX_BODY_BYTES], location, took_s)

    async def bounded() -> HttpAnswer:
        return await asyncio.wait_for(exchange(), timeout_s)

    try:
        return run_async(bounded())
    except (asyncio.TimeoutError, httpx.TimeoutException) as error:
        raise DeviceError(f"no answer within {timeout_s:g} s{handshake.what_lacks(error)}") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        if lack := lack_of(error):
            raise ComputerError(f"{describe_lack(lack)}: {advice(lack)}") from None
        raise DeviceError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
