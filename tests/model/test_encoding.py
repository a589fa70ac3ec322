"""Files as editors and shells of Windows leave them are read."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from support.history_samples import session

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.tables import read_tables
from pytest_espperf.errors import ArtifactError, UsageError
from pytest_espperf.history import load_session
from pytest_espperf.history.load import encode_session
from pytest_espperf.model.encoding import as_utf8
from pytest_espperf.system.tls import tls_context

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
TEXT = '[profiles.caf]\npaths = ["/hello"]\n'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_becomes_utf_8(encoding: str) -> None:
    assert as_utf8("{ \u00e9\r\n".encode(encoding)) == "{ \u00e9\r\n".encode()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", b"{", b"\xff", b"\xef\xbb", b"\xef\xbb\xbf"])
def test_a_few_bytes_are_not_guessed_about(data: bytes) -> None:
    assert as_utf8(data) in {data, b""}


@pytest.mark.parametrize("encoding", ENCODINGS[:3])
@pytest.mark.parametrize(("name", "prefix"), [("espperf.toml", ""), ("pyproject.toml", "tool.espperf.")])
def test_a_projects_tables_are_read(tmp_path: Path, encoding: str, name: str, prefix: str) -> None:
    (tmp_path / name).write_bytes(TEXT.replace("[", f"[{prefix}", 1).encode(encoding))
    assert "caf" in load_profiles(tmp_path)
    assert resolve({}, {}, {}) is not None


def test_a_table_in_another_encoding_says_which_to_save_it_in(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_bytes("# caf\u00e9\n".encode("latin-1"))
    with pytest.raises(UsageError, match="save it as UTF-8"):
        read_tables(tmp_path, "profiles")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_session_is_read_and_imported_as_utf_8(
    tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encode_session(session())
    path = tmp_path / "base.json"
    path.write_bytes(data.decode().replace("\n", "\r\n").encode(encoding))
    assert load_session(path) == session()
    other = tmp_path / "other"
    assert main(["import", str(path), f"--perf-history={other}"]) == 0
    (kept,) = other.glob("perf_*.json")
    assert json.loads(kept.read_bytes().decode("utf-8")) == json.loads(data)
    capsys.readouterr()


def test_a_session_that_is_cut_in_a_wide_character_is_named(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    path.write_bytes(encode_session(session()).decode().encode("utf-16")[:-1])
    with pytest.raises(ArtifactError, match="save it as UTF-8"):
        load_session(path)


@pytest.mark.parametrize("encoding", ENCODINGS[:3])
def test_a_ca_file_is_read(tmp_path: Path, encoding: str) -> None:
    trustme = pytest.importorskip("trustme")
    pem = trustme.CA().cert_pem.bytes().decode("ascii")
    path = tmp_path / "ca.pem"
    path.write_bytes(pem.encode(encoding))
    assert tls_context(str(path), insecure=False).cert_store_stats()["x509_ca"] == 1
    path.write_bytes("nothing".encode(encoding))
    with pytest.raises(ssl.SSLError):
        tls_context(str(path), insecure=False)
