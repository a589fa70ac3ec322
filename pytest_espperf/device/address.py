"""The board's address: from the user's text to the target of the requests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from pytest_espperf.errors import UsageError
from pytest_espperf.model.address import is_address
from pytest_espperf.model.workload import DEFAULT_PORTS, Target
from pytest_espperf.system.dialing import SocketAddress, first_connected
from pytest_espperf.system.loops import run_apart, run_async

ANSWERS_S = 2.0
"""Longest wait for one of a name's addresses to answer."""

MDNS_S = 3.0
"""Longest wait for an answer to a multicast question; a board on the same link needs a tenth of it."""


def resolve_target(
    host: str,
    port: int,
    *,
    scheme: str = "http",
    headers: tuple[tuple[str, str], ...] = (),
    ca_file: str = "",
    insecure: bool = False,
    source: str = "--device-ip",
) -> Target:
    """Resolve the board's name once, so that name service is no part of a measurement.

    The ``Host`` header is what a browser makes of what the user wrote, but for an mDNS name
    (``board.local``), where it is the address: boards answer ``400 Invalid Host`` to their own mDNS name.

    Of several addresses of a name it is the first that answers, so that all requests go to one and the same.

    Args:
        host: address or name, IPv6 without brackets.
        port: 1..65535.
        scheme: ``http`` or ``https``.
        headers: sent with every request.
        ca_file: PEM file to verify the board with, "" for the system's trust store.
        insecure: switch verification off.
        source: where the host came from, for the message.

    Raises:
        UsageError: the name does not resolve.
    """
    address = _address(host, port, source)
    name = "" if is_address(host) else _ascii(host.rstrip("."))
    return Target(
        scheme=scheme,
        address=address,
        port=port,
        host_header=_host_header(address if _is_mdns(host) or not name else name, port, scheme),
        headers=headers,
        ca_file=ca_file or None,
        insecure=insecure,
        tls_name=name,
    )


def _ascii(name: str) -> str:
    """Encode a name as it is looked up, and checked against a certificate: ``bücher.example`` in ASCII."""
    return name if name.isascii() else name.encode("idna").decode("ascii")


def _host_header(host: str, port: int, scheme: str) -> str:
    """Format the header as RFC 9110 has it: no default port, IPv6 in brackets and without its zone."""
    if is_address(host) and ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return host if port == DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


def _is_mdns(host: str) -> bool:
    return host.lower().rstrip(".").endswith(".local")


def _address(host: str, port: int, source: str) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if _is_mdns(host):
            # Linux without nss-mdns and Windows before 10 know nothing of such names.
            address, reason = mdns_address(host, reason)
            if address:
                return address
        raise UsageError(
            f"{source}: {host!r} does not resolve to an address ({reason}); "
            "give the board's address, as 192.168.0.135"
        ) from None
    # IPv4 first: boards listen there, whatever the resolver prefers.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    places: list[SocketAddress] = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
    _, place = places[_first_to_answer(places) if len(places) > 1 else 0]
    # The zone of a link-local address stands beside it as a number, and would get lost.
    return socket.getnameinfo(place, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def _first_to_answer(places: Sequence[SocketAddress]) -> int:
    """Find the first address that takes a connection; 0 if none does: the board may still boot."""

    async def race() -> int:
        index, sock = await asyncio.wait_for(first_connected(places), ANSWERS_S)
        sock.close()
        return index

    try:
        return run_async(race())
    except (OSError, asyncio.TimeoutError):
        return 0


def mdns_address(
    host: str, reason: str = "", *, interfaces: Sequence[str] | None = None, wait_s: float = MDNS_S
) -> tuple[str, str]:
    """Ask the link for an mDNS name; return the first IPv4 address, or "" and why there is none.

    Args:
        host: ``board.local``.
        reason: why it was not found otherwise.
        interfaces: addresses of those to ask on; None for all.
        wait_s: for an answer.
    """
    # zeroconf would take an event loop that runs in this thread for its own, and wait for it in vain.
    return run_apart(lambda _: _ask_the_link(host, reason, interfaces, wait_s))


def _ask_the_link(host: str, reason: str, interfaces: Sequence[str] | None, wait_s: float) -> tuple[str, str]:
    try:
        import zeroconf  # noqa: PLC0415 - an extra
    except ImportError:
        return "", f"{reason}; pip install 'pytest-espperf[mdns]' to look it up by mDNS"
    link = None
    try:
        # It is public, but missing in the list of what is.
        resolver = zeroconf.AddressResolverIPv4(host.rstrip(".") + ".")  # type: ignore[attr-defined]
        link = zeroconf.Zeroconf(interfaces=list(interfaces or ()) or zeroconf.InterfaceChoice.All)
        resolver.request(link, 1e3 * wait_s)
        addresses = resolver.parsed_addresses()
    except (OSError, zeroconf.Error) as error:
        return "", f"{reason}; mDNS: {error}"
    finally:
        if link is not None:
            link.close()
    return (addresses[0], "") if addresses else ("", f"{reason}; no board answered to it by mDNS")
