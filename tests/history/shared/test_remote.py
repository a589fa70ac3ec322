"""The same of every kind of place: a folder, memory, servers that speak S3, Google's, Azure's and SFTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import botocore.session
import pytest
from support.benches import Bench, quick_disk  # noqa: F401 - for every test
from support.history_places import (
    ACCOUNT_KEY,
    AZ,
    BUCKET,
    GS,
    SFTP,
    USE,
    connection_string,
    google_key_file,
    needs_az,
    needs_gs,
    posix_only,
    use_az,
    use_gs,
    use_home,
    use_nothing,
    use_s3,
)
from support.paths import TESTS

from pytest_espperf.errors import RemoteError, UsageError
from pytest_espperf.history.shared import fsspec_storage, objects, remote
from pytest_espperf.history.shared.address import SCHEMES, parse_url
from pytest_espperf.history.shared.remote import Remote, check_installed
from pytest_espperf.history.shared.remote_errors import words_of
from pytest_espperf.history.shared.sharing import Sharing
from pytest_espperf.history.shared.storage import Listed

pytest_plugins = ["support.history_servers"]


def test_sessions_and_decisions_go_round(url: str, tmp_path: Path) -> None:
    a, b = (Bench(url, tmp_path / name) for name in "ab")
    assert a.sync.pull().sessions == 0
    for number in range(1, 4):
        a.save(f"session-{number}", f"2026010{number}T000000Z", tag="ä")
    a.store.accept("session-1", "meant ✓")
    assert a.push() == 4
    assert b.sync.pull().new == 3
    assert list(b.store.sessions()) == list(a.store.sessions())
    assert sorted(path.name for path in b.folder.glob("perf_*")) == sorted(
        path.name for path in a.folder.glob("perf_*")
    )
    b.store.unaccept("session-1")
    b.store.pin("session-2", "anchor")
    b.save("session-4", "20260104T000000Z")
    assert b.push() == 3
    assert a.sync.pull().new == 1
    assert a.decided() == b.decided()
    assert a.decided()["session-1"] == (None, False)
    assert a.decided()["session-2"] == (None, True)
    assert a.push() == 0
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
    assert a.push() == 1
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
        place.write("sessions-old", {"three": b"123"})
        place.write("session", {"four": b"1234"})
        assert sorted(place.listing("sessions")) == ["one", "two"]
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
    assert bench.ids() == ["session-1"]
    assert bench.sync.pulled_at() == ""
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.fixture
def closed() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("url", ["s3", GS, AZ], indirect=True)
def test_a_bucket_that_is_not_there_is_no_empty_history(url: str, tmp_path: Path) -> None:
    said = refusal(url.replace(BUCKET, "no-such-one"), tmp_path / "a")
    word = "container" if url.startswith("az") else "bucket"
    assert said == f"there is no {word} no-such-one: create it once, or correct the URL"
    with pytest.raises(RemoteError, match=f"there is no {word}"):
        Bench(url.replace(BUCKET, "no-such-one"), tmp_path / "a").sync.push()
    assert Bench(url, tmp_path / "b").sync.pull().sessions == 0


def test_a_folder_that_is_not_there_is_not_made_below_a_mount_point(tmp_path: Path) -> None:
    share = tmp_path / "share" / "perf"
    assert f"there is no folder {share}" in refusal(share.as_uri(), tmp_path / "a")
    with pytest.raises(RemoteError, match="there is no folder"):
        Bench(share.as_uri(), tmp_path / "a").sync.push()
    assert not share.parent.exists()


def test_a_server_that_is_down_is_said(closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(f"http://127.0.0.1:{closed}", monkeypatch)
    assert "Could not connect" in refusal("s3://bucket/x", tmp_path / "a")
    use_home(tmp_path, monkeypatch)
    assert "refused" in refusal(f"sftp://me@127.0.0.1:{closed}/x", tmp_path / "b").lower()


@needs_az
def test_azure_that_is_down_is_said(closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_az(f"http://127.0.0.1:{closed}", monkeypatch)
    assert "Cannot connect to host" in refusal("az://container/x", tmp_path / "a")


@needs_gs
def test_google_that_is_down_is_said(closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nothing(monkeypatch)
    key = google_key_file(tmp_path, f"http://127.0.0.1:{closed}/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert "Connection refused" in refusal("gs://bucket/x", tmp_path / "a")


@pytest.mark.parametrize("url", ["s3", GS, AZ], indirect=True)
def test_without_its_server_one_goes_on_with_the_copy_and_says_how_old_it_is(
    url: str, closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Bench(url, tmp_path / "others")
    others.save("session-1")
    others.sync.push()
    Bench(url, tmp_path / "own").sync.pull()
    own = Bench(url, tmp_path / "own", bound_s=2.0)
    USE[url[:2]](f"http://127.0.0.1:{closed}", monkeypatch)
    said: list[str] = []
    assert not Sharing(own.store, own.sync).pull(said.append)
    assert f"the shared history {url} cannot be used now: " in said[0]
    assert said[0].endswith(" UTC, less than a minute old, 1 session")
    assert own.ids() == ["session-1"]


# -- credentials -----------------------------------------------------------------------------------------


@posix_only
def test_a_server_whose_key_is_not_known_is_not_trusted(
    sftp: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, home = sftp
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes((home / ".ssh" / "id_ed25519").read_bytes())
    use_home(tmp_path, monkeypatch)
    said = refusal(f"sftp://me@127.0.0.1:{port}/x", tmp_path / "a")
    assert "key is not trusted" in said
    assert "must be in ~/.ssh/known_hosts" in said


@posix_only
def test_a_user_whom_the_server_does_not_know_is_told_where_keys_are_taken_from(
    sftp: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, home = sftp
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_bytes((home / ".ssh" / "known_hosts").read_bytes())
    use_home(tmp_path, monkeypatch)
    said = refusal(f"sftp://me@127.0.0.1:{port}/x", tmp_path / "a")
    assert "Permission denied" in said
    assert "credentials for sftp:// come from ~/.ssh and its agent" in said


@pytest.mark.parametrize("scheme", ["s3", GS, pytest.param("az", marks=needs_az)])
def test_missing_credentials_are_said_with_what_to_do(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use_nothing(monkeypatch)
    use_home(tmp_path, monkeypatch)
    said = refusal(f"{scheme}://{BUCKET}/x", tmp_path / "a")
    assert "credentials" in said.partition(";")[0]
    assert said.endswith(f"; credentials for {scheme}:// come from {SCHEMES[scheme].credentials}")
    assert capfd.readouterr() == ("", "")


@needs_gs
def test_a_key_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nothing(monkeypatch)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    said = refusal(f"gs://{BUCKET}/x", tmp_path / "a")
    assert f"File {tmp_path / 'gone.json'} was not found" in said
    assert "come from the key file that GOOGLE_APPLICATION_CREDENTIALS names" in said


def test_an_access_key_that_s3_refuses_is_said(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(s3, monkeypatch)

    def ask_for_keys_after(requests: bytes) -> None:
        plain = {"Content-Type": "text/plain"}
        order = urllib.request.Request(f"{s3}/moto-api/reset-auth", requests, plain)
        urllib.request.urlopen(order).close()

    ask_for_keys_after(b"0")
    try:
        said = refusal(f"s3://{BUCKET}/x", tmp_path / "a")
    finally:
        ask_for_keys_after(b"inf")  # of anybody: the server is the other tests' as well
    assert "Access Key Id you provided does not exist" in said
    assert "credentials for s3:// come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
    assert "secret-of-the-bench" not in said


@needs_az
def test_an_account_key_that_azure_refuses_is_said(
    az: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_nothing(monkeypatch)
    wrong = f"AAAA{ACCOUNT_KEY[4:]}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(az, wrong))
    said = refusal(f"az://{BUCKET}/x", tmp_path / "a")
    assert said.startswith("Server failed to authenticate the request.")
    assert "credentials for az:// come from AZURE_STORAGE_CONNECTION_STRING" in said
    assert wrong not in said


@needs_gs
def test_a_key_that_google_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nothing(monkeypatch)

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        key = google_key_file(tmp_path, f"http://127.0.0.1:{server.server_port}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        try:
            said = refusal(f"gs://{BUCKET}/x", tmp_path / "a")
        finally:
            server.shutdown()
    assert "Invalid Credentials" in said
    assert "credentials for gs:// come from the key file" in said


# -- what hangs ------------------------------------------------------------------------------------------

HANGING = """
import sys
from pathlib import Path
from support.benches import Bench
from pytest_espperf.errors import RemoteError
from pytest_espperf.history.shared.storage import side_by_side

def try_one(url):
    bench = Bench(url, Path(sys.argv[1]) / url[:2], bound_s=1.0)
    bench.save("session-1")
    try:
        bench.sync.pull()
    except RemoteError as error:
        return f"{url[:2]}: {error} {bench.ids()}"

print(*side_by_side(try_one, sys.argv[2:]), sep="\\n")
"""


def hang(urls: Sequence[str], folder: Path) -> None:
    """Let a process of its own wait for each, and end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGING, str(folder), *urls],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{url[:2]}: it did not answer within 1 s ['session-1']" for url in urls
    ]
    assert done.stderr == ""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_server_that_hangs_hangs_nobody(
    silent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(f"http://127.0.0.1:{silent}", monkeypatch)
    use_home(tmp_path, monkeypatch)
    hang(["s3://bucket/x", f"sftp://me@127.0.0.1:{silent}/x"], tmp_path)


@needs_gs
@needs_az
def test_a_cloud_that_hangs_hangs_nobody(
    silent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gs(f"http://127.0.0.1:{silent}", monkeypatch)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(f"http://127.0.0.1:{silent}"))
    hang(["gs://bucket/x", "az://container/x"], tmp_path)


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
    assert fsspec_storage._listed({"name": "x", "type": "file", "size": None}) == Listed(0, "", 0.0)
