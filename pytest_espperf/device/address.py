"""From what the user calls the board to where requests go."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pytest_espperf.errors import UsageError
from pytest_espperf.parsers import is_address
from pytest_espperf.workload import Target

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

    The ``Host`` header is what the user wrote, but for an mDNS name (``board.local``), where it is the
    address: boards answer ``400 Invalid Host`` to their own mDNS name.

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
    shown = address if _is_mdns(host) else host
    name = "" if is_address(host) else host.rstrip(".")
    if is_address(shown) and ":" in shown:
        shown = f"[{shown.partition('%')[0]}]"
    return Target(
        scheme=scheme,
        address=address,
        port=port,
        host_header=f"{shown}:{port}",
        headers=headers,
        ca_file=ca_file or None,
        insecure=insecure,
        tls_name=name,
    )


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
    # IPv4 first: the boards this is for listen there, whatever the resolver prefers.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    # The zone of a link-local address stands beside it as a number, and would get lost.
    return socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def mdns_address(
    host: str, reason: str = "", *, interfaces: Sequence[str] | None = None, wait_s: float = MDNS_S
) -> tuple[str, str]:
    """Ask the link for an mDNS name; the IPv4 address first answered, or "" and why there is none.

    Args:
        host: ``board.local``.
        reason: why it was not found otherwise.
        interfaces: addresses of those to ask on; None for all.
        wait_s: for an answer.
    """
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
