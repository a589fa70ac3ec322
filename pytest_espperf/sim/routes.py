"""The board's routes: which answer a request gets, and which resource it costs. No I/O."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_espperf.sim import static
from pytest_espperf.sim.catalog import COSTS, RouteCost
from pytest_espperf.sim.device import Device
from pytest_espperf.sim.messages import Request, Response, error_response, json_response
from pytest_espperf.sim.ota import FLASH_PATH, OTA_ROUTES, SWITCH_PATH
from pytest_espperf.sim.uploads import HANDLERS

REBOOT_PATH = "/debug/reboot"
ORDERS = frozenset({REBOOT_PATH, FLASH_PATH, SWITCH_PATH})
"""What changes the device, and so is refused to web pages."""


@dataclass(frozen=True)
class CostedResponse:
    """An answer and its cost; cost None means that the C side answers at once.

    ``transfer_bytes`` is what the link carries of a static file or an upload.
    """

    response: Response
    cost: RouteCost | None = None
    transfer_bytes: int = 0


def reply(request: Request, device: Device, now_s: float) -> CostedResponse:
    """Answer a request as the board would. Counts, and ``?reset=1`` zeroes, the device's counters."""
    if request.path in _PYTHON:
        return _native_error(request, device, ("GET",)) or _python(request, device)
    if request.path in HANDLERS:
        return _native_error(request, device, HANDLERS[request.path][0]) or _handled(request, device)
    if request.path in COSTS:
        return _native_error(request, device, ("GET", "HEAD")) or _static(request, device)
    if request.path in _DEBUG:
        method, handler = _DEBUG[request.path]
        return _native_error(request, device, (method,)) or CostedResponse(handler(request, device, now_s))
    device.count("dispatch_not_found")
    return CostedResponse(error_response(404, "Not Found"))


def _native_error(request: Request, device: Device, methods: tuple[str, ...]) -> CostedResponse | None:
    if request.method in methods:
        return None
    device.count("dispatch_method_mismatch")
    return CostedResponse(error_response(405, "Method Not Allowed", headers=(("Allow", ", ".join(methods)),)))


def _python(request: Request, device: Device) -> CostedResponse:
    device.count("dispatch_python")
    response = _PYTHON[request.path](request.query)
    if response.status == 422:
        device.count("dispatch_validation_errors")
    return CostedResponse(response, COSTS[request.path])


def _handled(request: Request, device: Device) -> CostedResponse:
    """Take a body, or a request of a client that is logged in."""
    cost = COSTS[request.path]
    device.count("dispatch_native" if cost.is_upload else "dispatch_python")
    response = HANDLERS[request.path][1](request, device)
    if response.status == 422:
        device.count("dispatch_validation_errors")
    return CostedResponse(response, cost, len(request.body) if cost.is_upload else 0)


def _static(request: Request, device: Device) -> CostedResponse:
    response = static.answer(request)
    device.count("dispatch_native")
    device.count("static_requests")
    device.count("static_bytes", len(response.payload()))
    if ("Content-Encoding", "gzip") in response.headers:
        device.count("static_gzip_hits")
    if response.status == 206:
        device.count("static_range_hits")
    if response.status == 304:
        device.count("static_not_modified")
    return CostedResponse(response, COSTS[request.path], len(response.payload()))


def _hello(_query: Mapping[str, str]) -> Response:
    return json_response({"message": "ok"})


def _ping(_query: Mapping[str, str]) -> Response:
    return json_response({"pong": True})


def _deps(_query: Mapping[str, str]) -> Response:
    return json_response({"value": 42})


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}
    return words[text.lower()]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_REQUIRED = object()
_QUERY_TYPES: Mapping[str, tuple[Callable[[str], Any], Any]] = {
    "q": (str, ""),
    "page": (int, 1),
    "ratio": (_finite, _REQUIRED),
    "active": (_boolean, False),
}


def _query_typed(query: Mapping[str, str]) -> Response:
    values: dict[str, Any] = {}
    for name, (convert, default) in _QUERY_TYPES.items():
        if name not in query:
            if default is _REQUIRED:
                return _invalid(name, "field required")
            values[name] = default
            continue
        try:
            values[name] = convert(query[name])
        except (ValueError, KeyError):
            return _invalid(name, "value is not of the right type")
    return json_response(values)


def _invalid(name: str, sentence: str) -> Response:
    return json_response({"detail": [{"loc": ["query", name], "msg": sentence}]}, 422)


_ITEMS = ("temperature", "humidity", "pressure", "supply voltage", "uptime")
_STYLE = "body{font-family:sans-serif;margin:2em}li{padding:.2em}"


def _page(title: str, inner: str) -> Response:
    text = (
        f"<!doctype html>\n<html>\n<head>\n<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{inner}</body>\n</html>\n"
    )
    return Response(200, text.encode(), "text/html; charset=utf-8")


def _template(_query: Mapping[str, str]) -> Response:
    items = "".join(f'<li class="item">{item}: <b>ok</b></li>\n' for item in _ITEMS)
    note = "<p>Rendered on the board by the template engine, once per request.</p>\n"
    return _page("Board", f"<h1>Board</h1>\n{note}<ul>\n{items}</ul>\n")


def _template_compat(query: Mapping[str, str]) -> Response:
    def escaped(name: str, default: str) -> str:
        return html.escape(query.get(name, default))

    roles = "".join(f"<li>{role}</li>\n" for role in escaped("roles", "").split(",") if role)
    items = "".join(
        f'<tr class="row-{index % 2}"><td>{index + 1}</td><td>{item}</td></tr>\n'
        for index, item in enumerate(escaped("items", "").split(","))
        if item
    )
    name, count, role = escaped("name", "guest"), escaped("count", "0"), escaped("role", "none")
    inner = (
        f"<h1>Hello {name}</h1>\n<p>You have {count} new messages and the role <em>{role}</em>.</p>\n"
        f"<h2>Your roles</h2>\n<ul>\n{roles}</ul>\n<h2>Items</h2>\n"
        "<p>Everything below was given in the query; what stands there is escaped.</p>\n<table>\n"
        f"<thead><tr><th>#</th><th>item</th></tr></thead>\n<tbody>\n{items}</tbody>\n</table>\n"
    )
    return _page(f"Compat: {name}", inner)


def _server_stats(request: Request, device: Device, now_s: float) -> Response:
    if request.query.get("reset") == "1":
        device.reset_counters()
        device.count("stats_resets")
    device.count("stats_reads")
    return json_response(device.server_stats(now_s))


def _memory_stats(_request: Request, device: Device, _now_s: float) -> Response:
    return json_response(device.memory_stats())


def _reboot(_request: Request, _device: Device, _now_s: float) -> Response:
    return json_response({"rebooting": True}, closes=True, reboots=True)


_PYTHON: Mapping[str, Callable[[Mapping[str, str]], Response]] = {
    "/hello": _hello,
    "/api/ping": _ping,
    "/deps": _deps,
    "/query-typed": _query_typed,
    "/template": _template,
    "/template-compat": _template_compat,
}

_DEBUG: Mapping[str, tuple[str, Callable[[Request, Device, float], Response]]] = {
    "/debug/server-stats": ("GET", _server_stats),
    "/debug/memory-stats": ("GET", _memory_stats),
    REBOOT_PATH: ("POST", _reboot),
    **OTA_ROUTES,
}
