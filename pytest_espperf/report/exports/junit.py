"""A JUnit XML file of the gates, for CI servers that show such files.

The schema that Jenkins publishes allows properties in a suite, not in a test case: so every profile is a
suite, and a gate's figures are properties of it, by the gate's name. What was found beside the gates (a
broken budget, a reboot) is a test case of the suite ``espperf``, beside the verdict as a whole.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from msgspec import structs

from pytest_espperf.model.artifact import GateRow, SessionArtifact, Verdict
from pytest_espperf.model.gates import divided_pct
from pytest_espperf.model.text import printable
from pytest_espperf.model.verdicts import FAILING, NOT_GATEABLE, UNJUDGED
from pytest_espperf.report import contest
from pytest_espperf.report.exports.figures import began, properties, usable
from pytest_espperf.report.slowdown import gate_message
from pytest_espperf.report.view import failing_findings, finding_name, headline_of

FIGURES = (
    "baseline",
    "now",
    "d_pct",
    "threshold_pct",
    "smallest_detectable_pct",
    "reliable_pct",
    "at_most_pct",
    "sessions",
)
"""Of a gate; ``baseline`` and ``now`` in the metric's unit."""


def render_junit(session: SessionArtifact) -> str:
    """Render the JUnit XML file."""
    root = ET.Element("testsuites", name="espperf")
    _session_suite(root, session)
    gates = session.gate.gates if session.gate is not None else []
    for profile in dict.fromkeys(row.profile for row in gates):
        _profile_suite(root, session, profile, [row for row in gates if row.profile == profile])
    for suite in root.iter("testsuite"):
        _count(suite, (suite,))
        suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    _count(root, root.iter("testsuite"))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _session_suite(root: ET.Element, session: SessionArtifact) -> None:
    suite = _suite(root, session, "espperf")
    _properties(suite, properties(session))
    case = _case(suite, "espperf", "verdict")
    verdict = session.gate
    if verdict is None:
        _answer(case, "skipped", UNJUDGED, "the session has no verdict")
        return
    if verdict.kind == "incomplete":
        _answer(case, "skipped", verdict.kind, _sentence(session, verdict))
    elif not session.overall_pass:
        _answer(case, "failure", contest.word_of(session, verdict.kind), _sentence(session, verdict))
    for finding in failing_findings(verdict):
        name = ": ".join(dict.fromkeys((finding_name(finding), finding.kind)))
        _answer(_case(suite, "espperf", name), "failure", finding.kind, finding.message)


def _sentence(session: SessionArtifact, verdict: Verdict) -> str:
    headline = contest.headline(session) or headline_of(verdict)
    return f"{contest.word_of(session, verdict.kind)}: {headline.text}"


def _profile_suite(root: ET.Element, session: SessionArtifact, profile: str, gates: list[GateRow]) -> None:
    name = f"espperf.{profile}" if profile else "espperf figures"
    suite = _suite(root, session, name)
    elapsed = [result.report.elapsed for _, result in session.results() if result.profile == profile]
    suite.set("time", f"{sum(value for value in elapsed if usable(value) and value > 0):.3f}")
    _properties(
        suite,
        (
            (f"{row.name}.{figure}", f"{value:.6g}")
            for row in gates
            for figure in FIGURES
            if (value := _figure(row, figure)) is not None
        ),
    )
    words = contest.gate_words(session)
    # A search for the commit that did it passes where it was found.
    searched = session.contest is not None and session.contest.kind == "bisect"
    for row in gates:
        case, word = _case(suite, name, row.name), words.get(row.verdict, row.verdict)
        if row.verdict in FAILING and not searched:
            _answer(case, "failure", word, gate_message(row, gates))
        elif row.verdict == NOT_GATEABLE:
            _answer(case, "skipped", row.verdict, row.detail)
        elif row.verdict != "unchanged":
            ET.SubElement(case, "system-out").text = printable(
                gate_message(structs.replace(row, verdict=word), gates)
            )


def _figure(row: GateRow, name: str) -> float | None:
    """Return a figure of a gate; a change as every other report shows it."""
    value: float | None = getattr(row, name)
    return divided_pct(row, value) if name in ("d_pct", "at_most_pct") else value


def _suite(root: ET.Element, session: SessionArtifact, name: str) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=printable(name))
    if (moment := began(session)) is not None:
        suite.set("timestamp", moment.replace(tzinfo=None).isoformat())
    if host := session.environment.get("host"):
        suite.set("hostname", printable(str(host)))
    return suite


def _case(suite: ET.Element, owner: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", name=printable(name), classname=printable(owner))


def _answer(case: ET.Element, tag: str, kind: str, message: str) -> None:
    text = printable(message)
    ET.SubElement(case, tag, type=printable(kind), message=text).text = text


def _properties(suite: ET.Element, pairs: Iterable[tuple[str, str]]) -> None:
    holder = ET.SubElement(suite, "properties")
    for name, value in pairs:
        ET.SubElement(holder, "property", name=printable(name), value=printable(value))


def _count(element: ET.Element, suites: Iterable[ET.Element]) -> None:
    counted = list(suites)
    element.set("tests", str(sum(len(suite.findall("testcase")) for suite in counted)))
    element.set("failures", str(sum(len(suite.findall("testcase/failure")) for suite in counted)))
    element.set("errors", "0")
