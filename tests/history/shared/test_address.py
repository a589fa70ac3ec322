from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_espperf.history.shared.address import is_url, parse_url


@pytest.mark.parametrize(
    ("text", "scheme", "kept"),
    [
        ("s3://bucket", "s3", "s3://bucket"),
        (" s3://bucket/team/perf/ ", "s3", "s3://bucket/team/perf"),
        ("S3A://bucket/team", "s3", "s3://bucket/team"),
        ("s3://bucket/a@b", "s3", "s3://bucket/a@b"),
        ("gcs://bucket/x", "gs", "gs://bucket/x"),
        ("az://container/x", "az", "az://container/x"),
        ("abfs://container@account.dfs.core.windows.net/x", "az", None),
        ("sftp://me@lab.example:2222/srv/perf", "sftp", None),
        ("ssh://[::1]/srv/perf", "sftp", "sftp://[::1]/srv/perf"),
        ("file:///mnt/share/perf/", "file", "file:///mnt/share/perf"),
        ("file://localhost/mnt/x", "file", None),
        ("memory://team", "memory", None),
    ],
)
def test_an_address_is_understood_and_kept_as_it_was_given(text: str, scheme: str, kept: str | None) -> None:
    assert is_url(text)
    url = parse_url(text)
    assert url.scheme.name == scheme
    assert str(url) == (text if kept is None else kept)


@pytest.mark.parametrize(
    "text", [r"C:\perf", "C:/perf", "c://perf", "perf", "./s3:/x", "~/perf", "/a/b", "a:b"]
)
def test_a_folder_is_no_address(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIAKEY:hunter2@bucket/x",
        "s3://hunter2@bucket",
        "s3://AKIAKEY:hunter2/rest@bucket/x",
        "sftp://me:hunter2@lab/srv",
        "sftp://me:hunter2/x@lab/srv",
        "gs://token:hunter2@bucket",
        "https://me:hunter2@lab/x",
        "az://container/x?sig=hunter2",
        "s3:/me:hunter2@bucket",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    assert is_url(text)
    with pytest.raises(ValueError, match=r"URL|history") as refused:
        parse_url(text)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://host/x", "ftp:// is no address of a shared history"),
        ("s3://", "write s3://BUCKET/PREFIX"),
        ("s3:///x", "write s3://BUCKET/PREFIX"),
        ("s3://bucket/a*", "is not supported"),
        ("memory://a::s3://b", "write memory://NAME"),
        ("s3://bucket/a::b", "is not supported"),
        ("sftp://me@lab", "write sftp://USER@HOST/FOLDER"),
        ("sftp://me@lab:port/x", "write sftp://USER@HOST/FOLDER"),
        ("file://", "write file:///FOLDER"),
        ("s3:bucket", "two slashes"),
        ("file:/mnt/x", "two slashes"),
    ],
)
def test_what_is_no_address_of_a_history_is_refused_in_one_sentence(text: str, says: str) -> None:
    assert is_url(text)
    with pytest.raises(ValueError, match=r"URL|history") as refused:
        parse_url(text)
    assert says in str(refused.value)


def test_the_folder_behind_a_file_address_is_what_pathlib_meant(tmp_path: Path) -> None:
    folder = tmp_path / "a folder % ü"
    assert parse_url(folder.as_uri()).path == folder


@pytest.mark.skipif(sys.platform == "win32", reason="there, a host is a server with shares")
def test_a_file_address_with_a_host_is_refused() -> None:
    with pytest.raises(ValueError, match="write file:///FOLDER"):
        parse_url("file://server/share/x")


def test_each_history_has_a_copy_of_its_own_and_the_same_each_time() -> None:
    texts = ("s3://bucket/a", "s3://bucket/b", "gs://bucket/a", "sftp://a@h/x", "sftp://b@h/x", "file:///x")
    found = {parse_url(text).cache_name({}) for text in texts}
    assert len(found) == len(texts)
    assert parse_url("s3a://bucket/a/").cache_name({}) in found
    elsewhere = {"AWS_ENDPOINT_URL": "http://minio.lab:9000"}
    assert parse_url("s3://bucket/a").cache_name(elsewhere) not in found  # another service's bucket
    assert parse_url("gs://bucket/a").cache_name(elsewhere) in found


def test_the_same_container_of_another_account_has_a_copy_of_its_own() -> None:
    url = parse_url("az://container/x")
    string = "AccountName={};AccountKey={};EndpointSuffix=core.windows.net"
    names = [
        url.cache_name({"AZURE_STORAGE_CONNECTION_STRING": string.format(account, key)})
        for account, key in [("one", "secret=="), ("one", "renewed=="), ("two", "secret==")]
    ]
    assert names[0] == names[1] != names[2]
    by_name = [url.cache_name({"AZURE_STORAGE_ACCOUNT_NAME": account}) for account in ("one", "two")]
    assert by_name[0] != by_name[1]
    assert parse_url("s3://container/x").cache_name({"AZURE_STORAGE_ACCOUNT_NAME": "one"}) == parse_url(
        "s3://container/x"
    ).cache_name({})
