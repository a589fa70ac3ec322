"""Routes that take a body, and those behind the login: their answers, and what a body may be. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pytest_espperf.sim.device import Device
from pytest_espperf.sim.messages import Request, Response, error_response, json_response, parse_query

MAX_BODY_BYTES = 65_536
MAX_UPLOAD_BYTES = 4 * 1024 * 1024
UPLOAD_PATH = "/upload"


def most_body_bytes(path: str) -> int:
    """Return the length of the longest body that a path takes."""
    return MAX_UPLOAD_BYTES if path == UPLOAD_PATH else MAX_BODY_BYTES


def refuse_head(method: str, path: str, headers: Mapping[str, str]) -> Response | None:
    """Refuse a request by its head, before its body was read; None where it may go on.

    411 where a route takes a body and the request has neither length nor chunks, 413 where the length is
    above the limit, 417 where something else is expected than to go on.
    """
    length = headers.get("content-length", "")
    chunked = "transfer-encoding" in headers
    if path in _BODY_ROUTES and method in _BODY_ROUTES[path][0] and not length and not chunked:
        return error_response(411, "Length Required")
    if length.isdigit() and int(length) > most_body_bytes(path):
        return error_response(413, "Content Too Large")
    if expects(headers) not in {"", "100-continue"}:
        return error_response(417, "Expectation Failed")
    return None


def expects(headers: Mapping[str, str]) -> str:
    """Return what a client wants to know before it sends the body."""
    return headers.get("expect", "").strip().lower()


def _echo(request: Request, _device: Device) -> Response:
    return Response(200, request.body, request.headers.get("content-type", "application/octet-stream"))


def _upload(request: Request, _device: Device) -> Response:
    return json_response({"bytes": len(request.body)})


def _item(request: Request, _device: Device) -> Response:
    item = _object(request)
    if item is None:
        return _unreadable("a JSON object")
    return json_response({"created": True, "item": item}, 201)


def _form(request: Request, _device: Device) -> Response:
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return _unreadable("a form")
    return json_response({"fields": parse_query(request.body)})


def _login(request: Request, device: Device) -> Response:
    asked = _object(request)
    user = asked.get("user") if asked is not None else None
    if not isinstance(user, str) or not user:
        return error_response(401, "user is missing")
    token = device.log_in()
    return json_response(
        {"token": token}, headers=(("Set-Cookie", f"sid={token}; Path=/; HttpOnly; Max-Age=3600"),)
    )


def _cart(request: Request, device: Device) -> Response:
    """Show the cart of whoever is logged in, by token or by cookie."""
    cookies = (pair.strip() for pair in request.headers.get("cookie", "").split(";"))
    sid = next((pair[4:] for pair in cookies if pair.startswith("sid=")), "")
    if not (device.knows(_bearer(request)) or device.knows(sid)):
        return _unknown()
    return json_response({"items": [{"id": 1, "count": 2}]})


def _state(request: Request, device: Device) -> Response:
    if not device.knows(_bearer(request)):
        return _unknown()
    return json_response({"ok": True, "relay": {"on": False}})


def _bearer(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _unknown() -> Response:
    return error_response(401, "Unauthorized", headers=(("WWW-Authenticate", "Bearer"),))


def _unreadable(what: str) -> Response:
    return json_response({"detail": [{"loc": ["body"], "msg": f"the body is not {what}"}]}, 422)


def _object(request: Request) -> dict[str, object] | None:
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


Handler = Callable[[Request, Device], Response]

_BODY_ROUTES: Mapping[str, tuple[tuple[str, ...], Handler]] = {
    "/echo": (("POST", "PUT"), _echo),
    UPLOAD_PATH: (("POST", "PUT"), _upload),
    "/item": (("POST",), _item),
    "/form": (("POST",), _form),
    "/login": (("POST",), _login),
}

HANDLERS: Mapping[str, tuple[tuple[str, ...], Handler]] = {
    **_BODY_ROUTES,
    "/cart": (("GET",), _cart),
    "/state": (("GET",), _state),
}
"""Routes that take a body, and those of clients that are logged in: their methods, and who answers."""
