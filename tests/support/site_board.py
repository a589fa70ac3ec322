"""A board with pages that a test chooses, in this process: one connection at a time, as many boards do."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Page:
    """One answer; with ``after_s`` a late one."""

    body: bytes = b"ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0


@dataclass
class Site:
    """A server and its pages.

    Attributes:
        pages: by the request's path, with its query; all others are 404.
        asked: paths in the order in which they were asked for.
        port: where it listens on 127.0.0.1.
        credentials: value of Authorization without which each answer is 401; "" for none.
    """

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    credentials: str = ""

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"


def links(*paths: str) -> Page:
    """A page that links to others."""
    body = "".join(f'<a href="{path}">there</a>\n' for path in paths)
    return Page(f"<html>{body}</html>".encode(), headers={"Content-Type": "text/html; charset=utf-8"})


@contextmanager
def serving_site(site: Site, *, certificate: Path | None = None) -> Iterator[Site]:
    """Serve for the time of the block; a connection waits until the one before is closed."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_GET(self) -> None:
            site.asked.append(self.path)
            site.headers.append({name.lower(): value for name, value in self.headers.items()})
            page = site.pages.get(self.path, Page(b"not here", status=404))
            if site.credentials and self.headers.get("Authorization") != site.credentials:
                page = Page(b"who are you?", status=401)
            time.sleep(page.after_s)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", site.port), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
