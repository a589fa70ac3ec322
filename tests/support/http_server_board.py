"""The routes of the built-in profiles on Python's http.server: HTTP/1.0, a connection per request.

::

    python http_server_board.py COST

``COST`` multiplies the work of the templates; ``/cost?heavy=1.8`` changes it while the server runs. The
answers keep their length. The server prints its port, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STEPS = 60_000
LARGE = b"0123456789" * 1600
HEAVY = {"heavy": 1.0}


def template() -> bytes:
    """A page after a fixed number of steps, and not after a time: beside other work it takes longer."""
    value = 1
    for _ in range(int(STEPS * HEAVY["heavy"])):
        value = (value * 1103515245 + 12345) & 0xFFFFFFFF
    return b"<html>%08x%s</html>" % (value, b"x" * 1200)


class Board(BaseHTTPRequestHandler):
    """Answers a request."""

    def do_GET(self) -> None:
        """Answer one of the routes."""
        split = urlsplit(self.path)
        kind, body = "application/json", b'{"ok": true}'
        if split.path == "/hello":
            kind, body = "text/plain", b"hello"
        elif split.path in {"/file", "/static/large.txt"}:
            kind, body = "text/plain", LARGE
        elif split.path in {"/template", "/template-compat"}:
            kind, body = "text/html", template()
        elif split.path == "/cost":
            HEAVY["heavy"] = float(parse_qs(split.query)["heavy"][0])
            body = json.dumps(HEAVY).encode()
        elif split.path not in {"/api/ping", "/deps", "/query-typed"}:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write no log."""


class Server(ThreadingHTTPServer):
    """With a backlog that takes every client."""

    request_queue_size = 64


if __name__ == "__main__":
    HEAVY["heavy"] = float(sys.argv[1])
    server = Server(("127.0.0.1", 0), Board)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
