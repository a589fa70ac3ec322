"""One door for text from outside, and a walk over all that is reported with a hostile string in it."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st
from msgspec import structs
from support.paths import PACKAGE
from support.report_sessions import full_session

from pytest_espperf import errors
from pytest_espperf.cli import main
from pytest_espperf.device.markers import Scanner
from pytest_espperf.device.reboot import reboot_signs
from pytest_espperf.device.telemetry import TelemetryReading
from pytest_espperf.doctor import Check, Examination, render_json, render_page
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Finding, GateRow, PhaseEvent, SessionArtifact, Verdict
from pytest_espperf.model.text import grouped, inert, json_printable, printable
from pytest_espperf.output.reports import write_overview, write_report
from pytest_espperf.plugin.outputs import plain_report
from pytest_espperf.report import render_markdown, render_terminal
from pytest_espperf.report.boards import Ended, render_boards
from pytest_espperf.report.exports import EXPORTS
from pytest_espperf.report.github import annotation_lines

HOSTILE = "a\x1b[2J\x9b5mb\x07\r\n::error::c \u202ed\u2066 ##[add-mask]e\u2028f\x7f\udcffg##vso[task]h"
STARTS = re.compile(r"^\s*::", re.MULTILINE)


def assert_plain(text: str) -> None:
    """No character that moves a cursor or turns a direction, no command of a runner."""
    bad = {char for char in text if not (char.isprintable() or char == "\n")}
    assert not bad, [line for line in text.splitlines() if bad & set(line)]
    assert not re.search(r"##\w*\[", text)
    assert not STARTS.search(text)


@seed(20261129)
@example(HOSTILE)
@example("##[##[[")
@example("###vso[")
@given(
    st.text()
    | st.lists(st.sampled_from(["#", "[", "a", ":", " ", "\n", "\t", "\u200f", "\udc80"])).map("".join)
)
def test_text_from_outside_is_plain(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert not re.search(r"##\w*\[", line)
    assert printable(line) == line
    assert_plain(inert(text))
    assert inert(inert(text)) == inert(text)
    if text.isprintable() and "##" not in text:
        assert line == text


@seed(20261129)
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), st.text()))
@example({"##[x": "\x9b\u202e\U000e0001\x7f##vso["})
def test_json_keeps_every_character(value: dict[str, str]) -> None:
    for document in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        shown = json_printable(document)
        assert json.loads(shown) == value
        assert_plain(shown)


def test_figures_that_no_board_has_keep_to_their_columns() -> None:
    assert [grouped(value, 1) for value in (1234.56, -0.5, 1e308, -1e300)] == [
        "1,234.6",
        "-0.5",
        "1e+308",
        "-1e+300",
    ]


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
)
def test_what_an_exception_says_is_one_plain_line(kind: type[Exception]) -> None:
    error = kind(HOSTILE)
    assert str(error).isprintable()
    assert_plain(f"E   {error}")
    if kind is errors.ArtifactError:
        named = errors.ArtifactError(HOSTILE, path=Path(HOSTILE), field=HOSTILE)
        assert_plain(f"E   {named}")


def test_every_exception_of_ours_is_raised_with_text_that_passes_the_door() -> None:
    """None overrides how the base shows itself."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py":
                bases = {ast.unparse(base) for base in node.bases}
                assert not (
                    bases & set(vars(errors)) and any("__str__" in ast.unparse(part) for part in node.body)
                )


DOORS = {
    "cli/common.py",  # of the commands
    "cli/program.py",  # of what ends them
    "cli/__init__.py",  # words of ours alone
    "plugin/outputs.py",  # of commands for GitHub's runner
    "plugin/terminal.py",  # of pytest's terminal
    "plugin/state.py",  # of a running session's lines
    "sim/__main__.py",  # of the reference device's program
    "plugin/__init__.py",  # of --perf-list-profiles
    "lab/__main__.py",  # JSON lines for the process that asks
}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_nothing_is_printed_beside_the_doors(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in DOORS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print"
            assert not re.search(r"\bstd(out|err)\.write$|\.write_line$", called), called


def strings(value: Any, text: str) -> Any:
    """The same with a text in every field of free text."""
    if isinstance(value, (Finding, GateRow, PhaseEvent)):
        return structs.replace(
            value,
            **{
                name: text
                for name in ("message", "where", "detail", "name", "profile", "text")
                if name in value.__struct_fields__
            },
        )
    return value


def hostile_session() -> SessionArtifact:
    """A whole session, every word of which somebody else wrote."""
    made = full_session(random.Random(1), 1, said="Guru")
    gate = made.gate
    assert gate is not None
    findings = [
        Finding(severity=severity, kind=kind, where=HOSTILE, message=HOSTILE)
        for severity in ("fail", "warn", "info")
        for kind in ("console", "reboot", "not-measured", "detectable", HOSTILE)
    ]
    gates = [strings(row, HOSTILE) for row in gate.gates] or [
        GateRow(name=HOSTILE, profile=HOSTILE, metric="p95_ms", verdict="regressed", detail=HOSTILE)
    ]
    cells = {
        HOSTILE + name: structs.replace(
            cell,
            profile=HOSTILE,
            phase=HOSTILE,
            path_metrics={HOSTILE + path: part for path, part in cell.path_metrics.items()},
        )
        for name, cell in made.aggregated.items()
    }
    runs = [
        structs.replace(
            run,
            results=[
                structs.replace(
                    result,
                    fail_reasons=[HOSTILE],
                    report=structs.replace(
                        result.report,
                        events=[PhaseEvent(at_s=0.1, kind=HOSTILE, text=HOSTILE, fatal=True)],
                        stats_before={HOSTILE: {HOSTILE: HOSTILE}},
                    ),
                )
                for result in run.results
            ],
        )
        for run in made.raw_runs
    ]
    return structs.replace(
        made,
        session_id=HOSTILE,
        tag=HOSTILE,
        target=HOSTILE,
        hard_stop_reason=HOSTILE,
        profiles=[HOSTILE],
        aggregated=cells,
        raw_runs=runs,
        environment={HOSTILE: HOSTILE, "host": HOSTILE, "git_commit": HOSTILE},
        device={"firmware": HOSTILE, "identity": HOSTILE},
        settings={"perf_history": HOSTILE, "sources": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE},
        gate=Verdict(kind="failed", gates=gates, findings=findings),
    )


def test_every_rendering_of_a_hostile_session_is_plain(tmp_path: Path) -> None:
    session = hostile_session()
    for verbosity in (-1, 0, 1):
        assert_plain("\n".join(inert(line.text) for line in render_terminal(session, verbosity=verbosity)))
    assert_plain("\n".join(line.text for line in render_boards({HOSTILE: session}, {HOSTILE})))
    assert_plain(render_markdown(session))
    for line in annotation_lines(session, [(HOSTILE, HOSTILE)], HOSTILE):
        assert_plain(line.removeprefix("::"))
    write_report(session, HistoryStore(tmp_path / "none"), tmp_path / "r.html")
    ended = Ended(session=session, fails=True, folder=HOSTILE, summary=HOSTILE)
    write_overview({HOSTILE: ended, "b": ended}, tmp_path / "o.html")
    for name in ("r.html", "o.html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        told = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
        assert_plain(told)
        for data in re.findall(r'<script type="application/json">(.*?)</script>', told, flags=re.DOTALL):
            assert_plain(json.dumps(json.loads(data), ensure_ascii=False))


@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_of_a_hostile_session_is_plain(name: str) -> None:
    for render in EXPORTS[name].renderers.values():
        assert_plain(render(hostile_session()))


def test_the_doctor_says_plain_text() -> None:
    check = Check(
        area="board", name="x", status="fail", figure=HOSTILE, advice=HOSTILE, values={HOSTILE: HOSTILE}
    )
    found = Examination(host=HOSTILE, timestamp_utc="", checks=(check,), options={"o": HOSTILE})
    assert_plain(render_page(found))
    assert_plain(render_json(found))


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--json"],
        ["show", "latest", "-v"],
        ["show", "latest", "--json"],
        ["show", "zzzz"],
        ["show", HOSTILE],
        ["compare", "latest", "latest"],
        ["judge", "latest"],
        ["prune"],
        ["accept", "latest", "--reason", HOSTILE],
        ["export", "latest", HOSTILE],
        ["import", HOSTILE],
        ["list", HOSTILE],
    ],
    ids=lambda words: " ".join(words)[:20].encode("unicode_escape").decode(),
)
def test_no_command_prints_what_a_file_holds_raw(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b]0;x\x07\u202e##[y"
    made = {"schema_version": 1, "timestamp_utc": "20260101T000000Z", "raw_runs": []}
    for index, text in ((1, "abcd"), (2, f"{name}\x9b")):
        session = {**made, "session_id": text, "tag": text, "target": f"::{text}", "hard_stop_reason": text}
        (tmp_path / f"perf_2026010{index}T000000Z.json").write_text(json.dumps(session))
    (tmp_path / "perf_bad.json").write_text(json.dumps({name: name}))
    given = [word.replace("\udcff", "") for word in words]
    with contextlib.suppress(SystemExit):
        main([*given, f"--perf-history={tmp_path}"])
    said = capsys.readouterr()
    assert_plain(said.out)
    assert_plain(said.err)


def test_reports_of_pytest_are_plain(pytester: pytest.Pytester) -> None:
    """Of any exception, chained or not, with its arguments and locals."""
    pytester.makepyfile(
        """
        import pytest

        def fails(said):
            try:
                raise ValueError(said)
            except ValueError as error:
                raise RuntimeError("x " + said) from error

        def test_chained(): fails("\\x1b[2J ##[add-mask]\\u202e")
        def test_skipped(): pytest.skip("\\x1b[2J ##[add-mask]")
        """
    )
    reports = pytester.inline_run("-l").getreports("pytest_runtest_logreport")
    told = [report for report in reports if report.longrepr]
    assert len(told) == 2
    for report in told:
        assert "##[" in str(report.longrepr)
        plain_report(report)
        assert_plain("\n".join(f" {line}" for line in str(report.longrepr).split("\n")))


@seed(20261129)
@example(b"rst:0x1 \x1b]0;x\x07\xe2\x80\xae##[group]\r\n::error::x\n", b"")
@given(st.binary(), st.binary())
def test_what_a_console_says_is_plain(said: bytes, more: bytes) -> None:
    scanner = Scanner()
    for lines, events in (scanner.feed(said, 0.0), scanner.feed(more, 1.0), scanner.end(2.0)):
        assert_plain(inert("\n".join(lines)))
        for event in events:
            assert_plain(inert(str(event)))


@seed(20261129)
@given(st.dictionaries(st.sampled_from(["boot_id", "reset_reason"]), st.text(), min_size=1))
def test_what_telemetry_says_of_a_reboot_is_plain(said: dict[str, str]) -> None:
    before, after = TelemetryReading(stats=dict.fromkeys(said, 1)), TelemetryReading(stats=said)
    for sign in reboot_signs(before, after):
        assert_plain(f" {errors.DeviceError(f'the board shows signs of a reboot: {sign}')}")
        finding = Finding(severity="fail", kind="reboot", message=sign)
        artifact = SessionArtifact(gate=Verdict(kind="failed", findings=[finding]))
        assert_plain("\n".join(inert(line.text) for line in render_terminal(artifact)))
        assert_plain(render_markdown(artifact))
