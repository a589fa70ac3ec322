"""A client that is logged in: what it took from the answer, its cookies, and its own requests. No I/O.

Nothing of what a login brings is repeated in a message: not a value, not a part of its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import msgspec

from pytest_espperf.load.body_check import MAX_JSON_BYTES, BodyCheck
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import PreparedRequest, RawHeaders, RequestMaker, header_value
from pytest_espperf.model.figures import at_path
from pytest_espperf.model.workload import LoginSpec, Target

DURING = "login: "
"""Beginning of the reason of an error that a login met."""

MOST_VALUE = 8192
"""Characters of a value that is taken: more than servers accept in a header."""

_COOKIE = b"set-cookie"


class Login:
    """The login of a profile, made ready for all its clients.

    Args:
        spec: what is asked for, and what is taken from the answer.
        maker: makes the requests of the profile.
        target: the board.

    Raises:
        UsageError: the request cannot be made.
    """

    def __init__(self, spec: LoginSpec, maker: RequestMaker, target: Target) -> None:
        self.maker = maker
        self.take = spec.take
        self.table = OutcomeTable([])
        self.request = PreparedRequest(0, spec.request, maker.make_login(spec.request), self.table)
        # Cookies are kept by the name that the board is asked for by, as in a browser.
        self.place = f"{target.scheme}://{target.host_header}"
        try:
            httpx.URL(self.place)
        except httpx.InvalidURL:
            self.place = target.origin


class ClientSession:
    """What one client knows of itself.

    Attributes:
        login: what it asks for first.
        ready: whether it is logged in.
    """

    def __init__(self, login: Login, clock: Callable[[], float] = time.time) -> None:
        self.login = login
        self.ready = False
        self._clock = clock
        self._values: dict[str, str] = {}
        self._cookies = httpx.Cookies()
        self._check: BodyCheck | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        # By the request itself: a page and its assets are numbered apart.
        self._requests: dict[PreparedRequest, httpx.Request] = {}
        self._wires: dict[PreparedRequest, bytes] = {}
        self._valid_until = float("inf")

    def begin(self) -> PreparedRequest:
        """Begin to log in: return the request, whose answer goes to :meth:`feed` and :meth:`end`."""
        self._cookies = httpx.Cookies()
        self._values = {}
        self._body, self._body_bytes = [], 0
        request = self.login.request
        self._check = request.new_check() if request.looks_at_body else None
        return request

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the answer's body."""
        if self._check is not None:
            self._check.feed(piece)
        self._body_bytes += len(piece)
        if self._body_bytes <= MAX_JSON_BYTES:
            self._body.append(piece)

    def end(self, status: int, body_bytes: int, headers: RawHeaders, unsent_bytes: int = 0) -> str:
        """Take the whole answer; return why it is no login, "" where it is one.

        Args:
            status: of the answer.
            body_bytes: length of its body.
            headers: of the answer.
            unsent_bytes: of the login's own body that were not sent yet.
        """
        request, table = self.login.request, self.login.table
        outcome = request.judge(status, body_bytes, self._check, headers)
        body, self._body = b"".join(self._body), []
        if table.wrong[outcome]:
            kind = table.outcomes[outcome].error
            what = "" if kind == f"http_{status}" else f" with a wrong body ({kind})"
            return f"{request.spec.label} answers {status}{what}"
        if unsent_bytes and 200 <= status < 300:
            return f"{request.spec.label} answers {status}, but {request.untaken(unsent_bytes)}"
        self._keep_cookies(request, status, headers)
        for name, source in self.login.take.items():
            value = self._value(source, body, headers)
            if not value:
                return f"{request.spec.label} answers {status}, and there is no {source} in it"
            if len(value) > MOST_VALUE or not value.isascii() or not value.isprintable():
                return f"{request.spec.label} answers {status}, and its {source} can stand in no header"
            self._values[name] = value
        self._forget_requests()
        self.ready = True
        return ""

    def note(self, request: PreparedRequest, status: int, headers: RawHeaders) -> None:
        """Keep the cookies of a later answer."""
        if any(name.lower() == _COOKIE for name, _ in headers):
            self._keep_cookies(request, status, headers)
            self._forget_requests()

    def request(self, prepared: PreparedRequest) -> httpx.Request:
        """Return this client's own request, without its body.

        Raises:
            UsageError: it cannot be made.
        """
        if self._clock() >= self._valid_until:
            self._forget_requests()
        made = self._requests.get(prepared)
        if made is None:
            made = self.login.maker.make(prepared.spec, self._values, self._cookies_for(prepared))
            self._requests[prepared] = made
        return made

    def wire(self, prepared: PreparedRequest) -> bytes:
        """Return the bytes of this client's own request, as :attr:`PreparedRequest.wire`.

        Raises:
            UsageError: it cannot be made.
        """
        wire = self._wires.get(prepared) if self._clock() < self._valid_until else None
        if wire is None:
            wire = prepared.wire_of(self.request(prepared))
            self._wires[prepared] = wire
        return wire

    def _value(self, source: str, body: bytes, headers: RawHeaders) -> str:
        """Find a value in the answer; "" where it has none."""
        kind, _, name = source.partition(":")
        if kind == "header":
            return header_value(headers, name.lower().encode("ascii"), most=MOST_VALUE + 1)
        if kind == "cookie":
            return next((cookie.value or "" for cookie in self._cookies.jar if cookie.name == name), "")
        try:
            found = at_path(msgspec.json.decode(body), name)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return ""
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return str(found) if number or isinstance(found, str) else ""

    def _keep_cookies(self, request: PreparedRequest, status: int, headers: RawHeaders) -> None:
        asked = httpx.Request(request.spec.method, self._url(request))
        self._cookies.extract_cookies(httpx.Response(status, headers=list(headers), request=asked))
        for cookie in tuple(self._cookies.jar):
            text = f"{cookie.name}={cookie.value or ''}"
            if not (text.isascii() and text.isprintable()):  # no header can have it
                self._cookies.jar.clear(cookie.domain, cookie.path, cookie.name)

    def _cookies_for(self, request: PreparedRequest) -> str:
        asked = httpx.Request("GET", self._url(request))
        self._cookies.set_cookie_header(asked)
        return str(asked.headers.get("cookie", ""))

    def _url(self, request: PreparedRequest) -> str:
        return f"{self.login.place}{request.spec.path}"

    def _forget_requests(self) -> None:
        """Make the requests anew: a cookie came, or one is over."""
        self._requests.clear()
        self._wires.clear()
        ends = (cookie.expires for cookie in self._cookies.jar if cookie.expires is not None)
        self._valid_until = min((float(end) for end in ends if end > self._clock()), default=float("inf"))
