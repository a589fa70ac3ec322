"""In a GitHub job: annotations, and the job's summary. The runner's rules of parsing are put into Python."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st
from msgspec import structs
from support.export_sessions import session
from support.plugin_project import SLOW_S, TEN_TIMES, USUAL_S, Project

from pytest_espperf.model.artifact import Finding, SessionArtifact, Verdict
from pytest_espperf.model.text import inert
from pytest_espperf.report import render_markdown
from pytest_espperf.report.github import SUMMARY_LIMIT, annotation_lines, step_summary

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

REGISTERED = {
    "error",
    "warning",
    "notice",
    "debug",
    "add-mask",
    "set-env",
    "add-path",
    "stop-commands",
    "group",
}
HOSTILE = "x\n::error::no\r::add-path::/evil\n  ::set-env name=A::b ##[add-path]/evil ##[error]100 %25, a:b"


def command(line: str) -> tuple[str, dict[str, str], str] | None:
    """What the runner makes of a line of the log: its ActionCommand's TryParseV2, else its TryParse."""
    text = line.lstrip()
    end = text.find("::", 2)
    if text.startswith("::") and end >= 0:
        name, _, told = text[2:end].partition(" ")
        if name in REGISTERED:
            pairs = [pair.split("=", 1) for pair in told.strip().split(",") if "=" in pair]
            return (
                name,
                {key: unescape(value, "%3A:", "%2C,") for key, value in pairs},
                unescape(text[end + 2 :]),
            )
    older = re.search(r"##\[([^\] ]*)[^\]]*\]", line)
    return (older[1], {}, line[older.end() :]) if older and older[1] in REGISTERED else None


def unescape(text: str, *more: str) -> str:
    for pair in ("%0D\r", "%0A\n", *more, "%25%"):
        text = text.replace(pair[:3], pair[3])
    return text


def lines_of(text: str) -> list[str]:
    """As .NET reads them."""
    return re.split(r"\r\n|\n|\r", text)


def told(artifact: SessionArtifact) -> list[tuple[str, str, str]]:
    found = []
    for line in annotation_lines(artifact):
        assert len(lines_of(line)) == 1
        parsed = command(line)
        assert parsed is not None, line
        found.append((parsed[0], parsed[1]["title"], parsed[2]))
    return found


def test_what_fails_is_an_error_and_what_warns_a_warning() -> None:
    print("seed 20261126")
    assert told(session(random.Random(20261126))) == [
        ("error", "espperf heavy:p95_ms", "heavy:p95_ms is 80 % slower: 20.0 -> 36.1 ms"),
        ("error", "espperf light:long", "light:long: p95 was above 1 ms"),
        ("warning", "espperf heavy", "heavy moves much by itself"),
    ]
    assert annotation_lines(SessionArtifact()) == []
    lost = annotation_lines(SessionArtifact(), [("export csv", "x cannot be written: disk full")])
    assert [command(line) for line in lost] == [
        ("error", {"title": "espperf export csv"}, "x cannot be written: disk full")
    ]


@seed(20261126)
@example(HOSTILE)
@given(st.text())
def test_what_a_board_says_is_an_annotations_text_and_no_command(text: str) -> None:
    finding = Finding(severity="fail", kind="console", where=text, message=f"said {text}")
    artifact = SessionArtifact(gate=Verdict(kind="failed", findings=[finding]))
    ((kind, title, message),) = told(artifact)
    assert kind == "error"
    if text.isprintable():
        assert title == f"espperf {text or 'console'}".strip()
        assert message.endswith(f"said {text}")


@seed(20261126)
@example(HOSTILE)
@example("::error::x")
@example(" \t::warning file=a::x")
@given(
    st.lists(st.sampled_from(["::", ":", "##[", "error", "]", " ", "\n", "\r", "\u200b", "\x1b", "a"])).map(
        "".join
    )
)
def test_no_line_of_inert_text_is_a_command(text: str) -> None:
    for line in lines_of(inert(text)):
        assert command(line) is None
        assert not line.lstrip().startswith("::")
        assert line.isprintable()


def test_inert_text_is_else_as_it_was() -> None:
    plain = "regressed: one:p95_ms is 80.5 % slower\n  [::1]:8080 # [x] a::b"
    assert inert(plain) == plain


def test_a_summary_is_cut_where_the_job_has_no_more_room() -> None:
    artifact = session(random.Random(1))
    whole = f"\n{render_markdown(artifact)}"
    size = len(whole.encode())
    assert step_summary(artifact, 0) == whole
    assert step_summary(artifact, SUMMARY_LIMIT - size) == whole
    for room in range(0, size, 7):
        text = step_summary(artifact, SUMMARY_LIMIT - room)
        assert len(text.encode()) <= room
        if text:
            *kept, cut = text.rstrip("\n").split("\n")
            assert "Cut here" in cut
            shown = "\n".join(kept)
            assert shown.count("<details>") == shown.count("</details>"), "what is cut stands in the open"
            assert whole.startswith(shown.removesuffix("\n\n</details>\n").removesuffix("\n"))
    assert step_summary(artifact, SUMMARY_LIMIT - size + 1)
    many = structs.replace(
        artifact, gate=Verdict(kind="failed", findings=[Finding(message="é" * 500)] * 2000)
    )
    assert SUMMARY_LIMIT - 2000 < len(step_summary(many, 0).encode()) <= SUMMARY_LIMIT


def test_a_job_has_the_report_and_an_error_for_each_failing_gate(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = project.pytester.path / "summary.md"
    summary.write_text("of another step, without an end of line", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.web.delay_s = USUAL_S
    first = project.run()
    assert first.ret == 0
    assert not [line for line in first.outlines if line.startswith("::error")]
    project.web.delay_s = SLOW_S
    second = project.run("--perf-confirm=0", TEN_TIMES)
    assert second.ret == 1
    errors = [parsed for line in second.outlines if (parsed := command(line)) and parsed[0] == "error"]
    gates = project.artifact()["gate"]["gates"]
    failing = [f"espperf {row['name']}" for row in gates if row["verdict"] in {"regressed", "drift"}]
    assert failing
    assert [parsed[1]["title"] for parsed in errors] == failing
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("of another step, without an end of line\n# Performance of ")
    assert re.findall(r"^# Performance of .*: (.*)$", text, re.MULTILINE) == ["no-baseline", "regressed"]
