"""The same of every kind of place: a folder, memory, a server that speaks S3, one that speaks SFTP."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import asyncssh
import botocore.session
import pytest
from benches import Bench, quick_disk  # noqa: F401 - for every test

from pytest_espperf.errors import RemoteError, UsageError
from pytest_espperf.history import objects, remote
from pytest_espperf.history.address import SCHEMES, parse_url
from pytest_espperf.history.remote import Listed, Remote, check_installed, words_of

SFTP_SERVER = Path(__file__).parent / "sftp_server.py"
BUCKET = "benches"

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the server's root of its own is POSIX's")


def started(words: list[str], pattern: str, **streams: int) -> Iterator[str]:
    """A server's process until it is no longer needed; what it says about its address."""
    process = subprocess.Popen([sys.executable, *words], text=True, **streams)  # type: ignore[call-overload]
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


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """moto's server, with one bucket; its URL."""
    words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    for url in started(words, r"(http://127\.0\.0\.1:[0-9]+)", stderr=subprocess.PIPE):
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield url


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """asyncssh's server; its port, and the home of a user whom it knows and who knows it."""
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
    for port in started(words, r"^([0-9]+)$", stdout=subprocess.PIPE):
        known = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
        (home / ".ssh" / "known_hosts").write_text(known, encoding="utf-8")
        yield port, home


def use_s3(url: str, patched: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "FSSPEC_")):
            patched.delenv(name)
    patched.setenv("AWS_ACCESS_KEY_ID", "key-of-the-bench")
    patched.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-bench")
    patched.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    patched.setenv("AWS_ENDPOINT_URL", url)
    patched.setenv("AWS_CONFIG_FILE", os.devnull)
    patched.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def use_home(home: Path, patched: pytest.MonkeyPatch) -> None:
    patched.setenv("HOME", str(home))
    patched.setenv("USERPROFILE", str(home))
    patched.delenv("SSH_AUTH_SOCK", raising=False)


SFTP = pytest.param("sftp", marks=posix_only)


@pytest.fixture(params=["file", "memory", "s3", SFTP])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place of each kind."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)
    if request.param == "file":
        (tmp_path / "share").mkdir()
        return (tmp_path / "share").as_uri()
    if request.param == "memory":
        return f"memory://{name}"
    if request.param == "s3":
        use_s3(request.getfixturevalue("s3"), monkeypatch)
        return f"s3://{BUCKET}/{name}/perf"
    port, home = request.getfixturevalue("sftp")
    use_home(home, monkeypatch)
    return f"sftp://me@127.0.0.1:{port}/{name}/perf"


def test_sessions_and_decisions_go_round(url: str, tmp_path: Path) -> None:
    a, b = (Bench(url, tmp_path / name) for name in "ab")
    assert a.sync.pull().sessions == 0
    for number in range(1, 4):
        a.save(f"session-{number}", f"2026010{number}T000000Z", tag="ä")
    a.store.accept("session-1", "meant ✓")
    assert a.sync.push() == 4
    assert b.sync.pull().new == 3
    assert list(b.store.sessions()) == list(a.store.sessions())
    assert sorted(path.name for path in b.folder.glob("perf_*")) == sorted(
        path.name for path in a.folder.glob("perf_*")
    )
    b.store.unaccept("session-1")
    b.store.pin("session-2", "anchor")
    b.save("session-4", "20260104T000000Z")
    assert b.sync.push() == 3
    assert a.sync.pull().new == 1
    assert a.decided() == b.decided()
    assert a.decided()["session-1"] == (None, False)
    assert a.decided()["session-2"] == (None, True)
    assert a.sync.push() == 0
    names = [f"session-{number}{suffix}" for number in range(1, 5) for suffix in (".json", ".md")]
    assert a.there(objects.SESSIONS) == names


@pytest.mark.parametrize("url", ["memory", SFTP], indirect=True)
def test_a_session_that_is_cut_short_there_is_written_again(url: str, tmp_path: Path) -> None:
    a, b = (Bench(url, tmp_path / name) for name in "ab")
    a.save("session-1")
    a.sync.push()
    whole = a.get(objects.SESSIONS, "session-1.json")
    a.put(objects.SESSIONS, {"session-1.json": whole[:-10]})
    assert "session-1.json: is not JSON" in b.sync.pull().skipped[0]
    assert a.sync.push() == 1
    assert a.get(objects.SESSIONS, "session-1.json") == whole
    assert b.sync.pull().new == 1


def test_a_place_lists_sizes_and_says_when_an_object_is_another_one(url: str) -> None:
    with Remote(parse_url(url), 30.0) as place:
        assert place.listing("sessions") == {}
        place.write("sessions", {"one": b"12345", "two": b""})
        first = place.listing("sessions")
        assert {name: entry.size for name, entry in first.items()} == {"one": 5, "two": 0}
        assert place.read("sessions", ["one", "two"]) == {"one": b"12345", "two": b""}
        found = place.read("sessions", ["one", "gone"])
        assert found["one"] == b"12345"
        assert isinstance(found["gone"], Exception)
        place.write("sessions", {"one": b"1234567"})
        assert place.listing("sessions")["one"].size == 7
        assert place.listing("sessions")["two"] == first["two"]


def test_what_s3_holds_is_what_any_other_client_finds(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(s3, monkeypatch)
    bench = Bench(f"s3://{BUCKET}/plain", tmp_path / "a")
    path = bench.save("session-1")
    bench.sync.push()
    client = botocore.session.get_session().create_client("s3")
    found = client.get_object(Bucket=BUCKET, Key="plain/sessions/session-1.json")
    assert found["Body"].read() == path.read_bytes()
    client.close()


def test_an_object_that_was_replaced_has_another_version() -> None:
    """Where the server says so: not every one does within the same second."""
    url = parse_url("memory://versions")
    with Remote(url, 30.0) as place:
        place.write("sessions", {"one": b"12345"})
        first = place.listing("sessions")["one"]
        place.write("sessions", {"one": b"54321"})
        second = place.listing("sessions")["one"]
    assert first.size == second.size
    assert first.version != second.version != ""


# -- what cannot be reached ----------------------------------------------------------------------------


def refusal(url: str, folder: Path, bound_s: float = 30.0) -> str:
    bench = Bench(url, folder, bound_s=bound_s)
    bench.save("session-1")
    with pytest.raises(RemoteError) as refused:
        bench.sync.pull()
    with pytest.raises(RemoteError):
        bench.sync.push()
    assert bench.ids() == ["session-1"]
    assert bench.sync.pulled_at() == ""
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_bucket_that_is_not_there_is_no_empty_history(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(s3, monkeypatch)
    assert "bucket does not exist" in refusal("s3://no-such-bucket/x", tmp_path / "a")


def test_a_folder_that_is_not_there_is_not_made_below_a_mount_point(tmp_path: Path) -> None:
    share = tmp_path / "share" / "perf"
    assert f"there is no folder {share}" in refusal(share.as_uri(), tmp_path / "a")
    assert not share.parent.exists()


def test_a_server_that_is_down_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    use_s3(f"http://127.0.0.1:{port}", monkeypatch)
    assert "Could not connect" in refusal("s3://bucket/x", tmp_path / "a")
    use_home(tmp_path, monkeypatch)
    assert "refused" in refusal(f"sftp://me@127.0.0.1:{port}/x", tmp_path / "b").lower()


@posix_only
def test_a_server_whose_key_is_not_known_is_not_trusted(
    sftp: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, home = sftp
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes((home / ".ssh" / "id_ed25519").read_bytes())
    use_home(tmp_path, monkeypatch)
    assert "key is not trusted" in refusal(f"sftp://me@127.0.0.1:{port}/x", tmp_path / "a")


def test_missing_credentials_are_said(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(s3, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "credentials" in refusal(f"s3://{BUCKET}/x", tmp_path / "a")


HANGING = """
import sys
from pathlib import Path
from benches import Bench
from pytest_espperf.errors import RemoteError
for number, url in enumerate(sys.argv[2:]):
    bench = Bench(url, Path(sys.argv[1]) / str(number), bound_s=1.0)
    bench.save("session-1")
    try:
        bench.sync.pull()
    except RemoteError as error:
        print(error)
    print(bench.ids())
"""


def test_a_server_that_hangs_hangs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        use_s3(f"http://127.0.0.1:{port}", monkeypatch)
        use_home(tmp_path, monkeypatch)
        urls = ["s3://bucket/x", f"sftp://me@127.0.0.1:{port}/x"]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", HANGING, str(tmp_path), *urls],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.splitlines() == ["it did not answer within 1 s", "['session-1']"] * 2
    assert done.stderr == ""


# -- words ---------------------------------------------------------------------------------------------


def test_a_secret_of_the_environment_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=hunter2hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2/hunter2")
    error = OSError(
        "bad AccountKey=hunter2hunter2 and\nhunter2/hunter2 at https://x/y?sig=hunter2&b=1 " + "x" * 500
    )
    said = words_of(error)
    assert "hunter2" not in said
    assert "\n" not in said
    assert "at https://x/y?<redacted>" in said
    assert len(said) < 400
    assert words_of(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("text", "missing", "command"),
    [
        ("s3://b/x", {"s3fs"}, "needs s3fs: pip install 'pytest-espperf[remote]' s3fs"),
        (
            "gs://b/x",
            {"fsspec", "gcsfs"},
            "needs fsspec and gcsfs: pip install 'pytest-espperf[remote]' gcsfs",
        ),
        ("az://c/x", {"adlfs"}, "needs adlfs: pip install 'pytest-espperf[remote]' adlfs"),
        ("sftp://h/x", {"sshfs"}, "needs sshfs: pip install 'pytest-espperf[remote]' sshfs"),
        ("memory://x", {"fsspec"}, "needs fsspec: pip install 'pytest-espperf[remote]'"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_command(
    text: str, missing: set[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(UsageError) as refused:
        check_installed(parse_url(text), "--perf-history")
    assert str(refused.value).endswith(command)
    assert str(refused.value).startswith("--perf-history: a history at ")
    check_installed(parse_url("file:///x"), "--perf-history")


def test_every_scheme_is_one_that_fsspec_knows_under_that_name() -> None:
    from fsspec.registry import known_implementations

    for scheme in SCHEMES.values():
        assert scheme.name in known_implementations


def test_a_listing_without_anything_but_names_is_one_too() -> None:
    assert remote._listed({"name": "x", "type": "file", "size": None}) == Listed(0, "", 0.0)
