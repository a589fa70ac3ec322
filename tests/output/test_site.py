"""The static site over a history, and the command that draws its first page."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from support.report_sessions import full_session

from pytest_espperf.cli import main
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.output import site
from pytest_espperf.output.site import update_site
from pytest_espperf.output.trends import gather_history

SEED = 20261129


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    for number in range(3):
        store.save(full_session(rng, number, runs=1, tag=f"v{number}"), latest=True)
    return store


def test_a_site_has_a_page_over_all_sessions_and_draws_each_report_once(
    store: HistoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "made" / "site"
    index = update_site(folder, store)
    assert index == folder / "index.html"
    reports = sorted((folder / "sessions").glob("*.html"))
    assert len(reports) == 3
    assert all(f"sessions/{path.name}" in index.read_text(encoding="utf-8") for path in reports)
    assert "../index.html" in reports[0].read_text(encoding="utf-8")
    reports[0].write_text("drawn before", encoding="utf-8")
    reports[1].unlink()
    update_site(folder, store)
    assert reports[0].read_text(encoding="utf-8") == "drawn before"
    assert reports[1].exists()
    assert {path.name for path in folder.iterdir()} == {"index.html", "sessions"}


def test_reports_are_drawn_of_the_newest_sessions_alone(
    store: HistoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "MOST_REPORTS", 2)
    index = update_site(tmp_path / "site", store)
    names = sorted(path.name for path in (tmp_path / "site" / "sessions").iterdir())
    assert [name.partition("_v")[2] for name in names] == ["1.html", "2.html"]
    assert index.read_text(encoding="utf-8").count('"v0"') == 1, "the page over all has it nevertheless"


def test_a_site_that_cannot_be_written_is_one_sentence(store: HistoryStore, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, no folder", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        update_site(tmp_path / "blocked", store)


def test_trend_draws_a_page_or_prints_its_data(
    store: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trend.html"
    words = ["trend", f"--perf-history={store.folder}"]
    assert main([*words, "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    (days,) = {one.when[:10] for one in gather_history(store).sessions}
    assert f"3 sessions of {days}</p>" in page
    assert main([*words, "--json", "--board", "b"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["tag"] for one in data["sessions"]] == ["v0", "v1", "v2"]
    gates = {(gate["profile"], gate["metric"]): gate for gate in data["gates"]}
    assert set(gates) >= {("heavy", "rps_ok"), ("heavy", "p95_ms"), ("light", "rps_ok"), ("light", "p95_ms")}
    points = gates["heavy", "p95_ms"]["points"]
    assert [point["file"] for point in points] == [one["file"] for one in data["sessions"]]
    assert all(point["value"] > 0 for point in points)


def test_trend_of_a_board_without_sessions_is_a_usage_error(
    store: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trend", f"--perf-history={store.folder}", "--board", "none", "-o", str(tmp_path)]) == 4
    assert "is a folder" in capsys.readouterr().err
    assert main(["trend", f"--perf-history={store.folder}", "--board", "none"]) == 4
    assert "there is no session of the board none" in capsys.readouterr().err
