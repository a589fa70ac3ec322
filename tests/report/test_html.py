"""The HTML reports, looked at by a browser that we did not write."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec
import pytest
from support.prune_history import put
from support.report_runs import bench
from support.report_sessions import full_session

from pytest_espperf.cli import main
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import judge
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Finding, GateRow, SessionArtifact, Verdict
from pytest_espperf.output.reports import (
    MOST_SESSIONS,
    check_installed,
    gather,
    write_history,
    write_overview,
    write_report,
)
from pytest_espperf.output.trends import gather_history
from pytest_espperf.report.boards import Ended
from pytest_espperf.report.html.data import HistoryPage

SEED = 20261125
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>pwned=1</script><img src=x onerror=pwned=2><b>&amp;%{x}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HistoryStore:
    """Twelve sessions of one firmware, the eighth accepted; then a slower one that also crashed."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    store = HistoryStore(tmp_path_factory.mktemp("history"))
    kept: list[SessionArtifact] = []
    for number in range(12):
        kept.append(full_session(rng, number, tag=f"v{number}", history=kept))
        store.save(kept[-1], latest=True)
    store.accept(f"{7:032x}", "faster templates")
    slow = full_session(rng, 12, slower=1.5, tag="slow", said="Guru Meditation", history=kept)
    store.save(slow, latest=True)
    (store.folder / f"serial_{slow.session_id}.log").write_text(
        "".join(f"{index:10.3f}  I ({index}) wifi: beacon\n" for index in range(50))
        + "    50.100  Guru Meditation Error: Core 0 panic'ed\n    50.200  Backtrace: 0x4200\n",
        encoding="utf-8",
    )
    return store


@pytest.fixture(scope="module")
def report(store: HistoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(store.find("latest").artifact, store, path)
    return path


PATIENCE_MS = 100_000.0
"""No performance: what takes longer hangs."""


@dataclass
class Opened:
    """A page, and what the browser had to say of it."""

    page: Any
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def go_through(self, *sections: str) -> None:
        """Scroll through some sections, all by default, until their charts are drawn."""
        for section in sections or ("#history", "#latencies", "#course"):
            for chart in self.page.locator(f"{section} .chart").all():
                chart.scroll_into_view_if_needed()
                chart.locator("canvas").first.wait_for()

    def becomes(self, holds: Callable[[], bool]) -> bool:
        """Whether something holds before long; the page's own policy lets no script be polled in it."""
        for _ in range(200):
            if holds():
                return True
            self.page.wait_for_timeout(50)
        return False


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    contexts = []

    def open_file(path: Path, **how: Any) -> Opened:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **how})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        seen = Opened(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(path.as_uri())
        return seen

    yield open_file
    for context in contexts:
        context.close()


def test_it_opens_from_disk_without_an_error_or_a_request_and_draws_every_chart(
    report: Path, opened: Open
) -> None:
    seen = opened(report)
    seen.go_through()
    charts = seen.page.locator(".chart").count()
    assert charts == 2 * 2 + 4 + 4, "two gates of two profiles, four cells, four cells over time"
    for section, colours in (
        ("#history", ("good", "bad", "now", "plain")),
        ("#latencies", ("now", "plain")),
        ("#course", ("now",)),
    ):
        drawn = drawn_colours(seen.page, section)
        for colour in colours:  # lines and points, not only axes
            assert rgb(seen.page, colour) in drawn, (section, colour)
    assert seen.page.locator("#course canvas").count() == 4 * 3, "latencies, rates and heap"
    assert seen.requests == [report.as_uri()]
    assert seen.said == []


def drawn_colours(page: Any, section: str) -> set[tuple[int, ...]]:
    """The opaque colours of all charts of a section."""
    script = """section => [...document.querySelectorAll(section + ' canvas')].flatMap(canvas => {
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = new Set();
        for (let at = 0; at < data.length; at += 4) {
            if (data[at + 3] === 255) found.add(data.slice(at, at + 3).join());
        }
        return [...found].map(one => one.split(',').map(Number));
    })"""
    return set(map(tuple, page.evaluate(script, section)))


def rgb(page: Any, name: str) -> tuple[int, ...]:
    """A colour of the style sheet by its name."""
    text = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    return tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))


def test_the_verdict_comes_first_and_then_what_to_do(report: Path, opened: Open) -> None:
    seen = opened(report)
    text = seen.page.inner_text("body")
    words = [
        text.index(word)
        for word in ("REGRESSED", "heavy is 49 % slower", "look at /template", "fails at", "run after run")
    ]
    assert words == sorted(words)
    box = seen.page.locator(".verdict").bounding_box()
    assert box["y"] < 200


def brightness(colour: str) -> float:
    """From 0, black, to 1, white."""
    red, green, blue = (float(part) for part in colour.strip("rgba()").split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(report: Path, opened: Open, scheme: str) -> None:
    seen = opened(report, color_scheme=scheme)
    seen.go_through("#history")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    ground = brightness(seen.page.evaluate(style.format("body", "backgroundColor")))
    assert (ground > 0.8) == (scheme == "light")
    for selector in ("body", ".verdict", "#history .keys"):
        assert abs(brightness(seen.page.evaluate(style.format(selector, "color"))) - ground) > 0.35, selector
    seen.page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    assert seen.becomes(lambda: rgb(seen.page, "good") in drawn_colours(seen.page, "#history"))


def test_a_phone_shows_it_without_scrolling_sideways(report: Path, opened: Open) -> None:
    seen = opened(report, viewport={"width": 390, "height": 800})
    seen.go_through("#history")
    seen.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = (
        "[...document.querySelectorAll('.chart canvas, table')].map(one => one.getBoundingClientRect().right)"
    )
    assert max(seen.page.evaluate(wide)) <= 390, "no number of a row is out of sight"
    scrolled = (
        "[...document.querySelectorAll('div.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    )
    assert seen.page.evaluate(scrolled) == 0


def test_the_keyboard_reaches_what_can_be_used(report: Path, opened: Open) -> None:
    seen = opened(report)
    reached = set()
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        reached.add(seen.page.evaluate("document.activeElement.tagName + document.activeElement.className"))
    assert {"Askip", "A", "DIVscroll", "SUMMARY"} <= reached
    seen.page.locator("#history summary").first.focus()
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("#history details").first.get_attribute("open") is not None


def test_on_paper_everything_is_there(report: Path, opened: Open) -> None:
    seen = opened(report)
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    every = "[...document.querySelectorAll('.chart')].every(one => one.querySelector('canvas'))"
    assert seen.becomes(lambda: seen.page.evaluate(every))
    assert seen.page.locator("details:not([open])").count() == 0
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").is_visible()
    assert seen.page.pdf().startswith(b"%PDF")


def test_what_a_board_or_a_user_sent_is_text(tmp_path: Path, opened: Open) -> None:
    artifact = full_session(random.Random(SEED), 99, tag=HOSTILE, said=HOSTILE)
    cells = {
        f"{HOSTILE}:{name}": msgspec.structs.replace(
            cell,
            profile=HOSTILE,
            path_metrics=dict.fromkeys([f"/{HOSTILE}"], next(iter(cell.path_metrics.values()))),
        )
        for name, cell in artifact.aggregated.items()
    }
    hostile = msgspec.structs.replace(
        artifact,
        target=HOSTILE,
        aggregated=artifact.aggregated | cells,
        environment={HOSTILE: [HOSTILE]},
        hard_stop_reason=HOSTILE,
    )
    store_of_its_own = HistoryStore(tmp_path)
    store_of_its_own.save(hostile, latest=True)
    path = tmp_path / "hostile.html"
    write_report(store_of_its_own.find("latest").artifact, store_of_its_own, path)
    seen = opened(path)
    seen.go_through()
    assert seen.page.evaluate("typeof pwned") == "undefined"
    assert seen.said == []
    assert seen.requests == [path.as_uri()]
    assert HOSTILE in seen.page.inner_text("header dd")


def test_a_thousand_sessions_fit_into_two_megabytes(store: HistoryStore, tmp_path: Path) -> None:
    data = gather(store.find("latest").artifact, store)
    start = datetime(2025, 1, 1, tzinfo=timezone.utc)
    many = [
        msgspec.structs.replace(
            data.session,
            session_id=f"{1000 + number:032x}",
            timestamp_utc=(start + timedelta(hours=number)).strftime("%Y%m%dT%H%M%SZ"),
            tag=f"branch/feature-{number}",
            raw_runs=[],
        )
        for number in range(MOST_SESSIONS + 50)
    ]
    folder = HistoryStore(tmp_path)
    for one in many:
        put(folder, one)
    folder.save(data.session, latest=True)
    path = tmp_path / "many.html"
    write_report(folder.find("latest").artifact, folder, path)
    assert path.stat().st_size < 2_000_000
    text = path.read_text(encoding="utf-8")
    assert "51 older sessions are not drawn" in text


def test_the_console_is_quoted_around_its_last_words(store: HistoryStore) -> None:
    (excerpt,) = gather(store.find("latest").artifact, store).excerpts
    assert "Guru Meditation Error" in excerpt.lines[4]
    assert "Backtrace: 0x4200" in excerpt.lines[5]


def test_an_accepted_session_opens_an_epoch_in_each_trend(store: HistoryStore) -> None:
    trends = gather(store.find("latest").artifact, store).trends
    assert [trend.name for trend in trends] == [
        "heavy:rps_ok",
        "heavy:p95_ms",
        "light:rps_ok",
        "light:p95_ms",
    ]
    for trend in trends:
        assert [point.opens for point in trend.points] == [*[""] * 7, "accepted", *[""] * 5]
        assert [point.session.is_this for point in trend.points] == [*[False] * 12, True]
        first, *_, last = trend.points
        assert (first.baseline, first.kind) == (None, "history")
        assert last.baseline is not None
        assert last.kind == ("failing" if trend.name.startswith("heavy") else "elsewhere")
        assert first.value == pytest.approx(trend.points[1].value, rel=0.2), (
            "medians where nothing was judged"
        )


def test_a_session_file_from_elsewhere_has_a_report_of_its_own(
    store: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = store.find("v3").json_path
    out = tmp_path / "one.html"
    code = main(["report", str(saved), "-o", str(out), "--perf-history", str(tmp_path / "none")])
    assert code == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert "<!doctype html>" in out.read_text(encoding="utf-8")[:20]


def test_a_report_that_cannot_be_drawn_or_written_is_one_sentence(
    store: HistoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(store.find("latest").artifact, store, tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"--perf-report: .*pip install 'pytest-espperf\[report\]'"):
        check_installed("--perf-report")


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page over thirty boards, in a folder that was moved after it was written."""
    folder = tmp_path_factory.mktemp("boards")
    boards = bench(random.Random(SEED), fine=24)
    write_overview(boards, folder / "then" / "report.html")
    for ended in boards.values():
        for name in (ended.report, ended.summary_link):
            (folder / "then" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "then" / name).write_text(f"this is {name}", encoding="utf-8")
    return (folder / "then").rename(folder / "now") / "report.html"


def test_the_page_over_all_boards_opens_without_an_error_or_a_request(overview: Path, opened: Open) -> None:
    seen = opened(overview)
    assert (seen.said, seen.requests) == ([], [overview.as_uri()])
    text = seen.page.inner_text("body")
    words = ("FAILED", "30 boards", "2 regressed", "3 boards fail", "this computer", "worst gate", "do next")
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert seen.page.locator("tbody tr").count() == 30
    assert text.count("this computer") == 1
    slower = seen.page.locator("tbody tr.bad", has_text="regressed").first.inner_text()
    assert re.search(
        r"slower\s+regressed\s+python_heavy:\w+ regressed\s+\+[678]\d\.\d %(\s+\d+\.\d %){2}", slower
    )


def test_its_links_lead_to_each_boards_own_files_wherever_the_folder_is(overview: Path, opened: Open) -> None:
    seen = opened(overview)
    urls = seen.page.evaluate("[...document.querySelectorAll('table a')].map(one => one.href)")
    assert len(set(urls)) == 2 * 30
    assert all(Path(url2pathname(urlsplit(url).path)).is_file() for url in urls)
    seen.page.locator("tbody th a").first.click()
    assert seen.page.inner_text("body") == "this is report-busy.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_boards_in_light_and_dark(overview: Path, opened: Open, scheme: str) -> None:
    seen = opened(overview, viewport={"width": 360, "height": 700}, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert seen.page.evaluate("document.querySelector('#boards .scroll').scrollWidth") <= 360
    assert seen.page.get_by_role("row").count() == 31, (
        "it is a table to a screen reader, however it is laid out"
    )
    ground, ink = seen.page.evaluate(
        "['backgroundColor', 'color'].map(key => getComputedStyle(document.body)[key])"
    )
    assert abs(brightness(ground) - brightness(ink)) > 0.7
    assert (brightness(ground) > 0.8) == (scheme == "light")


def test_the_keyboard_and_paper_have_all_boards(overview: Path, opened: Open) -> None:
    seen = opened(overview)
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(64):
        seen.page.keyboard.press("Tab")
        reached.add(seen.page.evaluate("document.activeElement.href || document.activeElement.className"))
    assert len(reached & {*seen.page.evaluate("[...document.links].map(one => one.href)")}) >= 60
    assert "scroll" in reached
    seen.page.set_viewport_size({"width": 700, "height": 900})
    seen.page.emulate_media(media="print")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 700
    assert not seen.page.locator(".skip").is_visible()


def test_what_a_board_is_called_and_why_it_failed_is_text(tmp_path: Path, opened: Open) -> None:
    artifact = full_session(random.Random(SEED), 99, tag=HOSTILE)
    assert artifact.gate is not None
    finding = Finding(severity="fail", kind="stopped", where=HOSTILE, message=f"it said {HOSTILE}")
    row = GateRow(name=HOSTILE, verdict="regressed", d_pct=50.0, detail=HOSTILE)
    hostile = msgspec.structs.replace(
        artifact,
        session_id=HOSTILE,
        gate=Verdict(kind="failed", gates=[row], findings=[finding]),
        settings={"perf_history": HOSTILE},
    )
    path = tmp_path / "hostile.html"
    write_overview(
        {HOSTILE: Ended(hostile, True, "a.html", HOSTILE, "b.md"), "b": Ended(hostile, True)}, path
    )
    seen = opened(path)
    assert seen.page.evaluate("typeof pwned") == "undefined"
    assert (seen.said, seen.requests) == ([], [path.as_uri()])
    assert seen.page.locator("img, script, b b").count() == 0
    assert seen.page.locator("tbody th a").inner_text() == HOSTILE
    text = seen.page.inner_text("#boards")
    assert text.count(f"{HOSTILE}: it said {HOSTILE}") == 2
    assert text.count(f"{HOSTILE} regressed: {HOSTILE}") == 2


def test_the_head_says_from_what_to_what_against_what_and_of_which_commit(
    store: HistoryStore, tmp_path: Path, opened: Open
) -> None:
    saved = store.find("latest").artifact
    assert saved.gate is not None
    row = next(row for row in saved.gate.gates if row.name == "heavy:rps_ok")
    known = msgspec.structs.replace(
        saved,
        environment={"git_commit": "4f2c9d1e77aa4f2c9d1e77aa", "git_dirty": True},
        device={"firmware": "2.2.0"},
    )
    path = tmp_path / "known.html"
    write_report(known, store, path)
    head = opened(path).page.inner_text("header")
    assert f"{row.baseline:.1f} → {row.now:.1f} req/s" in head
    assert f"{row.d_pct:.1f} % slower" in head
    assert "Compared with the median of 12 accepted sessions of 2026-01-01 00:00 to 00:11." in head
    assert "4f2c9d1e (uncommitted changes)" in head
    assert "2.2.0" in head
    assert known.session_id not in head, "ids stand last"


def axis_of(page: Any, section: str) -> list[float]:
    """Least and largest value of the vertical axis of the first chart of a section."""
    script = """section => {
        const { y } = document.querySelector(section + ' .chart').plots.at(-1).scales;
        return [y.min, y.max];
    }"""
    found: list[float] = page.evaluate(script, section)
    return found


def test_a_first_session_has_axes_that_make_no_noise_look_large(tmp_path: Path, opened: Open) -> None:
    one = HistoryStore(tmp_path)
    one.save(full_session(random.Random(SEED), 1), latest=True)
    path = tmp_path / "one.html"
    write_report(one.find("latest").artifact, one, path)
    seen = opened(path)
    seen.go_through()
    least, most = axis_of(seen.page, "#history")
    assert most / least > 1.15
    assert axis_of(seen.page, "#course")[0] == 0, "free heap"
    assert "light:long throughput" in seen.page.inner_text("header")


# --- the page over a history --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> HistoryStore:
    """Two boards: one with an accepted change and a regression, one whose board name is hostile."""
    rng = random.Random(SEED)
    store = HistoryStore(tmp_path_factory.mktemp("boards"))
    for offset, board in ((0, "left"), (100, HOSTILE)):
        kept: list[SessionArtifact] = []
        for number in range(8):
            slower = 1.6 if number in {5, 7} and board == "left" else 1.0
            made = full_session(rng, offset + number, slower=slower, tag=f"v{number}")
            assert made.comparability is not None
            fields = made.comparability.fields | {"board": board}
            made = msgspec.structs.replace(
                made,
                comparability=msgspec.structs.replace(made.comparability, fields=fields),
                environment={"git_commit": f"{number:040x}"[::-1], "git_dirty": number == 3},
                device={"firmware": f"2.{number // 4}"},
            )
            made = msgspec.structs.replace(made, gate=judge(made, kept))
            put(store, made, *(["accept"] if number == 5 else []))
            if number != 5:
                kept.append(made)
    return store


@pytest.fixture(scope="module")
def trend(history: HistoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trend") / "trend.html"
    write_history(gather_history(history), path)
    return path


def shown_gates(page: Any) -> int:
    count: int = page.locator("#charts figure").count()
    return count


def test_the_page_over_a_history_opens_from_disk_and_draws_every_gate(trend: Path, opened: Open) -> None:
    seen = opened(trend)
    gates = shown_gates(seen.page)
    assert gates >= 2 * 2 * 2
    drawn = "[...document.querySelectorAll('#charts .chart')].every(one => one.querySelector('canvas'))"
    assert seen.becomes(lambda: seen.page.evaluate(drawn))
    assert {rgb(seen.page, "good"), rgb(seen.page, "bad")} <= drawn_colours(seen.page, "#charts")
    assert (seen.said, seen.requests) == ([], [trend.as_uri()])
    assert seen.page.evaluate("typeof pwned") == "undefined"
    assert HOSTILE in seen.page.inner_text("#boards")
    first = seen.page.locator("#boards tbody tr").first.inner_text()
    assert "left" in first
    assert "regressed" in first
    assert seen.page.locator("#sessions tbody tr").count() == 16


def test_its_filters_stand_in_the_address(trend: Path, opened: Open) -> None:
    seen = opened(trend)
    every = shown_gates(seen.page)
    seen.page.select_option("select[name=board]", "left")
    assert shown_gates(seen.page) == every / 2
    assert seen.page.locator("#sessions tbody tr").count() == 8
    seen.page.select_option("select[name=metric]", "p95_ms")
    seen.page.select_option("select[name=profile]", "heavy")
    seen.page.select_option("select[name=verdict]", "regressed")
    assert shown_gates(seen.page) == 1
    assert "2 sessions" in seen.page.locator("#charts .chart").get_attribute("aria-label")
    assert seen.page.locator("#sessions tbody tr").count() == 2
    address = seen.page.evaluate("location.href")
    assert "board=left&profile=heavy&metric=p95_ms&verdict=regressed" in address
    again = opened(trend)
    again.page.goto(address)
    again.page.reload()
    assert shown_gates(again.page) == 1
    again.page.select_option("select[name=verdict]", "no-baseline")
    again.page.select_option("select[name=newest]", "20")
    assert "1 sessions" in again.page.locator("#charts .chart").get_attribute("aria-label")


def test_it_names_commit_firmware_and_epoch_of_the_session_under_the_pointer(
    trend: Path, opened: Open
) -> None:
    seen = opened(trend)
    seen.page.select_option("select[name=board]", "left")
    chart = seen.page.locator("#charts .chart").first
    chart.scroll_into_view_if_needed()
    over = chart.locator(".u-over")
    box = over.bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] * 5.5 / 8, box["y"] + box["height"] / 2)
    tip = chart.locator(".tip")
    assert seen.becomes(tip.is_visible)
    text = tip.inner_text()
    for word in ("v5", "commit 50000000", "firmware 2.1", "accepted", "regressed"):
        assert word in text, word


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_over_a_history(trend: Path, opened: Open, scheme: str) -> None:
    seen = opened(trend, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    seen.page.locator("#charts canvas").first.wait_for()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('canvas, table')].map(one => one.getBoundingClientRect().right)"
    assert max(seen.page.evaluate(wide)) <= 390


def test_three_thousand_points_a_gate_fit_into_four_megabytes(history: HistoryStore, tmp_path: Path) -> None:
    page = gather_history(history)
    trends = [
        replace(trend, points=tuple(point for _ in range(375) for point in trend.points))
        for trend in page.trends
    ]
    sessions = [replace(one, file=f"{number}-{one.file}") for number in range(188) for one in page.sessions]
    path = tmp_path / "many.html"
    write_history(HistoryPage((*page.sessions, *sessions), tuple(trends)), path)
    assert len(trends[0].points) == 3000
    assert path.stat().st_size < 4_000_000
