"""What paths a board has: those that the user names, or its links, each asked for once and one by one."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin

from pytest_espperf.config.phases import MOST_PATHS
from pytest_espperf.config.profiles import BUILT_IN
from pytest_espperf.device.http import HttpAnswer, get
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.model.workload import Profile, RequestSpec, Target
from pytest_espperf.session.answers import BUSY, Asker
from pytest_espperf.session.board import Board
from pytest_espperf.session.links import (
    action_in,
    is_sitemap,
    is_sitemap_index,
    own_path,
    page_links,
    request_path,
    sitemap_links,
)

SITEMAP, INDEX = "/sitemap.xml", "/"

MOST_LINKS = 24
"""Links that are asked for; a profile of more has few requests of each path."""

MOST_BYTES = 512 * 1024
"""Longest body of a path of a profile: twelve clients that fetch it at once wait for seconds."""

MOST_PAGE_BYTES = 1 << 20
"""Bytes of a page or sitemap in which links are looked for."""

MOST_REDIRECTS = 5
"""Redirects of the index page that are followed."""

MOST_SITEMAPS = 4
"""Sitemaps that an index of sitemaps leads to, and that are read."""

TRIES = 3
"""Requests for a page with links; a board that answers one connection at a time may refuse one."""

PAUSE_S = 0.25
"""Seconds before the second try; before the third one twice as long."""

SILENT = 3
"""Paths without an answer in a row after which no more are asked for."""

_PROFILE = "init"


@dataclass(frozen=True)
class SurveyedPath:
    """A path that a profile can have.

    Attributes:
        path: the request path.
        status: of its answer, 2xx or 3xx.
        size_bytes: length of its body.
        took_ms: that the answer took, with one client.
        leads_to: where a redirect leads; "" for any other answer.
    """

    path: str
    status: int
    size_bytes: int
    took_ms: float
    leads_to: str = ""


@dataclass(frozen=True)
class LeftOutPath:
    """A path that is left out of the profile, and why, in words."""

    path: str
    reason: str


@dataclass
class Survey:
    """What was found on a board.

    Attributes:
        source: where the paths came from, in words.
        kept: those for the profile.
        left_out: the others that were looked at.
        more: links of the board for which there was no room.
        elsewhere: links that lead to other servers.
    """

    source: str
    kept: list[SurveyedPath] = field(default_factory=list)
    left_out: list[LeftOutPath] = field(default_factory=list)
    more: int = 0
    elsewhere: int = 0


class Surveyor:
    """Asks a board for paths, one after the other, on a connection of its own each.

    Args:
        board: the board, locked; it has just answered.
        host: the board as the user named it.
        sleep: seconds -> None.
    """

    def __init__(self, board: Board, host: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._target = board.target
        self._timeout_s = board.settings.perf_request_timeout
        self._sleep = sleep
        self._base = f"{board.target.scheme}://{board.target.host_header}"
        self._origins = _origins(board.target, host)

    def ask_named(self, paths: Sequence[str]) -> Survey:
        """Ask for the paths that the user names.

        Raises:
            UsageError: one is no path, or there are too many.
        """
        survey = Survey("the paths given")
        named = list(dict.fromkeys(map(_named_path, paths)))
        if len(named) > MOST_PATHS:
            raise UsageError(f"{len(named)} paths are more than a profile can hold ({MOST_PATHS})")
        self._ask_all(survey, named, follow=False)
        return survey

    def ask_linked(self) -> Survey:
        """Ask for what the sitemap lists; else for the index page and its links; else for known paths."""
        survey, paths = self._find_paths()
        chosen: list[str] = []
        for path in paths:
            if word := action_in(path):
                reason = f"{word!r} in it suggests that it changes something; name it to measure it"
                survey.left_out.append(LeftOutPath(path, reason))
            elif len(chosen) < MOST_LINKS:
                chosen.append(path)
            else:
                survey.more += 1
        self._ask_all(survey, chosen, follow=True)
        return survey

    # --- finding paths

    def _find_paths(self) -> tuple[Survey, list[str]]:
        links = self._sitemap()
        paths = self._own(links)
        if paths:
            return Survey(SITEMAP, elsewhere=len(links) - len(paths)), paths
        try:
            page, text = self._index()
        except DeviceError as error:
            known = [path for paths in BUILT_IN.values() for path in paths]
            return Survey(f"{error}; the paths of the built-in profiles"), list(dict.fromkeys(known))
        links = page_links(text, self._base + page)
        paths = self._own(links)
        elsewhere = sum(not own_path(link, self._origins) for link in links if link.startswith("http"))
        return Survey(f"the links of {page}", elsewhere=elsewhere), list(dict.fromkeys([page, *paths]))

    def _own(self, links: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(filter(None, (own_path(link, self._origins) for link in links))))

    def _sitemap(self) -> list[str]:
        """Read the sitemap, and those that it leads to; [] without one."""
        waiting, links, read = deque([SITEMAP]), [], 0
        while waiting and read <= MOST_SITEMAPS:
            path, read = waiting.popleft(), read + 1
            try:
                answer = self._get(path)
            except DeviceError:
                continue
            text = _text_of(answer) if answer.status == 200 else ""
            if not is_sitemap(text):
                continue
            found = sitemap_links(text, self._base + path)
            if is_sitemap_index(text):
                waiting.extend(self._own(found))
            else:
                links += found
        return links

    def _index(self) -> tuple[str, str]:
        """Read the index page, where redirects of the board lead to it.

        Returns:
            its path and its text.

        Raises:
            DeviceError: there is none.
        """
        path = INDEX
        for _ in range(MOST_REDIRECTS):
            answer = self._get(path)
            leads_to = own_path(urljoin(self._base + path, answer.location), self._origins)
            if not answer.location or not leads_to:
                break
            path = leads_to
        if not 200 <= answer.status < 300:
            went = f", a redirect to {answer.location}" if answer.location else ""
            raise DeviceError(f"no {SITEMAP}, and {path} answers {answer.status}{went}")
        return path, _text_of(answer)

    def _get(self, path: str) -> HttpAnswer:
        """GET a page, once more where the board refuses or has too much to do.

        Raises:
            DeviceError: there is no answer.
        """
        for number in range(1, TRIES + 1):
            try:
                answer = get(self._target, path, timeout_s=self._timeout_s)
            except DeviceError:
                if number == TRIES:
                    raise
            else:
                if answer.status not in BUSY or number == TRIES:
                    return answer
            self._sleep(PAUSE_S * number)
        raise AssertionError  # the last try returns or raises

    # --- asking for them

    def _ask_all(self, survey: Survey, paths: Sequence[str], *, follow: bool) -> None:
        """Ask for each path, and sort the answers.

        Args:
            survey: takes what was found.
            paths: in order.
            follow: ask for what a redirect leads to in place of it, where that is on the board.
        """
        waiting, seen, silent = deque(paths), set(paths), 0
        while waiting:
            path = waiting.popleft()
            if silent == SILENT:
                survey.left_out.append(
                    LeftOutPath(path, f"not asked: {SILENT} paths in a row gave no answer")
                )
                continue
            found = self._ask(path)
            silent = silent + 1 if isinstance(found, LeftOutPath) and "no answer" in found.reason else 0
            if isinstance(found, LeftOutPath):
                survey.left_out.append(found)
            elif follow and found.leads_to:
                survey.left_out.append(LeftOutPath(path, f"redirects to {found.leads_to}"))
                leads_to = own_path(urljoin(self._base + path, found.leads_to), self._origins)
                if leads_to and leads_to not in seen and not action_in(leads_to):
                    seen.add(leads_to)
                    waiting.appendleft(leads_to)
            else:
                survey.kept.append(found)

    def _ask(self, path: str) -> SurveyedPath | LeftOutPath:
        """Ask for a path as a session does before its load."""
        asker = Asker(self._target, self._timeout_s, sleep=self._sleep)
        asker.ask([Profile(_PROFILE, (RequestSpec(path),), ())], float("inf"))
        answer = asker.answers.get(_PROFILE, {}).get(path)
        if answer is None or answer.status is None:
            why = f": {answer.trouble}" if answer is not None else f" within {self._timeout_s:g} s"
            return LeftOutPath(path, f"no answer{why}")
        if answer.trouble:
            return LeftOutPath(path, answer.trouble)
        size_bytes = answer.body_bytes or 0
        if size_bytes > MOST_BYTES:
            return LeftOutPath(path, f"{size_bytes:,} bytes, more than {MOST_BYTES:,}")
        leads_to = self._location(path) if 300 <= answer.status < 400 else ""
        took_ms = round(asker.took_ms[_PROFILE][path], 3)
        return SurveyedPath(path, answer.status, size_bytes, took_ms, leads_to)

    def _location(self, path: str) -> str:
        """Find out where a redirect leads; "" where that is not said."""
        try:
            return self._get(path).location
        except DeviceError:
            return ""


def _origins(target: Target, host: str) -> frozenset[tuple[str, str, int]]:
    """List the origins by which a board's own pages may name it."""
    named = split_host(host)[0]
    asked = split_host(target.host_header)[0]
    hosts = {named.lower().rstrip("."), asked.lower(), target.address.partition("%")[0].lower()}
    return frozenset((target.scheme, name, target.port) for name in hosts)


def _named_path(text: str) -> str:
    """Parse a path of the command line.

    Raises:
        UsageError: it does not begin with a slash.
    """
    path, mark, query = text.partition("#")[0].partition("?")
    if not path.startswith("/"):
        raise UsageError(f"{text!r} is no path of the board: it begins with '/'")
    return request_path(path, query) if mark else request_path(path)


def _text_of(answer: HttpAnswer) -> str:
    """Decode a page; some boards send it compressed though that was not asked for."""
    body = answer.body
    if body.startswith(b"\x1f\x8b"):
        try:
            body = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MOST_PAGE_BYTES)
        except zlib.error:
            return ""
    try:
        return body[:MOST_PAGE_BYTES].decode("utf-8-sig")
    except UnicodeDecodeError:
        return body[:MOST_PAGE_BYTES].decode("cp1252", "replace")
