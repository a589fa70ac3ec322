"""``espperf init``: what it writes works, and what stands in a project's files stays there."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import SHORT
from support.site_board import Page, Site, links, serving_site

from pytest_espperf.cli import main
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.device import BoardLock
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.workload import Target
from pytest_espperf.session import survey

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving_site(Site({"/hello": Page(b"hello"), "/api/ping": Page(b'{"ok": true}')})) as served:
        yield served


def init(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """What the command answers as JSON."""
    capsys.readouterr()
    assert main(["init", *words, "--json"]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def paths_of(answer: dict[str, Any]) -> list[str]:
    return [one["path"] for one in answer["paths"]]


def left_out(answer: dict[str, Any]) -> dict[str, str]:
    return {one["path"]: one["reason"] for one in answer["left_out"]}


def measured(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``pytest -m perf`` in a project, quickly."""
    import os

    short = {name: value for name, value in SHORT.items() if name != "ESPPERF_PERF_PROFILES"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-m", "perf"],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **short},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# --- what it writes


def test_what_it_writes_measures_the_board(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", site.address, "/hello", "/api/ping", "/nosuch"]) == 0
    said = capsys.readouterr().out
    assert "left out: /nosuch  answers 404" in said
    assert "wrote espperf.toml: [profiles.board]" in said
    assert "wrote tests/test_perf.py: test_board" in said
    assert said.rstrip().endswith("next: pytest -m perf")
    done = measured(tmp_path)
    assert done.returncode == 0, done.stdout
    (session,) = HistoryStore(tmp_path / "tools" / "perf_history").sessions()
    assert session.profiles == ["board"]
    assert session.target == site.address
    assert set(session.answers["board"]) == {"/hello", "/api/ping"}


def test_the_reference_device_is_measured_by_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = init(capsys, "sim", "--sim-time-scale", "0.1", "--name", "pages")
    assert "built-in profiles" in answer["source"]
    assert "/template" in paths_of(answer)
    assert "sim_time_scale = 0.1" in (tmp_path / "pytest.ini").read_text(encoding="utf-8")
    done = measured(tmp_path)
    assert done.returncode == 0, done.stdout
    (session,) = HistoryStore(tmp_path / "tools" / "perf_history").sessions()
    assert session.profiles == ["pages"]


PYPROJECT = """\
# a comment at the head
[project]
name = "firmware"  # and one behind

[tool.pytest.ini_options]
# why it is so
perf_tag = "mine"
testpaths = [
    "tests",
]

[[tool.other]]
key = 'va"lue'
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_project_keeps_every_line_of_its_files(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], newline: str, end: str
) -> None:
    before = PYPROJECT.rstrip().replace("\n", newline) + end.replace("\n", newline)
    (tmp_path / "pyproject.toml").write_bytes(before.encode())
    answer = init(capsys, site.address, "/hello", "--name", "my.web")
    assert [Path(one["file"]).name for one in answer["files"]] == ["test_perf.py", "pyproject.toml"]
    after = (tmp_path / "pyproject.toml").read_bytes().decode()
    assert after.count("\n") == after.count(newline)
    lines = iter(after.splitlines())
    assert all(line in lines for line in before.splitlines()), "in their order"
    table = tomllib.loads(after)["tool"]
    assert table["pytest"]["ini_options"] == {
        "device_ip": [site.address],
        "perf_profiles": ["my.web"],
        "perf_tag": "mine",
        "testpaths": ["tests"],
    }
    assert table["other"] == [{"key": 'va"lue'}]
    assert load_profiles(tmp_path)["my.web"].requests[0].path == "/hello"
    assert measured(tmp_path, "--collect-only", "-q").returncode == 0


@pytest.mark.parametrize(
    ("name", "section"), [("pytest.ini", "pytest"), ("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")]
)
def test_keys_go_where_the_project_has_them_and_none_is_changed(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, section: str
) -> None:
    before = f"# head\n[{section}]\nperf_profiles = python_light\n    ,other\n\n[tail]\nkey = 1\n"
    (tmp_path / name).write_text(before, encoding="utf-8")
    answer = init(capsys, site.address, "/hello")
    after = (tmp_path / name).read_text(encoding="utf-8")
    assert after == before.replace(f"[{section}]\n", f"[{section}]\ndevice_ip = {site.address}\n")
    assert answer["not_changed"] == [f"{name} has perf_profiles"]
    assert not (tmp_path / "pytest.ini").exists() or name == "pytest.ini"


def test_a_device_that_is_configured_stays_and_the_next_command_names_this_one(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ini = tmp_path / "pytest.ini"
    ini.write_text("[pytest]\ndevice_ip = 10.0.0.1\ntestpaths = spec\n", encoding="utf-8")
    answer = init(capsys, site.address, "/hello")
    assert answer["next"] == f"pytest tests/test_perf.py -m perf --device-ip {site.address}"
    assert "device_ip = 10.0.0.1" in ini.read_text(encoding="utf-8")


def test_a_test_that_exists_is_left_alone(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "tests" / "test_perf.py"
    test.parent.mkdir()
    test.write_text("# mine\n", encoding="utf-8")
    assert "tests/test_perf.py exists" in init(capsys, site.address, "/hello")["not_changed"]
    assert test.read_text(encoding="utf-8") == "# mine\n"


def test_no_second_test_measures_what_another_one_does(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_speed.py").write_text("def test_it(perf_phase): pass\n", encoding="utf-8")
    answer = init(capsys, site.address, "/hello")
    assert "test_speed.py requests perf_phase: no tests/test_perf.py" in answer["not_changed"]
    done = measured(tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_profile_is_never_overwritten(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(capsys, site.address, "/hello")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert main(["init", site.address, "/api/ping"]) == 4
    assert "give the new profile another name with --name" in capsys.readouterr().err
    assert all(file.read_bytes() == data for file, data in before.items())
    answer = init(capsys, site.address, "/api/ping", "--name", "second")
    assert [one["what"] for one in answer["files"]] == ["[profiles.second]"]
    assert set(load_profiles(tmp_path)) > {"board", "second"}


def test_a_form_of_toml_without_room_gets_a_file_beside_it(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inline = "tool = {espperf = {telemetry = {memory = '/mem'}}}\n"
    (tmp_path / "pyproject.toml").write_text(inline, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("", encoding="utf-8")
    init(capsys, site.address, "/hello")
    assert (tmp_path / "pyproject.toml").read_text(encoding="utf-8") == inline
    assert "board" in load_profiles(tmp_path)
    assert (tmp_path / "pytest.ini").read_text(encoding="utf-8").startswith("[pytest]\ndevice_ip")


def test_a_dry_run_writes_nothing(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", site.address, "/hello", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would write espperf.toml: [profiles.board]" in said
    assert {file.name for file in tmp_path.iterdir()} <= {"state"}


def test_nothing_is_written_where_no_path_is_left(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = init(capsys, site.address, "/nosuch", code=1)
    assert answer["files"] == []
    assert not (tmp_path / "espperf.toml").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nosuch"], "is no path of the board"),
        (["/hello", "--name", "a b"], "a profile's name is made of"),
        (["/hello", "--device-port", "1"], "give one of them"),
    ],
)
def test_what_cannot_be_used_is_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    try:
        code = main(["init", site.address, *words])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 4
    assert why in capsys.readouterr().err
    assert not (tmp_path / "espperf.toml").exists()


def test_a_board_that_is_measured_is_not_asked(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = BoardLock(Target("http", "127.0.0.1", site.port, "x"))
    lock.acquire()
    try:
        assert main(["init", site.address, "/hello"]) == 4
    finally:
        lock.release()
    assert "is being measured by another session" in capsys.readouterr().err
    assert site.asked == []


def test_a_board_without_the_usual_path_is_probed_by_one_that_it_has(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del site.pages["/hello"]
    site.pages["/large"] = Page(bytes(1000))
    init(capsys, site.address, "/large", "/api/ping")
    assert "perf_probe_path = /api/ping\n" in (tmp_path / "pytest.ini").read_text(encoding="utf-8")


# --- what it asks


def test_links_are_found_as_a_browser_finds_them(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    here = f"http://{site.address}"
    site.pages |= {
        "/": Page(status=302, headers={"Location": "web/index.html"}),
        "/web/index.html": links(
            "status.html#top",
            "/api/list?a=1&amp;b=2",
            "m&uuml;ll",
            "../hello",
            f"{here}/hello?x=%zz",
            "/hello",
            "https://example.org/elsewhere",
            "mailto:somebody@example.org",
            "//[broken",
            "/moved",
            "/missing",
            "/led/toggle",
            "/reboot",
        ),
        "/web/status.html": Page(),
        "/api/list?a=1&b=2": Page(),
        "/web/m%C3%BCll": Page(),
        "/hello?x=%25zz": Page(),
        "/moved": Page(status=301, headers={"Location": f"{here}/new"}),
        "/new": Page(),
    }
    answer = init(capsys, site.address)
    assert paths_of(answer) == [
        "/web/index.html",
        "/web/status.html",
        "/api/list?a=1&b=2",
        "/web/m%C3%BCll",
        "/hello",
        "/hello?x=%25zz",
        "/new",
    ]
    assert left_out(answer)["/moved"] == f"redirects to {here}/new"
    assert left_out(answer)["/missing"] == "answers 404"
    assert not {"/reboot", "/led/toggle"} & set(site.asked)
    assert "name it to measure it" in left_out(answer)["/reboot"]
    assert answer["elsewhere"] == 1


def test_a_compressed_page_in_an_old_encoding_is_read(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    page = '<base href="/sub/"><A HREF=" größe ">x</A><img src=logo.png>'.encode("cp1252")
    site.pages |= {
        "/": Page(gzip.compress(page), headers={"Content-Encoding": "gzip"}),
        "/sub/gr%C3%B6%C3%9Fe": Page(),
        "/sub/logo.png": Page(),
    }
    assert paths_of(init(capsys, site.address)) == ["/", "/sub/gr%C3%B6%C3%9Fe", "/sub/logo.png"]


def test_a_sitemap_comes_first(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    here = f"http://{site.address}"
    site.pages |= {
        "/": links("/never"),
        "/sitemap.xml": Page(
            f"<?xml version='1.0'?><sitemapindex><sitemap><loc>{here}/pages.xml</loc></sitemap>"
            "<sitemap><loc>https://example.org/other.xml</loc></sitemap></sitemapindex>".encode()
        ),
        "/pages.xml": Page(
            f"<s:urlset><s:url><s:loc> {here}/hello </s:loc></s:url><s:url><s:loc>"
            f"<![CDATA[{here}/api/ping?a=1&b]]></s:loc></s:url></s:urlset>".encode()
        ),
        "/api/ping?a=1&b": Page(),
    }
    answer = init(capsys, site.address)
    assert answer["source"] == "/sitemap.xml"
    assert paths_of(answer) == ["/hello", "/api/ping?a=1&b"]
    assert "/never" not in site.asked


def test_a_page_in_the_place_of_all_that_is_missing_is_no_sitemap(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.pages |= {"/sitemap.xml": links("/wrong"), "/": links("/hello")}
    assert paths_of(init(capsys, site.address)) == ["/", "/hello"]


def test_many_links_are_bounded(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"/page/{number}" for number in range(150)]
    site.pages |= {"/": links(*many), **dict.fromkeys(many, Page())}
    answer = init(capsys, site.address)
    assert len(paths_of(answer)) == survey.MOST_LINKS
    assert answer["more"] == 151 - survey.MOST_LINKS
    assert sum(path.startswith("/page/") for path in site.asked) < survey.MOST_LINKS


def test_paths_that_would_spoil_a_profile_are_left_out(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "MOST_BYTES", 1000)
    site.pages |= {
        "/large": Page(bytes(1001)),
        "/hangs": Page(after_s=1.0),
        "/broken": Page(status=500),
        "/moved": Page(status=302, headers={"Location": "/hello"}),
        "/slow": Page(after_s=0.25),
    }
    words = ("/large", "/hangs", "/broken", "/moved", "/slow", "/hello", "--perf-request-timeout", "0.5")
    answer = init(capsys, site.address, *words)
    assert left_out(answer).keys() == {"/large", "/hangs", "/broken"}
    assert left_out(answer)["/large"] == "1,001 bytes, more than 1,000"
    assert left_out(answer)["/hangs"].startswith("no answer")
    assert (answer["paths"][0]["path"], answer["paths"][0]["leads_to"]) == ("/moved", "/hello")
    assert "/slow took" in answer["notes"][0]


def test_a_board_that_falls_silent_is_left_alone(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    hanging = [f"/hangs/{number}" for number in range(6)]
    site.pages |= dict.fromkeys(hanging, Page(after_s=0.6))
    answer = init(capsys, site.address, *hanging, "--perf-request-timeout", "0.3", code=1)
    assert (
        list(left_out(answer).values())[survey.SILENT :] == ["not asked: 3 paths in a row gave no answer"] * 3
    )


def test_secrets_are_sent_and_not_written(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.credentials = "Bearer s3cr3t-7f1b"
    answer = init(capsys, site.address, "/hello", "--device-header", f"Authorization: {site.credentials}")
    assert paths_of(answer) == ["/hello"]
    assert "set ESPPERF_DEVICE_HEADER" in answer["notes"][-1]
    written = [file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.*") if file.is_file()]
    assert written
    assert not any("s3cr3t" in text for text in written)


def test_a_board_with_a_certificate_is_asked_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trustme = pytest.importorskip("trustme")
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = tmp_path / "board.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    site = Site({"/": links("/hello"), "/hello": Page()})
    with serving_site(site, certificate=certificate):
        secure = ("--device-scheme", "https")
        answer = init(capsys, site.address, *secure, "--device-ca", "ca.pem", "--dry-run")
        assert paths_of(answer) == ["/", "/hello"]
        answer = init(capsys, site.address, *secure, "--device-insecure")
        assert paths_of(answer) == ["/", "/hello"]
        ini = (tmp_path / "pytest.ini").read_text(encoding="utf-8")
        assert "device_scheme = https\ndevice_insecure = true\n" in ini
        done = measured(tmp_path)
    assert done.returncode == 0, done.stdout
