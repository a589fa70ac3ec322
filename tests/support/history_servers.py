"""An empty place of each kind for a shared history: a folder, memory, servers that we did not write.

A plugin of pytest's for the tests that need one. Each server starts once for all tests of a process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from support.history_places import (
    AZ,
    AZURITE,
    BUCKET,
    GS,
    SFTP,
    USE,
    connection_string,
    use_home,
)
from support.lab_bench import free_port

SFTP_SERVER = Path(__file__).parent / "sftp_server.py"


def started(words: list[str], pattern: str, **streams: int) -> Iterator[str]:
    """A server's process until it is no longer needed; what it says about its address."""
    process = subprocess.Popen(words, text=True, **streams)  # type: ignore[call-overload]
    stream: IO[str] = process.stdout or process.stderr
    try:
        found = next(match[1] for line in stream if (match := re.search(pattern, line)))
        reader = threading.Thread(target=stream.read)  # it must not stop because nobody reads
        reader.start()
        yield found
    finally:
        process.kill()
        process.wait()
        reader.join()
        stream.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """moto's server, with one bucket; its URL."""
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    for url in started(words, r"(http://127\.0\.0\.1:[0-9]+)", stderr=subprocess.PIPE):
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield url


@pytest.fixture(scope="session")
def gs() -> Iterator[str]:
    """gcp-storage-emulator, with one bucket; its URL."""
    port = free_port()
    words = [sys.executable, "-u", "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1"]
    words += [f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"]
    for _ in started(words, "(All services started)", stderr=subprocess.STDOUT, stdout=subprocess.PIPE):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def az() -> Iterator[str]:
    """Azurite, with one container; its URL."""
    words = [AZURITE, "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "0"]
    words += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    for url in started(words, r"listens on (http://127\.0\.0\.1:[0-9]+)", stdout=subprocess.PIPE):
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection_string(url)) as client:
            client.create_container(BUCKET).close()
        yield url


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """asyncssh's server; its port, and the home of a user whom it knows and who knows it."""
    import asyncssh

    folder = tmp_path_factory.mktemp("sftp")
    home, root = folder / "home", folder / "root"
    (home / ".ssh").mkdir(parents=True)
    root.mkdir()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    own_key = asyncssh.generate_private_key("ssh-ed25519")
    host_key.write_private_key(str(folder / "host"))
    own_key.write_private_key(str(home / ".ssh" / "id_ed25519"))
    own_key.write_public_key(str(folder / "authorized"))
    words = [str(SFTP_SERVER), *(str(folder / name) for name in ("host", "authorized", "root"))]
    for port in started([sys.executable, *words], r"^([0-9]+)$", stdout=subprocess.PIPE):
        known = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
        (home / ".ssh" / "known_hosts").write_text(known, encoding="utf-8")
        yield port, home


@pytest.fixture(params=["file", "memory", "s3", SFTP, GS, AZ])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place of each kind."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)
    if request.param == "file":
        (tmp_path / "share").mkdir()
        return (tmp_path / "share").as_uri()
    if request.param == "memory":
        return f"memory://{name}"
    server = request.getfixturevalue(request.param)
    if request.param == "sftp":
        port, home = server
        use_home(home, monkeypatch)
        return f"sftp://me@127.0.0.1:{port}/{name}/perf"
    USE[request.param](server, monkeypatch)
    return f"{request.param}://{BUCKET}/{name}/perf"
