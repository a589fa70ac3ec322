"""nginx on a loopback port, for tests against a server that we did not write."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import free_port, listens, running

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian package nginx-light)")


@contextmanager
def nginx(folder: Path, listen: str = "", server: str = "") -> Iterator[int]:
    """nginx with files at the paths of c_static_only; ``listen`` and ``server`` go into its configuration."""
    assert NGINX is not None
    (folder / "www" / "static").mkdir(parents=True)
    for name in ("file", "static/large.txt"):
        (folder / "www" / name).write_bytes(b"0123456789" * 41000)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            keepalive_requests 50;
            server {{ listen 127.0.0.1:{port} {listen}; root {folder}/www; {server} }}
        }}
        """
    )
    with running([NGINX, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        assert listens(process, port), (folder / "error.log").read_text()
        yield port
