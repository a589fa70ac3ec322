"""A small HTTP server on loopback that remembers who asked it when: in this process, or in one of its own.

``python board_server.py COUNT DELAY_S`` serves so many boards, prints a line with their ports, and, once its
standard input has ended, a line with what each has seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.plugin_project import Span, Web

WORKER = "X-Worker"
"""The header in which a worker of pytest-xdist can say which it is."""


@contextmanager
def served() -> Iterator[Web]:
    """Python's own HTTP server, one thread a connection."""
    facts = Web()
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one segment: no 40 ms of delayed ACK between them

        def do_GET(self) -> None:
            facts.served += 1
            facts.headers.append({name.lower(): value for name, value in self.headers.items()})
            with counting:
                at_first, facts.at_first = facts.at_first, None
            if at_first is not None:
                at_first()
            if self.path.startswith("/pace/"):
                facts.delay_s = float(self.path.rpartition("/")[2])
            if self.path.startswith("/debug/"):
                self.send_error(404)
                return
            if facts.served > facts.hang_after:
                facts.released.wait(60)
                self.close_connection = True
                return
            began = time.monotonic()
            with counting:
                facts.at_once += 1
                facts.most_at_once = max(facts.most_at_once, facts.at_once)
            time.sleep(facts.delay_s)
            with counting:
                facts.at_once -= 1
                facts.spans.append(Span(began, time.monotonic(), self.headers.get(WORKER, "")))
            body = b'{"message":"ok"}'
            self.send_response(facts.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    facts.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield facts
    finally:
        facts.released.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class Boards:
    """Boards in a process of their own.

    Attributes:
        addresses: ``host:port`` of each.
        seen: of each, what it has seen; once the process has ended.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.addresses = [f"127.0.0.1:{port}" for port in json.loads(process.stdout.readline())]
        self.seen: dict[str, list[Span]] = {}

    @classmethod
    @contextmanager
    def running(cls, count: int, delay_s: float) -> Iterator[Boards]:
        """So many, for the time of the block."""
        words = [sys.executable, str(Path(__file__)), str(count), str(delay_s)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            boards = cls(process)
            try:
                yield boards
            finally:
                said, _ = process.communicate(timeout=90)
                seen = [[Span(*span) for span in spans] for spans in json.loads(said)]
                boards.seen = dict(zip(boards.addresses, seen, strict=True))


def main(count: int, delay_s: float) -> None:
    """Serve until the standard input ends."""
    with ExitStack() as serving:
        webs = [serving.enter_context(served()) for _ in range(count)]
        for web in webs:
            web.delay_s = delay_s
        print(json.dumps([web.port for web in webs]), flush=True)
        sys.stdin.read()
        print(json.dumps([web.spans for web in webs]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
