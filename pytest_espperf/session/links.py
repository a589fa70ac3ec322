"""The links of a page or a sitemap, as request paths of the same server. Pure."""

from __future__ import annotations

import html
import re
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import quote, urljoin, urlsplit

from pytest_espperf.model.workload import DEFAULT_PORTS

MOST_URL = 2000
"""Characters of a link; longer ones are data."""

_ATTRIBUTES = {
    "a": "href",
    "area": "href",
    "frame": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
}
"""Elements that lead somewhere, and the attribute that says where."""

_LOCATION = re.compile(r"<(?:\w+:)?loc\s*>\s*(?:<!\[CDATA\[)?\s*([^<\]]*)")

_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_WORDS = """
clear connect delete disable disconnect download enable erase exec factory flash format kill logout off on ota
pair poweroff reboot remove reset restart save send shutdown signout stop toggle update upgrade upload write
"""
ACTIONS = frozenset(_WORDS.split())
"""Words in a path that suggest that a request for it changes something."""


class _LinkCollector(HTMLParser):
    """Collects the links of a page in their order, character references resolved."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an element links to."""
        values = dict(attrs)
        if tag == "base" and not self.base:
            self.base = values.get("href") or ""
        link = values.get(_ATTRIBUTES.get(tag, ""))
        if link is not None:
            self.links.append(link)


def page_links(text: str, url: str) -> list[str]:
    """List the absolute URLs that a page links to, in its order, each once.

    Args:
        text: of the page.
        url: of the page itself.
    """
    collector = _LinkCollector()
    with suppress(AssertionError):  # of a malformed declaration; what came before it counts
        collector.feed(text)
        collector.close()
    base = _joined(url, collector.base) or url
    return list(dict.fromkeys(filter(None, (_joined(base, link) for link in collector.links))))


def is_sitemap(text: str) -> bool:
    """Whether a text is a sitemap, or an index of sitemaps, and no page in the place of one."""
    return re.search(r"<(?:\w+:)?(?:urlset|sitemapindex)\b", text[:4096]) is not None


def is_sitemap_index(text: str) -> bool:
    """Whether a sitemap lists further sitemaps."""
    return re.search(r"<(?:\w+:)?sitemapindex\b", text[:4096]) is not None


def sitemap_links(text: str, url: str) -> list[str]:
    """List the absolute URLs in a sitemap, in its order, each once."""
    found = (_joined(url, html.unescape(match[1])) for match in _LOCATION.finditer(text))
    return list(dict.fromkeys(filter(None, found)))


def _joined(base: str, link: str) -> str:
    """Resolve a link; "" for one that leads to no page."""
    link = re.sub(r"[\t\r\n]", "", link).strip()
    if not link or len(link) > MOST_URL:
        return ""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def own_path(url: str, origins: frozenset[tuple[str, str, int]]) -> str:
    """Return the request path of a URL, in ASCII and without its fragment; "" for another server's.

    Args:
        url: an absolute URL.
        origins: scheme, host and port of each origin that is the board's.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    if (parts.scheme, (parts.hostname or "").rstrip("."), port) not in origins:
        return ""
    return request_path(parts.path or "/", parts.query)


def request_path(path: str, query: str = "") -> str:
    """Encode a path and its query as a browser sends them: UTF-8, percent-encoded."""
    encoded = quote(_STRAY_PERCENT.sub("%25", path), safe=_PATH_SAFE, errors="replace")
    if not query:
        return encoded
    return f"{encoded}?{quote(_STRAY_PERCENT.sub('%25', query), safe=_PATH_SAFE + '?/', errors='replace')}"


def action_in(path: str) -> str:
    """Return the word of a path or of its query that suggests an action: ``reboot``; "" without one."""
    words = re.findall(r"[a-z]+", path.lower())
    return next((word for word in words if word in ACTIONS), "")
