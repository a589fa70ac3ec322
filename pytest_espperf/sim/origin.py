"""Protection of the device against requests that a web page in a browser sends. Pure.

A page of any site can send a POST to 127.0.0.1, and by DNS rebinding, under a name of its own, read the
answer. A browser says where a request comes from (``Origin``, ``Sec-Fetch-Site``) and which name it is for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from pytest_espperf.sim.messages import Request

_OWN_SITE = frozenset({"same-origin", "none"})


def refuse_foreign(request: Request, names: Collection[str]) -> str:
    """Explain why a request may not change the device; "" if it may.

    Args:
        request: to a route that changes something.
        names: host names and addresses of the device, beside those of loopback.
    """
    host = request.headers.get("host", "")
    if not _is_own(host, names):
        return "Host names another host than this device: use its address, or localhost"
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()}:
        return "Origin is another site's: this device takes no orders from web pages"
    if request.headers.get("sec-fetch-site", "none").lower() not in _OWN_SITE:
        return "Sec-Fetch-Site is another site's: this device takes no orders from web pages"
    return ""


def _is_own(host: str, names: Collection[str]) -> bool:
    try:
        url = urlsplit(f"//{host}")
        name = (url.hostname or "").removesuffix(".")
        if url.netloc != host or url.username is not None or (url.port or 1) < 1:
            return False
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name) or name in {_bare(own) for own in names}


def is_loopback(address: str) -> bool:
    """Whether a text is an address of loopback."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _bare(name: str) -> str:
    return name.lower().removesuffix(".")
